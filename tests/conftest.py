"""What every test may ask for."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="draw the large numbers of random problems")


@pytest.fixture
def full(request) -> bool:
    """Whether to draw the large numbers of random problems."""
    return request.config.getoption("--full")
