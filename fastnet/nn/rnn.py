"""Recurrent layers and their cells."""

from __future__ import annotations

import math
import warnings
from typing import Any

from fastnet import _autocast
from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.nn import functional as F
from fastnet.nn import init
from fastnet.nn.module import Module
from fastnet.nn.parameter import Parameter
from fastnet.nn.utils.rnn import PackedSequence
from fastnet.ops.creation import empty, zeros
from fastnet.ops.indexing import index_select
from fastnet.ops.pointwise import relu, tanh
from fastnet.ops.rnn import GruCell, GruSequence, LstmCell, LstmSequence, ProjectedLstmSequence, RnnSequence
from fastnet.ops.shape import cat


class RNNBase(Module):
    """What recurrent layers share: parameters, layers, directions, packed and padded input."""

    _gates = 1

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        name = type(self).__name__
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise InputError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        if isinstance(hidden_size, bool) or not isinstance(hidden_size, int):
            raise KindError(f"hidden_size should be of type int, got: {type(hidden_size).__name__}")
        if hidden_size <= 0:
            raise InputError("hidden_size must be greater than zero")
        if num_layers <= 0:
            raise InputError("num_layers must be greater than zero")
        if proj_size < 0:
            raise InputError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise InputError("proj_size has to be smaller than hidden_size")
        if proj_size and name != "LSTM":
            raise InputError("proj_size argument is only supported for LSTM, not RNN or GRU")
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        made: Any = {"device": device, "dtype": dtype}
        width = self._gates * hidden_size
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                size = input_size if layer == 0 else self._width * self._directions
                self.register_parameter(f"weight_ih{suffix}", Parameter(empty(width, size, **made)))
                self.register_parameter(f"weight_hh{suffix}", Parameter(empty(width, self._width, **made)))
                if bias:
                    self.register_parameter(f"bias_ih{suffix}", Parameter(empty(width, **made)))
                    self.register_parameter(f"bias_hh{suffix}", Parameter(empty(width, **made)))
                if proj_size:
                    self.register_parameter(f"weight_hr{suffix}", Parameter(empty(proj_size, hidden_size, **made)))
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _width(self) -> int:
        """Size of the state that goes round."""
        return self.proj_size or self.hidden_size

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    def _parameter(self, kind: str, suffix: str) -> Any:
        """The parameter, or None; under autocast in its dtype."""
        p = getattr(self, kind + suffix, None)
        return _autocast.lowered(p) if _autocast.active else p

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """Parameters by layer and direction."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        suffixes = [s for layer in range(self.num_layers) for s in self._suffixes(layer)]
        return [[p for k in kinds if (p := getattr(self, k + s, None)) is not None] for s in suffixes]

    def reset_parameters(self) -> None:
        """Draw all parameters uniformly within 1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def flatten_parameters(self) -> None:
        """For compatibility: parameters need not lie side by side."""

    def _layer(self, x: Tensor, states: tuple[Tensor, ...], layer: int, sizes: list[int]) -> tuple[Tensor, ...]:
        """The rows of all steps and the last states of a layer in all directions; states (directions, batch, size)."""
        raise NotImplementedError

    def _recurrences(self, x: Tensor, layer: int) -> list[Any]:
        """Products with the input, recurrent weight and bias of one direction after the other."""
        get = self._parameter
        result: list[Any] = []
        for suffix in self._suffixes(layer):
            products = F.linear(x, get("weight_ih", suffix), get("bias_ih", suffix))
            result += [products, get("weight_hh", suffix), get("bias_hh", suffix)]
        return result

    def _start(self, batch: int, like: Tensor) -> tuple[Tensor, ...]:
        """Initial states of zeros."""
        rows = self.num_layers * self._directions
        return (zeros(rows, batch, self._width, dtype=like.dtype, device=like.device),)

    def _state_sizes(self) -> tuple[tuple[str, int], ...]:
        return (("hidden", self._width),)

    def _checked_states(self, hx: Any, batch: int, batched: bool) -> tuple[Tensor, ...]:
        """hx as a tuple of (layers * directions, batch, size)."""
        states = hx if isinstance(hx, (tuple, list)) else (hx,)
        wanted = self._state_sizes()
        if len(states) != len(wanted):
            raise InputError(f"{type(self).__name__}: expected {len(wanted)} initial states, got {len(states)}")
        rows = self.num_layers * self._directions
        out = []
        for (what, size), s in zip(wanted, states, strict=True):
            if not isinstance(s, Tensor):
                raise KindError(f"{type(self).__name__}: hx holds a {type(s).__name__}, expected Tensor")
            if s.dim() != (3 if batched else 2):
                dims = (3, 3) if batched else (2, 2)
                raise InputError(
                    f"For {'batched' if batched else 'unbatched'} {dims[0]}-D input, hx should also be {dims[1]}-D but "
                    f"got {s.dim()}-D tensor"
                )
            s = s if batched else s.unsqueeze(1)
            if tuple(s.shape) != (rows, batch, size):
                raise InputError(f"Expected {what} size {(rows, batch, size)}, got {list(s.shape)}")
            out.append(s)
        return tuple(out)

    def _check_input(self, data: Tensor) -> None:
        if data.shape[-1] != self.input_size:
            raise InputError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {data.shape[-1]}"
            )
        weight = self.weight_ih_l0
        if data.dtype is not weight.dtype and not _autocast.active:
            raise InputError(f"RNN input dtype ({data.dtype}) does not match weight dtype ({weight.dtype})")

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The last layer's states at every step, and every layer's last states.

        Args:
            input: (T, N, input_size), (N, T, input_size) with ``batch_first``, (T, input_size), or a PackedSequence.
            hx: initial state (layers * directions, N, size), or a tuple of them; None for zeros.
        """
        if isinstance(input, PackedSequence):
            data, batch_sizes, sorted_indices, unsorted_indices = input
            self._check_input(data)
            sizes = batch_sizes.tolist()
            states = None if hx is None else self._checked_states(hx, sizes[0], True)
            if states is not None and sorted_indices is not None:
                states = tuple(index_select(s, 1, sorted_indices) for s in states)
            data, finals = self._layers(data, states, sizes)
            if unsorted_indices is not None:
                finals = [index_select(s, 1, unsorted_indices) for s in finals]
            packed = PackedSequence(data, batch_sizes, sorted_indices, unsorted_indices)
            return packed, finals[0] if len(finals) == 1 else tuple(finals)
        if input.dim() not in (2, 3):
            raise InputError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        self._check_input(input)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(0 if self.batch_first else 1)
        if self.batch_first:
            x = x.transpose(0, 1)
        steps, batch = x.shape[:2]
        if steps == 0:
            raise InputError("Expected sequence length to be larger than 0 in RNN")
        states = None if hx is None else self._checked_states(hx, batch, batched)
        data, finals = self._layers(x.reshape(steps * batch, self.input_size), states, [batch] * steps)
        out = data.reshape(steps, batch, data.shape[-1])
        if self.batch_first:
            out = out.transpose(0, 1)
        if not batched:
            out, finals = out.squeeze(0 if self.batch_first else 1), [s.squeeze(1) for s in finals]
        return out, finals[0] if len(finals) == 1 else tuple(finals)

    def _layers(self, data: Tensor, states: tuple[Tensor, ...] | None, sizes: list[int]) -> tuple[Tensor, list[Tensor]]:
        """The last layer's rows of all steps, and every layer's last states, one after another."""
        if states is None:
            states = self._start(sizes[0], data)
        if _autocast.active:
            data, *lowered = (_autocast.lowered(x) for x in (data, *states))
            states = tuple(lowered)
        last: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            place = slice(layer * self._directions, (layer + 1) * self._directions)
            data, *ends = self._layer(data, tuple(s[place] for s in states), layer, sizes)
            last.append(ends)
            if self.dropout and self.training and layer < self.num_layers - 1:
                data = F.dropout(data, self.dropout)
        return data, last[0] if len(last) == 1 else [cat(list(s), 0) for s in zip(*last, strict=True)]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


class RNN(RNNBase):
    """``h[t] = tanh(W_ih x[t] + b_ih + W_hh h[t-1] + b_hh)``, or relu in the place of tanh (Elman 1990).

    Args:
        input_size, hidden_size: of a step's input and state.
        num_layers: each takes the states of the one before.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are b_ih and b_hh.
        batch_first: (N, T, size) rather than (T, N, size).
        dropout: probability, between layers, in training.
        bidirectional: whether a second set of parameters goes from the end to the start; its states follow in the
            result's last dimension.
        device, dtype: of the parameters, which are PyTorch's: ``weight_ih_l0`` and so on.

    >>> import fastnet
    >>> out, h = fastnet.nn.RNN(3, 4)(fastnet.ones(5, 2, 3))
    >>> out.shape, h.shape
    (fastnet.Size([5, 2, 4]), fastnet.Size([1, 2, 4]))
    """

    def __init__(self, *args: Any, **kwargs: Any):
        if len(args) > 3:  # input_size, hidden_size, num_layers, nonlinearity, ...
            self.nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            self.nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if self.nonlinearity not in ("tanh", "relu"):
            raise InputError(f"Unknown nonlinearity '{self.nonlinearity}'. Select from 'tanh' or 'relu'.")
        nonlinearity = self.nonlinearity
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)
        self.nonlinearity = nonlinearity

    def _layer(self, x: Tensor, states: tuple[Tensor, ...], layer: int, sizes: list[int]) -> tuple[Tensor, ...]:
        return RnnSequence.apply(states[0], sizes, self.nonlinearity, *self._recurrences(x, layer))


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000):

    ``i, f, o = sigmoid, g = tanh`` of ``W_ih x[t] + b_ih + W_hh h[t-1] + b_hh``, in the order i, f, g, o;
    ``c[t] = f c[t-1] + i g``, ``h[t] = o tanh(c[t])``.

    Args: as ``RNN``'s without nonlinearity; ``proj_size``: size of a projection ``W_hr h[t]`` that goes round in the
    place of h (Sak et al. 2014), 0 for none.

    Takes and returns states as a pair (h, c).
    """

    _gates = 4

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__("LSTM", *args, **kwargs)

    def _start(self, batch: int, like: Tensor) -> tuple[Tensor, ...]:
        rows = self.num_layers * self._directions
        return tuple(zeros(rows, batch, size, dtype=like.dtype, device=like.device) for _, size in self._state_sizes())

    def _state_sizes(self) -> tuple[tuple[str, int], ...]:
        return (("hidden[0]", self._width), ("hidden[1]", self.hidden_size))

    def _layer(self, x: Tensor, states: tuple[Tensor, ...], layer: int, sizes: list[int]) -> tuple[Tensor, ...]:
        recurrences = self._recurrences(x, layer)
        if not self.proj_size:
            return LstmSequence.apply(*states, sizes, *recurrences)
        for d, suffix in enumerate(self._suffixes(layer)):
            recurrences.insert(4 * d + 3, self._parameter("weight_hr", suffix))
        return ProjectedLstmSequence.apply(*states, sizes, *recurrences)


class GRU(RNNBase):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate after the product:

    ``r, z = sigmoid(W_ih x[t] + b_ih + W_hh h[t-1] + b_hh)``, ``n = tanh(W_in x[t] + b_in + r (W_hn h[t-1] + b_hn))``,
    ``h[t] = (1 - z) n + z h[t-1]``; gates in the order r, z, n.

    Args: as ``RNN``'s without nonlinearity.
    """

    _gates = 3

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__("GRU", *args, **kwargs)

    def _layer(self, x: Tensor, states: tuple[Tensor, ...], layer: int, sizes: list[int]) -> tuple[Tensor, ...]:
        return GruSequence.apply(states[0], sizes, *self._recurrences(x, layer))


class RNNCellBase(Module):
    """What cells share: parameters ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``, and their inputs' shapes."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any, dtype: Any):
        super().__init__()
        made: Any = {"device": device, "dtype": dtype}
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.weight_ih = Parameter(empty(num_chunks * hidden_size, input_size, **made))
        self.weight_hh = Parameter(empty(num_chunks * hidden_size, hidden_size, **made))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(num_chunks * hidden_size, **made)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters uniformly within 1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if not self.bias:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text

    def _prepared(self, input: Tensor, states: list[Tensor | None]) -> tuple[Tensor, list[Tensor], bool]:
        """Input and states with a batch dimension, and whether they came with one."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise InputError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if x.shape[1] != self.input_size:
            raise InputError(f"input has inconsistent input_size: got {x.shape[1]}, expected {self.input_size}")
        made = []
        for s in states:
            if s is None:
                s = zeros(x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)
            else:
                if s.dim() not in (1, 2):
                    raise InputError(f"{name}: Expected hidden to be 1D or 2D, got {s.dim()}D instead")
                s = s if s.dim() == 2 else s.unsqueeze(0)
            if tuple(s.shape) != (x.shape[0], self.hidden_size):
                raise InputError(f"{name}: hidden has shape {list(s.shape)}, expected {[x.shape[0], self.hidden_size]}")
            made.append(s)
        return x, made, batched

    def _products(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(x, self.weight_ih, self.bias_ih), F.linear(h, self.weight_hh, self.bias_hh)


class RNNCell(RNNCellBase):
    """One step of ``RNN``: input (N, input_size) and state (N, hidden_size), or without N, to the next state."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise InputError(f"Unknown nonlinearity: {self.nonlinearity}")
        x, (h,), batched = self._prepared(input, [hx])
        of_x, of_h = self._products(x, h)
        out = (tanh if self.nonlinearity == "tanh" else relu)(of_x + of_h)
        return out if batched else out.squeeze(0)


class LSTMCell(RNNCellBase):
    """One step of ``LSTM``: input (N, input_size) and states (h, c), each (N, hidden_size), or without N, to the next
    pair."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        x, (h, c), batched = self._prepared(input, [None, None] if hx is None else list(hx))
        of_x, of_h = self._products(x, h)
        h, c = LstmCell.apply(of_x + of_h, c)
        return (h, c) if batched else (h.squeeze(0), c.squeeze(0))


class GRUCell(RNNCellBase):
    """One step of ``GRU``: input (N, input_size) and state (N, hidden_size), or without N, to the next state."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        x, (h,), batched = self._prepared(input, [hx])
        of_x, of_h = self._products(x, h)
        out = GruCell.apply(of_x, of_h, h)
        return out if batched else out.squeeze(0)
