"""matmul's cost model: what it chooses on every known device, and that its estimates are what its comment says."""

import os
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from fastnet.kernels import _runtime

DTYPES = ["float32", "float16", "bfloat16", "float64", "int32", "int64", "uint8"]
ITEM = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "uint8": 1}


def extension():
    return _runtime.extension_for(np.empty(0))


def draw(rng):
    """A problem of any shape, and its MatmulProblem. Sizes are what models have, or any number."""

    def size(most):
        if rng.random() < 0.4:
            return int(rng.choice([1, 2, 8, 16, 64, 128, 256, 512, 768, 1024, 1600, 2304, 3072, 4096, 8192]))
        return int(np.exp(rng.uniform(0, np.log(most))))

    dtype = str(rng.choice(DTYPES, p=[0.25, 0.25, 0.25, 0.07, 0.06, 0.06, 0.06]))
    m, n, k, batch = size(200_000), size(60_000), size(70_000), int(rng.choice([1, 1, 1, 2, 12, 96]))
    majors = [str(rng.choice(["k", "outer", "none"], p=[0.45, 0.45, 0.1])) for _ in range(2)]
    alignments = [ITEM[dtype] if major == "none" else int(max(ITEM[dtype], rng.choice([16, 16, 16, 8, 4, 2, 1])))
                  for major in majors]  # fmt: skip
    out = "float32" if ITEM[dtype] == 2 and rng.random() < 0.2 else dtype
    problem = extension().MatmulProblem(
        m, n, k, dtype, batch=batch, out_dtype=out, a_major=majors[0], b_major=majors[1], a_alignment=alignments[0],
        b_alignment=alignments[1], tf32=bool(dtype == "float32" and rng.random() < 0.3),
    )  # fmt: skip
    return (batch, m, n, k, dtype, out), problem


def product(m, n, k, dtype="bfloat16", **kwargs):
    return extension().MatmulProblem(m, n, k, dtype, **kwargs)


def microseconds(config, problem, device):
    return extension().matmul_estimate(config, problem, device)["microseconds"]


def chosen(problem, device):
    return extension().matmul_config(problem, device)


def devices():
    return list(extension().known_devices())


def test_every_choice_is_valid_fits_and_is_the_cheapest(full):
    """Thousands of problems on every known device."""
    ext, rng = extension(), np.random.default_rng(0)
    given = {d: ext.device_properties(d) for d in devices()}
    assert {"H100", "H200", "A100", "RTX 3090", "RTX 4090", "RTX 5090"} <= set(given)
    for _ in range(20_000 if full else 2_000):
        sizes, problem = draw(rng)
        for device, properties in given.items():
            config = ext.matmul_config(problem, device)
            what = f"{sizes} on {device}: {config}"
            ext.matmul_check(config, problem, device)  # raises what does not fit
            assert str(ext.matmul_config(problem, device)) == str(config)
            estimate = ext.matmul_estimate(config, problem, device)
            assert ext.matmul_shared_bytes(config, problem) <= properties["shared_per_block"], what
            assert estimate["threads"] <= 1024, what
            assert estimate["registers"] <= 255, what
            assert estimate["threads"] * estimate["registers"] <= properties["registers_per_sm"], what
            least = min(microseconds(c, problem, device) for c in ext.matmul_candidates(problem, device))
            assert estimate["microseconds"] == least, what


def test_every_candidate_can_serve_its_problem():
    ext, rng = extension(), np.random.default_rng(1)
    for _ in range(500):
        sizes, problem = draw(rng)
        for device in devices():
            candidates = ext.matmul_candidates(problem, device)
            assert candidates, sizes
            assert len({str(c) for c in candidates}) == len(candidates), "twice the same"
            for config in candidates:
                ext.matmul_check(config, problem, device)


def test_no_estimate_is_below_what_the_device_can_do():
    ext, rng = extension(), np.random.default_rng(2)
    for _ in range(500):
        (batch, m, n, k, dtype, out), problem = draw(rng)
        for device in devices():
            properties = ext.device_properties(device)
            estimate = ext.matmul_estimate(ext.matmul_config(problem, device), problem, device)
            nbytes = batch * (ITEM[dtype] * (m * k + k * n) + ITEM[out] * m * n)
            assert estimate["memory_bytes"] >= 0.999 * nbytes
            floor = properties["launch_seconds"] + nbytes / properties["memory_bandwidth"]
            if dtype in properties["peaks"]:
                peak = max(properties["peaks"][dtype], properties["peaks"]["tf32"] if dtype == "float32" else 0)
                floor = max(floor, 2 * batch * m * n * k / peak)
            assert estimate["microseconds"] >= 0.999e6 * floor
            parts = [estimate["compute_microseconds"], estimate["memory_microseconds"]]
            in_sight = max(parts) + 0.1 * min(parts)
            assert estimate["microseconds"] == pytest.approx(in_sight + estimate["overhead_microseconds"])
            assert estimate["bound"] in {"compute", "latency", "memory", "launch"}


def test_an_estimate_by_hand():
    """4096^3 in float32 by the general 128x128 tile on an A100: 1,024 blocks, one an SM, in 9 full waves and a tenth.

    A step of 8 is 2 * 128 * 128 * 8 operations at 0.9 of 128 a clock; a job 512 of them, the latency, and 64 KiB of
    results at 32 bytes a clock."""
    ext = extension()
    problem = product(4096, 4096, 4096, "float32")
    config = ext.MatmulConfig("general", 128, 128)
    estimate = ext.matmul_estimate(config, problem, "A100")
    clocks = 10 * (512 * (2 * 128 * 128 * 8 / (0.9 * 128)) + 600 + 65536 / 32)
    assert estimate["blocks"] == 1024
    assert estimate["waves"] == pytest.approx(1024 / 108)
    assert estimate["compute_microseconds"] == pytest.approx(clocks / 1.41e9 * 1e6)
    # Beside them the operands: each group of 8 rows and 13.5 columns of tiles reads its own; a tenth of it in sight.
    operands = 1024 / 108 * (8 * 128 + 13.5 * 128) * 4096 * 4
    assert estimate["memory_bytes"] == pytest.approx(operands + 4096 * 4096 * 4)
    memory = estimate["memory_bytes"] / (0.9 * 2e12)
    assert estimate["microseconds"] == pytest.approx((clocks / 1.41e9 + 0.1 * memory) * 1e6 + 2)
    assert estimate["bound"] == "compute"


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_more_rows_or_columns_never_cost_less(dtype):
    ext = extension()
    sizes = [1, 5, 16, 17, 33, 64, 100, 128, 129, 500, 1000, 2048, 5000, 8192, 20000]
    for device in devices():
        for k in (64, 1000, 8192):
            for other in (64, 768, 4096):
                for make in (
                    lambda s, k=k, o=other: product(s, o, k, dtype),
                    lambda s, k=k, o=other: product(o, s, k, dtype),
                ):
                    times = [microseconds(chosen(p, device), p, device) for p in map(make, sizes)]
                    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(times)), (device, k, other, times)
        for config in ext.matmul_candidates(product(512, 512, 64, dtype), device):
            times = [microseconds(config, product(512, 512, k, dtype), device) for k in (64, 65, 512, 1000, 9999)]
            assert times == sorted(times), (device, str(config), times)


def test_a_faster_device_is_never_slower():
    """H200 and H100 differ in memory alone."""
    rng = np.random.default_rng(3)
    differs = 0
    for _ in range(300):
        sizes, problem = draw(rng)
        fast, slow = (microseconds(chosen(problem, d), problem, d) for d in ("H200", "H100"))
        assert fast <= slow * (1 + 1e-9), sizes
        differs += fast < slow
    assert differs > 5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_large_products_get_the_largest_tile_and_few_rows_a_low_one(dtype):
    ext = extension()
    for device in devices():
        for side in (8192, 16384):
            problem = product(side, side, side, dtype)
            config = chosen(problem, device)
            same = [c for c in ext.matmul_candidates(problem, device) if c.family == config.family]
            assert config.rows * config.columns == max(c.rows * c.columns for c in same), f"{device}: {config}"
            assert config.split == 1
        # A low tile, unless a higher one saves a second pass: then the lowest is hardly slower.
        problem = product(1, 4096, 4096, dtype, b_major="k")
        config = chosen(problem, device)
        same = [c for c in ext.matmul_candidates(problem, device) if c.family == config.family]
        lowest = [c for c in same if c.rows == min(c.rows for c in same)]
        assert config.rows <= 64
        assert min(microseconds(c, problem, device) for c in lowest) < 1.15 * microseconds(config, problem, device)


def test_rows_that_do_not_start_on_16_bytes_cost_more():
    ext = extension()
    for device in devices():
        for dtype in ("bfloat16", "float32"):
            times = []
            for alignment in (16, 8, 4):
                problem = product(2048, 2048, 2048, dtype, a_alignment=alignment, b_alignment=alignment)
                times.append(microseconds(ext.MatmulConfig("general", 64, 64), problem, device))
            assert times == sorted(times)


def test_an_empty_product_costs_nothing():
    for sizes in ((0, 5, 5), (5, 0, 5)):
        problem = product(*sizes, "float32")
        assert microseconds(chosen(problem, "H200"), problem, "H200") == 0
    problem = product(5, 5, 0, "float32")  # zeros, written all the same
    assert microseconds(chosen(problem, "H200"), problem, "H200") > 0


def test_a_choice_costs_microseconds():
    problem, best = product(4096, 4096, 4096), 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(100):
            chosen(problem, "H200")
        best = min(best, (time.perf_counter() - start) / 100)
    assert best < 50e-6


def test_choices_are_printed_on_request(tmp_path):
    script = (
        "import numpy as np\nfrom fastnet import kernels\n"
        "with kernels.use('emulated', device='A100'): kernels.matmul(np.ones((40, 8), 'f4'), np.ones((8, 24), 'f4'))"
    )
    environment = {**os.environ, "FASTNET_PRINT_CONFIG": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    problem = product(40, 24, 8, "float32")
    assert done.stderr.strip() == f"matmul 40x8, 8x24 float32 {chosen(problem, 'A100')}"
