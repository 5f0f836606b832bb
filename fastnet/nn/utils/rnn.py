"""Sequences of different lengths in one batch: packed, padded, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.ops.creation import as_tensor, full, tensor
from fastnet.ops.indexing import index_select
from fastnet.ops.shape import cat, stack

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Sequences of different lengths, longest first, without padding: the first step of all of them, then the second of
    those that have one, and so on. Made by ``pack_padded_sequence`` or ``pack_sequence``.

    Args:
        data: (total, *), the rows.
        batch_sizes: (steps,) int64 on the CPU: how many sequences have each step; never grows.
        sorted_indices: which sequence of the batch became which of the packed ones, or None: as they were.
        unsorted_indices: the way back.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> Any:
        if batch_sizes is None:  # PackedSequence((data, batch_sizes))
            data, batch_sizes = data  # type: ignore[misc]
        if batch_sizes is not None and batch_sizes.device.type != "cpu":
            raise InputError(
                "batch_sizes should always be on CPU. Instances of PackedSequence should never be created manually."
            )
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _with(self, data: Tensor) -> PackedSequence:
        def beside(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(data.device)

        return type(self)(data, self.batch_sizes, beside(self.sorted_indices), beside(self.unsorted_indices))

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """data in another dtype or on another device, the indices beside it."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else self._with(data)

    def cpu(self) -> PackedSequence:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> PackedSequence:
        return self._with(self.data.cuda(device))

    def float(self) -> PackedSequence:
        return self._with(self.data.float())

    def double(self) -> PackedSequence:
        return self._with(self.data.double())

    def half(self) -> PackedSequence:
        return self._with(self.data.half())

    def pin_memory(self) -> PackedSequence:
        return self._with(self.data.pin_memory())

    @property
    def is_cuda(self) -> bool:
        return self.data.is_cuda

    def is_pinned(self) -> bool:
        return False


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """(n,) int64 such that ``invert_permutation(p)[p]`` is 0 .. n - 1; None for None."""
    if permutation is None:
        return None
    out = np.empty(permutation.numel(), np.int64)
    out[permutation.cpu().numpy()] = np.arange(permutation.numel())
    return as_tensor(out).to(permutation.device)


def _lengths(lengths: Any) -> np.ndarray:
    if isinstance(lengths, Tensor):
        if lengths.device.type != "cpu":
            raise KindError(
                f"'lengths' argument should be a 1D CPU int64 tensor, but got {lengths.dim()}D {lengths.device} tensor"
            )
        lengths = lengths.tolist()
    out = np.asarray(lengths)
    if out.ndim != 1 or (out.size and out.dtype.kind not in "iu"):
        raise KindError(f"'lengths' argument should be a 1D CPU int64 tensor, but got {out.ndim}D {out.dtype}")
    return out.astype(np.int64)


def _rows_of(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For decreasing lengths: how many sequences have each step; the step and the sequence of every packed row."""
    steps = np.arange(lengths[0] if lengths.size else 0)
    sizes = (lengths[None, :] > steps[:, None]).sum(axis=1)
    step = np.repeat(steps, sizes)
    sequence = np.concatenate([np.arange(n) for n in sizes]) if sizes.size else np.zeros(0, np.int64)
    return sizes, step, sequence


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """A padded batch without its padding.

    Args:
        input: (T, B, *), or (B, T, *) with ``batch_first``.
        lengths: of the B sequences, at least 1 each; a list or a tensor on the CPU.
        enforce_sorted: whether they must come in decreasing order; otherwise they are sorted, and the way back is kept.

    Raises:
        RuntimeError: lengths that do not fit.
    """
    size = _lengths(lengths)
    if batch_first:
        input = input.transpose(0, 1)
    batch = input.shape[1]
    if size.size != batch:
        raise InputError(f"Expected `len(lengths)` to be equal to batch_size, but got {size.size} (batch_size={batch})")
    if (size <= 0).any():
        raise InputError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
        )
    order = None
    if enforce_sorted:
        if (np.diff(size) > 0).any():
            raise InputError(
                "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
                "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement."
            )
    else:
        indices = np.argsort(-size, kind="stable")
        size = size[indices]
        order = as_tensor(indices).to(input.device)
        input = index_select(input, 1, order)
    if size.size and size[0] > input.shape[0]:
        raise InputError(f"Expected lengths of at most {input.shape[0]}, the steps of input, but got {size[0]}")
    sizes, step, sequence = _rows_of(size)
    flat = input.reshape(input.shape[0] * batch, *input.shape[2:])
    rows = as_tensor(step * batch + sequence).to(input.device)
    return PackedSequence(index_select(flat, 0, rows), as_tensor(sizes.astype(np.int64), device="cpu"), order, None)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The inverse of ``pack_padded_sequence``: a padded batch and its lengths, in the order before packing.

    Args:
        sequence: packed.
        batch_first: (B, T, *) rather than (T, B, *).
        padding_value: what fills the rest.
        total_length: T; at least the longest length, which is the default.
    """
    sizes = sequence.batch_sizes.numpy()
    longest, batch = len(sizes), int(sizes[0]) if len(sizes) else 0
    if total_length is not None and total_length < longest:
        raise InputError(
            f"Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {longest}"
        )
    steps = longest if total_length is None else total_length
    lengths = (sizes[:, None] > np.arange(batch)[None, :]).sum(axis=0)
    # One row more holds the padding; every place of the batch looks up its row.
    places = np.full((steps, batch), sequence.data.shape[0], np.int64)
    _, step, which = _rows_of(lengths)
    places[step, which] = np.arange(step.size)
    if sequence.unsorted_indices is not None:
        unsorted = sequence.unsorted_indices.cpu().numpy()
        places, lengths = places[:, unsorted], lengths[unsorted]
    data = sequence.data
    filler = full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    if batch_first:
        places = places.T
    rows = as_tensor(np.ascontiguousarray(places).reshape(-1)).to(data.device)
    out = index_select(cat([data, filler]), 0, rows).reshape(*places.shape, *data.shape[1:])
    return out, as_tensor(lengths.astype(np.int64), device="cpu")


def pad_sequence(
    sequences: Iterable[Tensor] | Tensor,
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """(T, B, *), or (B, T, *) with ``batch_first``, from B tensors (length, *), padded on the right or the left.

    >>> import fastnet
    >>> pad_sequence([fastnet.ones(2), fastnet.ones(1)], batch_first=True)
    tensor([[1., 1.],
            [1., 0.]])
    """
    if padding_side not in ("left", "right"):
        raise InputError(f"padding_side should be either 'left' or 'right' but got {padding_side}")
    if isinstance(sequences, Tensor):
        sequences = list(sequences.unbind(0))
    if not isinstance(sequences, Iterable):
        raise InputError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    items = list(sequences)
    if not items:
        raise InputError("pad_sequence: received an empty list of sequences")
    steps = max(x.shape[0] for x in items)
    padded = []
    for x in items:
        if x.shape[0] < steps:
            filler = full((steps - x.shape[0], *x.shape[1:]), padding_value, dtype=x.dtype, device=x.device)
            x = cat([x, filler] if padding_side == "right" else [filler, x])
        padded.append(x)
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The inverse of ``pad_sequence``: a list of tensors (length, *)."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [x[:n] for x, n in zip(padded_sequences.unbind(0), _lengths(lengths).tolist(), strict=True)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """A packed sequence from tensors (length, *)."""
    lengths = tensor([len(x) for x in sequences], device="cpu")
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The inverse of ``pack_sequence``."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
