"""`fastnet info` tells what is there and why anything is absent."""

import fastnet
from fastnet import kernels
from fastnet.cli import main
from fastnet.utils.info import facts


def test_info(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert fastnet.__version__ in text
    for mode, why in kernels.available().items():
        assert f"{mode} kernels" in text
        if why is not True:
            assert why in text, "a reason must be told"


def test_facts_agree_with_available():
    for mode, why in kernels.available().items():
        assert facts()[f"{mode} kernels"].startswith("available" if why is True else "absent: ")
