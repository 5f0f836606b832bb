"""What nvcc made of the kernels: instructions that must be there, and no local memory. Needs _cuda and cuobjdump."""

import importlib.util
import re
import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def cuda_extension() -> str:
    found = importlib.util.find_spec("fastnet._cuda")
    if found is None or found.origin is None:
        pytest.skip("fastnet._cuda is not built")
    if shutil.which("cuobjdump") is None:
        pytest.skip("cuobjdump is not installed")
    return found.origin


def run(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("family", "least"), [("matmul", 3 * 50), ("conv", 3 * 35)])
def test_no_product_has_local_memory(cuda_extension, family, least):
    """No spills: a stack would be local memory."""
    usage = run("cuobjdump", "-res-usage", cuda_extension)
    kernels = re.findall(rf"Function (\S*{family}_\S*):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert len(kernels) >= least
    assert [k for k in kernels if (k[2], k[3]) != ("0", "0") or int(k[1]) > 255] == []


@pytest.mark.parametrize(
    ("kernel", "instructions"),  # the mangled element type
    [
        # mma.sync of 16-bit types, of TF32, ldmatrix both ways, cp.async of 16 bytes past the L1
        ("I13__nv_bfloat16", ["HMMA.16816.F32.BF16", "LDSM.16.M88.4", "LDSM.16.MT88.4", "LDGSTS.E.BYPASS.128"]),
        ("I6__half", ["HMMA.16816.F32", "LDSM.16.M88.4", "LDSM.16.MT88.4", "LDGSTS.E.BYPASS.128"]),
        ("If", ["HMMA.1688.F32.TF32", "LDSM.16.M88.4", "LDGSTS.E.BYPASS.128"]),
    ],
)
def test_instructions_of_sm80(cuda_extension, kernel, instructions):
    text = run("cuobjdump", "-sass", "-arch", "sm_80", cuda_extension)
    parts = [part for part in text.split("Function : ")[1:] if f"matmul_sm80_kernel{kernel}" in part.split("\n", 1)[0]]
    assert parts, f"no {kernel} in {cuda_extension}"
    for instruction in instructions:
        assert any(instruction in part for part in parts), instruction
    for part in parts:
        assert "HMMA" in part, part.split("\n", 1)[0]
        assert not re.search(r"\b(LDL|STL)\b", part), part.split("\n", 1)[0]


@pytest.mark.parametrize(
    ("element", "product"),
    [("I13__nv_bfloat16", "HMMA.16816.F32.BF16"), ("I6__half", "HMMA.16816.F32"), ("If", "HMMA.1688.F32.TF32")],
)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_instructions_of_convolutions(cuda_extension, architecture, element, product):
    """Gathers by cp.async, ldmatrix, mma.sync; no local memory, though windows have masks in registers."""
    text = run("cuobjdump", "-sass", "-arch", architecture, cuda_extension)
    parts = [part for part in text.split("Function : ")[1:] if f"{element}Li" in part.split("\n", 1)[0]]
    for kernel in ("conv_sm80_gather_kernel", "conv_sm80_weight_grad_kernel"):
        found = [part for part in parts if kernel in part.split("\n", 1)[0]]
        assert len(found) == (2 if element == "If" else 3), kernel
        wanted = [product, "LDGSTS.E.BYPASS.128"]
        if kernel == "conv_sm80_gather_kernel":
            wanted.append("LDSM.16.M88.4")
        elif element != "If":  # whose fragments are read word by word: ldmatrix transposes 16-bit elements alone
            wanted.append("LDSM.16.MT88.4")
        for part in found:
            title = part.split("\n", 1)[0]
            assert [i for i in wanted if i not in part] == [], title
            assert not re.search(r"\b(LDL|STL)\b", part), title


@pytest.mark.parametrize("kernel", ["I13__nv_bfloat16", "I6__half"])
def test_instructions_of_sm90(cuda_extension, kernel):
    """wgmma in all four major orders, TMA both ways, multicast, stmatrix, copies by threads; no local memory."""
    text = run("cuobjdump", "-sass", "-arch", "sm_90a", cuda_extension)
    parts = [part for part in text.split("Function : ")[1:] if f"matmul_sm90_kernel{kernel}" in part.split("\n", 1)[0]]
    assert len(parts) == 7
    wanted = [
        "HGMMA",
        "gdesc[",
        ".tnspA",
        ".tnspB",
        "UTMALDG.2D",
        "UTMALDG.3D.MULTICAST",
        "UTMASTG.3D",
        "STSM.16.M88.4",
    ]
    wanted += ["LDGSTS", "USETMAXREG"]
    for part in parts:
        title = part.split("\n", 1)[0]
        assert [i for i in wanted if i not in part and (i, "Li1ELi1ELi64E" in title) != ("USETMAXREG", True)] == [], (
            title
        )
        assert not re.search(r"\b(LDL|STL)\b", part), title
        # Four major orders; the products of a step follow one another: ptxas has not serialised them.
        found = re.findall(r"HGMMA|WARPGROUP\.(?:ARRIVE|DEPBAR)", part)
        assert found == (["WARPGROUP.ARRIVE"] + ["HGMMA"] * 4 + ["WARPGROUP.DEPBAR"] * 2) * 4, title
