"""GPT-2: a stack of transformer blocks that predicts the next token (Radford et al. 2019), under the parameter names
of Hugging Face's files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import fastnet
from fastnet import nn
from fastnet._serialization import load
from fastnet._tensor import Tensor
from fastnet.models.sampling import sample
from fastnet.nn import functional as F
from fastnet.nn._hooks import is_plain

# Buffers of older files: the causal mask and what masked scores were set to. They follow from the architecture.
_MASKS = (".attn.bias", ".attn.masked_bias")


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT; the defaults are GPT-2's with 124 million parameters. Names are those of a GPT-2 config.json.

    Args:
        vocab_size: tokens there are.
        n_positions: tokens seen at once.
        n_embd, n_layer, n_head: width, blocks, heads.
        n_inner: width between the two layers of a block's perceptron; None for 4 n_embd.
        dropout: probability in training, after embeddings, in attention and on each residual branch.
        layer_norm_epsilon: added to variances.
        tie_word_embeddings: whether the output layer is the token embedding's transpose (Press and Wolf 2017).
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            if getattr(self, name) < 1:
                raise ValueError(f"GPTConfig: {name} is {getattr(self, name)}, expected at least 1")
        if self.n_embd % self.n_head:
            raise ValueError(f"GPTConfig: n_embd is {self.n_embd}, expected a multiple of n_head, {self.n_head}")


class KeyValueCache:
    """Keys and values of the tokens seen so far: two buffers (N, heads, n_positions, head size) a block."""

    def __init__(self, config: GPTConfig, batch: int, like: Tensor):
        shape = (batch, config.n_head, config.n_positions, config.n_embd // config.n_head)
        made: Any = {"dtype": like.dtype, "device": like.device}
        self.length = 0
        self._blocks = [(fastnet.empty(*shape, **made), fastnet.empty(*shape, **made)) for _ in range(config.n_layer)]

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Put keys and values (N, heads, T, head size) after those there; causal attention of q to all of them."""
        if self.length:
            return F.attention_with_kvcache(q, *self._blocks[block], k, v, cache_seqlens=self.length, causal=True)
        for kept, new in zip(self._blocks[block], (k, v), strict=True):
            kept[:, :, : new.shape[2]] = new
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Conv1D(nn.Module):
    """A fully connected layer whose weight is (in_features, out_features), as GPT-2's files have it.

    Shape: (..., in_features) to (..., out_features).
    """

    def __init__(self, in_features: int, out_features: int, std: float = 0.02):
        super().__init__()
        self.weight = nn.Parameter(fastnet.empty(in_features, out_features))
        self.bias = nn.Parameter(fastnet.zeros(out_features))
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor, activation: str = "none") -> Tensor:
        return F.linear_activation(x, self.weight.t(), self.bias, activation)


class Attention(nn.Module):
    """Causal self-attention, (N, T, n_embd) to the same."""

    def __init__(self, config: GPTConfig, index: int):
        super().__init__()
        self.index, self.n_head, self.dropout = index, config.n_head, config.dropout
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd, std=0.02 / math.sqrt(2 * config.n_layer))

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each (N, heads, T, head size)."""
        n, t, width = x.shape
        return self.c_attn(x).reshape(n, t, 3, self.n_head, width // self.n_head).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        n, t, width = x.shape
        q, k, v = self._heads(x)
        if cache is None:
            p = self.dropout if self.training else 0.0
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        else:
            out = cache.attend(self.index, q, k, v)
        return self.c_proj(out.transpose(1, 2).reshape(n, t, width))

    def probabilities(self, x: Tensor) -> Tensor:
        """What each position attends to: (N, heads, T, T), rows sum to 1."""
        q, k, _ = self._heads(x)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        future = fastnet.ones(*scores.shape[-2:], device=x.device).triu(1).bool()
        return F.softmax(scores.masked_fill(future, -math.inf), dim=-1)


class Perceptron(nn.Module):
    """Two layers with a GELU (tanh form) between them."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        inner = 4 * config.n_embd if config.n_inner is None else config.n_inner
        self.c_fc = Conv1D(config.n_embd, inner)
        self.c_proj = Conv1D(inner, config.n_embd, std=0.02 / math.sqrt(2 * config.n_layer))

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.c_fc(x, "gelu_tanh"))


class Block(nn.Module):
    """Attention, then a perceptron, each on the normalised input and added to it."""

    def __init__(self, config: GPTConfig, index: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, index)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = Perceptron(config)
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: Tensor, branch: Tensor | None, cache: KeyValueCache | None = None) -> tuple[Tensor, Tensor]:
        """The residual stream and what this block's perceptron adds to it, given what the block before adds: sums wait
        for the norms after them, which compute them in the same pass."""
        y, x = self.normalised(self.ln_1, branch, x)
        y, x = self.normalised(self.ln_2, self.attn(y, cache), x)
        return x, self.mlp(y)

    def normalised(self, norm: nn.Module, branch: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """The norm of x + dropout(branch), and that sum."""
        if branch is None:
            return norm(x), x
        if not is_plain(norm, nn.LayerNorm) or not is_plain(self.drop, nn.Dropout, nn.Identity):
            x = x + self.drop(branch)  # hooks, or other modules put in their place, see what a call of each is given
            return norm(x), x
        p = self.drop.p if self.drop.training and isinstance(self.drop, nn.Dropout) else 0.0
        return F.add_layer_norm(branch, x, norm.normalized_shape, norm.weight, norm.bias, norm.eps, dropout_p=p)


class GPT(nn.Module):
    """GPT-2: token and position embeddings, blocks, a layer norm, scores of every token to come next.

    Weights start as the paper has them: normal with standard deviation 0.02, projections onto the residual stream
    divided by the square root of their number. ``state_dict`` has the keys and shapes of Hugging Face's GPT2Model, with
    ``lm_head.weight`` besides where the embeddings are not tied.

    Args:
        config: the sizes.

    Shape: tokens (N, T) int64, T at most n_positions, to logits (N, T, vocab_size).

    >>> import fastnet
    >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
    >>> model(fastnet.tensor([[1, 2, 3]])).shape
    fastnet.Size([1, 3, 11])
    >>> model.eval().generate(fastnet.tensor([[1, 2, 3]]), 4, temperature=0).shape
    fastnet.Size([1, 7])
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.h = nn.ModuleList([Block(config, i) for i in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
            nn.init.normal_(self.lm_head.weight, std=0.02)

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits of the token after each; with a cache, tokens continue those it holds, and it grows by them."""
        x, branch = self._embedded(tokens, 0 if cache is None else cache.length), None
        for block in self.h:
            x, branch = block(x, branch, cache)
        y, _ = self.h[-1].normalised(self.ln_f, branch, x)
        if cache is not None:
            cache.length += tokens.shape[1]
        output = self.wte.weight if self.config.tie_word_embeddings else self.lm_head.weight
        return F.linear(y, output)

    def _embedded(self, tokens: Tensor, start: int) -> Tensor:
        if tokens.dim() != 2:
            raise ValueError(f"GPT: tokens has shape {tuple(tokens.shape)}, expected (N, T)")
        end = start + tokens.shape[1]
        if end > self.config.n_positions:
            raise ValueError(f"GPT: there are {end} tokens, expected at most n_positions={self.config.n_positions}")
        positions = fastnet.arange(start, end, device=tokens.device)
        return self.drop(self.wte(tokens) + self.wpe(positions))

    def attention_maps(self, tokens: Tensor) -> list[Tensor]:
        """What each head attends to, (N, heads, T, T) a block; rows are queries."""
        maps = []
        with fastnet.no_grad():
            x, branch = self._embedded(tokens, 0), None
            for block in self.h:
                maps.append(block.attn.probabilities(block.normalised(block.ln_1, branch, x)[0]))
                x, branch = block(x, branch)
        return maps

    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        use_cache: bool = True,
    ) -> Tensor:
        """Continue tokens, each new one drawn from the model's distribution given those before it.

        A context that has filled n_positions is cut to its last half, then grows again: with and without the cache the
        model sees the same tokens.

        Args:
            tokens: (N, T) int64, T at least 1.
            max_new_tokens: how many to add.
            temperature: what logits are divided by; 0 takes the likeliest token.
            top_k: draw from the k likeliest tokens only.
            top_p: draw from the fewest tokens whose probabilities sum to at least this (Holtzman et al. 2020).
            use_cache: whether keys and values are kept, or every token is computed again at each step.

        Returns:
            (N, T + max_new_tokens).
        """
        if tokens.dim() != 2 or tokens.shape[1] < 1:
            raise ValueError(f"generate: tokens has shape {tuple(tokens.shape)}, expected (N, T) with T at least 1")
        limit = self.config.n_positions
        training = self.training
        self.eval()
        with fastnet.no_grad():
            start = max(0, tokens.shape[1] - limit)
            cache = None
            for _ in range(max_new_tokens):
                if tokens.shape[1] - start > limit:
                    start, cache = tokens.shape[1] - max(1, limit // 2), None
                if use_cache and cache is None:
                    cache = KeyValueCache(self.config, tokens.shape[0], self.wte.weight)
                logits = self(tokens[:, start + (cache.length if cache else 0) :], cache)[:, -1]
                tokens = fastnet.cat([tokens, sample(logits, temperature, top_k, top_p)], dim=1)
        self.train(training)
        return tokens

    def load_gpt2(self, path: Any) -> GPT:
        """Load weights from a safetensors file of a GPT-2 as Hugging Face writes it; self.

        Names may begin with ``transformer.``; ``lm_head.weight`` may be there where embeddings are tied, as it is then
        ``wte.weight`` again.

        Raises:
            RuntimeError: names or shapes that are not this configuration's.
            ValueError: a ``lm_head.weight`` of its own for tied embeddings.
        """
        state = {
            name.removeprefix("transformer."): value for name, value in load(path).items() if not name.endswith(_MASKS)
        }
        if self.config.tie_word_embeddings and (head := state.pop("lm_head.weight", None)) is not None:
            tied = state.get("wte.weight")
            if tied is None or tied.shape != head.shape or not fastnet.equal(tied, head):
                raise ValueError(
                    "load_gpt2: lm_head.weight differs from wte.weight, expected the same with tie_word_embeddings=True"
                )
        self.load_state_dict(state)
        return self
