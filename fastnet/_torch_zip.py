"""Reading the zip files that ``torch.save`` writes: tensors and plain containers, and nothing else.

Such a file holds a pickle and one record for each tensor's memory. Unpickling would run whatever the file names, so
the pickle is read here by an interpreter of its own: it knows the operations that build containers, numbers and
strings, and calls nothing but the functions of ``_CALLS``, which stand for what PyTorch writes for a tensor. Any other
name is refused by that name. Every size, offset and stride is checked against the record it points into; nothing is
allocated beyond the records' own bytes, which the file's length bounds.
"""

from __future__ import annotations

import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import device as Device
from fastnet._tensor import Size, Tensor

# Of data.pkl: some 150 a tensor in a state_dict. A byte makes 64 bytes of objects at most (an empty dict).
_PICKLE_BYTES = 16 * 2**20
_DEPTH = 100  # of nested containers
_KEYS = 2**31  # integer keys lie below: large ones can be chosen to collide in a dict
_DIMENSIONS = 64  # NumPy's limit, and PyTorch's
_MARK = object()

_STORAGES = {
    "FloatStorage": _dtypes.float32,
    "DoubleStorage": _dtypes.float64,
    "HalfStorage": _dtypes.float16,
    "BFloat16Storage": _dtypes.bfloat16,
    "IntStorage": _dtypes.int32,
    "LongStorage": _dtypes.int64,
    "ByteStorage": _dtypes.uint8,
    "CharStorage": _dtypes.int8,
    "ShortStorage": _dtypes.int16,
    "BoolStorage": _dtypes.bool_,
}
# Dtypes of PyTorch that fastnet has not, by their storages.
_FOREIGN = {
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}


class _Storage:
    """The memory of one or more tensors, as a typed array of one dimension on the device they go to."""

    def __init__(self, array: Any):
        self.array = array


class _StorageType:
    """What the name of a storage class stands for."""

    def __init__(self, dtype: _dtypes.dtype):
        self.dtype = dtype


class _Call:
    """What the name of a function stands for."""

    def __init__(self, name: str, make: Callable[..., Any]):
        self.name, self.make = name, make


def _natural(x: Any, what: str, limit: int = 2**62) -> int:
    if type(x) is not int or not 0 <= x < limit:
        raise ValueError(f"{what} is {x!r:.40}, expected an integer from 0 to {limit - 1}")
    return x


def _naturals(x: Any, what: str) -> tuple[int, ...]:
    if type(x) not in (tuple, Size) or len(x) > _DIMENSIONS:
        raise ValueError(f"{what} is {x!r:.40}, expected a tuple of at most {_DIMENSIONS} integers")
    return tuple([_natural(v, what) for v in x])


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, *more: Any) -> Tensor:
    """A view of a storage: torch._utils._rebuild_tensor_v2."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor's storage is none")
    if more not in ((), (None,), ({},)):
        raise ValueError("a tensor has metadata")
    shape, strides, start = _naturals(size, "a size"), _naturals(stride, "a stride"), _natural(offset, "an offset")
    array = storage.array
    if len(shape) != len(strides):
        raise ValueError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    last = start + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if all(shape) else start - 1
    if not start <= len(array) or last >= len(array):
        raise ValueError(
            f"a tensor of size {list(shape)}, stride {list(strides)} and offset {start} leaves its storage of "
            f"{len(array)} elements"
        )
    elements = 1
    for n in shape:
        elements *= n or 1
    if elements * array.itemsize >= 2**62:
        raise ValueError(f"a tensor of size {list(shape)} is too large")
    steps = tuple([s * array.itemsize for s in strides])
    if isinstance(array, np.ndarray):
        view = np.ndarray(shape, array.dtype, array, start * array.itemsize, steps if all(shape) else None)
    else:
        from cupy.lib.stride_tricks import as_strided

        view = as_strided(array[start:], shape, steps)
    return _with_grad(Tensor._wrap(view), requires_grad, hooks)


def _with_grad(t: Tensor, requires_grad: Any, hooks: Any) -> Tensor:
    if type(requires_grad) is not bool:
        raise ValueError("requires_grad is no bool")
    if hooks:
        raise ValueError("a tensor has backward hooks")
    t.requires_grad_(requires_grad)
    return t


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> Tensor:
    from fastnet.nn.parameter import Parameter

    if type(data) is not Tensor:
        raise ValueError("a parameter's data is no tensor")
    return _with_grad(Parameter(data, requires_grad=False), requires_grad, hooks)


def _size(sizes: Any) -> Size:
    return Size(_naturals(sizes, "torch.Size"))


def _device(kind: Any, index: Any = None) -> Device:
    if not isinstance(kind, str) or not (index is None or type(index) is int):
        raise ValueError("a device is neither named nor numbered")
    try:
        return Device(kind, index)
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _counter(counts: Any) -> Counter:
    if type(counts) is not dict or not all(type(n) is int for n in counts.values()):
        raise ValueError("a Counter's counts are not integers")
    return Counter(counts)


_CALLS = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": _counter,
}


def _named(module: str, name: str) -> Any:
    """What a global name stands for; ValueError, by name, for all but a few."""
    full = f"{module}.{name}"
    if full in _CALLS:
        return _Call(full, _CALLS[full])
    if module == "torch" and name in _STORAGES:
        return _StorageType(_STORAGES[name])
    if module == "torch" and name in _FOREIGN:
        raise ValueError(f"a tensor has dtype {_FOREIGN[name]}, which fastnet has not")
    for dtype in _dtypes.ALL:
        if module == "torch" and name == dtype.name:
            return dtype
    raise ValueError(
        f"it holds {full!r:.120}, and only tensors and plain containers are read (of a model, save the state_dict)"
    )


def is_key(key: Any) -> bool:
    """Whether this may be a key of a dict in a file: a str, or an int of 32 bits."""
    return type(key) is str or (type(key) is int and -_KEYS < key < _KEYS)


def check_metadata(metadata: Any) -> None:
    """That this is what a state_dict has as ``_metadata``: for every module's name a dict."""
    if not isinstance(metadata, dict) or not all(isinstance(v, dict) for v in metadata.values()):
        raise ValueError("a state_dict's _metadata is not a dict of dicts")


class _Interpreter:
    """Runs a pickle's operations on plain values. ``storage(dtype, key, location, size)`` gives tensors' memory."""

    def __init__(self, code: bytes, storage: Callable[[_dtypes.dtype, str, str, int], _Storage]):
        self.code, self.at, self.storage = code, 0, storage
        self.stack: list[Any] = []
        self.memo: list[Any] = []

    def take(self, n: int) -> bytes:
        if n > len(self.code) - self.at:
            raise ValueError("its pickle is truncated")
        self.at += n
        return self.code[self.at - n : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.code.find(b"\n", self.at, self.at + 256)
        if end < 0:
            raise ValueError("a name in its pickle has no end")
        return self.take(end + 1 - self.at)[:-1].decode("ascii")

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("its pickle takes more from the stack than there is")
        return self.stack.pop()

    def top(self, *kinds: type) -> Any:
        if not self.stack or type(self.stack[-1]) not in kinds:
            raise ValueError(f"its pickle fills a {type(self.stack[-1]).__name__ if self.stack else 'missing'} object")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise ValueError("its pickle lacks a mark")

    def remember(self, index: int) -> None:
        # Picklers number what they remember in order, so that the memo is as large as what was put into it.
        if index != len(self.memo):
            raise ValueError(f"its pickle remembers at {index}, expected {len(self.memo)}")
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("its pickle remembers nothing")
        self.memo.append(self.stack[-1])

    def recall(self, index: int) -> None:
        if index >= len(self.memo):
            raise ValueError(f"its pickle recalls {index} of {len(self.memo)}")
        self.stack.append(self.memo[index])

    def fill(self, items: list[Any]) -> None:
        target = self.top(dict, OrderedDict)
        if len(items) % 2:
            raise ValueError("its pickle has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not is_key(key):
                raise ValueError(f"a key is {key!r:.40}, expected a str or an int of 32 bits")
            if key in target:
                raise ValueError(f"the key {key!r:.40} stands twice in one dict")
            target[key] = value

    def reduce(self) -> None:
        arguments, call = self.pop(), self.pop()
        if not isinstance(call, _Call) or type(arguments) is not tuple:
            raise ValueError(f"its pickle calls a {type(call).__name__}")
        if call.make is OrderedDict and arguments:
            raise ValueError("an OrderedDict is made with arguments")
        try:
            self.stack.append(call.make(*arguments))
        except TypeError as error:
            raise ValueError(f"{call.name} is called wrongly: {error}") from None

    def build(self) -> None:
        state = self.pop()
        target = self.top(OrderedDict)
        if type(state) is not dict or list(state) != ["_metadata"]:
            raise ValueError("an OrderedDict has attributes other than a state_dict's _metadata")
        check_metadata(state["_metadata"])
        target._metadata = state["_metadata"]  # type: ignore[attr-defined]

    def persistent(self) -> None:
        match self.pop():
            case ("storage", _StorageType(dtype=dtype), str(key), str(location), int(size)):
                self.stack.append(self.storage(dtype, key, location, _natural(size, "a storage's size")))
            case other:
                raise ValueError(f"its pickle has an unknown persistent id, a {type(other).__name__}")

    def run(self) -> Any:
        """The value that the pickle describes."""
        push, operations = self.stack.append, self.operations()
        while True:
            code = self.take(1)
            if code == b".":
                value = self.pop()
                if self.stack or self.at != len(self.code):
                    raise ValueError("its pickle goes on after its end")
                return value
            if code == b"(":
                push(_MARK)
                continue
            operation = operations.get(code)
            if operation is None:
                raise ValueError(f"its pickle has the operation {code!r}, which no tensor or plain container needs")
            operation()

    def operations(self) -> dict[bytes, Callable[[], Any]]:
        push, pop = self.stack.append, self.pop

        def text(form: str) -> None:
            push(self.take(self.number(form)).decode("utf-8", "surrogatepass"))

        def protocol() -> None:
            if self.at != 1 or self.number("<B") > 5:
                raise ValueError("its pickle has an unknown protocol")

        def named() -> None:
            name, module = pop(), pop()
            if type(name) is not str or type(module) is not str:
                raise ValueError("its pickle names a global by something else than strings")
            push(_named(module, name))

        def appends() -> None:
            items = self.since_mark()
            self.top(list).extend(items)

        def setitems() -> None:
            items = self.since_mark()
            self.fill(items)

        def append() -> None:
            item = pop()
            self.top(list).append(item)

        def setitem() -> None:
            value, key = pop(), pop()
            self.fill([key, value])

        def tuple_of(n: int) -> None:
            push(tuple([pop() for _ in range(n)][::-1]))

        return {
            b"\x80": protocol,
            b"\x95": lambda: self.number("<Q"),  # a frame's length, which says nothing of the value
            b"}": lambda: push({}),
            b"]": lambda: push([]),
            b")": lambda: push(()),
            b"t": lambda: push(tuple(self.since_mark())),
            b"\x85": lambda: tuple_of(1),
            b"\x86": lambda: tuple_of(2),
            b"\x87": lambda: tuple_of(3),
            b"a": append,
            b"e": appends,
            b"s": setitem,
            b"u": setitems,
            b"N": lambda: push(None),
            b"\x88": lambda: push(True),
            b"\x89": lambda: push(False),
            b"K": lambda: push(self.number("<B")),
            b"M": lambda: push(self.number("<H")),
            b"J": lambda: push(self.number("<i")),
            b"\x8a": lambda: push(int.from_bytes(self.take(self.number("<B")), "little", signed=True)),
            b"G": lambda: push(self.number(">d")),
            b"X": lambda: text("<I"),
            b"\x8c": lambda: text("<B"),
            b"\x8d": lambda: text("<Q"),
            b"q": lambda: self.remember(self.number("<B")),
            b"r": lambda: self.remember(self.number("<I")),
            b"\x94": lambda: self.remember(len(self.memo)),
            b"h": lambda: self.recall(self.number("<B")),
            b"j": lambda: self.recall(self.number("<I")),
            b"c": lambda: push(_named(self.line(), self.line())),
            b"\x93": named,
            b"R": self.reduce,
            b"b": self.build,
            b"Q": self.persistent,
        }


def _check_value(value: Any) -> None:
    """That a value is of tensors and plain containers alone, without cycles, nested no deeper than _DEPTH."""
    depth: dict[int, int] = {}  # of containers that are done; -1 while one is being looked at
    todo = [(value, False)]
    while todo:
        x, done = todo.pop()
        if isinstance(x, (dict, list, tuple)):
            children = list(x.values()) if isinstance(x, dict) else list(x)
            children += [x._metadata] if hasattr(x, "_metadata") else []  # type: ignore[attr-defined]
            inside = [c for c in children if isinstance(c, (dict, list, tuple))]
            if done:
                depth[id(x)] = 1 + max([depth[id(c)] for c in inside], default=0)
                if depth[id(x)] > _DEPTH:
                    raise ValueError(f"its containers are nested deeper than {_DEPTH}")
            elif id(x) not in depth:
                depth[id(x)] = -1
                todo.append((x, True))
                todo += [(c, False) for c in children]
            elif depth[id(x)] == -1:
                raise ValueError("a container holds itself")
        elif not isinstance(x, (Tensor, str, int, float, type(None), _dtypes.dtype, Device)):
            raise ValueError(f"it holds a {type(x).__name__.strip('_')}, which is no value")


def read_torch_zip(file: Any, place: Callable[[Tensor, str], Tensor]) -> Any:
    """The value in a file that ``torch.save`` wrote.

    Args:
        file: opened for reading in binary, seekable.
        place: given a storage's memory as a tensor of one dimension and the device it was saved from, gives it where
            it is wanted. Tensors that shared a storage share it again.

    Raises:
        ValueError: damaged, or holding anything but tensors and plain containers; the message says what.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return _read(archive, place)
    except (zipfile.BadZipFile, struct.error, UnicodeDecodeError, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(f"damaged: {error}") from None


def _read(archive: zipfile.ZipFile, place: Callable[[Tensor, str], Tensor]) -> Any:
    records = _records(archive)
    if "data.pkl" not in records:
        raise ValueError("it is a zip file without data.pkl: PyTorch did not write it")
    if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
        raise ValueError("its tensors are not in little-endian order")
    if records["data.pkl"].file_size > _PICKLE_BYTES:
        raise ValueError(f"its pickle has {records['data.pkl'].file_size} bytes, at most {_PICKLE_BYTES} are read")
    storages: dict[str, tuple[Any, _Storage]] = {}

    def storage(dtype: _dtypes.dtype, key: str, location: str, size: int) -> _Storage:
        described = (dtype, location, size)
        if key not in storages:
            record = records.get(f"data/{key}")
            if record is None or not (key.isascii() and key.isdigit()):
                raise ValueError(f"it has no record of the storage {key!r:.40}")
            if record.file_size != size * dtype.itemsize:
                raise ValueError(
                    f"storage {key} has {record.file_size} bytes, expected {size * dtype.itemsize} for {size} "
                    f"elements of {dtype.name}"
                )
            array = _memory(archive, record).view(dtype.numpy)
            if dtype is _dtypes.bool_ and array.size and array.view(np.uint8).max() > 1:
                raise ValueError(f"storage {key} holds bytes that are no bools")
            storages[key] = (described, _Storage(place(Tensor._wrap(array), location)._data))
        before, made = storages[key]
        if before != described:
            raise ValueError(f"storage {key} is described in two ways")
        return made

    value = _Interpreter(archive.read(records["data.pkl"]), storage).run()
    _check_value(value)
    return value


def _records(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Records by name within the archive's one folder. Names are only looked up: nothing is ever written by them."""
    assert archive.fp is not None
    length = archive.fp.seek(0, 2)
    entries = archive.infolist()
    if sum(e.file_size for e in entries) > length:
        raise ValueError("its records claim more bytes than the file has")
    records: dict[str, zipfile.ZipInfo] = {}
    if any(e.filename.partition("/")[2] == "constants.pkl" for e in entries):
        raise ValueError("it is a TorchScript program, not a file of tensors")
    folder = entries[0].filename.partition("/")[0] if entries else ""
    for e in entries:
        top, slash, name = e.filename.partition("/")
        if top != folder or not slash or ".." in name.split("/"):
            raise ValueError(f"its record {e.filename!r:.80} lies outside its folder")
        if name in records:
            raise ValueError(f"its record {name!r:.80} is there twice")
        if e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size or e.flag_bits & 1:
            raise ValueError(f"its record {name!r:.80} is compressed or encrypted, which PyTorch's never are")
        records[name] = e
    return records


def _memory(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> np.ndarray:
    """A record's bytes, in memory of their own; its checksum is checked."""
    array = np.empty(record.file_size, np.uint8)
    at = 0
    with archive.open(record) as f:
        while chunk := f.read(2**20):
            if at + len(chunk) > len(array):
                raise ValueError(f"its record {record.filename!r:.80} is longer than it says")
            array[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
            at += len(chunk)
    if at != len(array):
        raise ValueError(f"its record {record.filename!r:.80} is truncated")
    return array
