"""Convolution problems that the tests of all its kernels draw from, and their definition in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnet.kernels import _runtime

DIRECTIONS = ("forward", "input_grad", "weight_grad")


def name(dtype):
    return np.dtype(dtype).name


def extension():
    return _runtime.extension_for(np.empty(0))


@dataclass
class Problem:
    """A convolution's sizes, and what follows from them."""

    batch: int
    channels: int
    image: tuple
    filters: int
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    @property
    def options(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    @property
    def pads(self):
        return [(p, p) if isinstance(p, int) else p for p in self.padding]

    @property
    def out(self):
        sizes = zip(self.image, self.kernel, self.stride, self.pads, self.dilation, strict=True)
        return tuple((n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, (a, b), d in sizes)

    @property
    def x_shape(self):
        return (self.batch, self.channels, *self.image)

    @property
    def weight_shape(self):
        return (self.filters, self.channels // self.groups, *self.kernel)

    @property
    def out_shape(self):
        return (self.batch, self.filters, *self.out)

    def taps(self):
        """For every place of the window: (r, s), and the pixels that it sees in the padded image."""
        (p, q), (sh, sw), (dh, dw) = self.out, self.stride, self.dilation
        for r in range(self.kernel[0]):
            for s in range(self.kernel[1]):
                rows = slice(r * dh, r * dh + (p - 1) * sh + 1, sh)
                yield r, s, (..., rows, slice(s * dw, s * dw + (q - 1) * sw + 1, sw))

    def _grouped(self, x):
        return x.reshape(x.shape[0], self.groups, -1, *x.shape[2:])

    def forward(self, x, weight):
        """The definition in float64: one product for every place of the window."""
        padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *self.pads])
        w = weight.astype(np.float64).reshape(self.groups, -1, *self.weight_shape[1:])
        out = np.zeros(self._grouped(np.empty(self.out_shape)).shape)
        for r, s, seen in self.taps():
            out += np.einsum("ngcpq,gkc->ngkpq", self._grouped(padded[seen]), w[..., r, s])
        return out.reshape(self.out_shape)

    def input_grad(self, grad, weight):
        padded = np.pad(np.zeros(self.x_shape), [(0, 0), (0, 0), *self.pads])
        w = weight.astype(np.float64).reshape(self.groups, -1, *self.weight_shape[1:])
        for r, s, seen in self.taps():
            sent = np.einsum("ngkpq,gkc->ngcpq", self._grouped(grad.astype(np.float64)), w[..., r, s])
            padded[seen] += sent.reshape(self.batch, self.channels, *self.out)
        (top, _), (left, _) = self.pads
        return padded[:, :, top : top + self.image[0], left : left + self.image[1]]

    def weight_grad(self, grad, x):
        padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *self.pads])
        out = np.zeros(self.weight_shape)
        for r, s, seen in self.taps():
            product = np.einsum("ngkpq,ngcpq->gkc", self._grouped(grad.astype(np.float64)), self._grouped(padded[seen]))
            out[..., r, s] = product.reshape(self.weight_shape[:2])
        return out


def draw(rng, largest=64):
    """A random problem: stride and dilation 1 to 3, groups, depthwise, odd sizes, paddings of two sides."""
    while True:
        groups = int(rng.choice([1, 1, 1, 2, 3, 8]))
        each = int(rng.choice([c for c in (1, 3, 4, 8, 17, 64) if c * groups <= largest]))
        problem = Problem(
            batch=int(rng.integers(1, 4)),
            channels=groups * each,
            image=tuple(int(n) for n in rng.integers(1, 14, 2)),
            filters=groups * int(rng.choice([1, 2, 3, 8, 20])),
            kernel=tuple(int(n) for n in rng.integers(1, 6, 2)),
            stride=tuple(int(n) for n in rng.integers(1, 4, 2)),
            padding=tuple(
                int(rng.integers(0, 4)) if rng.random() < 0.8 else tuple(int(n) for n in rng.integers(0, 4, 2))
                for _ in range(2)
            ),
            dilation=tuple(int(n) for n in rng.integers(1, 4, 2)),
            groups=groups,
        )
        if min(problem.out) >= 1:
            return problem


def images(rng, shape, dtype):
    """An array in one of several memory orders: C, channels-last, padded, reversed."""
    n, c, h, w = shape
    x = rng.standard_normal(shape).astype(dtype)
    how = rng.integers(4)
    if how == 0:
        return x
    if how == 1:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    larger = np.zeros((n, h + 1, w, c + 3), dtype)
    larger[:, :h, :, :c] = x.transpose(0, 2, 3, 1)
    padded = larger[:, :h, :, :c].transpose(0, 3, 1, 2)
    return padded if how == 2 else np.ascontiguousarray(x[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]


def products(problem, rng, dtype):
    """For every direction: the operation, its arguments, the result in float64, its magnitude, terms of a sum."""
    x, grad = images(rng, problem.x_shape, dtype), images(rng, problem.out_shape, dtype)
    weight = rng.standard_normal(problem.weight_shape).astype(dtype)
    taps = int(np.prod(problem.kernel))
    return {
        "forward": (
            "conv2d",
            (x, weight),
            problem.forward(x, weight),
            problem.forward(abs(x), abs(weight)),
            taps * problem.weight_shape[1],
        ),
        "input_grad": (
            "conv2d_input_grad",
            (grad, weight, problem.image),
            problem.input_grad(grad, weight),
            problem.input_grad(abs(grad), abs(weight)),
            taps * problem.filters // problem.groups,
        ),
        "weight_grad": (
            "conv2d_weight_grad",
            (grad, x, problem.kernel),
            problem.weight_grad(grad, x),
            problem.weight_grad(abs(grad), abs(x)),
            problem.batch * int(np.prod(problem.out)),
        ),
    }
