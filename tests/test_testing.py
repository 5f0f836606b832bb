"""fastnet.testing.assert_close as torch.testing.assert_close: what passes, what fails, what is refused."""

import math

import numpy as np
import pytest

import fastnet

torch = pytest.importorskip("torch")

# Pairs of values, with options; in each library as tensors.
CASES = [
    ([1.0, 2.0], [1.0, 2.0], {}),
    ([1.0, 2.0], [1.0, 2.00001], {}),
    ([1.0, 2.0], [1.0, 2.00002], {}),
    ([1.0, 2.0], [1.0, 2.1], {"rtol": 0.1, "atol": 0}),
    ([1.0, 2.0], [1.0, 2.1], {"rtol": 0, "atol": 0.05}),
    ([0.0], [9e-6], {}),
    ([0.0], [2e-5], {}),
    ([math.nan], [math.nan], {}),
    ([math.nan], [math.nan], {"equal_nan": True}),
    ([math.inf], [math.inf], {}),
    ([math.inf], [-math.inf], {}),
    ([math.inf], [1.0], {"rtol": 1.0, "atol": 1.0}),
    ([1.0], [math.inf], {"rtol": 1.0, "atol": 1.0}),
    ([1.0], [[1.0]], {}),
    ([], [], {}),
    ([1, 2], [1, 3], {}),
    ([1, 2], [1, 3], {"rtol": 0.5, "atol": 0.5}),
    ([1, 2], [1.0, 2.0], {}),
    ([1, 2], [1.0, 2.0], {"check_dtype": False}),
    ([True, False], [True, True], {}),
    ([1.0], [1.0], {"rtol": 0.1}),
]


def outcome(library, actual, expected, options):
    try:
        library.testing.assert_close(actual, expected, **options)
    except (AssertionError, TypeError, ValueError) as error:
        return type(error)
    return None


@pytest.mark.parametrize(("actual", "expected", "options"), CASES, ids=str)
def test_as_torch(actual, expected, options):
    want = outcome(torch, torch.tensor(actual), torch.tensor(expected), options)
    assert outcome(fastnet, fastnet.tensor(actual), fastnet.tensor(expected), options) is want


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("other", ["float16", "bfloat16", "float32", "float64"])
def test_tolerances_of_dtypes(dtype, other):
    for difference in 2.0 ** -np.arange(1, 30):
        pair = [1.0], [1.0 + difference]
        results = [
            outcome(
                library,
                library.tensor(pair[0], dtype=getattr(library, dtype)),
                library.tensor(pair[1], dtype=getattr(library, other)),
                {"check_dtype": False},
            )
            for library in (torch, fastnet)
        ]
        assert results[0] is results[1], difference


def test_containers_and_numbers():
    for make in (
        lambda x: (1.0, 1.0 + 1e-9),
        lambda x: (1.0, 1.1),
        lambda x: (1, 1.0),
        lambda x: ([x.ones(2), 3], [x.ones(2), 3]),
        lambda x: ([x.ones(2), 3], [x.ones(2), 4]),
        lambda x: ((x.ones(2),), [x.ones(2)]),
        lambda x: ([x.ones(2)], [x.ones(2), 1]),
        lambda x: ({"a": x.ones(2)}, {"a": x.zeros(2)}),
        lambda x: ({"a": x.ones(2)}, {"b": x.ones(2)}),
        lambda x: (None, None),
        lambda x: (None, x.ones(1)),
        lambda x: (x.ones(1), 1.0),
        lambda x: ("a", "a"),
        lambda x: (np.ones(2), np.ones(2)),
        lambda x: (np.ones(2), np.zeros(2)),
    ):
        assert outcome(fastnet, *make(fastnet), {}) is outcome(torch, *make(torch), {}), make(fastnet)


def test_what_it_says():
    with pytest.raises(AssertionError, match=r"Mismatched elements: 1 / 3 \(33.3%\)\n.*0.5 at index \(1,\)"):
        fastnet.testing.assert_close(fastnet.tensor([1.0, 2.0, 3.0]), fastnet.tensor([1.0, 2.5, 3.0]))
    with pytest.raises(AssertionError, match=r"item \['a'\]\[1\]"):
        fastnet.testing.assert_close({"a": [1, 2]}, {"a": [1, 3]})
    with pytest.raises(AssertionError, match=r"^no$"):
        fastnet.testing.assert_close(1, 2, msg="no")
    with pytest.raises(AssertionError, match=r"^Scalars .*!$"):
        fastnet.testing.assert_close(1, 2, msg=lambda text: text.split("\n")[0])
