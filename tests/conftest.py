"""What every test may ask for, and what the summary says of tests that a machine cannot run."""

import sys
from pathlib import Path

import pytest

# `python -m pytest` puts the checkout first on the path. Unless the extensions are built in place there, the package
# under test is the one that is installed.
ROOT = Path(__file__).resolve().parents[1]
if not list((ROOT / "fastnet").glob("_emulated*")):
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="draw the large numbers of random problems")


@pytest.fixture
def full(request) -> bool:
    """Whether to draw the large numbers of random problems."""
    return request.config.getoption("--full")


def pytest_terminal_summary(terminalreporter):
    """Say plainly what this machine could not check."""
    from fastnet import kernels

    missing = {mode: why for mode, why in kernels.available().items() if why is not True}
    if missing:
        terminalreporter.section("not checked on this machine")
        for mode, why in missing.items():
            terminalreporter.line(f"{mode} kernels: {why}")
        if "native" in missing:
            terminalreporter.line(
                "speed, real instructions and compute-sanitizer need a GPU: benchmarks/PENDING.md lists what is open"
            )
