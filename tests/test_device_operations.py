"""The samples of PyTorch's database of operations on ``device="cuda"``, under CuPy's rules (``made_up_cupy``), against
the CPU's results."""

import itertools

import pytest

torch = pytest.importorskip("torch", reason="PyTorch's database of operations holds the samples")
pytest.importorskip("expecttest", reason="PyTorch's database of operations imports expecttest")
from made_up_cupy import install  # noqa: E402
from test_device_arrays import same  # noqa: E402
from test_opinfo import COVERED, FLOATING, NotHere, convert, tensors, twin  # noqa: E402

import fastnet  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def cupy():
    with install() as made_up:
        yield made_up


def moved(x):
    """Tensors within nested containers, on the GPU, leaves of their own."""
    if isinstance(x, fastnet.Tensor):
        return x.detach().cuda().requires_grad_(x.requires_grad)
    if isinstance(x, dict):
        return {k: moved(v) for k, v in x.items()}
    return type(x)(moved(e) for e in x) if type(x) in (list, tuple) else x


def gradients(results, leaves):
    """Of all results that have any, weighted alike."""
    results = [r for r in tensors(results) if r.requires_grad]
    if not results or not leaves:
        return []
    generator = fastnet.Generator()
    generator.manual_seed(0)
    weights = [fastnet.randn(tuple(r.shape), generator=generator, dtype=r.dtype, device=r.device) for r in results]
    return fastnet.autograd.grad(results, leaves, weights, allow_unused=True)


@pytest.mark.filterwarnings("ignore")  # PyTorch warns of what it will change
@pytest.mark.parametrize("name", sorted(COVERED))
def test_operation(name, full):
    info = COVERED[name]
    function = twin(info)
    if name == "special.airy_ai":
        with pytest.raises(NotImplementedError, match=r"cupyx\.scipy\.special has no such function"):
            function(fastnet.ones(2, device="cuda"))
        return
    for dtype in (torch.float32,) if name in FLOATING or not full else (torch.float32, torch.int64, torch.bool):
        if dtype not in info.supported_dtypes("cpu"):
            continue
        grad = dtype.is_floating_point and info.supports_autograd
        torch.manual_seed(0)
        samples = info.sample_inputs("cpu", dtype, requires_grad=grad)
        for sample in samples if full else list(itertools.islice(samples, 2))[-1:]:  # the first is often trivial
            try:
                arguments, options = convert((sample.input, *sample.args)), convert(sample.kwargs)
            except NotHere:
                continue
            there, there_options = moved(arguments), moved(options)
            if "device" in there_options:
                there_options["device"] = "cuda"
            try:
                want = function(*arguments, **options)
            except (RuntimeError, ValueError, TypeError, IndexError) as refusal:
                with pytest.raises(type(refusal)):
                    function(*there, **there_options)
                continue
            with fastnet.device("cuda"):
                got = function(*there, **there_options)
            same(tensors(got), tensors(want), 1e-4, 1e-4)
            if grad:
                leaves = [t for t in tensors([there, there_options]) if t.requires_grad]
                wanted = gradients(want, [t for t in tensors([arguments, options]) if t.requires_grad])
                same(list(gradients(got, leaves)), list(wanted), 1e-4, 1e-4)
