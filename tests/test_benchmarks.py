"""The benchmarks run, their rows are whole, and the GPU command's dry run works."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*(p for p in sys.path if p), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )


def test_rows(tmp_path):
    done = run("benchmarks", "reduction", "overhead", "--samples", "3", "--out", str(tmp_path / "rows.csv"))
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert {r["operation"] for r in rows} >= {"column_sum", "eager add recorded"}
    for r in rows:
        assert float(r["median_us"]) > 0
        assert r["device"]
        assert r["commit"]
        assert r["date"]
    assert "configs chosen for" in done.stdout or "native" in done.stdout


def test_unknown_names_are_refused():
    done = run("benchmarks", "convolution")
    assert done.returncode == 2
    assert "unknown: convolution" in done.stderr


def test_interleaving_and_ratios():
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.harness import Case, measure
    finally:
        sys.path.remove(str(ROOT))
    order = []
    case = Case(
        "x",
        "1",
        "float32",
        {"ours": lambda: order.append("a"), "peer": lambda: [order.append("b"), sum(range(2000))]},
        flops=1e6,
        bytes=1e6,
    )
    ours, _peer = measure(case, samples=3, seconds=1e-4)
    assert ours.peer == "peer"
    assert ours.ratio_to_peer > 1  # the peer does more
    assert ours.gflops == pytest.approx(1e6 / ours.median_us / 1e3, rel=0.01)
    text = "".join(order)
    assert "ab" in text[2:]
    assert "ba" in text[2:]


def test_dry_run_of_the_gpu_command(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p])}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"build", "ptx", "suite", "sanitizer", "benchmarks"}
    for part, r in results.items():
        assert r["status"] == 0, f"{part}: {(tmp_path / r['log']).read_text()[-2000:]}\n{done.stdout}"
    assert (tmp_path / "rows.csv").exists()
