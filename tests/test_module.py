"""Module and the containers: the same script under PyTorch and fastnet says the same, errors and printing included."""

import copy
import warnings
from collections import OrderedDict

import pytest

import fastnet


class Log(list):
    """What a script says, as text in which neither library is named."""

    def say(self, *values):
        self.append(tuple(str(v).replace("fastnet", "LIB").replace("torch", "LIB") for v in values))

    def error(self, call):
        """The kind of error: messages name classes by where they are defined."""
        try:
            self.append(("no error", str(call())))
        except Exception as error:
            self.append((type(error).__name__,))

    def message(self, call):
        try:
            self.say("no error", call())
        except Exception as error:
            self.say(type(error).__name__, error)


def net(t):
    class Net(t.nn.Module):
        def __init__(self):
            super().__init__()
            self.l = t.nn.Linear(2, 2)
            self.w = t.nn.Parameter(t.ones(3))
            self.register_buffer("b", t.zeros(2))
            self.register_buffer("c", t.zeros(2), persistent=False)
            self.register_buffer("n", None)
            self.register_parameter("np", None)
            self.x = None

        def forward(self, x, k=1):
            return self.l(x) * k

    return Net()


def sequential(t, log):
    nn = t.nn
    s = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    log.say(s, len(s + s), s * 2, 2 * s, s[1:], s[-1])
    s.insert(1, nn.Tanh())
    s.insert(-1, nn.Sigmoid())
    log.say(s, list(s.state_dict()), s.pop(0), list(s.state_dict()))
    s += nn.Sequential(nn.ReLU())
    s *= 2
    log.say(s)
    named = nn.Sequential(OrderedDict([("a", nn.ReLU()), ("b", nn.Tanh())]))
    named[1] = nn.ELU()
    log.say(named, named[1:], named.b, [n for n, _ in named.named_children()])
    del named[:1]
    log.say(named)
    for wrong in (
        lambda: s + 3,
        lambda: s * 0,
        lambda: s * 1.5,
        lambda: s[9],
        lambda: s.insert(99, nn.ReLU()),
        lambda: s.insert(0, 3),
        lambda: nn.Sequential(3),
        lambda: nn.Sequential().append(None)(t.ones(1)),
    ):
        log.error(wrong)


def module_list(t, log):
    nn = t.nn
    m = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
    m += [nn.ReLU()]
    log.say(m, m.__add__([nn.Tanh()]), m[1:], m.pop(0), m)
    m.insert(0, nn.Tanh())
    log.say(m)
    del m[0:2]
    m[0] = nn.ELU()
    log.say(m, m.pop(-1), len(m), list(m.state_dict()))
    for wrong in (lambda: m(1), lambda: nn.ModuleList(3), lambda: m[5], lambda: m.append(3)):
        log.error(wrong)


def module_dict(t, log):
    nn = t.nn
    d = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(1, 1)})
    d["a"] = nn.Tanh()
    log.say(d, list(d), list(d.keys()), list(d.values()))
    d.update([["z", nn.ReLU()]])
    log.say(d, "z" in d, len(d), d.pop("z"), d.b)
    for wrong in (
        lambda: d["q"],
        lambda: d.__setitem__("keys", nn.ReLU()),
        lambda: d.__setitem__("a.b", nn.ReLU()),
        lambda: d.__setitem__(3, nn.ReLU()),
        lambda: nn.ModuleDict(3),
        lambda: nn.ModuleDict([3]),
        lambda: nn.ModuleDict([(1, 2, 3)]),
    ):
        log.error(wrong)
    d.clear()
    log.say(d)


def parameter_containers(t, log):
    nn = t.nn
    p = nn.ParameterList([t.ones(2), nn.Parameter(t.ones(1, 2))])
    p.append(t.zeros(3))
    p.append(5)
    log.say(p, len(p), len(p[1:]), [n for n, _ in p.named_parameters()], list(p.state_dict()), p[-1])
    p[0] = t.ones(4)
    p += [t.ones(2)]
    log.say(p, [type(v).__name__ for v in p])
    log.error(lambda: p(1))
    log.error(lambda: nn.ParameterList(t.ones(3)))
    q = nn.ParameterDict({"z": t.ones(2), "a": t.zeros(1)})
    q["c"] = 3
    log.say(q, list(q), list(q.keys()), [k for k, _ in q.items()], len(q), "z" in q, q.get("nope", 4))
    log.say(q | {"m": t.ones(1)}, q.pop("z").tolist(), q.popitem(), q.setdefault("k", t.ones(1)).tolist())
    log.say(q, list(reversed(q)), list(q.fromkeys(["a", "b"], 1).items()))
    log.error(lambda: q[3])
    q.clear()
    log.say(q)


def registration(t, log):
    nn, n = t.nn, net(t)
    log.say(n, list(n.state_dict()), list(dict(n.named_buffers())), n.state_dict()._metadata)
    for wrong in (
        lambda: setattr(n, "w", t.ones(3)),
        lambda: setattr(n, "w", 3),
        lambda: setattr(n, "l", 3),
        lambda: setattr(n, "b", 3),
        lambda: n.register_buffer("l", t.ones(1)),
        lambda: n.register_buffer("a.b", t.ones(1)),
        lambda: n.register_buffer("", t.ones(1)),
        lambda: n.register_buffer(3, t.ones(1)),
        lambda: n.register_buffer("q", 3),
        lambda: n.register_parameter("q", t.ones(1)),
        lambda: n.register_parameter("forward", None),
        lambda: n.register_parameter("q", 2),
        lambda: n.add_module("q", 2),
        lambda: n.add_module("x.y", nn.ReLU()),
        lambda: n.add_module(None, nn.ReLU()),
        lambda: n.q,
        lambda: n.get_submodule("l.z"),
        lambda: n.get_submodule("x"),
        lambda: n.get_parameter("l.nope"),
        lambda: n.get_parameter("b"),
        lambda: n.get_buffer("l.weight"),
        lambda: n.train(3),
        lambda: n.to(t.int32),
        lambda: nn.Module()(1),
        lambda: nn.Module(3),
        lambda: n.set_submodule("", nn.ReLU()),
        lambda: n.set_submodule("zz", nn.ReLU(), strict=True),
        lambda: type("L", (nn.Module,), {"__init__": lambda m: setattr(m, "p", nn.Parameter(t.ones(1)))})(),
        lambda: type("L", (nn.Module,), {"__init__": lambda m: setattr(m, "p", nn.ReLU())})(),
    ):
        log.error(wrong)
    n.b, n.c = t.ones(5), t.ones(2)
    log.say(list(n.state_dict()))
    n.w = None
    log.say(list(n.state_dict()), n.get_parameter("l.weight").shape, n.get_submodule("") is n)
    del n.b
    log.say(list(n.state_dict()), hasattr(n, "b"))
    n.l = nn.Parameter(t.ones(1))
    log.say(list(n.state_dict()), [k for k, _ in n.named_children()])
    b = nn.Module()
    b.q, b.r = nn.Buffer(t.ones(2)), nn.Buffer(t.ones(2), persistent=False)
    log.say(list(b.state_dict()), list(dict(b.named_buffers())))
    w = nn.Parameter(t.ones(2))
    w.tag = 1
    log.say(w, w.tag, nn.Parameter(t.ones(1), requires_grad=False).requires_grad, isinstance(t.ones(1), nn.Parameter))


def walks_and_moves(t, log):
    n, seen = net(t), []
    n.t = n.l
    log.say(
        len(list(n.parameters())),
        [k for k, _ in n.named_parameters(remove_duplicate=False)],
        [k for k, _ in n.named_modules()],
        [k for k, _ in n.named_modules(remove_duplicate=False)],
        [k for k, _ in n.named_children()],
        [k for k, _ in n.named_parameters(prefix="p", recurse=False)],
        [k for k, _ in n.named_buffers(prefix="p")],
    )
    twin = copy.deepcopy(n)
    log.say(twin.t is twin.l, twin.l.weight is n.l.weight, twin.l.weight.grad)
    n.double()
    log.say(n.l.weight.dtype, n.b.dtype)
    n.to(t.ones(1))
    log.say(n.w.dtype, n.half().b.dtype, n.bfloat16().b.dtype, n.float().w.dtype, n.type(t.float64).b.dtype)
    n.apply(lambda m: seen.append(type(m).__name__))
    log.say(seen, n.eval().l.training, n.train().l.training)
    log.say([p.requires_grad for p in n.requires_grad_(False).parameters()])
    n.set_submodule("l", t.nn.ReLU())
    log.say(n, "l" in dir(n))


def loading(t, log):
    n = net(t)
    log.message(lambda: n.load_state_dict({}))
    log.message(
        lambda: n.load_state_dict(
            {"l.weight": t.ones(3), "l.bias": t.ones(2), "zz": t.ones(1), "l.q.r": t.ones(1), "b": t.ones(2)}
        )
    )
    log.error(lambda: n.load_state_dict(3))
    log.error(lambda: n.load_state_dict({**n.state_dict(), "b": 3}))
    result = n.load_state_dict({"zz": t.ones(1)}, strict=False)
    log.say(result, result.missing_keys, result[1], n.load_state_dict(n.state_dict()))
    a, b = net(t), net(t)
    b.load_state_dict(a.state_dict(), assign=True)
    log.say(b.l.weight.data_ptr() == a.l.weight.data_ptr(), type(b.l.weight).__name__, b.l.weight.requires_grad)
    scalar = t.nn.Module()
    scalar.s = t.nn.Parameter(t.zeros(()))
    log.say(scalar.load_state_dict({"s": t.ones(1)}), scalar.s.item())
    log.say([v.requires_grad for v in n.state_dict().values()], n.state_dict(keep_vars=True)["w"] is n.w)
    log.say(list(n.state_dict(prefix="p.")))


def state_hooks(t, log):
    n = net(t)
    n.register_state_dict_post_hook(lambda m, state, prefix, about: state.update(extra=t.ones(1)))
    log.say(list(n.state_dict()))
    n = net(t)
    n.register_load_state_dict_pre_hook(lambda m, state, *rest: state.pop("old", None))
    log.say(n.load_state_dict({**n.state_dict(), "old": t.ones(1)}))
    n = net(t)
    n.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    log.say(n.load_state_dict({}))
    n.register_load_state_dict_post_hook(lambda m, keys: log.say(m.w.tolist()))
    n.load_state_dict({"w": t.zeros(3)})

    class Extra(t.nn.Module):
        def __init__(self):
            super().__init__()
            self.v = 1

        def get_extra_state(self):
            return {"v": self.v}

        def set_extra_state(self, state):
            self.v = state["v"]

    e = Extra()
    log.say(e.state_dict(), e.load_state_dict({"_extra_state": {"v": 7}}), e.v)
    log.error(lambda: e.load_state_dict({}))

    class Renamed(t.nn.Module):
        def __init__(self):
            super().__init__()
            self.new = t.nn.Parameter(t.zeros(1))

        def _load_from_state_dict(self, state, prefix, *rest):
            if prefix + "old" in state:
                state[prefix + "new"] = state.pop(prefix + "old")
            super()._load_from_state_dict(state, prefix, *rest)

    m = t.nn.Sequential(Renamed())
    log.say(m.load_state_dict({"0.old": t.ones(1)}), m[0].new.tolist())


def hooks(t, log):
    n = net(t)
    with t.no_grad():
        n.l.weight.copy_(t.tensor([[1.0, 2.0], [3.0, 4.0]]))
        n.l.bias.zero_()
    n.register_forward_pre_hook(lambda m, a, k: log.say("before", len(a), k) or (a, {"k": 3}), with_kwargs=True)
    n.register_forward_hook(lambda m, a, k, out: log.say("after", k, out.tolist()), with_kwargs=True)
    n.register_forward_hook(lambda m, a, out: out + 1, prepend=True)
    n.register_full_backward_pre_hook(lambda m, g: log.say("outputs", g[0].tolist()) or (g[0] * 2,))
    handle = n.register_full_backward_hook(lambda m, i, o: log.say(i[0].tolist(), o[0].tolist()) or (i[0] * 10,))
    x = t.ones(1, 2, requires_grad=True)
    n(x, k=2).sum().backward()
    log.say(x.grad.tolist(), n.l.weight.grad.tolist())
    handle.remove()
    with t.no_grad():
        n(x)
    layer = t.nn.Linear(2, 1)
    layer.register_full_backward_hook(lambda m, i, o: log.say(i, o[0].tolist()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns where no input requires a gradient
        layer(t.ones(1, 2)).sum().backward()
    pair = t.nn.Bilinear(2, 2, 1)
    pair.register_full_backward_hook(lambda m, i, o: log.say([g if g is None else g.shape for g in i]))
    pair(t.ones(1, 2), t.ones(1, 2, requires_grad=True)).sum().backward()
    broken = t.nn.Module()
    broken.register_forward_hook(lambda m, a, out: log.say("called"), always_call=True)
    log.error(lambda: broken(1))
    odd = t.nn.Linear(2, 2)
    odd.register_full_backward_hook(lambda m, i, o: (None, None))
    log.error(lambda: odd(t.ones(1, 2, requires_grad=True)).sum().backward())


SCRIPTS = (
    sequential,
    module_list,
    module_dict,
    parameter_containers,
    registration,
    walks_and_moves,
    loading,
    state_hooks,
    hooks,
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.__name__)
def test_says_what_pytorch_says(script):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    want, got = Log(), Log()
    for library, log in ((torch, want), (fastnet, got)):
        script(library, log)
    assert len(got) == len(want)
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g == w, f"{script.__name__}, line {i}"
