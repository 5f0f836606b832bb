"""Problem sizes, as data. Small ones finish in seconds on a CPU; the others are for a GPU."""

from __future__ import annotations

from typing import NamedTuple


class Product(NamedTuple):
    """out (M, N) = a @ b. The layout says how the operands lie in memory, as BLAS does for column vectors of rows: the
    first letter is a's, the second b's; N as the product reads it, T transposed (a is stored (K, M), b (N, K))."""

    m: int
    n: int
    k: int
    layout: str = "NN"

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k} {self.layout}"


def linear(rows: int, inputs: int, outputs: int) -> list[Product]:
    """The three products of a linear layer with weight (outputs, inputs): the result, the gradient of the input, the
    gradient of the weight."""
    return [
        Product(rows, outputs, inputs, "NT"),
        Product(rows, inputs, outputs, "NN"),
        Product(outputs, inputs, rows, "TN"),
    ]


def _gpt2() -> list[Product]:
    """Attention's input and output projections and both layers of the MLP, at 124M (768 wide) and 1.5B (1600), and the
    124M model's head (50257 tokens, padded to 50304)."""
    products = []
    for tokens in (8192, 16384, 32768, 65536):
        for width in (768, 1600):
            for inputs, outputs in ((1, 3), (1, 1), (1, 4), (4, 1)):
                products += linear(tokens, inputs * width, outputs * width)
    return products + linear(8192, 768, 50304)


def _resnet50(images: int = 256) -> list[Product]:
    """The 1x1 convolutions of ResNet-50 (v1.5) on channels-last images, each shape once: side of the image, channels in
    and out."""
    layers = [
        (56, 64, 64), (56, 64, 256), (56, 256, 64), (56, 256, 128),
        (28, 128, 512), (28, 256, 512), (28, 512, 128), (28, 512, 256),
        (14, 256, 1024), (14, 512, 1024), (14, 1024, 256), (14, 1024, 512),
        (7, 512, 2048), (7, 1024, 2048), (7, 2048, 512),
    ]  # fmt: skip
    return [p for side, inputs, outputs in layers for p in linear(images * side * side, inputs, outputs)]


MATMUL: dict[str, list[Product]] = {
    "small": [Product(64, 64, 64), Product(256, 256, 256), Product(32, 128, 64, "NT")],
    "square": [Product(s, s, s) for s in (512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)],
    "gpt2": _gpt2(),
    "resnet50": _resnet50(),
    "skinny": [
        Product(m, n, k, "NT")
        for m in (1, 2, 4, 8, 16, 32, 64, 128)
        for n, k in ((4096, 4096), (16384, 4096), (4096, 16384))
    ],
}

ROWS: dict[str, list[tuple[int, int]]] = {  # (rows, columns) of row-wise and elementwise operations
    "small": [(32, 128), (256, 1024)],
    "large": [(4096, 1024), (8192, 4096), (65536, 512), (1024, 50304)],
    "gpt2": [(8192, 768), (8192, 3072), (65536, 768)],
}


class Image(NamedTuple):
    """Images as they lie in memory: channels last."""

    n: int
    height: int
    width: int
    channels: int

    def __str__(self) -> str:
        return f"{self.n}x{self.channels}x{self.height}x{self.width}"  # as callers see them


IMAGES: dict[str, list[Image]] = {
    "small": [Image(2, 6, 6, 8), Image(4, 7, 7, 64)],
    "resnet50": [Image(256, side, side, c) for side, c in ((56, 64), (56, 256), (28, 512), (14, 1024), (7, 2048))],
}


class Convolution(NamedTuple):
    """A layer on images (n, side, side, channels); half a window of zeros around them."""

    n: int
    side: int
    channels: int
    filters: int
    kernel: int
    stride: int = 1

    @property
    def padding(self) -> int:
        """Zeros on each side."""
        return self.kernel // 2

    @property
    def out(self) -> int:
        """The side of the result."""
        return (self.side + 2 * self.padding - self.kernel) // self.stride + 1

    def __str__(self) -> str:
        image = f"{self.n}x{self.channels}x{self.side}x{self.side}"
        return f"{image} to {self.filters}, {self.kernel}x{self.kernel}/{self.stride}"


# ResNet-50 (v1.5): its first layer, the 3x3 ones and the strided 1x1 ones, each once; its other 1x1 ones are products.
_RESNET50_LAYERS = [
    (224, 3, 64, 7, 2), (56, 64, 64, 3, 1), (56, 128, 128, 3, 2), (28, 128, 128, 3, 1), (28, 256, 256, 3, 2),
    (14, 256, 256, 3, 1), (14, 512, 512, 3, 2), (7, 512, 512, 3, 1),
    (56, 256, 512, 1, 2), (28, 512, 1024, 1, 2), (14, 1024, 2048, 1, 2),
]  # fmt: skip

CONVOLUTIONS: dict[str, list[Convolution]] = {
    "small": [Convolution(2, 6, 8, 16, 3), Convolution(2, 8, 8, 8, 3, 2), Convolution(1, 9, 3, 8, 7, 2)],
    "resnet50": [Convolution(256, *layer) for layer in _RESNET50_LAYERS],
}


class State(NamedTuple):
    """The state of a recurrent layer."""

    batch: int
    hidden: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.hidden}"


STATES: dict[str, list[State]] = {
    "small": [State(4, 24), State(16, 64)],
    "large": [State(16, 768), State(64, 1024), State(256, 2048)],
}


class Layer(NamedTuple):
    """A recurrent layer, whose input is as wide as its state."""

    batch: int
    hidden: int
    steps: int
    directions: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.hidden} {self.steps} steps" + (" both ways" if self.directions == 2 else "")


LAYERS: dict[str, list[Layer]] = {
    "small": [Layer(3, 24, 5, 2), Layer(8, 40, 4, 1)],
    "large": [
        Layer(1, 1024, 256, 1),
        Layer(16, 128, 2048, 1),
        Layer(16, 768, 1024, 1),
        Layer(64, 512, 256, 2),
        Layer(64, 1024, 256, 1),
        Layer(256, 2048, 32, 1),
    ],
}


class Heads(NamedTuple):
    """Queries, keys and values of self-attention: (batch, heads, tokens, width)."""

    batch: int
    heads: int
    tokens: int
    width: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


class Table(NamedTuple):
    """An embedding, and how many of its rows are read."""

    rows: int
    width: int
    count: int

    def __str__(self) -> str:
        return f"{self.count} of {self.rows}x{self.width}"


ATTENTION: dict[str, list[Heads]] = {
    "small": [Heads(1, 2, 40, 32)],
    "gpt2": [Heads(8, 12, 1024, 64), Heads(8, 25, 1024, 64)],
    "large": [Heads(2, 16, 4096, 128)],
}
TABLES: dict[str, list[Table]] = {
    "small": [Table(100, 32, 64)],
    "gpt2": [Table(50304, 768, 8192), Table(50304, 1600, 65536)],
}

SETS = sorted({*MATMUL, *ROWS, *IMAGES, *CONVOLUTIONS, *STATES, *ATTENTION, *TABLES})


def products(sets: list[str]) -> list[Product]:
    """The matrix products of some sets, each once."""
    return list(dict.fromkeys(p for name in sets for p in MATMUL.get(name, [])))


def rows(sets: list[str]) -> list[tuple[int, int]]:
    """The sizes of row-wise operations of some sets, each once."""
    return list(dict.fromkeys(r for name in sets for r in ROWS.get(name, [])))


def images(sets: list[str]) -> list[Image]:
    """The images of some sets, each once."""
    return list(dict.fromkeys(i for name in sets for i in IMAGES.get(name, [])))


def convolutions(sets: list[str]) -> list[Convolution]:
    """The convolutions of some sets, each once."""
    return list(dict.fromkeys(c for name in sets for c in CONVOLUTIONS.get(name, [])))


def states(sets: list[str]) -> list[State]:
    """The recurrent states of some sets, each once."""
    return list(dict.fromkeys(s for name in sets for s in STATES.get(name, [])))


def layers(sets: list[str]) -> list[Layer]:
    """The recurrent layers of some sets, each once."""
    return list(dict.fromkeys(x for name in sets for x in LAYERS.get(name, [])))


def attention(sets: list[str]) -> list[Heads]:
    """The sizes of self-attention of some sets, each once."""
    return list(dict.fromkeys(h for name in sets for h in ATTENTION.get(name, [])))


def tables(sets: list[str]) -> list[Table]:
    """The embeddings of some sets, each once."""
    return list(dict.fromkeys(t for name in sets for t in TABLES.get(name, [])))
