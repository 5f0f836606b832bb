"""Sampling of images and volumes at points that a grid gives, and grids of affine maps, in array code (Jaderberg et al.
2015)."""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.ops.indexing import add_at

CUBIC = -0.75  # Keys' parameter, as in ``interpolate``
MODES = ("bilinear", "nearest", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection")


def _reflected(x: Any, low: float, high: float) -> tuple[Any, Any]:
    """x mirrored at low and high until it lies between them, and the derivative."""
    xp = namespace(x)
    if high == low:
        return xp.zeros_like(x), xp.zeros_like(x)
    span = high - low
    distance, sign = xp.abs(x - low), xp.where(x < low, -1, 1)
    turns, rest = xp.floor(distance / span), xp.fmod(distance, span)
    odd = turns % 2 == 1
    return xp.where(odd, high - rest, low + rest).astype(x.dtype), xp.where(odd, -sign, sign).astype(x.dtype)


def _clipped(x: Any, size: int) -> tuple[Any, Any]:
    """x limited to the pixels, and the derivative, which is 0 at the borders too."""
    xp = namespace(x)
    inside = (x > 0) & (x < size - 1)
    return xp.clip(xp.where(xp.isnan(x), 0, x), 0, size - 1).astype(x.dtype), inside.astype(x.dtype)


def _padded(x: Any, size: int, padding_mode: str, align_corners: bool) -> tuple[Any, Any]:
    """Pixel coordinates led back into an axis of ``size`` pixels, and the derivative."""
    if padding_mode == "zeros":
        return x, namespace(x).ones_like(x)
    slope: Any = 1
    if padding_mode == "reflection":
        low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
        x, slope = _reflected(x, low, high)
    x, inside = _clipped(x, size)
    return x, slope * inside


def _pixels(x: Any, size: int, align_corners: bool) -> tuple[Any, float]:
    """Grid coordinates from [-1, 1] as pixels', and the derivative."""
    if align_corners:
        return (x + 1) * ((size - 1) / 2), (size - 1) / 2
    return ((x + 1) * size - 1) / 2, size / 2


def _cubic(t: Any) -> tuple[list, list]:
    """The four weights at a fraction t between two pixels (Keys 1981), and their derivatives."""
    a = CUBIC

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    def near_slope(d: Any) -> Any:
        return (3 * (a + 2) * d - 2 * (a + 3)) * d

    def far_slope(d: Any) -> Any:
        return (3 * a * d - 10 * a) * d + 8 * a

    weights = [far(t + 1), near(t), near(1 - t), far(2 - t)]
    return weights, [far_slope(t + 1), near_slope(t), -near_slope(1 - t), -far_slope(2 - t)]


def _axis_taps(coordinate: Any, size: int, mode: str, padding_mode: str, align_corners: bool) -> tuple[list, Any]:
    """For one axis (innermost last in the grid): taps (index, inside, weight, slope of the weight), and by what the
    slope is multiplied for the gradient of the grid. All are (N, points)."""
    xp = namespace(coordinate)
    x, scale = _pixels(coordinate, size, align_corners)
    slope: Any = scale
    if mode != "bicubic":
        x, led = _padded(x, size, padding_mode, align_corners)
        slope = led * scale
    finite = xp.where(xp.isfinite(x) & (xp.abs(x) < 2.0**30), x, -100)  # elsewhere no pixel is met
    if mode == "nearest":
        whole = xp.rint(finite).astype(np.int64)
        return [(*_inside(whole, size), None, None)], slope
    first = xp.floor(finite)
    t = xp.where(xp.isfinite(x), finite - first, np.nan)  # no point in the image, no value
    first = first.astype(np.int64)
    if mode == "bilinear":
        one = xp.ones_like(t)
        return [(*_inside(first, size), 1 - t, -one), (*_inside(first + 1, size), t, one)], slope
    taps = []
    for k, (weight, weight_slope) in enumerate(zip(*_cubic(t), strict=True)):
        at, _ = _padded((first + (k - 1)).astype(t.dtype), size, padding_mode, align_corners)
        taps.append((*_inside(at.astype(np.int64), size), weight, weight_slope))
    return taps, slope


def _inside(index: Any, size: int) -> tuple[Any, Any]:
    inside = (index >= 0) & (index < size)
    return namespace(index).where(inside, index, 0), inside


class GridSample(ArrayFunction):
    """x (N, C, pixels) of shape ``image`` at the points of grid (N, points, axes), whose last axis is innermost
    first."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, grid: Any, image: tuple[int, ...], mode: str, padding_mode: str, align_corners: bool
    ) -> Any:
        ctx.save(x, grid)
        ctx.how = image, mode, padding_mode, align_corners
        xp, w, g = namespace(x), wide(x), wide(grid)
        total = xp.zeros((*x.shape[:2], grid.shape[1]), w.dtype)
        for places, inside, weights, _ in _corners(g, image, mode, padding_mode, align_corners):
            value = xp.take_along_axis(w, places[:, None], axis=2)
            weight = inside if weights is None else _product(weights)
            total += xp.where(inside[:, None], value, 0) * weight[:, None].astype(w.dtype)
        return rounded(total, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, grid = ctx.saved
        image, mode, padding_mode, align_corners = ctx.how
        xp, w, g, out = namespace(grad), wide(x), wide(grid), wide(grad)
        n, c, pixels = x.shape
        need_x, need_grid = ctx.needs_input_grad[:2]
        of_x = xp.zeros((n, c, pixels), w.dtype) if need_x else None
        of_grid = xp.zeros(g.shape, g.dtype) if need_grid else None
        rows = xp.arange(n)[:, None, None], xp.arange(c)[None, :, None]
        for places, inside, weights, slopes in _corners(g, image, mode, padding_mode, align_corners):
            if of_x is not None:
                weight = inside if weights is None else _product(weights)
                add_at(of_x, (*rows, places[:, None]), xp.where(inside[:, None], out * weight[:, None], 0))
            if of_grid is not None and weights is not None:
                value = xp.where(inside[:, None], xp.take_along_axis(w, places[:, None], axis=2), 0)
                along = (value * out).sum(axis=1)  # (N, points)
                for axis, slope in enumerate(slopes):
                    others = _product([slope, *weights[:axis], *weights[axis + 1 :]])
                    of_grid[:, :, len(image) - 1 - axis] += along * others
        return (
            None if of_x is None else rounded(of_x, x.dtype),
            None if of_grid is None else rounded(of_grid, grid.dtype),
            None,
            None,
            None,
            None,
        )


def _product(factors: list) -> Any:
    out = factors[0]
    for f in factors[1:]:
        out = out * f
    return out


def _corners(grid: Any, image: tuple[int, ...], mode: str, padding_mode: str, align_corners: bool) -> Any:
    """Each combination of the axes' taps: where in the image, whether in it, the weights by axis (None: 1), and their
    derivatives by the grid."""
    axes = []
    for axis, size in enumerate(image):  # the grid's coordinates are x, y, z: the last axis of the image first
        axes.append(_axis_taps(grid[:, :, len(image) - 1 - axis], size, mode, padding_mode, align_corners))
    for taps in product(*(a[0] for a in axes)):
        places, inside = 0, True
        for (index, there, _, _), size in zip(taps, image, strict=True):
            places, inside = places * size + index, inside & there
        if mode == "nearest":
            yield places, inside, None, None
        else:
            slopes = [tap[3] * a[1] for tap, a in zip(taps, axes, strict=True)]
            yield places, inside, [tap[2] for tap in taps], slopes


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The values of images or volumes at the points of a grid.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W), floating-point.
        grid: (N, P, Q, 2) or (N, O, P, Q, 3) of input's dtype: x, y (and z) of every point, -1 to 1 from the first
            pixel to the last.
        mode: ``'bilinear'`` (of volumes trilinear), ``'nearest'`` or, for images, ``'bicubic'``.
        padding_mode: what lies beyond: ``'zeros'``, the ``'border'`` or a ``'reflection'``.
        align_corners: whether -1 and 1 are the middles of the outermost pixels rather than their outer edges.

    Returns:
        (N, C, P, Q) or (N, C, O, P, Q).

    >>> import fastnet
    >>> image = fastnet.tensor([[[[1., 2.], [3., 4.]]]])
    >>> fastnet.nn.functional.grid_sample(image, fastnet.zeros(1, 1, 1, 2), align_corners=False)
    tensor([[[[2.5000]]]])
    """
    name = "grid_sample"
    check_tensor(name, input)
    check_tensor(name, grid, "grid")
    if mode not in MODES:
        raise InputError(f"{name}: mode is {mode!r}, expected one of {', '.join(MODES)}")
    if padding_mode not in PADDING_MODES:
        raise InputError(f"{name}: padding_mode is {padding_mode!r}, expected one of {', '.join(PADDING_MODES)}")
    if align_corners is None:
        warnings.warn("grid_sample: align_corners is not given; False is the default", stacklevel=2)
        align_corners = False
    dims = input.dim() - 2
    if dims not in (2, 3) or grid.dim() != dims + 2:
        raise InputError(
            f"{name}: expected 4D or 5D input and grid with same number of dimensions, but got input with sizes "
            f"{list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    if grid.shape[-1] != dims or grid.shape[0] != input.shape[0]:
        raise InputError(
            f"{name}: expected grid to have batch size {input.shape[0]} and size {dims} in the last dimension, got "
            f"{list(grid.shape)}"
        )
    if not input.dtype.is_floating_point or grid.dtype is not input.dtype:
        raise KindError(f"{name}: expected input and grid of one floating-point dtype, got {input.dtype}, {grid.dtype}")
    if grid.is_cuda is not input.is_cuda:
        raise InputError(f"{name}: expected input and grid on the same device, got {input.device} and {grid.device}")
    if 0 in input.shape[2:]:
        raise InputError(f"{name}: expected input to have non-empty spatial dimensions, got {list(input.shape)}")
    if mode == "bicubic" and dims == 3:
        raise InputError(f"{name}: bicubic interpolation only supports 4D input")
    n, c = input.shape[:2]
    image, places = tuple(input.shape[2:]), tuple(grid.shape[1:-1])
    pixels, points = int(np.prod(image)), int(np.prod(places))
    flat = grid.reshape(n, points, dims)
    out = GridSample.apply(input.reshape(n, c, pixels), flat, image, mode, padding_mode, bool(align_corners))
    return out.reshape(n, c, *places)


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The grid that ``grid_sample`` takes an image through an affine map by.

    Args:
        theta: (N, 2, 3) or (N, 3, 4): a matrix and a translation each.
        size: of the result of ``grid_sample``: (N, C, P, Q) or (N, C, O, P, Q).
        align_corners: as ``grid_sample``.

    Returns:
        (N, P, Q, 2) or (N, O, P, Q, 3).

    >>> import fastnet
    >>> theta = fastnet.tensor([[[1., 0., 0.], [0., 1., 0.]]])
    >>> fastnet.nn.functional.affine_grid(theta, (1, 1, 1, 2), align_corners=True)
    tensor([[[[-1.,  0.],
              [ 1.,  0.]]]])
    """
    from fastnet.ops.matmul import matmul

    name = "affine_grid"
    check_tensor(name, theta, "theta")
    if not theta.dtype.is_floating_point:
        raise InputError(f"{name}: expected theta to have floating point type, but got {theta.dtype}")
    size = [int(n) for n in size]
    dims = len(size) - 2
    if dims not in (2, 3):
        raise NotImplementedError(f"{name} only supports 4D and 5D sizes, for 2D and 3D affine transforms, got {size}")
    if tuple(theta.shape) != (size[0], dims, dims + 1):
        raise InputError(
            f"{name}: theta has shape {list(theta.shape)}, expected {[size[0], dims, dims + 1]} for {size}"
        )
    if min(size) <= 0:
        raise InputError(f"{name}: expected non-zero, positive output size. Got {size}")
    if align_corners is None:
        warnings.warn("affine_grid: align_corners is not given; False is the default", stacklevel=2)
        align_corners = False
    xp = namespace(theta._data)
    base = xp.ones((*size[2:], dims + 1), wide(theta._data[:0]).dtype)
    for axis, n in enumerate(size[2:]):
        at = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        if not align_corners:
            at = at * (n - 1) / n
        base[..., dims - 1 - axis] = xp.asarray(at.reshape([-1 if i == axis else 1 for i in range(dims)]))
    points = Tensor._wrap(rounded(base.reshape(1, -1, dims + 1), theta._data.dtype))
    return matmul(points, theta.transpose(1, 2)).reshape(size[0], *size[2:], dims)
