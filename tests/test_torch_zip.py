"""Files of torch.save: read as PyTorch reads them, and nothing but tensors and plain containers.

``PYTHONPATH=. python tests/test_torch_zip.py`` writes tests/golden/checkpoint.pt anew, which needs PyTorch; of the
tests only those that compare do.
"""

import io
import pickle
import re
import struct
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest

import fastnet
from fastnet import nn

GOLDEN = Path(__file__).parent / "golden" / "checkpoint.pt"


def small_model(lib):
    n = lib.nn
    return n.Sequential(n.Linear(3, 4), n.ReLU(), n.Linear(4, 2))


def checkpoint(torch):
    """What a training script saves, and every dtype, layout and plain value."""
    torch.manual_seed(0)
    model = small_model(torch)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    for _ in range(3):
        model(torch.ones(5, 3)).square().mean().backward()
        optimizer.step()
        scheduler.step()
    base = torch.arange(24).reshape(4, 6)
    names = "float32 float64 float16 bfloat16 int32 int64 uint8 bool".split()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "dtypes": [(base % 2 if name == "bool" else base).to(getattr(torch, name)) for name in names],
        "views": (base, base.t(), base[1:3, ::2], base[3, 5], base[:0], torch.ones(1).expand(3, 2)),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "leaf": torch.ones(2, requires_grad=True),
        "plain": [1, -1, 300, 70_000, 2**70, -(2**40), 1.5, float("inf"), "text", "ö", True, False, None, (), {}],
        "nested": {"a": ({"b": [(1, 2, 3, 4)]},), 7: "seven"},
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "counter": Counter("aab"),
    }


def plain(value, lib):
    """A value with its tensors as lists, and every type by name."""
    kind = type(value).__name__
    if isinstance(value, lib.Tensor):
        return (kind, str(value.dtype), tuple(value.shape), value.requires_grad, value.tolist())
    if isinstance(value, dict):
        metadata = plain(getattr(value, "_metadata", None), lib) if isinstance(value, OrderedDict) else None
        return (kind, [(k, plain(v, lib)) for k, v in value.items()], metadata)
    if isinstance(value, (list, tuple)):
        return (kind, [plain(v, lib) for v in value])
    return (kind, str(value))


def alike(value, lib):
    return str(plain(value, lib)).replace("torch.", "fastnet.")


def test_a_checkpoint_is_read_as_pytorch_reads_it(tmp_path):
    torch = pytest.importorskip("torch")
    saved = checkpoint(torch)
    for protocol in (2, 4, 5):
        torch.save(saved, tmp_path / "x.pt", pickle_protocol=protocol)
        got = fastnet.load(tmp_path / "x.pt")
        assert alike(got, fastnet) == alike(saved, torch)
    with open(tmp_path / "x.pt", "rb") as f:
        assert alike(fastnet.load(f), fastnet) == alike(saved, torch)
    assert alike(fastnet.load(GOLDEN), fastnet) == alike(torch.load(GOLDEN, weights_only=False), torch)


def test_what_was_read_is_saved_and_read_again(tmp_path):
    first = fastnet.load(GOLDEN)
    fastnet.save(first, tmp_path / "x.safetensors")
    again = fastnet.load(tmp_path / "x.safetensors")

    def values(x):  # who requires gradients is not kept
        return alike(x, fastnet).replace("'Parameter'", "'Tensor'").replace("True, [1.0, 1.0]", "False, [1.0, 1.0]")

    assert values(again) == values(first)


def test_training_goes_on_from_pytorchs_checkpoint():
    saved = fastnet.load(GOLDEN)
    model = small_model(fastnet)
    optimizer = fastnet.optim.Adam(model.parameters(), lr=0.5)
    scheduler = fastnet.optim.lr_scheduler.MultiStepLR(optimizer, [9])
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    model(fastnet.ones(5, 3)).square().mean().backward()
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.0001])


def test_shared_memory_is_shared_again():
    views = fastnet.load(GOLDEN)["views"]
    views[0].zero_()
    assert views[1].sum().item() == views[2].sum().item() == views[3].item() == 0
    assert views[1].stride() == (1, 6)
    assert views[5].stride() == (0, 0)


def test_a_tensor_alone(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.eye(2), tmp_path / "x")
    assert fastnet.load(tmp_path / "x", weights_only=False, mmap=True).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="pickle_module"):
        fastnet.load(tmp_path / "x", pickle_module=pickle)


class Evil:
    """Runs when unpickled."""

    def __reduce__(self):
        return (GOLDEN.parent.joinpath("ran").touch, ())


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of TorchScript and sparse tensors
def test_what_is_not_plain_is_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    for value, name in (
        (small_model(torch), "torch.nn.modules.container.Sequential"),
        ({"x": np.ones(2)}, r"numpy\..*_reconstruct"),
        ({"x": np.float32(1)}, r"numpy\..*scalar"),
        ({"f": len}, "len"),
        ({"s": {1}}, "set"),
        ({"b": b"x"}, "_codecs.encode"),
        ({"c": 1j}, "complex"),
        ({"x": Evil()}, "getattr"),
        (torch.ones(1, dtype=torch.complex64), "complex64"),
        ({(1, 2): 3}, "key"),
        (torch.sparse_coo_tensor([[0]], [1.0], (1,)), "_rebuild_sparse_tensor"),
    ):
        torch.save(value, tmp_path / "x")
        with pytest.raises(ValueError, match=name):
            fastnet.load(tmp_path / "x", weights_only=False)
    torch.save(torch.ones(1), tmp_path / "x", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"before 1\.6"):
        fastnet.load(tmp_path / "x")
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "x")
    with pytest.raises(ValueError, match="TorchScript"):
        fastnet.load(tmp_path / "x")


# ---- where tensors go ----------------------------------------------------------------------------------------------


def from_gpu(tmp_path):
    """The golden file, as if saved from a GPU."""
    path = tmp_path / "gpu.pt"
    with zipfile.ZipFile(GOLDEN) as old, zipfile.ZipFile(path, "w") as new:
        for e in old.infolist():
            data = old.read(e)
            if e.filename.endswith("data.pkl"):
                data = data.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
            new.writestr(e.filename, data)
    return path


def test_map_location(tmp_path):
    path = from_gpu(tmp_path)
    want = fastnet.load(GOLDEN)["model"]["0.weight"].tolist()
    asked = set()

    def as_it_is(memory, location):
        asked.add((memory.dim(), location))
        return memory

    for where in ("cpu", fastnet.device("cpu"), {"cuda:0": "cpu"}, as_it_is):
        assert fastnet.load(path, map_location=where)["model"]["0.weight"].tolist() == want
    assert asked == {(1, "cuda:0")}
    if not fastnet.cuda.is_available():
        for where in (None, {}, {"cuda:0": "cuda:1"}, lambda memory, location: None):
            with pytest.raises(RuntimeError, match="map_location='cpu'"):
                fastnet.load(path, map_location=where)
    with pytest.raises(TypeError, match="map_location"):
        fastnet.load(path, map_location=lambda memory, location: memory[:0])


# ---- hostile files -------------------------------------------------------------------------------------------------


FOUR_FLOATS = [("data/0", struct.pack("<4f", 1, 2, 3, 4))]


def forged(code, records=FOUR_FLOATS, **options):
    """A file with a given pickle and records."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("archive/data.pkl", code)
        for name, data in records:
            archive.writestr(f"archive/{name}", data)
    file.seek(0)
    return file


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0%sX\x03\0\0\0cpuK%ctQ"


def tensor_code(offset=b"K\0", size=b"K\x02K\x02\x86", stride=b"K\x02K\x01\x86", storage=STORAGE % (b"0", 4), end=b")"):
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride + b"\x89ccollections\n"
        b"OrderedDict\n)Rt" + (b"R." if end == b")" else end)
    )


def test_the_forge_makes_readable_files():
    assert fastnet.load(forged(tensor_code())).tolist() == [[1, 2], [3, 4]]
    assert fastnet.load(forged(tensor_code(size=b"K\x02\x85", stride=b"K\0\x85", offset=b"K\x03"))).tolist() == [4, 4]
    assert fastnet.load(forged(b"\x80\x02}X\x01\0\0\0aK\x05s.")) == {"a": 5}


BIG = b"\x8a\x08" + (2**62).to_bytes(8, "little")
NEGATIVE = b"J\xff\xff\xff\xff"
# What the message says, and pickles that it says it of.
BAD_PICKLES = {
    "leaves its storage": {
        "a size beyond the storage": tensor_code(size=b"K\x03K\x02\x86"),
        "a stride beyond the storage": tensor_code(stride=b"K\x03K\x01\x86"),
        "an offset beyond the storage": tensor_code(offset=b"K\x01"),
        "an offset beyond the storage of nothing": tensor_code(offset=b"K\x05", size=b"K\0K\x02\x86"),
    },
    "expected an integer": {
        "a negative stride": tensor_code(stride=NEGATIVE + b"K\x01\x86"),
        "a negative size": tensor_code(size=NEGATIVE + b"K\x01\x86"),
        "a negative offset": tensor_code(offset=NEGATIVE),
        "an immense size": tensor_code(size=BIG + b"K\x02\x86", stride=b"K\0K\x01\x86"),
        "an immense stride": tensor_code(stride=BIG + b"K\x01\x86"),
        "true as a size": tensor_code(size=b"\x88K\x02\x86"),
        "a size of text": b"\x80\x02ctorch\nSize\nX\x01\0\0\0a\x85\x85R.",
    },
    "too large": {
        "immense sizes": tensor_code(size=b"J\xff\xff\xff\x7f" * 3 + b"\x87", stride=b"K\0K\0K\0\x87"),
    },
    "sizes and": {
        "sizes without strides": tensor_code(stride=b"K\x01\x85"),
    },
    "expected a tuple": {
        "a list of sizes": tensor_code(size=b"]"),
    },
    "storage is none": {
        "no storage": tensor_code(storage=b"N"),
    },
    "called wrongly": {
        "too few arguments": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + STORAGE % (b"0", 4) + b"\x85R.",
    },
    "expected 20": {
        "a storage with another size": tensor_code(storage=STORAGE % (b"0", 5)),
    },
    "no record": {
        "a storage that is not there": tensor_code(storage=STORAGE % (b"1", 4)),
        "a storage outside": tensor_code(storage=(STORAGE % (b"0", 4)).replace(b"\x01\0\0\x000", b"\x03\0\0\x00../")),
    },
    "persistent id": {
        "an unknown persistent id": b"\x80\x02K\x01Q.",
    },
    "it holds 'os.system'": {
        "code": b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.",
        "code by the stack": b"\x80\x04X\x02\0\0\0osX\x06\0\0\0system\x93X\x02\0\0\0ls\x85R.",
    },
    "it holds '__builtin__.eval'": {
        "code by builtins": b"\x80\x02c__builtin__\neval\nX\x01\0\0\x001\x85R.",
    },
    "it holds 'torch._utils": {
        "a name below an allowed one": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
    },
    "it holds a Call": {
        "a function as the value": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.",
    },
    "it holds a Storage": {
        "a storage type as the value": b"\x80\x02ctorch\nFloatStorage\n.",
        "a storage as the value": b"\x80\x02" + STORAGE % (b"0", 4) + b".",
    },
    "the operation": {
        "an instance": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "the old instance": b"(icollections\nOrderedDict\n.",
        "an extension": b"\x80\x02\x82\x01.",
        "bytes": b"\x80\x03C\x01a.",
        "text operations": b"I1\n.",
    },
    "other than": {
        "attributes": b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\0\0\0aK\x01sb.",
    },
    "pickle fills": {
        "attributes of a dict": b"\x80\x02}}X\x09\0\0\0_metadata}sb.",
        "append to a number": b"\x80\x02K\x01Na.",
        "append to a tuple": b"\x80\x02)Na.",
        "items into a list": b"\x80\x02]K\x01K\x02s.",
    },
    "_metadata is not": {
        "metadata that is none": b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\0\0\0_metadataK\x01sb.",
        "metadata of numbers": b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\0\0\0_metadata}X\0\0\0\0K\x01ssb.",
    },
    "made with arguments": {
        "an ordered dict of arguments": b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
    },
    "not integers": {
        "a counter of text": b"\x80\x02ccollections\nCounter\n}X\x01\0\0\0aX\x01\0\0\0bs\x85R.",
    },
    "device": {
        "a device unknown": b"\x80\x02ctorch\ndevice\nX\x03\0\0\0tpu\x85R.",
        "a device of nothing": b"\x80\x02ctorch\ndevice\n]\x85R.",
    },
    "data is no tensor": {
        "a parameter of nothing": b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x88N\x87R.",
    },
    "expected a str": {
        "an unhashable key": b"\x80\x02}]K\x01s.",
        "a tuple as a key": b"\x80\x02})K\x01s.",
        "a large integer as a key": b"\x80\x02}" + BIG + b"K\x01s.",
    },
    "stands twice": {
        "a key twice": b"\x80\x02}(K\x01K\x01K\x01K\x02u.",
    },
    "without a value": {
        "a key without a value": b"\x80\x02}(K\x01u.",
    },
    "holds itself": {
        "a list in itself": b"\x80\x02]q\0h\0a.",
        "a dict in itself": b"\x80\x02}q\0K\x01h\0s.",
        "a list in its tuple": b"\x80\x02]q\0h\0\x85a.",
    },
    "nested deeper": {
        "nested too deeply": b"\x80\x02" + b"]" * 102 + b"a" * 101 + b".",
        "nested immensely": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
        "tuples nested immensely": b"\x80\x02)" + b"\x85" * 50_000 + b".",
    },
    "remembers at": {
        "a memo with holes": b"\x80\x02]r\xff\xff\xff\x7f.",
        "a memo overwritten": b"\x80\x02]q\0]q\0a.",
    },
    "recalls": {
        "a recall of nothing": b"\x80\x02h\x05.",
    },
    "takes more": {
        "nothing on the stack": b"\x80\x02.",
        "only a mark": b"\x80\x02(.",
        "a mark in a tuple": b"\x80\x02N(\x85.",
    },
    "goes on": {
        "more on the stack": b"\x80\x02NN.",
        "more after the end": b"\x80\x02N.N.",
    },
    "truncated": {
        "no end": b"\x80\x02N",
        "an immense text": b"\x80\x02X\xff\xff\xff\xffa.",
        "an immense text of 64 bits": b"\x80\x04\x8d" + b"\xff" * 8 + b"a.",
        "nothing at all": b"",
    },
    "lacks a mark": {
        "no mark": b"\x80\x02Nt.",
    },
    "remembers nothing": {
        "a mark remembered": b"\x80\x02(q\0t.",
    },
    "codec": {
        "text that is none": b"\x80\x02X\x01\0\0\0\xff.",
        "a name that is none": b"\x80\x02c\xff\n\xff\n.",
    },
    "no end": {
        "a name without end": b"\x80\x02c" + b"a" * 1000 + b".",
    },
    "protocol": {
        "a protocol to come": b"\x80\x09N.",
        "a protocol again": b"\x80\x02\x80\x02N.",
    },
}


@pytest.mark.parametrize(("word", "name"), [(word, name) for word in BAD_PICKLES for name in BAD_PICKLES[word]])
def test_bad_pickles_are_refused(word, name):
    with pytest.raises(ValueError, match="^load: the file: (.|\n)*" + re.escape(word)) as caught:
        fastnet.load(forged(BAD_PICKLES[word][name]), map_location="cpu")
    assert len(str(caught.value)) < 400


ONE = b"\x80\x02K\x01."


def with_names(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for n in names:
            archive.writestr(n, ONE)
    file.seek(0)
    return file


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: with_names("a/data.pkl", "a/data.pkl"), "twice"),
        (lambda: with_names("a/data.pkl", "b/data/0"), "outside"),
        (lambda: with_names("a/data.pkl", "/etc/passwd"), "outside"),
        (lambda: with_names("a/data.pkl", "a/../../x"), "outside"),
        (lambda: with_names("data.pkl"), "outside"),
        (lambda: with_names("a/datä.pkl"), r"without data\.pkl"),
        (lambda: with_names("a/other"), r"without data\.pkl"),
        (lambda: with_names("a/data.pkl", "a/constants.pkl"), "TorchScript"),
        (lambda: forged(ONE, [("byteorder", b"big")]), "little-endian"),
        (lambda: forged(ONE, [("data/0", b"\0" * 10**6)], compression=zipfile.ZIP_DEFLATED), "compressed|claim"),
        (lambda: forged(b"\x80\x02" + b"N" * (17 * 2**20) + b"."), "at most"),
        (
            lambda: forged(
                tensor_code(storage=(STORAGE % (b"0", 4)).replace(b"FloatStorage", b"BoolStorage")),
                [("data/0", b"\0\1\2\3")],
            ),
            "no bools",
        ),
        (
            lambda: forged(
                b"\x80\x02" + STORAGE % (b"0", 4) + (STORAGE % (b"0", 4)).replace(b"FloatStorage", b"IntStorage") + b"."
            ),
            "two ways",
        ),
    ],
)
def test_bad_archives_are_refused(make, word):
    with pytest.raises(ValueError, match=word):
        fastnet.load(make())
    assert fastnet.load(with_names("ä/data.pkl")) == 1


def test_a_bomb_allocates_nothing():
    """Records that overlap, or sizes that the file does not have, are found before memory is asked for."""
    code = tensor_code(storage=(STORAGE % (b"0", 4)).replace(b"K\x04tQ", b"J\xff\xff\xff\x7ftQ"))
    raw = bytearray(forged(code).getvalue())
    entry = raw.rindex(b"PK\x01\x02")  # the last record of the central directory claims 8 GiB
    raw[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    tracemalloc.start()
    with pytest.raises(ValueError, match="claim more bytes"):
        fastnet.load(io.BytesIO(raw))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def mutations(good, count, seed):
    """Seeded damage: cut, extended, single bytes, runs, swapped pieces, numbers made extreme."""
    rng = np.random.default_rng(seed)
    extremes = [0, 1, 0x7F, 0x80, 0xFF]
    for _ in range(count):
        bad = bytearray(good)
        kind = rng.integers(7)
        at = int(rng.integers(len(bad)))
        if kind == 0:
            del bad[at:]
        elif kind == 1:
            bad += bytes(rng.integers(0, 256, rng.integers(1, 50)).tolist())
        elif kind == 2:
            for i in rng.integers(0, len(bad), rng.integers(1, 6)):
                bad[i] = rng.integers(256)
        elif kind == 3:
            bad[at : at + 8] = bytes([extremes[rng.integers(5)]]) * len(bad[at : at + 8])
        elif kind == 4:
            del bad[at : at + int(rng.integers(1, 40))]
        elif kind == 5:
            other = int(rng.integers(len(bad)))
            bad[at : at + 16] = bad[other : other + 16]
        else:
            bad[at] ^= 1 << int(rng.integers(8))
        yield bytes(bad)


def repacked(code):
    """The golden file around another pickle, with checksums that fit."""
    file = io.BytesIO()
    with zipfile.ZipFile(GOLDEN) as old, zipfile.ZipFile(file, "w") as new:
        for e in old.infolist():
            new.writestr(e.filename, code if e.filename.endswith("data.pkl") else old.read(e))
    return file.getvalue()


@pytest.mark.parametrize("what", ["archive", "pickle", "safetensors"])
def test_mutated_checkpoints(what, full, tmp_path):
    """510 of them, 10,200 with --full. A damaged file gives a ValueError or plain values; a model takes all of them or
    stays as it was. Nothing runs, nothing large is allocated, and every file takes a moment."""
    if what == "pickle":  # where checksums do not help: the interpreter itself
        with zipfile.ZipFile(GOLDEN) as archive:
            good = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
    elif what == "archive":
        good = GOLDEN.read_bytes()
    else:
        fastnet.save(fastnet.load(GOLDEN), tmp_path / "x")
        good = (tmp_path / "x").read_bytes()
    model = small_model(fastnet)
    before = {k: v.tolist() for k, v in model.state_dict().items()}
    refused = taken = 0
    count = 3_400 if full else 170
    tracemalloc.start()
    for bad in mutations(good, count, {"archive": 1, "pickle": 2, "safetensors": 3}[what]):
        file = io.BytesIO(repacked(bad) if what == "pickle" else bad)
        tracemalloc.reset_peak()
        try:
            got = fastnet.load(file, map_location="cpu")
        except ValueError:
            refused += 1
            continue
        finally:
            assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
        if not isinstance(got, dict) or not isinstance(got.get("model"), dict):
            continue
        try:
            model.load_state_dict(got["model"])
        except RuntimeError:
            assert {k: v.tolist() for k, v in model.state_dict().items()} == before
        else:
            taken += 1
            after = {k: v.tolist() for k, v in model.state_dict().items()}
            assert str(after) == str({k: got["model"][k].float().tolist() for k in after})
            before = after
    tracemalloc.stop()
    assert refused > count / 5
    assert taken > count / 50
    assert not GOLDEN.parent.joinpath("ran").exists()


def test_a_wrong_key_leaves_the_model_alone():
    saved = fastnet.load(GOLDEN)["model"]
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    before = {k: v.tolist() for k, v in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"size mismatch for 2\.weight"):
        model.load_state_dict(saved)
    assert {k: v.tolist() for k, v in model.state_dict().items()} == before


if __name__ == "__main__":
    import torch

    torch.save(checkpoint(torch), GOLDEN)
