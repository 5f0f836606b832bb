"""Matrix products: their gradients are matrix products again, of transposed views; a bias's gradient is a column
sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.ops._numeric import is_short, rounded, sum_over, wide
from fastnet.ops._operands import check_tensor


def _rows(x: Any) -> Any:
    """x (..., N) as a matrix."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _batch_product(a: Any, b: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """a @ b summed over the leading dimensions that ``shape`` lacks or has as one: 16-bit types are summed in
    float32."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if batch == shape[:-2]:
        return implementation(a).matmul(a, b)
    product = implementation(a).matmul(a, b, out_dtype=np.float32 if is_short(a) else None)
    extra = product.ndim - len(shape)
    axes = (*range(extra), *(extra + i for i, n in enumerate(shape[:-2]) if n == 1 and product.shape[extra + i] != 1))
    return rounded(sum_over(product, axes).reshape(shape), dtype)


class Matmul(ArrayFunction):
    """a @ b, either of one dimension or more, leading ones broadcast."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save(a, b)
        if a.dtype.kind == "i" and a.dtype.itemsize < 4:  # the kernel's integers are wider; products wrap alike
            return implementation(a).matmul(a.astype(np.int32), b.astype(np.int32)).astype(a.dtype)
        return implementation(a).matmul(a, b)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        a, b = ctx.saved
        of_a = of_b = None
        left = a[None, :] if a.ndim == 1 else a  # (..., M, K)
        right = b[:, None] if b.ndim == 1 else b  # (..., K, N)
        if b.ndim == 1:
            grad = grad[..., None]
        if a.ndim == 1:
            grad = grad[..., None, :]  # (..., M, N)
        if ctx.needs_input_grad[0]:
            of_a = _batch_product(grad, right.swapaxes(-1, -2), left.shape, a.dtype).reshape(a.shape)
        if ctx.needs_input_grad[1]:
            if right.ndim == 2:  # the sum over the batch is part of one product
                of_b = implementation(a).matmul(_rows(left).T, _rows(grad)).reshape(b.shape)
            else:
                of_b = _batch_product(left.swapaxes(-1, -2), grad, right.shape, b.dtype).reshape(b.shape)
        return of_a, of_b


class Linear(ArrayFunction):
    """x @ weight^T + bias."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
        ctx.save(x, weight)
        return implementation(x).matmul(x, weight.T, bias=bias)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved
        return _linear_backward(ctx, grad, x, weight)


def _linear_backward(ctx: Any, grad: Any, x: Any, weight: Any) -> tuple[Any, Any, Any]:
    of_x = of_weight = of_bias = None
    run = implementation(grad)
    if ctx.needs_input_grad[0]:
        of_x = run.matmul(grad, weight)
    if ctx.needs_input_grad[1] and ctx.needs_input_grad[2]:
        of_weight, of_bias = run.matmul(_rows(grad).T, _rows(x), row_sums=True)
    elif ctx.needs_input_grad[1]:
        of_weight = run.matmul(_rows(grad).T, _rows(x))
    if of_bias is None and ctx.needs_input_grad[2]:
        of_bias = run.column_sum(_rows(grad))
    return of_x, of_weight, of_bias


class LinearActivation(ArrayFunction):
    """activation(x @ weight^T + bias); what the activation was applied to is kept for its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, activation: str, parameter: float | None) -> Any:
        run = implementation(x)
        if not any(ctx.needs_input_grad):
            return run.matmul(x, weight.T, bias=bias, activation=activation, parameter=parameter)
        out, preactivation = run.matmul(
            x, weight.T, bias=bias, activation=activation, parameter=parameter, keep_preactivation=True
        )
        ctx.save(x, weight, preactivation)
        ctx.activation, ctx.parameter = activation, parameter
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, preactivation = ctx.saved
        grad = implementation(grad).bias_activation_backward(
            grad, preactivation, activation=ctx.activation, parameter=ctx.parameter
        )
        return *_linear_backward(ctx, grad, x, weight), None, None


class Addmm(ArrayFunction):
    """beta * input + alpha * a @ b, rounded once."""

    @staticmethod
    def forward(ctx: Any, input: Any, a: Any, b: Any, beta: Any, alpha: Any) -> Any:
        ctx.save(a, b)
        ctx.beta, ctx.alpha, ctx.shape = beta, alpha, input.shape
        run = implementation(a)
        if beta == 1 and alpha == 1 and input.ndim == 1 and input.shape[0] == b.shape[1]:
            return run.matmul(a, b, bias=input)
        # Where beta is zero, NaN and infinities of input are ignored, as in PyTorch.
        return run.matmul(a, b, c=input, alpha=alpha, beta=beta)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        a, b = ctx.saved
        run = implementation(grad)
        of_input = of_a = of_b = None
        if ctx.needs_input_grad[0]:
            of_input = _scaled(_sum_to(grad, ctx.shape), ctx.beta)
        if ctx.needs_input_grad[1]:
            of_a = _scaled(run.matmul(grad, b.T), ctx.alpha)
        if ctx.needs_input_grad[2]:
            of_b = _scaled(run.matmul(a.T, grad), ctx.alpha)
        return of_input, of_a, of_b, None, None


def _scaled(x: Any, factor: Any) -> Any:
    return x if factor == 1 else rounded(wide(x) * wide(x).dtype.type(factor), x.dtype)


def _sum_to(grad: Any, shape: tuple[int, ...]) -> Any:
    """grad (M, N) summed to an operand of ``shape`` that was broadcast to it."""
    if grad.shape == shape:
        return grad
    if shape == grad.shape[1:]:
        return implementation(grad).column_sum(grad)
    extra = 2 - len(shape)
    axes = (*range(extra), *(extra + i for i, n in enumerate(shape) if n == 1 and grad.shape[extra + i] != 1))
    return sum_over(grad, axes).reshape(shape)


# ---- public functions ----------------------------------------------------------------------------------------------


def _check_pair(function: str, a: Any, b: Any, names: tuple[str, str] = ("input", "other")) -> None:
    check_tensor(function, a, names[0])
    check_tensor(function, b, names[1])
    if a._data.dtype != b._data.dtype:
        raise KindError(
            f"{function}: expected {names[0]} and {names[1]} to have the same dtype, got {a.dtype} and {b.dtype}"
        )
    if a._data.dtype.kind == "b":
        raise KindError(f"{function}: {names[0]} has dtype bool, expected a floating-point or integer dtype")
    if a.is_cuda is not b.is_cuda:
        raise InputError(f"{function}: expected all tensors to be on the same device, got {a.device} and {b.device}")


def _check_rank(function: str, argument: str, x: Tensor, ndim: int) -> None:
    if x._data.ndim != ndim:
        raise InputError(
            f"{function}: {argument} has {x._data.ndim} dimensions {tuple(x._data.shape)}, expected {ndim}"
        )


def _check_inner(function: str, a: Tensor, b: Tensor, names: tuple[str, str] = ("input", "other")) -> None:
    rows = b._data.shape[-2] if b._data.ndim > 1 else b._data.shape[0]
    if a._data.shape[-1] != rows:
        raise InputError(
            f"{function}: {names[0]} and {names[1]} cannot be multiplied, {tuple(a._data.shape)} by "
            f"{tuple(b._data.shape)}: "
            f"got {a._data.shape[-1]} columns and {rows} rows, expected the same"
        )


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product, as ``torch.matmul``: vectors and matrices by their ranks, leading dimensions broadcast.

    Args:
        input: (..., M, K) or (K,).
        other: (..., K, N) or (K,), of input's dtype (products promote no dtypes).

    Returns:
        (..., M, N), without M where input is a vector and without N where other is.

    Raises:
        TypeError, ValueError: no tensors, of different dtypes, or of shapes that cannot be multiplied.

    >>> import fastnet
    >>> fastnet.matmul(fastnet.tensor([[1., 2.], [3., 4.]]), fastnet.tensor([1., -1.]))
    tensor([-1., -1.])
    """
    _check_pair("matmul", input, other)
    if not input._data.ndim or not other._data.ndim:
        raise InputError(
            f"matmul: both arguments need at least one dimension, got {input._data.ndim} and {other._data.ndim}"
        )
    _check_inner("matmul", input, other)
    return Matmul.apply(input, other)


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices, (M, K) and (K, N).

    >>> import fastnet
    >>> fastnet.mm(fastnet.ones(2, 3), fastnet.ones(3, 1))
    tensor([[3.],
            [3.]])
    """
    names = ("input", "mat2")
    _check_pair("mm", input, mat2, names)
    _check_rank("mm", "input", input, 2)
    _check_rank("mm", "mat2", mat2, 2)
    _check_inner("mm", input, mat2, names)
    return Matmul.apply(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (B, M, K) and (B, K, N).

    >>> import fastnet
    >>> fastnet.bmm(fastnet.ones(4, 2, 3), fastnet.ones(4, 3, 5)).shape
    fastnet.Size([4, 2, 5])
    """
    names = ("input", "mat2")
    _check_pair("bmm", input, mat2, names)
    _check_rank("bmm", "input", input, 3)
    _check_rank("bmm", "mat2", mat2, 3)
    if input._data.shape[0] != mat2._data.shape[0]:
        raise InputError(
            f"bmm: input and mat2 have batches of {input._data.shape[0]} and {mat2._data.shape[0]}, expected the same"
        )
    _check_inner("bmm", input, mat2, names)
    return Matmul.apply(input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix (M, K) and a vector (K,).

    >>> import fastnet
    >>> fastnet.mv(fastnet.ones(2, 3), fastnet.ones(3))
    tensor([3., 3.])
    """
    names = ("input", "vec")
    _check_pair("mv", input, vec, names)
    _check_rank("mv", "input", input, 2)
    _check_rank("mv", "vec", vec, 1)
    _check_inner("mv", input, vec, names)
    return Matmul.apply(input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors of one length.

    >>> import fastnet
    >>> fastnet.dot(fastnet.tensor([1., 2.]), fastnet.tensor([3., 4.]))
    tensor(11.)
    """
    names = ("input", "tensor")
    _check_pair("dot", input, tensor, names)
    _check_rank("dot", "input", input, 1)
    _check_rank("dot", "tensor", tensor, 1)
    _check_inner("dot", input, tensor, names)
    return Matmul.apply(input, tensor)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * mat1 @ mat2``, input broadcast to (M, N); with beta = 0 input is not looked at.

    >>> import fastnet
    >>> fastnet.addmm(fastnet.tensor([1., 2.]), fastnet.ones(1, 3), fastnet.ones(3, 2))
    tensor([[4., 5.]])
    """
    names = ("mat1", "mat2")
    _check_pair("addmm", mat1, mat2, names)
    _check_pair("addmm", input, mat1, ("input", "mat1"))
    _check_rank("addmm", "mat1", mat1, 2)
    _check_rank("addmm", "mat2", mat2, 2)
    _check_inner("addmm", mat1, mat2, names)
    shape, out = input._data.shape, (mat1._data.shape[0], mat2._data.shape[1])
    if len(shape) > 2 or any(n not in (1, o) for n, o in zip(reversed(shape), reversed(out), strict=False)):
        raise InputError(f"addmm: input has shape {tuple(shape)}, expected one that broadcasts to {out}")
    for name, factor in (("beta", beta), ("alpha", alpha)):
        if not isinstance(factor, (int, float, np.number)):
            raise KindError(f"addmm: {name} is a {type(factor).__name__}, expected a number")
        if not mat1.dtype.is_floating_point and factor != int(factor):
            raise KindError(f"addmm: {name} is {factor}, expected an integer, as the tensors are {mat1.dtype}")
    return Addmm.apply(input, mat1, mat2, beta, alpha)


def _check_linear(function: str, input: Any, weight: Any, bias: Any) -> None:
    names = ("input", "weight")
    _check_pair(function, input, weight, names)
    if not input._data.ndim:
        raise InputError(f"{function}: input has no dimensions, expected (..., in_features)")
    if weight._data.ndim not in (1, 2):
        raise InputError(
            f"{function}: weight has {weight._data.ndim} dimensions {tuple(weight._data.shape)}, expected "
            "(out_features, in_features)"
        )
    if input._data.shape[-1] != weight._data.shape[-1]:
        raise InputError(
            f"{function}: input has {input._data.shape[-1]} features, weight takes {weight._data.shape[-1]}; "
            f"got shapes {tuple(input._data.shape)} and {tuple(weight._data.shape)}"
        )
    if bias is not None:
        _check_pair(function, bias, input, ("bias", "input"))
        want = weight._data.shape[:1] if weight._data.ndim == 2 else ()
        if bias._data.shape != want:
            raise InputError(f"{function}: bias has shape {tuple(bias._data.shape)}, expected {tuple(want)}")


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight^T + bias``, bias added to the unrounded product.

    Args:
        input: (..., in_features).
        weight: (out_features, in_features), or (in_features,).
        bias: (out_features,) or None.

    Returns:
        (..., out_features), or (...) where weight is a vector.

    Raises:
        TypeError, ValueError: no tensors, or of dtypes or shapes that do not fit.

    >>> import fastnet
    >>> from fastnet.ops.matmul import linear
    >>> linear(fastnet.ones(1, 3), fastnet.ones(2, 3), fastnet.tensor([0., 1.]))
    tensor([[3., 4.]])
    """
    _check_linear("linear", input, weight, bias)
    if weight._data.ndim == 1:
        out = Matmul.apply(input, weight)
        return out if bias is None else out + bias
    return Linear.apply(input, weight, bias)


def linear_activation(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "relu", parameter: float | None = None
) -> Tensor:
    """``activation(input @ weight^T + bias)`` by one kernel.

    Args:
        input: (..., in_features), floating-point.
        weight: (out_features, in_features).
        bias: (out_features,) or None.
        activation: a name from ``fastnet.reference.pointwise.ACTIVATIONS``.
        parameter: the activation's number (leaky_relu: slope, elu: alpha, softplus: beta), None for its default.

    Returns:
        (..., out_features).

    >>> import fastnet
    >>> from fastnet.ops.matmul import linear_activation
    >>> linear_activation(fastnet.ones(1, 2), fastnet.tensor([[1., 1.], [-1., -1.]]), activation="relu")
    tensor([[2., 0.]])
    """
    _check_linear("linear_activation", input, weight, bias)
    _check_rank("linear_activation", "weight", weight, 2)
    if not input.dtype.is_floating_point:
        raise KindError(f"linear_activation: input has dtype {input.dtype}, expected a floating-point dtype")
    from fastnet.kernels.pointwise import check_activation

    check_activation("linear_activation", activation, parameter)
    if activation == "none":
        return Linear.apply(input, weight, bias)
    return LinearActivation.apply(input, weight, bias, activation, parameter)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``out[..., o] = sum_ij input1[..., i] weight[o, i, j] input2[..., j] + bias[o]``.

    Args:
        input1: (..., in1_features).
        input2: (..., in2_features), with input1's leading dimensions.
        weight: (out_features, in1_features, in2_features).
        bias: (out_features,) or None.

    Returns:
        (..., out_features).

    Raises:
        TypeError, ValueError: no tensors, or of dtypes or shapes that do not fit.

    >>> import fastnet
    >>> from fastnet.ops.matmul import bilinear
    >>> bilinear(fastnet.ones(1, 2), fastnet.ones(1, 3), fastnet.ones(1, 2, 3))
    tensor([[6.]])
    """
    _check_pair("bilinear", input1, input2, ("input1", "input2"))
    _check_pair("bilinear", input1, weight, ("input1", "weight"))
    _check_rank("bilinear", "weight", weight, 3)
    outputs, width1, width2 = weight._data.shape
    leading = input1._data.shape[:-1]
    if not input1._data.ndim or input1._data.shape[-1] != width1 or input2._data.shape != (*leading, width2):
        raise InputError(
            f"bilinear: input1 and input2 have shapes {tuple(input1._data.shape)} and {tuple(input2._data.shape)}, "
            f"expected (..., {width1}) and (..., {width2}) with the same leading dimensions, as weight is "
            f"{tuple(weight._data.shape)}"
        )
    if bias is not None:
        _check_pair("bilinear", bias, input1, ("bias", "input1"))
        if bias._data.shape != (outputs,):
            raise InputError(f"bilinear: bias has shape {tuple(bias._data.shape)}, expected ({outputs},)")
    rows = math.prod(leading)
    weighted = Matmul.apply(input1.reshape(rows, width1), weight.permute(1, 0, 2).reshape(width1, outputs * width2))
    out = Matmul.apply(weighted.reshape(rows, outputs, width2), input2.reshape(rows, width2, 1)).reshape(
        *leading, outputs
    )
    return out if bias is None else out + bias
