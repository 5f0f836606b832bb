"""The Tensor: an array, whether it wants a gradient, and where it came from. Its operations live in fastnet.ops and are
attached in fastnet/_methods.py."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnet import _capture, _dlpack, _dtypes, autograd
from fastnet._device import device as Device
from fastnet._device import synchronise
from fastnet.autograd.views import refresh
from fastnet.errors import InputError, KindError

_hook_keys = count()


class Size(tuple):
    """A shape: a tuple of ints that prints as PyTorch's, stays a Size when sliced or joined, and knows its number of
    elements.

    >>> Size([2, 3, 4])[1:].numel()
    12
    """

    def __new__(cls, sizes: Any = ()) -> Size:
        made = tuple.__new__(cls, sizes)
        for i, n in enumerate(made):
            if not isinstance(n, int):
                if not hasattr(n, "__index__"):
                    raise KindError(f"Size() takes an iterable of 'int' (item {i} is '{type(n).__name__}')")
                return tuple.__new__(cls, [m.__index__() for m in made])
        return made

    @classmethod
    def _of(cls, shape: tuple) -> Size:
        """Of an array's shape, which needs no checks."""
        return tuple.__new__(cls, shape)

    def __repr__(self) -> str:
        return f"fastnet.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, index: Any) -> Any:
        item = tuple.__getitem__(self, index)
        return tuple.__new__(Size, item) if isinstance(index, slice) else item

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            return NotImplemented
        return Size(tuple.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            return NotImplemented
        return Size(tuple.__add__(other, self))

    def __mul__(self, n: Any) -> Any:
        return tuple.__new__(Size, tuple.__mul__(self, n))

    __rmul__ = __mul__

    def __reduce__(self) -> tuple:
        return (Size, (tuple(self),))

    def numel(self) -> int:
        """The product of the sizes."""
        n = 1
        for d in self:
            n *= d
        return n


class RemovableHandle:
    """What registering a hook returns: ``remove()`` takes the hook away."""

    def __init__(self, hooks: dict):
        self._hooks = hooks
        self._key = next(_hook_keys)

    def remove(self) -> None:
        self._hooks.pop(self._key, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Tensor:
    """A multi-dimensional array of one dtype on one device, with automatic differentiation.

    Made by ``fastnet.tensor``, ``fastnet.zeros`` and the like, and by operations; holds a NumPy array (device ``cpu``)
    or a CuPy array (device ``cuda``).
    """

    __slots__ = (
        "__weakref__",
        "_accumulate",
        "_data",
        "_grad",
        "_hooks",
        "_node",
        "_output_index",
        "_requires_grad",
        "_retains_grad",
        "_version_counter",
        "_view",
    )
    __array_priority__ = 1000  # NumPy arrays leave mixed arithmetic to us

    if TYPE_CHECKING:  # fastnet._methods attaches these; checkers of types cannot see that

        def __getattr__(self, name: str) -> Any: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...

    def __init__(self, *data: Any, device: Any = None):
        from fastnet.ops.creation import legacy

        self._initialise(legacy("Tensor", data, _dtypes.get_default_dtype(), device)._data)

    def _initialise(self, array: Any) -> None:
        self._data = array
        self._requires_grad = False
        self._grad = None
        self._node = None
        self._output_index = 0
        self._accumulate = None
        self._hooks = None
        self._view = None
        self._retains_grad = False
        self._version_counter = [0]

    @classmethod
    def _wrap(cls, array: Any, requires_grad: bool = False) -> Any:
        """A tensor around an array, which it shares. NumPy's scalars become arrays without dimensions."""
        t = Tensor.__new__(Tensor)
        if type(array) is not np.ndarray and isinstance(array, np.generic):
            array = np.asarray(array)
        t._data = array
        t._requires_grad = requires_grad
        t._grad = None
        t._node = None
        t._output_index = 0
        t._accumulate = None
        t._hooks = None
        t._view = None
        t._retains_grad = False
        t._version_counter = [0]
        return t

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size._of(self._data.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or its entry ``dim``."""
        if dim is None:
            return Size._of(self._data.shape)
        n = self._data.ndim
        if not -n <= dim < n:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-max(n, 1)}, {max(n, 1) - 1}], but got {dim})"
            )
        return self._data.shape[dim]

    @property
    def dtype(self) -> _dtypes.dtype:
        return _dtypes.FROM_NUMPY[self._data.dtype]

    @property
    def device(self) -> Device:
        return Device.of_array(self._data)

    @property
    def ndim(self) -> int:
        return self._data.ndim

    def dim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self._data.itemsize

    @property
    def nbytes(self) -> int:
        return self._data.nbytes

    @property
    def itemsize(self) -> int:
        return self._data.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Elements from one index to the next along every dimension, or along ``dim``."""
        strides = tuple(s // self._data.itemsize for s in self._data.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        """Whether memory is in C order."""
        return bool(self._data.flags.c_contiguous)

    def data_ptr(self) -> int:
        """The address of the first element."""
        if isinstance(self._data, np.ndarray):
            return self._data.__array_interface__["data"][0]
        return self._data.data.ptr

    @property
    def is_cuda(self) -> bool:
        return not isinstance(self._data, np.ndarray)

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """False: fastnet has no complex dtypes."""
        return False

    def is_signed(self) -> bool:
        """Whether the dtype has negative numbers."""
        return self.dtype.is_signed

    def is_nonzero(self) -> bool:
        """The truth of a tensor of one element."""
        return bool(self)

    def get_device(self) -> int:
        """The GPU's number, -1 for the CPU."""
        return self._data.device.id if self.is_cuda else -1

    def storage_offset(self) -> int:
        """Elements between the start of the memory that this tensor is a view of and its own first one."""
        base = self._base
        return 0 if base is None else (self.data_ptr() - base.data_ptr()) // self._data.itemsize

    is_cpu = property(lambda self: not self.is_cuda)
    is_sparse = is_quantized = is_mkldnn = is_mps = is_xpu = is_meta = is_nested = property(lambda self: False)
    is_sparse_csr = is_vulkan = is_xla = is_ipu = property(lambda self: False)

    def is_conj(self) -> bool:
        """False: nothing is lazily conjugated."""
        return False

    is_neg = is_inference = is_distributed = is_shared = is_pinned = is_conj

    def __len__(self) -> int:
        if self._data.ndim == 0:
            raise KindError("len() of a 0-d tensor")
        return self._data.shape[0]

    def __hash__(self) -> int:
        return id(self)

    # ---- autograd --------------------------------------------------------------------------------------------------

    @property
    def _base(self) -> Tensor | None:
        """The tensor whose memory this one is a view of."""
        return None if self._view is None else self._view.base

    @property
    def grad(self) -> Any:
        """The gradient that backward has added up so far, a Tensor; None before."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise KindError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value)}")
            if value is self:
                raise InputError("can't assign Variable as its own grad")
            if value._data.dtype != self._data.dtype:
                raise KindError(f"assigned grad has data of a different type: expected {self.dtype}, got {value.dtype}")
            if value._data.shape != self._data.shape:
                raise InputError(
                    f"assigned grad has data of a different size: expected {list(self.shape)}, got {list(value.shape)}"
                )
            if value.is_cuda != self.is_cuda:
                raise KindError(f"assigned grad has data located on a different device: {value.device}")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are computed for this tensor."""
        if self._view is not None:
            refresh(self)
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not _dtypes.of_array(self._data).is_floating_point:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if not value and self._node is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in "
                "a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` of this leaf, in place."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self.grad_fn is None

    @property
    def grad_fn(self) -> Any:
        """The node of the graph that made this tensor, or None."""
        if self._view is not None:
            refresh(self)
        return self._node

    @property
    def output_nr(self) -> int:
        return self._output_index

    @property
    def _version(self) -> int:
        return self._version_counter[0]

    @property
    def retains_grad(self) -> bool:
        return self._retains_grad

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:
        """Add the gradients of this tensor to the ``grad`` of the leaves it depends on.

        Args:
            gradient: of this tensor; needed unless it has one element.
            retain_graph: keep what backward needs, so that it can run again.
            create_graph: record backward itself, so that gradients can be differentiated again.
            inputs: accumulate into these tensors only.

        Raises:
            RuntimeError: no gradient is required, the graph was freed, or a saved value was modified in place.
        """
        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory without history."""
        t = Tensor._wrap(self._data)
        t._version_counter = self._version_counter
        return t

    def detach_(self) -> Tensor:
        """Forget this tensor's history, in place."""
        if self._view is not None and self._node is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._node = None
        self._output_index = 0
        self._requires_grad = False
        return self

    @property
    def data(self) -> Tensor:
        """The same memory without history, and without the check for changes in place."""
        return Tensor._wrap(self._data)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise KindError(f"Tensor.data: expected a Tensor, got {type(value).__name__}")
        self._data = value._data

    def register_hook(self, hook: Callable[[Tensor], Any]) -> RemovableHandle:
        """Call ``hook(gradient)`` whenever this tensor's gradient is known; what it returns replaces the gradient."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self._hooks is None:
            self._hooks = {}
            self._watch_node()
        handle = RemovableHandle(self._hooks)
        self._hooks[handle._key] = hook
        return handle

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call ``hook(tensor)`` whenever backward has added to this leaf's ``grad``."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self._node is not None:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        node, _ = autograd.engine.edge_of(self)
        if node.after is None:
            node.after = {}
        handle = RemovableHandle(node.after)
        node.after[handle._key] = hook
        return handle

    def _watch_node(self) -> None:
        if self._node is not None:
            if self._node._hooks is None:
                self._node._hooks = []
            if self._hooks is None:
                self._hooks = {}
            self._node._hooks.append((self._output_index, self._hooks, weakref.ref(self)))

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in ``grad``."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self._node is not None and not self._retains_grad:
            if self._hooks is None:
                self._watch_node()
            self._retains_grad = True

    # ---- out of fastnet --------------------------------------------------------------------------------------------

    def _host(self) -> np.ndarray:
        """The values as a NumPy array; waits for the device."""
        _capture.refuse("reading a tensor's values")
        if isinstance(self._data, np.ndarray):
            return self._data
        synchronise()
        return self._data.get()

    def item(self) -> Any:
        """The value of a tensor with one element, as a Python number."""
        if self._data.size != 1:
            raise InputError(f"a Tensor with {self._data.size} elements cannot be converted to Scalar")
        value = self._host().reshape(())
        return float(value) if self.dtype is _dtypes.bfloat16 else value.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        host = self._host()
        return host.astype(np.float32).tolist() if self.dtype is _dtypes.bfloat16 else host.tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The values as a NumPy array, sharing memory on the CPU; ``force`` detaches and copies from the device as
        needed."""
        if force:
            return self.detach()._host()
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.is_cuda:
            raise KindError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                "memory first."
            )
        return self._data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise InputError(f"Unable to avoid copy while creating an array of {dtype} from a {self.dtype} tensor")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        """What NumPy's functions of tensors give: tensors."""
        return Tensor._wrap(array) if np.asarray(array).dtype in _dtypes.FROM_NUMPY else array

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return _dlpack.export(self._data, **options)

    def __dlpack_device__(self) -> tuple:
        return self._data.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict:
        if not self.is_cuda:
            raise AttributeError(
                "Can't get __cuda_array_interface__ on non-CUDA tensor. Use tensor.data_ptr() instead."
            )
        if self.requires_grad:
            raise RuntimeError(
                "Can't get __cuda_array_interface__ on Variable that requires grad. Use tensor.detach() first."
            )
        return self._data.__cuda_array_interface__

    def __bool__(self) -> bool:
        if self._data.size != 1:
            what = "no values" if self._data.size == 0 else "more than one value"
            raise InputError(f"Boolean value of Tensor with {what} is ambiguous")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self._data.size != 1 or self.dtype.category == 2:
            raise KindError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __iter__(self) -> Iterator[Tensor]:
        if self._data.ndim == 0:
            raise KindError("iteration over a 0-d tensor")
        return iter([self[i] for i in range(len(self))])

    def __reversed__(self) -> Tensor:
        from fastnet.ops.shape import flip

        return flip(self, 0) if self._data.ndim else self

    def __delitem__(self, index: Any) -> None:
        raise KindError("Tensor does not support deleting items")

    def __contains__(self, element: Any) -> bool:
        if not isinstance(element, (Tensor, int, float, bool, np.generic)):
            raise InputError(
                f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}."
            )
        return bool((self == element).any())

    def __format__(self, spec: str) -> str:
        if self._data.ndim == 0:  # as PyTorch: a number, printed as such
            return format(self.item(), spec)
        return format(str(self), spec)

    def __repr__(self) -> str:
        from fastnet._printing import tensor_text

        return tensor_text(self)

    def __deepcopy__(self, memo: dict) -> Any:
        if self._node is not None:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
                "moment. "
                "If you were attempting to deepcopy a module, this may be because of a non-leaf attribute: detach "
                "it first."
            )
        copy = type(self).__new__(type(self))
        copy._initialise(self._data.copy())
        copy._requires_grad = self._requires_grad
        if self._grad is not None:
            copy.grad = self.grad.__deepcopy__(memo)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise KindError(
            "fastnet tensors are not pickled: unpickling runs code. Use fastnet.save and fastnet.load (safetensors)"
        )


autograd._set_tensor_class(Tensor)
