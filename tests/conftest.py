"""What every test may ask for, and what the summary says of tests that a machine cannot run."""

import sys
from pathlib import Path

import pytest

# Benchmarks are the checkout's. They see to it that fastnet is the installed package, unless the extensions are built
# in place here.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import benchmarks  # noqa: F401


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
