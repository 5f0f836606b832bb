"""The instruction wrappers under the emulator in all six schedules, and what nvcc makes of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
SCHEDULES = [(order, copies) for order in ("forward", "reverse", "random:7") for copies in ("early", "late")]


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"ptx_tests_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run_gpu = load(HERE / "run_gpu.py")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    compiler = shutil.which("g++")
    if not compiler:
        pytest.skip("g++ is not installed")
    include = load(HERE.parent / "planted" / "build.py").cuda_include()
    if not include:
        pytest.skip("the CUDA headers are not installed")
    folder = tmp_path_factory.mktemp("ptx")
    flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-DFASTNET_EMULATED", "-Wno-attributes", "-Wno-unknown-pragmas"]
    sources = [s for s in sorted((CSRC / "emulator").glob("*.cc")) if s.name != "counters.cc"]
    sources += sorted(HERE.glob("*.cu"))

    def compiled(source: Path) -> str:
        result = folder / f"{source.stem}.o"
        headers = [f"-I{CSRC}", "-isystem", str(include)]
        subprocess.run([compiler, *flags, *headers, "-x", "c++", "-c", str(source), "-o", str(result)], check=True)
        return str(result)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    subprocess.run([compiler, *objects, "-o", str(folder / "ptx_tests"), "-lpthread"], check=True)
    return folder / "ptx_tests"


def outcomes(program: Path, order: str, copies: str, *arguments: str) -> dict[str, tuple[str, str]]:
    """Of each case: (ok, wrong or error; why)."""
    environment = {**os.environ, "EMU_ORDER": order, "EMU_ASYNC": copies}
    done = subprocess.run([str(program), *arguments], env=environment, capture_output=True, text=True, timeout=60)
    results = {}
    for line in done.stdout.splitlines():
        result, _, rest = line.partition(" ")
        name, _, why = rest.partition(": ")
        results[name] = (result, why)
    return results


@pytest.mark.parametrize(("order", "copies"), SCHEDULES)
def test_every_wrapper_agrees_with_layout_algebra(program, order, copies):
    results = outcomes(program, order, copies)
    assert len(results) >= 92
    assert {name: why for name, (result, why) in results.items() if result != "ok"} == {}


# Mistakes that only show when copies and products are late: done at issue, they do no harm.
LATE_ONLY = {
    "cluster_buffer_reused",
    "cluster_released_early",
    "sm80_no_wait",
    "sm80_wait_off_by_one",
    "sm90_released_early",
}
# Mistakes that only show when a certain block of a cluster runs ahead of the other: in some of the schedules.
BETWEEN_BLOCKS = {
    "cluster_no_cluster_sync",
    "cluster_no_final_sync",
    "cluster_peer_not_awaited",
    "cluster_peer_not_told",
}
# What the emulator must say; the others are wrong results or whatever breaks first.
MESSAGES = {
    "cluster_half_expected": "4096 bytes more than expected",
    "cluster_mask_beyond": "blocks are 0x7 in a cluster of 2",
    "cluster_no_store_commit": "nobody has waited until its TMA stores had read",
    "cluster_no_store_fence": "written without a fence_proxy_async",
    "cluster_no_store_wait": "nobody has waited until its TMA stores had read",
    "cluster_wrong_mask": "deadlock",
    "cluster_wrong_phase": "deadlock",
    "sm90_accumulator_touched": "changed accumulator 0 before wgmma_wait_group",
    "sm90_descriptor_out_of_range": "is outside the block's",
    "sm90_few_bytes": "16 bytes more than expected",
    "sm90_lanes_differ": "lanes 0 and 7 give different descriptors",
    "sm90_many_bytes": "deadlock",
    "sm90_no_init": "is used before mbarrier_init",
    "sm90_no_wgmma_fence": "wgmma without wgmma_fence",
    "sm90_warp_missing": "for the other warps of the warpgroup to issue the same wgmma",
    "sm90_warps_differ": "the warps of one warpgroup give different descriptors",
}


@pytest.mark.parametrize(("order", "copies"), SCHEDULES)
def test_planted_mistakes_are_noticed(program, order, copies):
    results = outcomes(program, order, copies, "--planted")
    assert len(results) == 29
    for name, (result, why) in results.items():
        if name in BETWEEN_BLOCKS:
            continue
        expected = "ok" if name in LATE_ONLY and copies == "early" else "error" if name in MESSAGES else None
        assert result == expected if expected else result != "ok", f"{name}: {result} {why}"
        assert MESSAGES.get(name, "") in why, name


def test_mistakes_between_blocks_are_noticed(program):
    noticed = set()
    for how in SCHEDULES:
        results = outcomes(program, *how, "--planted", *sorted(BETWEEN_BLOCKS))
        noticed |= {name for name, (result, _) in results.items() if result != "ok"}
    assert noticed == BETWEEN_BLOCKS


def find_cuobjdump() -> str | None:
    found = shutil.which("cuobjdump")
    if not found and importlib.util.find_spec("nvidia") and (wheel := importlib.util.find_spec("nvidia.cu13")):
        programs = [Path(folder) / "bin" / "cuobjdump" for folder in wheel.submodule_search_locations or []]
        found = next((str(p) for p in programs if p.exists()), None)
    return found


@pytest.mark.parametrize(
    ("source", "architecture", "instructions"),
    [
        ("sm80_cases.cu", "80", ["LDGSTS", "LDSM", "HMMA", "IMMA"]),
        (
            "cluster_cases.cu",
            "90a",
            ["UTMALDG.2D.MULTICAST", "UTMASTG.2D", "UTMAREDG.2D.ADD", "UTMACMDFLUSH", "UCGABAR_ARV", "UCGABAR_WAIT"],
        ),
        ("pipelines.cu", "90a", ["HGMMA", "UTMALDG", "SYNCS", "LDGSTS", "LDSM", "HMMA"]),
    ],
)
def test_nvcc_accepts_the_instructions(tmp_path, source, architecture, instructions):
    nvcc = shutil.which("nvcc")
    if not nvcc:
        pytest.skip("nvcc is not installed")
    compiled = run_gpu.compile_file(nvcc, HERE / source, architecture, tmp_path)
    cuobjdump = find_cuobjdump()
    if not cuobjdump:
        pytest.skip("compiled, but cuobjdump is not installed: the machine code was not looked at")
    code = subprocess.run([cuobjdump, "-sass", str(compiled)], capture_output=True, text=True, check=True).stdout
    assert [i for i in instructions if i not in code] == []
