"""Whole recurrent sequences: emulated kernels and reference against float64 in every dtype, config and schedule; which
config is chosen for which device; what is kept for backward.

Every step is held to float64 from what the same call left of the step before, so that bounds follow from one step's
arithmetic however long the sequence is.
"""

import itertools

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for
from fastnet.nn.utils import rnn as utils
from fastnet.ops.rnn import _parameters
from fastnet.reference.rnn_sequence import before_each_step, walk

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
by_cell = pytest.mark.parametrize("cell", ["tanh", "relu", "lstm", "gru"])
GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
TINY = {"float16": 2.0**-24, "float32": 2.0**-149, "float64": 2.0**-1074, "bfloat16": 2.0**-133}


def sums(dtype):
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def double(x):
    return x.astype(np.float64)


class Problem:
    """A recurrent layer's arguments, and upstream gradients; ``run`` gives what a module makes of them."""

    def __init__(self, cell, dtype, batch_sizes, hidden, directions, seed=0, bias=True):
        rng = np.random.default_rng(seed)
        self.cell, self.dtype, self.sizes, self.hidden = cell, np.dtype(dtype), list(batch_sizes), hidden
        self.directions, self.gates, self.wide = directions, GATES[cell], sums(dtype)
        batch, total, width = batch_sizes[0], sum(batch_sizes), GATES[cell] * hidden

        def draw(*shape, scale=1.0, kind=self.dtype):
            return (rng.standard_normal(shape) * scale).astype(kind)

        self.x = [draw(total, width) for _ in range(directions)]
        self.h0, self.c0 = draw(directions, batch, hidden), draw(directions, batch, hidden, kind=self.wide)
        self.weight = [draw(width, hidden, scale=hidden**-0.5) for _ in range(directions)]
        self.bias = [draw(width) for _ in range(directions)] if bias else None
        self.of_out, self.of_h = draw(total, directions * hidden), draw(directions, batch, hidden)
        self.of_c = draw(directions, batch, hidden, kind=self.wide)

    def __str__(self):
        return f"{self.cell} {self.dtype} batch sizes {self.sizes} hidden {self.hidden} directions {self.directions}"

    def function(self, module, backward=False):
        name = "rnn" if self.cell in ("tanh", "relu") else self.cell
        return getattr(module, f"{name}{'_backward' * backward}")

    def run(self, module, config=None, backward_config=None):
        """By name: what forward and backward return."""
        f, b = self.function(module), self.function(module, True)
        end, back = {"config": config}, {"config": backward_config}
        if self.cell == "lstm":
            names = ["out", "h_last", "c_last", "saved", "cells"]
            r = f(self.x, self.h0, self.c0, self.weight, self.bias, self.sizes, **end)
            grads = b(self.of_out, self.of_h, self.of_c, r[3], r[4], self.c0, self.weight, self.sizes, **back)
            return dict(zip([*names, "of_x", "of_h0", "of_c0"], [*r, *grads], strict=True))
        if self.cell == "gru":
            r = f(self.x, self.h0, self.weight, self.bias, self.sizes, **end)
            grads = b(self.of_out, self.of_h, r[2], r[0], self.h0, self.weight, self.sizes, **back)
            names = ["out", "h_last", "saved", "of_x", "of_products", "of_h0"]
            return dict(zip(names, [*r, *grads], strict=True))
        r = f(self.x, self.h0, self.weight, self.bias, self.sizes, self.cell, **end)
        grads = b(self.of_out, self.of_h, r[0], self.weight, self.sizes, self.cell, **back)
        return dict(zip(["out", "h_last", "of_x", "of_h0"], [*r, *grads], strict=True))

    def problem(self, backward):
        batch = self.h0.shape[1]
        return (self.cell, backward, self.dtype.itemsize, batch, self.hidden, self.directions)


def same_bits(a, b):
    pairs = [(k, x, y) for k in a for x, y in zip(as_list(a[k]), as_list(b[k]), strict=True)]
    return all(x.tobytes() == y.tobytes() for _, x, y in pairs)


def as_list(x):
    return x if isinstance(x, list) else [x]


class Bounds:
    """Errors of one step, in the problem's types."""

    def __init__(self, problem, additions):
        self.eps, self.out = epsilon(problem.wide), epsilon(problem.dtype)
        self.additions, self.tiny = additions, TINY[problem.dtype.name]

    def product(self, a, b):
        """a @ b and its error: ``additions(terms)`` roundings of the sum of sizes, twice as large where tensor cores
        cut off."""
        return a @ b, 2 * self.additions(a.shape[1]) * self.eps * (np.abs(a) @ np.abs(b))

    def rounded(self, value, error):
        return error + self.out * (np.abs(value) + error) + self.tiny


def kernel_additions(dtype):
    """Roundings that a sum of so many products sees: those of a chunk, of a warp's chunks, of the eight warps; float64
    sums one chunk after the other."""
    if np.dtype(dtype) == np.float64:
        return lambda terms: 16 + terms / 8 + 8 + 2
    return lambda terms: 32 + terms / 128 + 8 + 2


def check_forward(p, r, additions, what):
    bounds, hidden, eps = Bounds(p, additions), p.hidden, epsilon(sums(p.dtype))
    for d in range(p.directions):
        out = double(r["out"][:, d * hidden : (d + 1) * hidden])
        h, c = double(p.h0[d]), double(p.c0[d])
        w, bias = double(p.weight[d]), np.zeros(p.gates * hidden) if p.bias is None else double(p.bias[d])
        last, last_c = h.copy(), c.copy()
        for n, rows in walk(p.sizes, d):
            step = f"{what} direction {d} rows {rows}"
            product, error = bounds.product(h[:n], w.T)
            x = double(p.x[d][rows])
            size = 4 * eps * (np.abs(x) + np.abs(bias) + np.abs(product)) + error
            total = x + product + bias
            if p.cell == "lstm":
                i, f, g, o = np.split(total, 4, 1)
                ei, ef, eg, eo = np.split(size, 4, 1)
                i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
                kept = [i, f, g, o], [ei / 4 + 20 * eps, ef / 4 + 20 * eps, eg + 20 * eps, eo / 4 + 20 * eps]
                before = np.abs(c[:n])
                of_c = ef / 4 * before + ei / 4 + eg + 20 * eps * (before + 1)
                cell = f * c[:n] + i * g
                assert_close(r["cells"][d][rows], cell, of_c, f"{step} cells")
                value, error = o * np.tanh(cell), eo / 4 + of_c + 20 * eps
                c[:n] = double(r["cells"][d][rows])
                last_c[:n] = c[:n]
            elif p.cell == "gru":
                (rx, zx, nx), (rb, zb, nb) = np.split(x, 3, 1), np.split(product + bias, 3, 1)
                er, ez, en = np.split(size, 3, 1)
                reset, update = sigmoid(rx + rb), sigmoid(zx + zb)
                fresh = np.tanh(nx + reset * nb)
                of_fresh = er / 4 * np.abs(nb) + 2 * en + 20 * eps * (1 + np.abs(nx) + np.abs(nb))
                errors = [er / 4 + 20 * eps, ez / 4 + 20 * eps, of_fresh, en]
                kept = [reset, update, fresh, nb], errors
                value = (1 - update) * fresh + update * h[:n]
                error = (1 + np.abs(h[:n])) * (ez / 4 + 20 * eps) + of_fresh
            else:
                kept = None
                value = np.tanh(total) if p.cell == "tanh" else np.maximum(total, 0)
                error = size + 4 * eps * np.abs(value)
            if kept:
                value64, error64 = np.concatenate(kept[0], 1), np.concatenate(kept[1], 1)
                assert_close(r["saved"][d][rows], value64, bounds.rounded(value64, error64), f"{step} saved")
            assert_close(
                r["out"][rows, d * hidden : (d + 1) * hidden], value, bounds.rounded(value, error), f"{step} h"
            )
            h[:n] = out[rows]
            last[:n] = h[:n]
        np.testing.assert_array_equal(double(r["h_last"][d]), last, f"{what} direction {d} h_last")
        if p.cell == "lstm":
            np.testing.assert_array_equal(double(r["c_last"][d]), last_c, f"{what} direction {d} c_last")


def check_backward(p, r, additions, what):
    bounds, hidden, eps = Bounds(p, additions), p.hidden, epsilon(sums(p.dtype))
    for d in range(p.directions):
        w = double(p.weight[d])
        of_h, of_h_error = double(p.of_h[d]), np.zeros(p.of_h[d].shape)
        of_c, of_c_error = double(p.of_c[d]), np.zeros(p.of_h[d].shape)
        out = r["out"][:, d * hidden : (d + 1) * hidden]
        before_h = double(before_each_step(out, p.h0[d], p.sizes, d))
        if p.cell == "lstm":
            before_c = double(before_each_step(r["cells"][d], p.c0[d], p.sizes, d))
        for n, rows in reversed(walk(p.sizes, d)):
            step = f"{what} direction {d} rows {rows}"
            g = of_h[:n] + double(p.of_out[rows, d * hidden : (d + 1) * hidden])
            e = of_h_error[:n] + 4 * eps * (np.abs(of_h[:n]) + np.abs(g))
            if p.cell == "lstm":
                i, f, gate, o = np.split(double(r["saved"][d][rows]), 4, 1)
                t = np.tanh(double(r["cells"][d][rows]))
                total = of_c[:n] + g * o * (1 - t * t)
                size = np.abs(of_c[:n]) + np.abs(g)
                of_total = of_c_error[:n] + e + 20 * eps * size
                before = before_c[rows]
                want = [total * gate * i * (1 - i), total * before * f * (1 - f), total * i * (1 - gate**2)]
                error = [of_total, of_total * np.abs(before), of_total, e + 20 * eps * np.abs(g)]
                want, error = np.concatenate([*want, g * t * o * (1 - o)], 1), np.concatenate(error, 1)
                of_c[:n], of_c_error[:n] = total * f, of_total * np.abs(f) + 4 * eps * np.abs(total * f)
            elif p.cell == "gru":
                reset, update, fresh, of_state = np.split(double(r["saved"][d][rows]), 4, 1)
                h = before_h[rows]
                of_fresh = g * (1 - update) * (1 - fresh**2)
                of_reset, of_update = of_fresh * of_state * reset * (1 - reset), g * (h - fresh) * update * (1 - update)
                size = e + 20 * eps * np.abs(g)
                error = np.concatenate([size * np.abs(of_state), size * (1 + np.abs(h)), size], 1)
                want = np.concatenate([of_reset, of_update, of_fresh], 1)
                product = np.concatenate([of_reset, of_update, of_fresh * reset], 1)
                got = r["of_products"][d][rows]
                assert_close(got, product, bounds.rounded(product, error), f"{step} of products")
                passed, of_passed = g * update, e + 4 * eps * np.abs(g)
            elif p.cell == "tanh":
                want, error = (
                    g * (1 - double(r["out"][rows, d * hidden : (d + 1) * hidden]) ** 2),
                    e + 8 * eps * np.abs(g),
                )
            else:
                want, error = g * (out[rows] > 0), e
            assert_close(r["of_x"][d][rows], want, bounds.rounded(want, error), f"{step} of x")
            reached = double(r["of_products" if p.cell == "gru" else "of_x"][d][rows])
            of_h[:n], of_h_error[:n] = bounds.product(reached, w)
            if p.cell == "gru":
                of_h[:n] += passed
                of_h_error[:n] += of_passed + eps * np.abs(of_h[:n])
        assert_close(r["of_h0"][d], of_h, bounds.rounded(of_h, of_h_error), f"{what} direction {d} of h0")
        if p.cell == "lstm":
            assert_close(r["of_c0"][d], of_c, of_c_error, f"{what} direction {d} of c0")


def check(p, module, how=None, **configs):
    if module is reference:
        result, additions, what = p.run(reference), lambda terms: terms + 4, f"reference {p}"
    else:
        with kernels.use("emulated", **how), kernels.trace() as ran:
            result = p.run(kernels, **configs)
        additions, what = kernel_additions(p.dtype), f"{p} {how} {[launch.config for launch in ran]}"
    check_forward(p, result, additions, what)
    check_backward(p, result, additions, what)
    return result


def sizes_of(lengths):
    """Batch sizes of sequences of such lengths."""
    return [int(sum(n > t for n in lengths)) for t in range(max(lengths))]


# Lengths with ties and ones; one sequence; more rows than a tile has; steps at which a whole tile of rows ends.
SHAPES = [
    ([1], 1, 1),
    ([4, 4, 2, 1, 1], 5, 2),
    ([3] * 17 + [1] * 3, 33, 1),
    ([5, 5, 3] + [2] * 30, 40, 2),
    ([2, 2], 130, 1),
]


@by_cell
@by_name
def test_sequences_against_float64(dtype, cell):
    for number, (lengths, hidden, directions) in enumerate(SHAPES):
        p = Problem(cell, dtype, sizes_of(lengths), hidden, directions, number, bias=number % 2 == 0)
        check(p, reference)
        check(p, kernels, schedule(number))


def all_configs(p, backward):
    ext = extension_for(np.zeros(1))
    for persistent, columns in itertools.product((True, False), (32, 8)):
        for units, rows in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1)):
            config = ext.RnnSequenceConfig(persistent, columns, units, rows)
            if not ext.rnn_sequence_refusal(*p.problem(backward), config):
                yield config


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@by_cell
def test_every_config_in_every_schedule(cell, how):
    """The same bits from every division among blocks; each division's own in every schedule: forward and backward."""
    p = Problem(cell, np.float32, sizes_of([6, 6, 5] + [2] * 16), 70 if cell in ("tanh", "relu") else 37, 1)
    found = {}
    with kernels.use("emulated", **how):
        pairs = list(zip(all_configs(p, False), itertools.cycle(all_configs(p, True)), strict=False))
        assert len(pairs) > 10
        for config, backward in pairs:
            found[str(config)] = p.run(kernels, config=config, backward_config=backward)
    first = next(iter(found.values()))
    for config, result in found.items():
        assert same_bits(first, result), config
    check(p, kernels, how)


def random_problem(cell, dtype, seed, largest):
    """Hidden sizes, batches and lengths up to ``largest``, packed with ties and ones, and what else to draw from. Most
    sizes are uniform in their logarithms, which takes a tenth of the time; every fourth problem's are uniform."""
    rng = np.random.default_rng([seed, len(cell), DTYPES.index(dtype)])
    if seed % 4 == 3:
        hidden, batch, longest = (int(rng.integers(1, n + 1)) for n in largest)
    else:
        hidden, batch, longest = (int((n + 1) ** rng.random()) for n in largest)
    lengths = rng.integers(1, longest + 1, batch)
    kind = rng.integers(4)
    if kind == 0:
        lengths[:] = longest  # not packed
    elif kind == 1:
        lengths[rng.random(batch) < 0.5] = 1
    elif kind == 2:
        lengths[rng.random(batch) < 0.5] = longest
    sizes, directions = sizes_of(sorted(lengths, reverse=True)), int(rng.integers(1, 3))
    return Problem(cell, dtype, sizes, hidden, directions, seed, bias=rng.random() < 0.8), rng


def drawn_config(p, backward, form, rng):
    """One of the configs of a form, or of the other where there is none: weights that fit no block."""
    with kernels.use("emulated"):
        found = list(all_configs(p, backward))
    return rng.choice([c for c in found if c.persistent == (form == "persistent")] or found)


def check_parameters(p, r, module, how):
    """The gradients of the recurrent weights and biases are one product; sums in any order have at most as many
    roundings as terms, twice as large where tensor cores cut off."""
    hidden, bounds = p.hidden, Bounds(p, lambda terms: terms + 4)
    for d in range(p.directions):
        of_products = r["of_products" if p.cell == "gru" else "of_x"][d]
        before = before_each_step(r["out"][:, d * hidden : (d + 1) * hidden], p.h0[d], p.sizes, d)
        with kernels.use("emulated", **how):
            of_weight, of_bias = _parameters(module, of_products, before, True)
        want, error = bounds.product(double(of_products).T, double(before))
        assert_close(of_weight, want, bounds.rounded(want, error), f"{p} direction {d} of weight")
        ones = np.ones((len(before), 1))
        want, error = bounds.product(double(of_products).T, ones)
        assert_close(of_bias, want[:, 0], bounds.rounded(want, error)[:, 0], f"{p} direction {d} of bias")


@by_cell
@by_name
def test_random_problems(dtype, cell, full):
    """What is chosen, weights kept and weights streamed, each in its turn; the same bits in every schedule."""
    for seed in range(51 if full else 3):
        p, rng = random_problem(cell, dtype, seed, (300, 70, 40) if full else (60, 40, 10))
        form = ("chosen", "persistent", "streamed")[seed % 3]
        configs = {}
        if form != "chosen":
            configs["config"] = drawn_config(p, False, form, rng)
            configs["backward_config"] = drawn_config(p, True, form, rng)
        how = schedule(int(rng.integers(len(SCHEDULES))))
        result = check(p, kernels, how, **configs)
        check_parameters(p, result, kernels, how)
        check_parameters(p, check(p, reference), reference, how)
        for other in SCHEDULES if full else []:
            if other != how:
                with kernels.use("emulated", **other):
                    assert same_bits(result, p.run(kernels, **configs)), f"{p} {configs} {other}"


def test_both_directions_are_each_alone():
    """One launch for both gives the bits of two; the second direction is the first on reversed sequences."""
    p = Problem("lstm", np.float32, [5, 5, 5, 5], 12, 2)
    with kernels.use("emulated"):
        both = p.run(kernels)
        one, two = Problem("lstm", np.float32, [5, 5, 5, 5], 12, 1), Problem("lstm", np.float32, [5, 5, 5, 5], 12, 1)
        for alone, d in ((one, 0), (two, 1)):
            alone.x, alone.weight, alone.bias = [p.x[d]], [p.weight[d]], [p.bias[d]]
            alone.h0, alone.c0 = p.h0[d : d + 1], p.c0[d : d + 1]
            alone.of_h, alone.of_c = p.of_h[d : d + 1], p.of_c[d : d + 1]
            alone.of_out = p.of_out[:, 12 * d : 12 * d + 12]

        def turned(x):
            return np.ascontiguousarray(x.reshape(4, 5, -1)[::-1]).reshape(20, -1)

        two.x, two.of_out = [turned(two.x[0])], turned(two.of_out)
        first, second = one.run(kernels), two.run(kernels)
    assert both["out"][:, :12].tobytes() == first["out"].tobytes()
    assert np.ascontiguousarray(both["out"][:, 12:]).tobytes() == turned(second["out"]).tobytes()
    assert both["of_x"][0].tobytes() == first["of_x"][0].tobytes()
    assert both["of_x"][1].tobytes() == turned(second["of_x"][0]).tobytes()
    assert both["of_c0"][1].tobytes() == second["of_c0"][0].tobytes()


def test_states_before_each_step():
    rng = np.random.default_rng(0)
    for sizes in ([3], [3, 3, 3], [4, 2, 2, 1], [2, 1]):
        for direction in (0, 1):
            out, h0 = rng.standard_normal((sum(sizes), 5)), rng.standard_normal((sizes[0], 5))
            state, want = h0.copy(), np.empty_like(out)
            for n, rows in walk(sizes, direction):
                want[rows] = state[:n]
                state[:n] = out[rows]
            np.testing.assert_array_equal(before_each_step(out, h0, sizes, direction), want)


# ---- which config --------------------------------------------------------------------------------------------------


@by_cell
def test_the_grid_is_resident_on_every_device(cell, full):
    """Blocks that wait for one another all run: what is chosen has no more of them than SMs, and one fits an SM. A
    device cut to a few SMs, or the emulated one of four, has configs, too."""
    with kernels.use("emulated"):
        ext = extension_for(np.zeros(1))
    drawn = np.random.default_rng(0)
    sizes = list(itertools.product((1, 16, 70, 5000), (1, 7, 128, 300, 1024, 2048, 20_000)))
    sizes += [(int(2 ** drawn.uniform(0, 12)), int(2 ** drawn.uniform(0, 13))) for _ in range(200 if full else 10)]
    for device in ext.known_devices():
        has = ext.device_properties(device)
        # 256 threads of at most 255 registers; the system takes 1 KiB of shared memory a block
        assert has["registers_per_sm"] >= 256 * 255
        assert has["threads_per_sm"] >= 256
        assert has["shared_per_block"] + 1024 <= has["shared_per_sm"]
        with kernels.use("emulated", device=device):
            for sms, itemsize, backward, directions in itertools.product(
                (has["sm_count"], 4, 2), (2, 4, 8), (False, True), (1, 2)
            ):
                for batch, hidden in sizes:
                    problem = (cell, backward, itemsize, batch, hidden, directions)
                    config = ext.rnn_sequence_config(*problem, sms=sms)
                    # which refuses more bytes than shared_per_block, too
                    assert ext.rnn_sequence_refusal(*problem, config, sms=sms) == "", (device, problem, config)
                    blocks = config.unit_groups * config.row_groups * directions
                    assert blocks <= sms, (device, problem, config)
                    more = ext.RnnSequenceConfig(config.persistent, config.columns, sms + 1, config.row_groups)
                    assert ext.rnn_sequence_refusal(*problem, more, sms=sms) != ""


def test_weights_stay_where_they_fit():
    with kernels.use("emulated", device="H200"):
        ext = extension_for(np.zeros(1))

        def chosen(cell, backward, itemsize, batch, hidden, directions=1):
            return ext.rnn_sequence_config(cell, backward, itemsize, batch, hidden, directions, sms=132)

        for backward, itemsize in itertools.product((False, True), (2, 4)):
            for hidden in (128, 512, 768, 1024):
                assert chosen("lstm", backward, itemsize, 16, hidden).persistent
            assert not chosen("lstm", backward, itemsize, 16, 4096).persistent
        assert chosen("gru", False, 2, 16, 1024, 2).persistent
        # Few units, many sequences: blocks divide the batch, and none waits for another.
        config = chosen("tanh", False, 4, 512, 32)
        assert (config.unit_groups, config.row_groups) == (1, 32)
        assert str(config) == "rnn(persistent, columns=32, unit_groups=1, row_groups=32)"


def test_configs_that_cannot_serve():
    p = Problem("lstm", np.float32, [3, 3], 20, 1)
    with kernels.use("emulated"):
        ext = extension_for(np.zeros(1))
        for config, why in [
            ((False, 16, 1, 1), "columns is 16"),
            ((False, 32, 4, 1), "unit_groups is 4, expected 1 to 3"),
            ((False, 32, 0, 1), "unit_groups is 0"),
            ((False, 32, 1, 2), "row_groups is 2, expected 1 to 1"),
            ((False, 8, 5, 1), "5 blocks .* the 4 that are resident"),
        ]:
            with pytest.raises(ValueError, match=f"lstm: .*{why}"):
                p.run(kernels, config=ext.RnnSequenceConfig(*config))
        with pytest.raises(TypeError, match="config"):
            p.run(kernels, config=ext.RnnConfig(blocks=1))
        large = Problem("gru", np.float32, [1], 400, 1)
        with pytest.raises(ValueError, match="bytes of shared memory a block, and H200 has"):
            large.run(kernels, config=ext.RnnSequenceConfig(True, 32, 1, 1))


@pytest.mark.parametrize("module", [kernels, reference])
def test_bad_input(module):
    p, q = Problem("lstm", np.float32, [3, 2], 4, 2), Problem("gru", np.float32, [3, 2], 4, 1)
    t = Problem("tanh", np.float32, [3, 2], 4, 1)

    def lstm(**other):
        given = {"x": p.x, "h0": p.h0, "c0": p.c0, "weight": p.weight, "bias": p.bias, "batch_sizes": p.sizes, **other}
        return module.lstm(**given)

    with kernels.use("emulated"):
        out, _, saved = module.gru(q.x, q.h0, q.weight, q.bias, q.sizes)

        def gru_backward(of_out, saved):
            return module.gru_backward(of_out, q.of_h, saved, out, q.h0, q.weight, q.sizes)

        refused = [
            (TypeError, "h0", lambda: lstm(h0=None)),
            (ValueError, "h0", lambda: lstm(h0=p.h0[0])),
            (ValueError, "h0 has 3 directions", lambda: lstm(h0=np.concatenate([p.h0, p.h0[:1]]))),
            (TypeError, "x is a ndarray", lambda: lstm(x=p.x[0])),
            (ValueError, "x has 1 arrays, expected 2", lambda: lstm(x=p.x[:1])),
            (ValueError, r"x\[1\] has shape", lambda: lstm(x=[p.x[0], p.x[1][:-1]])),
            (TypeError, r"weight\[0\]", lambda: lstm(weight=[w.astype(np.float16) for w in p.weight])),
            (ValueError, r"bias\[1\]", lambda: lstm(bias=[p.bias[0], p.bias[0][:3]])),
            (TypeError, "c0", lambda: lstm(c0=p.c0.astype(np.float64))),
            (ValueError, "c0", lambda: lstm(c0=p.c0[:1])),
            (TypeError, "batch_sizes", lambda: lstm(batch_sizes=np.array([3, 2]))),
            (TypeError, "batch_sizes holds a float", lambda: lstm(batch_sizes=[3, 2.0])),
            (ValueError, "batch_sizes is empty", lambda: lstm(batch_sizes=[])),
            (ValueError, "batch_sizes begins with 4", lambda: lstm(batch_sizes=[4, 1])),
            (ValueError, "never grow", lambda: lstm(batch_sizes=[3, 1, 2])),
            (ValueError, "positive", lambda: lstm(batch_sizes=[3, 2, 0])),
            (ValueError, "activation", lambda: module.rnn(t.x, t.h0, t.weight, None, t.sizes, "gelu")),
            (
                ValueError,
                "saved",
                lambda: module.gru_backward(q.of_out, q.of_h, [], out, q.h0, q.weight, q.sizes),
            ),
            (
                ValueError,
                "of_out",
                lambda: module.gru_backward(out.T, q.of_h, saved, out, q.h0, q.weight, q.sizes),
            ),
            (ValueError, "out", lambda: module.rnn_backward(t.of_out, t.of_h, out[:1], t.weight, t.sizes)),
        ]
        for error, message, call in refused:
            with pytest.raises(error, match=message):
                call()


def test_sizes_of_zero():
    for module in (kernels, reference):
        with kernels.use("emulated"):
            for batch, hidden in ((0, 3), (2, 0)):
                p = Problem("lstm", np.float32, [batch, batch], max(hidden, 1), 2)
                if not hidden:
                    continue
                r = p.run(module)
                assert r["out"].shape == (2 * batch, 2 * hidden)
                assert r["of_h0"].shape == (2, batch, hidden)


@by_cell
def test_misaligned_and_strided_input(cell):
    """Any alignment, any strides: the same numbers as from aligned copies."""
    p = Problem(cell, np.float16, [5, 4, 1], 16, 2)
    with kernels.use("emulated"):
        want = p.run(kernels)

        def moved(x):
            flat = np.empty(x.size + 1, x.dtype)
            flat[1:] = x.reshape(-1)
            return flat[1:].reshape(x.shape)

        for other in (moved, np.asfortranarray):
            q = Problem(cell, np.float16, [5, 4, 1], 16, 2)
            for name in ("x", "weight", "bias"):
                setattr(q, name, [other(y) for y in getattr(q, name)])
            for name in ("h0", "c0", "of_out", "of_h", "of_c"):
                setattr(q, name, other(getattr(q, name)))
            assert same_bits(q.run(kernels), want)


# ---- memory --------------------------------------------------------------------------------------------------------


def kept_by_pytorch(torch, layer, x):
    """Bytes of the storages that PyTorch keeps for backward, parameters aside."""
    kept, parameters = {}, {p.untyped_storage().data_ptr() for p in layer.parameters()}

    def pack(t):
        s = t.untyped_storage()
        if s.data_ptr() not in parameters:
            kept[s.data_ptr()] = s  # held, so that no other takes its place
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = layer(x)
    del out
    return sum(s.nbytes() for s in kept.values())


def kept_by_us(out, parameters):
    """Bytes of the arrays that fastnet's graph keeps, parameters and what shares memory counted once."""
    owners, seen, nodes = {}, set(), [out.grad_fn]

    def note(x):
        if isinstance(x, (list, tuple)):
            for y in x:
                note(y)
        elif isinstance(x, np.ndarray):
            while isinstance(x.base, np.ndarray):
                x = x.base
            if x.ctypes.data not in parameters:
                owners[x.ctypes.data] = x.nbytes

    while nodes:
        node = nodes.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        for value in vars(node).values() if hasattr(node, "__dict__") else []:
            note(value)
        nodes += [n for n, _ in node.next_functions]
    return sum(owners.values())


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "projected LSTM"])
def test_no_more_is_kept_for_backward_than_by_pytorch(name, packed, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    steps, batch, size, hidden = 20, 8, 12, 32
    width = 16 if name.startswith("projected") else hidden  # of the state
    found = {}
    for lib in (torch, fastnet):
        options = {"num_layers": 2, "bidirectional": True, "dtype": getattr(lib, dtype)}
        options |= {} if width == hidden else {"proj_size": width}
        layer = getattr(lib.nn, name.split()[-1])(size, hidden, **options)
        x = lib.zeros(steps, batch, size, dtype=getattr(lib, dtype))
        if packed:
            x = lib.nn.utils.rnn.pack_padded_sequence(x, list(range(steps, steps - batch, -1)))
        if lib is torch:
            found["torch"] = kept_by_pytorch(torch, layer, x)
        else:
            result = layer(x)[0]
            result = result.data if packed else result
            parameters = {p.detach().numpy().ctypes.data for p in layer.parameters()}
            found["fastnet"] = kept_by_us(result, parameters)
    rows, item = sum(range(steps, steps - batch, -1)) if packed else steps * batch, 4 if dtype == "float32" else 2
    # What fastnet.ops.rnn states: bytes for a row and direction.
    stated = {
        "RNN": 0,
        "LSTM": 4 * hidden * item + 4 * hidden,
        "GRU": 4 * hidden * item,
        "projected LSTM": 5 * hidden * item + 4 * hidden,
    }[name]
    stated *= 2 * 2 * rows
    states = rows * (size + 2 * 2 * width) * item  # inputs and results of both layers
    initial = 2 * 2 * batch * (width * item + 4 * hidden) * 2
    assert stated <= found["fastnet"] <= stated + states + initial, (found, stated)
    assert found["fastnet"] <= found["torch"], found


def test_layers_give_what_their_sequences_give():
    """Dropout between layers, initial states and both directions, on the kernels: emulated as reference."""
    for name in ("RNN", "LSTM", "GRU"):
        results = []
        for mode in ("reference", "emulated"):
            fastnet.manual_seed(5)
            layer = getattr(fastnet.nn, name)(6, 9, num_layers=3, dropout=0.4, bidirectional=True)
            series = [fastnet.randn(n, 6) for n in (4, 7, 1, 7)]
            packed = utils.pack_sequence(series, enforce_sorted=False)
            state = fastnet.randn(6, 4, 9).requires_grad_()
            given = (state, fastnet.randn(6, 4, 9)) if name == "LSTM" else state
            with kernels.use(mode):
                out, last = layer(packed, given)
                last = last[0] if name == "LSTM" else last
                (out.data.sin().sum() + last.cos().sum()).backward()
            grads = [state.grad, *(p.grad for p in layer.parameters())]
            results.append([out.data.detach().numpy(), last.detach().numpy(), *(g.numpy() for g in grads)])
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
