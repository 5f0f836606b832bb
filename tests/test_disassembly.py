"""What nvcc made of the kernels: instructions that must be there, and no local memory. Needs _cuda and cuobjdump, which
`pip install ".[test]"` brings."""

import os
import re
import subprocess
from functools import cache

import pytest

from benchmarks import disassembly

LIMIT_MB = 60

# Bytes for a thread in brackets; the same source has no spill for the other architectures and dtypes.
SPILT = {
    ("augment_kernel", "sm_80"),  # (32: a table of sinf and cosf, which a rotation takes once an image)
    ("augment_kernel", "sm_90a"),
    ("augment_kernel", "sm_120"),
    ("channel_moments_kernel", "sm_120"),  # (8, float64 alone)
    ("rnn_sequence_backward_kernel", "sm_80"),  # (20, float64 alone)
}


@pytest.fixture(scope="module")
def usage() -> list[disassembly.Usage]:
    found = disassembly.usage()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def kernels(architecture: str) -> dict[str, str]:
    """The instructions of every kernel for an architecture, by its mangled name; taken apart once, which takes long."""
    tool, extension = disassembly.find_tool(), disassembly.find_extension()
    assert tool is not None
    assert extension is not None
    done = subprocess.run(
        [tool, "-sass", "-arch", architecture, extension],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"},  # it runs nvdisasm
    )
    parts = done.stdout.split("Function : ")[1:]
    return {part.split("\n", 1)[0].strip(): part for part in parts}


def instantiations(architecture: str, name: str) -> dict[str, str]:
    found = {symbol: text for symbol, text in kernels(architecture).items() if name in symbol}
    assert found, f"no {name} for {architecture}"
    return found


def test_no_kernel_has_local_memory(usage):
    """No spills: a stack would be local memory."""
    for family, least in (("matmul", 3 * 50), ("conv", 3 * 35)):
        assert len([u for u in usage if u.kernel.startswith(f"{family}_")]) >= least
    assert [u for u in usage if u.registers > 255] == []
    assert {(u.kernel, u.architecture) for u in usage if u.local} == SPILT


def test_the_extension_is_small(usage):
    size = disassembly.find_extension().stat().st_size / 2**20
    assert size < LIMIT_MB, f"{size:.1f} MiB in {len(usage)} instantiations"


@pytest.mark.parametrize(
    ("kernel", "instructions"),  # the mangled element type
    [
        # mma.sync of 16-bit types, of TF32, ldmatrix both ways, cp.async of 16 bytes past the L1
        ("I13__nv_bfloat16", ["HMMA.16816.F32.BF16", "LDSM.16.M88.4", "LDSM.16.MT88.4", "LDGSTS.E.BYPASS.128"]),
        ("I6__half", ["HMMA.16816.F32", "LDSM.16.M88.4", "LDSM.16.MT88.4", "LDGSTS.E.BYPASS.128"]),
        ("If", ["HMMA.1688.F32.TF32", "LDSM.16.M88.4", "LDGSTS.E.BYPASS.128"]),
    ],
)
def test_instructions_of_matmul_sm80(usage, kernel, instructions):
    parts = instantiations("sm_80", f"matmul_sm80_kernel{kernel}")
    for instruction in instructions:
        assert any(instruction in part for part in parts.values()), instruction
    for symbol, part in parts.items():
        assert "HMMA" in part, symbol
        assert not re.search(r"\b(LDL|STL)\b", part), symbol


@pytest.mark.parametrize(
    ("element", "product"),
    [("I13__nv_bfloat16", "HMMA.16816.F32.BF16"), ("I6__half", "HMMA.16816.F32"), ("If", "HMMA.1688.F32.TF32")],
)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_instructions_of_convolutions(usage, architecture, element, product):
    """Gathers by cp.async, ldmatrix, mma.sync; no local memory, though windows have masks in registers."""
    for kernel in ("conv_sm80_gather_kernel", "conv_sm80_weight_grad_kernel"):
        parts = {s: p for s, p in instantiations(architecture, kernel).items() if f"{element}Li" in s}
        assert len(parts) == (2 if element == "If" else 3), kernel
        wanted = [product, "LDGSTS.E.BYPASS.128"]
        if kernel == "conv_sm80_gather_kernel":
            wanted.append("LDSM.16.M88.4")
        elif element != "If":  # whose fragments are read word by word: ldmatrix transposes 16-bit elements alone
            wanted.append("LDSM.16.MT88.4")
        for symbol, part in parts.items():
            assert [i for i in wanted if i not in part] == [], symbol
            assert not re.search(r"\b(LDL|STL)\b", part), symbol


@pytest.mark.parametrize("element", ["I13__nv_bfloat16", "I6__half"])
@pytest.mark.parametrize(
    ("kernel", "transposed"), [("conv_sm90_gather_kernel", ""), ("conv_sm90_weight_grad_kernel", ".tnspA.tnspB")]
)
def test_instructions_of_convolutions_sm90(usage, element, kernel, transposed):
    """wgmma from tiles that cp.async and TMA fill; the products of a step follow one another; no local memory."""
    parts = instantiations("sm_90a", f"{kernel}{element}")
    assert len(parts) == 4
    wanted = ["LDGSTS.E.BYPASS.128", "UTMALDG.2D", f"]{transposed}, R", "USETMAXREG"]
    for symbol, part in parts.items():
        alone = "Li1ELi1ELi64E" in symbol  # one consumer warpgroup has registers to spare
        assert [i for i in wanted if i not in part and not (alone and i == "USETMAXREG")] == [], symbol
        assert not re.search(r"\b(LDL|STL)\b", part), symbol
        found = re.findall(r"HGMMA|WARPGROUP\.(?:ARRIVE|DEPBAR)", part)
        assert found == ["WARPGROUP.ARRIVE"] + ["HGMMA"] * 4 + ["WARPGROUP.DEPBAR"] * 2, symbol


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    ("kernel", "instructions"),
    [
        ("conv_few_channels_forward_16_bit_kernel", ["HMMA.16816.F32", "LDSM.16.M88.4", "LDGSTS.E.BYPASS.128"]),
        ("conv_few_channels_weight_grad_16_bit_kernel", ["HMMA.16816.F32", "LDSM.16.MT88.4", "LDGSTS.E.BYPASS.128"]),
        ("conv_few_channels_forward_kernel", ["FFMA", "LDGSTS.E.BYPASS.128"]),
        ("conv_few_channels_weight_grad_kernel", ["FFMA", "LDGSTS.E.BYPASS.128"]),
    ],
)
def test_instructions_of_first_layers(usage, architecture, kernel, instructions):
    """16-bit types on mma.sync, patches by the widest copies, no local memory."""
    parts = instantiations(architecture, kernel)
    for instruction in instructions:
        assert any(instruction in part for part in parts.values()), instruction
    assert [s for s, part in parts.items() if re.search(r"\b(LDL|STL)\b", part)] == []


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    ("element", "product"),
    [("I13__nv_bfloat16", "HMMA.16816.F32.BF16"), ("I6__half", "HMMA.16816.F32"), ("If", "HMMA.1688.F32.TF32")],
)
def test_instructions_of_attention_sm80(usage, architecture, element, product):
    """Every width: mma.sync, ldmatrix (both ways where elements have 16 bits), cp.async past the L1, one instruction
    for a power of two."""
    wanted = [product, "LDSM.16.M88.4", "LDGSTS.E.BYPASS.128", "MUFU.EX2"]
    wanted += ["LDSM.16.MT88.4"] if element != "If" else []
    counts = (2, 5) if element == "If" else (3, 7)
    for kernel, count in zip(("attention_sm80_kernel", "attention_backward_sm80_kernel"), counts, strict=True):
        parts = instantiations(architecture, f"{kernel}{element}")
        assert len(parts) == count
        for symbol, part in parts.items():
            assert [i for i in wanted if i not in part] == [], symbol
            assert not re.search(r"\b(LDL|STL)\b", part), symbol


@pytest.mark.parametrize("element", ["I13__nv_bfloat16", "I6__half"])
def test_instructions_of_attention_sm90(usage, element):
    """wgmma on tiles that TMA brings, registers handed from the producer to the consumers, results by TMA; the products
    of a tile follow one another (ptxas has not serialised them), and a softmax stands before the wait for the products
    that go on beside it."""
    wanted = ["HGMMA", "gdesc[", "UTMALDG.4D", "UTMASTG.4D", "STSM.16.M88.4", "USETMAXREG", "MUFU.EX2"]
    for kernel, count in (("attention_sm90_kernel", 6), ("attention_backward_sm90_kernel", 14)):
        parts = instantiations("sm_90a", f"{kernel}{element}")
        assert len(parts) == count
        for symbol, part in parts.items():
            assert [i for i in wanted if i not in part] == [], symbol
            assert not re.search(r"\b(LDL|STL)\b", part), symbol
            found = re.findall(r"HGMMA|WARPGROUP\.DEPBAR|MUFU\.EX2", part)
            order = "".join({"H": "h", "W": "w", "M": "e"}[i[0]] for i in found)
            expected = "h+wh+we+wh+w" if "backward" in kernel else "h+we+wh+we+wh+w"
            if "Gradient3" in symbol:  # for dv alone, scores have no gradients
                expected = "h+w+e+wh+w"
            assert re.fullmatch(expected, order), symbol


@pytest.mark.parametrize("kernel", ["I13__nv_bfloat16", "I6__half"])
def test_instructions_of_matmul_sm90(usage, kernel):
    """wgmma in all four major orders, TMA both ways, multicast, stmatrix, copies by threads; no local memory."""
    parts = instantiations("sm_90a", f"matmul_sm90_kernel{kernel}")
    assert len(parts) == 7
    wanted = ["HGMMA", "gdesc[", ".tnspA", ".tnspB", "UTMALDG.2D", "UTMALDG.3D.MULTICAST", "UTMASTG.3D"]
    wanted += ["STSM.16.M88.4", "LDGSTS", "USETMAXREG"]
    for symbol, part in parts.items():
        alone = "Li1ELi1ELi64E" in symbol  # one consumer warpgroup of the smallest tile has registers to spare
        assert [i for i in wanted if i not in part and not (alone and i == "USETMAXREG")] == [], symbol
        assert not re.search(r"\b(LDL|STL)\b", part), symbol
        # Four major orders; the products of a step follow one another: ptxas has not serialised them.
        found = re.findall(r"HGMMA|WARPGROUP\.(?:ARRIVE|DEPBAR)", part)
        assert found == (["WARPGROUP.ARRIVE"] + ["HGMMA"] * 4 + ["WARPGROUP.DEPBAR"] * 2) * 4, symbol
