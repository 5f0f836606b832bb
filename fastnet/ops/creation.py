"""Making tensors: from values, from shapes, from other libraries' arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet import _dlpack, _dtypes
from fastnet._device import array_module, get_default_device, why_no_cuda
from fastnet._device import device as Device
from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.ops.shape import sizes

_WARNED_COMPLEX = "fastnet has no complex dtypes"


def _finish(array: Any, device: Any, requires_grad: bool) -> Tensor:
    if device is not None:
        array = to_device(array, Device(device))
    elif get_default_device().type != "cpu":
        array = to_device(array, get_default_device())
    t = Tensor._wrap(array)
    if requires_grad:
        t.requires_grad = True
    return t


def to_device(array: Any, where: Device) -> Any:
    """The array on a device, itself if it is there."""
    xp = array_module(where.type)
    if xp is np:
        return array if isinstance(array, np.ndarray) else array.get()
    index = where.index if where.index is not None else xp.cuda.Device().id
    if not isinstance(array, np.ndarray) and array.device.id == index:
        return array
    with xp.cuda.Device(index):
        return xp.asarray(array)


def _has_tensor(data: Any) -> bool:
    return isinstance(data, Tensor) or (isinstance(data, (list, tuple)) and any(_has_tensor(d) for d in data))


def _plain(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.tolist()
    return [_plain(d) for d in data] if isinstance(data, (list, tuple)) else data


def _from_values(data: Any, dtype: _dtypes.dtype | None) -> Any:
    """A new array of Python numbers, nested sequences, arrays or tensors."""
    array: Any
    if isinstance(data, (list, tuple)) and _has_tensor(data):
        floats = [d for d in data if isinstance(d, Tensor)]
        if dtype is None and floats and all(isinstance(d, Tensor) for d in data):
            dtype = floats[0].dtype
        data = _plain(data)
    if hasattr(data, "__cuda_array_interface__") and not isinstance(data, np.ndarray):
        copy = getattr(data, "copy", None)
        array = copy() if copy else array_module("cuda").array(data)
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.array(data)
    else:
        try:
            array = np.array(data)
        except ValueError as error:
            raise InputError(f"expected sequences of equal length at every dimension: {error}") from None
        if array.dtype.kind == "f" and dtype is None:
            dtype = _dtype_of_first(data) or _dtypes.get_default_dtype()
        if array.size == 0 and dtype is None and array.dtype.kind != "b":
            dtype = _dtypes.get_default_dtype()
        if array.dtype.kind in "OUS":
            if dtype is not None and array.dtype.kind == "O" and all(isinstance(v, int) for v in array.reshape(-1)):
                raise InputError("Overflow when unpacking long")
            bad = next(
                (
                    type(v).__name__
                    for v in np.asarray(data, object).reshape(-1)
                    if not isinstance(v, (int, float, bool))
                ),
                "int beyond 64 bits",
            )
            raise InputError(f"tensor: cannot make a tensor from values of type {bad}")
    if dtype is None:
        small = {
            np.dtype(np.uint16): np.int32,
            np.dtype(np.uint32): np.int64,
        }
        if array.dtype in small:
            array = array.astype(small[array.dtype])
        _dtypes.of_array(array)
        return array
    if array.dtype.kind == "c":
        raise KindError(_WARNED_COMPLEX)
    with np.errstate(invalid="ignore", over="ignore"):
        return array.astype(dtype.numpy, copy=False)


def _dtype_of_first(data: Any) -> _dtypes.dtype | None:
    """The dtype of a nested sequence that begins with one of NumPy's floats."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return _dtypes.FROM_NUMPY.get(data.dtype) if isinstance(data, (np.floating, np.ndarray)) else None


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of the data.

    Args:
        data: a number, nested sequences of numbers, a NumPy or CuPy array, or a tensor.
        dtype: default: inferred; Python floats give the default float dtype, ints int64, bools bool.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; default: where an array is, else the CPU.
        requires_grad: whether gradients are recorded.

    >>> import fastnet
    >>> fastnet.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    if isinstance(data, Tensor):
        array = data._data.copy()
        if dtype is not None:
            array = array.astype(_dtypes.as_dtype(dtype).numpy)
    else:
        array = _from_values(data, None if dtype is None else _dtypes.as_dtype(dtype))
    return _finish(array, device, requires_grad)


def legacy(name: str, data: tuple, dtype: _dtypes.dtype, device: Any = None) -> Tensor:
    """What ``Tensor(...)``, ``FloatTensor(...)`` and their kin make: of values, or of sizes, uninitialised."""
    if len(data) == 1 and isinstance(data[0], Tensor):
        source = data[0]
        if source.dtype is not dtype:
            raise KindError(f"{name}(): expected a tensor of dtype {dtype}, got {source.dtype}")
        return source.detach()
    if len(data) == 1 and not isinstance(data[0], (int, np.integer)):
        if isinstance(data[0], tuple) and hasattr(data[0], "numel"):  # a Size
            return empty(*data[0], dtype=dtype, device=device)
        if isinstance(data[0], (float, bool)):
            raise KindError(f"{name}(): argument must be a sequence or sizes, got {type(data[0]).__name__}")
        return tensor(data[0], dtype=dtype, device=device)
    if not data:
        return empty(0, dtype=dtype, device=device)
    return empty(*data, dtype=dtype, device=device)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of the data, sharing memory where dtype and device allow it."""
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype) if dtype is not None or device is not None else data
    if (
        isinstance(data, np.ndarray)
        and data.dtype in _dtypes.FROM_NUMPY
        and (dtype is None or _dtypes.as_dtype(dtype).numpy == data.dtype)
    ):
        return _finish(data, device, False)
    if hasattr(data, "__cuda_array_interface__") and dtype is None:
        return _finish(array_module("cuda").asarray(data), device, False)
    return tensor(data, dtype=dtype, device=device)


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of the data, sharing memory where dtype and device allow it unless ``copy`` is True; ValueError where
    ``copy`` is False and they do not."""
    out = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    if copy is False and isinstance(obj, (Tensor, np.ndarray)):
        before = obj._data if isinstance(obj, Tensor) else obj
        if out._data is not before and not np.shares_memory(out._data, before):
            raise InputError("can't alias tensor with another dtype or device while 'copy=False'")
    if isinstance(obj, Tensor) and not requires_grad:
        out = out.detach()
    return out.requires_grad_() if requires_grad else out


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares a NumPy array's memory."""
    if not isinstance(ndarray, np.ndarray):
        raise KindError(f"expected np.ndarray (got {type(ndarray).__name__})")
    _dtypes.of_array(ndarray)
    if not ndarray.flags.writeable:
        ndarray = ndarray.copy()
    return Tensor._wrap(ndarray)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor that shares the memory of another library's array, or of a DLPack capsule, bfloat16 included."""
    return Tensor._wrap(_dlpack.take(ext_tensor))


def _shaped(name: str, size: tuple, dtype: Any, device: Any, requires_grad: bool, make: Any) -> Tensor:
    shape = sizes(size, name)
    if any(s < 0 for s in shape):
        raise InputError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    d = _dtypes.get_default_dtype() if dtype is None else _dtypes.as_dtype(dtype)
    if math.prod(shape) * d.itemsize >= 2**62:
        raise InputError(f"{name}: a tensor of shape {list(shape)} is too large")
    xp = array_module(device)
    try:
        array = make(xp, shape, d.numpy)
    except MemoryError as error:
        from fastnet.errors import OutOfMemoryError

        raise OutOfMemoryError(f"{name}: {error}") from None
    return _finish(array, device, requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape."""
    return _shaped("zeros", size, dtype, device, requires_grad, lambda xp, s, d: xp.zeros(s, d))


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of a shape."""
    return _shaped("ones", size, dtype, device, requires_grad, lambda xp, s, d: xp.ones(s, d))


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of a shape whose values are whatever memory held."""
    return _shaped("empty", size, dtype, device, requires_grad, lambda xp, s, d: xp.empty(s, d))


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A shape filled with a value, whose type gives the dtype unless one is named."""
    d = (
        _dtypes.of_scalar(fill_value)
        if dtype is None and not isinstance(fill_value, Tensor)
        else dtype or fill_value.dtype
    )
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    if _dtypes.as_dtype(d) is _dtypes.uint8 and -256 < value < 0:
        value = int(value) % 256  # wraps, as a conversion of C does
    return _shaped(
        "full",
        (size,) if not isinstance(size, int) else ((size,),),
        d,
        device,
        requires_grad,
        lambda xp, s, n: xp.full(s, value, n),
    )


def _like(name: str, value: Any) -> Any:
    def operation(
        input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None
    ) -> Tensor:
        make = globals()[name]
        return make(
            tuple(input._data.shape),
            dtype=dtype or input.dtype,
            device=device or input.device,
            requires_grad=requires_grad,
        )

    operation.__name__ = operation.__qualname__ = f"{name}_like"
    operation.__doc__ = f"``{name}`` with the shape, dtype and device of another tensor."
    return operation


zeros_like, ones_like, empty_like = _like("zeros", 0), _like("ones", 1), _like("empty", None)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``full`` with the shape, dtype and device of another tensor."""
    return full(
        tuple(input._data.shape),
        fill_value,
        dtype=dtype or input.dtype,
        device=device or input.device,
        requires_grad=requires_grad,
    )


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Numbers from start up to end, which is left out: int64 for integers, else the default float dtype."""
    if end is None:
        start, end = 0, start
    start, end, step = (x.item() if isinstance(x, Tensor) else x for x in (start, end, step))
    if step == 0:
        raise InputError("step must be nonzero")
    if (end - start) * step < 0:
        raise InputError("upper bound and lower bound inconsistent with step sign")
    if dtype is None:
        d = (
            _dtypes.int64
            if all(isinstance(x, (int, np.integer)) for x in (start, end, step))
            else _dtypes.get_default_dtype()
        )
    else:
        d = _dtypes.as_dtype(dtype)
    if d is _dtypes.bool_:
        raise NotImplementedError("arange: not implemented for bool")
    if not all(math.isfinite(x) for x in (start, end, step)):
        raise InputError(f"arange: unsupported range: {start} -> {end} by {step}")
    if d is _dtypes.int64:
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise InputError("step must be nonzero")
    count = math.ceil((end - start) / step)
    if not d.is_floating_point:
        start, step = int(start), int(step)
    xp = array_module(device)
    values = start + step * xp.arange(
        count, dtype=np.int64 if all(isinstance(x, (int, np.integer)) for x in (start, step)) else np.float64
    )
    return _finish(values.astype(d.numpy), device, requires_grad)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``steps`` evenly spaced numbers from start to end, both included."""
    d = _dtypes.get_default_dtype() if dtype is None else _dtypes.as_dtype(dtype)
    return _finish(_spaced(start, end, steps, d, array_module(device)).astype(d.numpy), device, requires_grad)


def _spaced(start: Any, end: Any, steps: int, d: _dtypes.dtype, xp: Any) -> Any:
    """Evenly spaced float64 numbers; of an integer dtype the ends are integers before the step is taken."""
    if steps < 0:
        raise InputError("number of steps must be non-negative")
    start, end = (x.item() if isinstance(x, Tensor) else x for x in (start, end))
    if not d.is_floating_point:
        start, end = int(start), int(end)
    return xp.linspace(start, end, steps)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: Any = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``base`` to the powers of ``linspace(start, end, steps)``."""
    d = _dtypes.get_default_dtype() if dtype is None else _dtypes.as_dtype(dtype)
    base = base.item() if isinstance(base, Tensor) else base
    powers = base ** _spaced(start, end, steps, d, array_module(device))
    return _finish(powers.astype(d.numpy), device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The identity matrix."""
    if n < 0 or (m is not None and m < 0):
        raise InputError(f"n must be greater or equal to 0, got {n if n < 0 else m}")
    d = _dtypes.get_default_dtype() if dtype is None else _dtypes.as_dtype(dtype)
    return _finish(array_module(device).eye(n, m, dtype=d.numpy), device, requires_grad)


def is_tensor(obj: Any) -> bool:
    """Whether this is a fastnet Tensor."""
    return isinstance(obj, Tensor)


def cuda_device(index: Any = None) -> Device:
    """The GPU that ``Tensor.cuda()`` moves to; RuntimeError, saying why, if there is none."""
    why = why_no_cuda()
    if why:
        raise InputError(f"cuda: {why}")
    return Device("cuda") if index is None else Device(index)


def empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """An uninitialised tensor of a shape with given strides, in elements."""
    from fastnet.ops.rearrange import as_strided

    n = 1 + sum((k - 1) * s for k, s in zip(size, stride, strict=True)) if math.prod(size) else 0
    out = as_strided(empty(n, dtype=dtype, device=device), size, stride)
    return Tensor._wrap(out._data, requires_grad)


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A number as a tensor without dimensions, of the default dtype unless one is named."""
    return full((), s, dtype=dtype or _dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


def range(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Numbers from start to end, which is included: the older form of ``arange``."""
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) * step < 0:
        raise InputError("upper bound and lower bound inconsistent with step sign")
    count = math.floor((end - start) / step) + 1
    values = start + step * array_module(device).arange(count)
    return _finish(values.astype((dtype or _dtypes.get_default_dtype()).numpy), device, requires_grad)


def frombuffer(
    buffer: Any, *, dtype: _dtypes.dtype, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A vector that shares the memory of an object with Python's buffer interface."""
    view = memoryview(buffer)
    size = view.nbytes
    if not 0 <= offset < size:
        raise InputError(
            f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) - 1"
        )
    if count == 0 or count < -1:
        raise InputError("count must be non-zero")
    if count == -1 and (size - offset) % dtype.itemsize:
        raise InputError(
            f"buffer length ({size - offset} bytes) after offset must be a multiple of element size ({dtype.itemsize})"
        )
    raw = np.frombuffer(view.cast("B"), np.uint8)[offset:]
    n = len(raw) // dtype.itemsize if count == -1 else count
    if n * dtype.itemsize > len(raw):
        raise InputError(
            f"requested buffer length ({n} * {dtype.itemsize} bytes) after offset must not be greater than actual "
            f"buffer length ({size} bytes)"
        )
    array = raw[: n * dtype.itemsize].view(dtype.numpy)
    return _finish(array if array.flags.writeable else array.copy(), None, requires_grad)


def _window(name: str, coefficients: tuple[float, ...]) -> Any:
    def operation(
        window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        if window_length < 0:
            raise InputError(f"{name} requires non-negative window_length, got window_length={window_length}")
        n = window_length - (not periodic)
        angle = 2 * np.pi * np.arange(window_length) / max(n, 1)
        values = sum((-1) ** k * a * np.cos(k * angle) for k, a in enumerate(coefficients))
        values = np.ones(1) if window_length == 1 else np.asarray(values)
        d = _dtypes.get_default_dtype() if dtype is None else _dtypes.as_dtype(dtype)
        return _finish(values.astype(d.numpy), device, requires_grad)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"The {name.split('_')[0].capitalize()} window, periodic or symmetric."
    return operation


hann_window = _window("hann_window", (0.5, 0.5))
hamming_window = _window("hamming_window", (0.54, 0.46))
blackman_window = _window("blackman_window", (0.42, 0.5, 0.08))


def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The triangular window, periodic or symmetric."""
    from fastnet.signal import windows

    made: dict[str, Any] = {"dtype": dtype, "device": device, "requires_grad": requires_grad}
    return windows.bartlett(window_length, sym=not periodic, **made)


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The Kaiser window, periodic or symmetric."""
    from fastnet.signal import windows

    made: dict[str, Any] = {"dtype": dtype, "device": device, "requires_grad": requires_grad}
    return windows.kaiser(window_length, beta=beta, sym=not periodic, **made)


def _legacy_class(name: str, dtype: _dtypes.dtype) -> Any:
    """``FloatTensor`` and its kin: a constructor, and a class that tensors of the dtype are instances of."""

    class Meta(type):
        def __instancecheck__(cls, x: Any) -> bool:
            return isinstance(x, Tensor) and x.dtype is dtype

        def __call__(cls, *data: Any, device: Any = None) -> Tensor:
            return legacy(name, data, dtype, device)

    return Meta(
        name, (), {"__doc__": f"Tensors of dtype {dtype.name}: of values, or of sizes, uninitialised.", "dtype": dtype}
    )


LEGACY = tuple(
    _legacy_class(name, dtype)
    for name, dtype in (
        ("FloatTensor", _dtypes.float32),
        ("DoubleTensor", _dtypes.float64),
        ("HalfTensor", _dtypes.float16),
        ("BFloat16Tensor", _dtypes.bfloat16),
        ("IntTensor", _dtypes.int32),
        ("LongTensor", _dtypes.int64),
        ("ByteTensor", _dtypes.uint8),
        ("BoolTensor", _dtypes.bool_),
        ("CharTensor", _dtypes.int8),
        ("ShortTensor", _dtypes.int16),
    )
)
