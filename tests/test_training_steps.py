"""Steps that run ahead of the host give what steps give that are read one by one; as CUDA graphs too, on a made-up
stream."""

import pytest
from made_up_stream import MadeUpStream
from training_runs import characters, classifier, images, result

import fastnet
from fastnet import nn, optim
from fastnet.cuda.graphs import CaptureError
from fastnet.train import Trainer
from fastnet.train.steps import FORMS, GraphedSteps
from fastnet.utils.data import DataLoader, TensorDataset

RUNS = {
    "classifier": (classifier, {"checkpoint_every": None}),
    "accumulated, averaged, clipped": (
        classifier,
        {"accumulate": 2, "ema": 0.8, "max_norm": 0.5, "checkpoint_every": None},
    ),
    "float16": (classifier, {"precision": "float16", "checkpoint_every": None}),
    "carried state": (characters, {}),
    "adversarial": (images, {}),
}


@pytest.mark.parametrize("name", RUNS)
def test_steps_read_at_once_are_steps_read_one_by_one(name, tmp_path):
    make, options = RUNS[name]
    results = []
    for every in (1, 4):
        trainer, fit = make(None, fetch_every=every, **options)
        read = []
        fetch = trainer.fetch
        trainer.fetch = lambda trainer=trainer, fetch=fetch, read=read: (read.append(len(trainer._pending)), fetch())
        fit()
        results.append(result(trainer))
        assert max(read) == every
    assert results[0] == results[1]


def test_a_checkpoint_holds_the_steps_that_were_not_read(tmp_path):
    """Between readings, with a scaler, averaged weights and gradients added up: the same bits from there on."""
    options = {"accumulate": 2, "ema": 0.8, "max_norm": 0.5, "precision": "float16", "fetch_every": 100}
    trainer, fit = classifier(None, **options)
    fit()
    want = result(trainer)
    trainer, fit = classifier(tmp_path, checkpoint_every=2, **options)
    steps, launch = [], trainer.launch

    def until_the_seventh(batches):
        if len(steps) == 6:
            raise InterruptedError
        steps.append(launch(batches))

    trainer.launch = until_the_seventh
    with pytest.raises(InterruptedError):
        fit()
    trainer, fit = classifier(tmp_path, resume=tmp_path, checkpoint_every=2, **options)
    trainer.say = lambda text: None
    fit()
    assert result(trainer) == want


class Spoiling(nn.Module):
    """The identity until a call, from which on it makes NaN of what comes through."""

    def __init__(self, call):
        super().__init__()
        self.call, self.calls = call, 0

    def forward(self, x):
        self.calls += 1
        return x if self.calls <= self.call else x * float("nan")


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "Muon"])
def test_nothing_changes_after_a_nan_that_is_read_later(optimizer):
    """The third step makes NaN, ten are made before the first is read: the weights are those after the second."""
    weights = []
    for steps, fetch_every in ((2, 1), (10, 10)):
        fastnet.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4, bias=False), Spoiling(2), nn.Linear(4, 2, bias=False))
        trainer = Trainer(
            model, getattr(optim, optimizer)(model.parameters(), lr=0.1), progress=False, fetch_every=fetch_every
        )
        data = TensorDataset(fastnet.randn(8 * steps, 4), fastnet.randint(0, 2, (8 * steps,)))
        loader = DataLoader(data, 8)
        if steps == 2:
            for batch in loader:
                trainer.step(*batch)
        else:
            with pytest.raises(FloatingPointError, match=r"NaN at step 3, first in the output of layer '1'"):
                trainer.fit(loader, loader, 1)
            assert len(trainer.history.step_losses) == 2
        weights.append([p.detach().numpy().tobytes() for p in model.parameters()])
    assert weights[0] == weights[1]


class Stream(MadeUpStream):
    """Of one graph of a trainer's steps."""

    def __init__(self, trainer):
        optimizers = [o for o in trainer.parts().values() if isinstance(o, optim.Optimizer)]
        self._trainer, self._graphed = trainer, None
        super().__init__(optimizers, self._changed)

    def _changed(self):
        """All that a step changes, but for the optimizers' states."""
        trainer = self._trainer
        modules = [trainer.model, *([trainer.ema] if getattr(trainer, "ema", None) else [])]
        tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
        scaler = getattr(trainer, "scaler", None)
        of_scaler = [] if scaler is None else [scaler._scale, scaler._tracker]
        return [*tensors, trainer._halt, *map(fastnet.Tensor._wrap, of_scaler)]

    @property
    def graphed(self):
        return next(g for g in self._trainer._graphed._graphs.values() if g._recorder is self)

    @graphed.setter
    def graphed(self, value):
        assert value is None


def graphs_of(trainer):
    """Have a trainer's steps be graphs on made-up streams; the list of these as they come."""
    streams = []

    def recorder():
        streams.append(Stream(trainer))
        return streams[-1]

    trainer.graph, trainer._graphed = True, GraphedSteps(trainer, recorder)
    return streams


@pytest.mark.parametrize("name", RUNS)
def test_graphed_steps_are_the_steps_they_stand_for(name):
    make, options = RUNS[name]
    if make is classifier:
        options = {"cycle_momentum": False, **options}  # of its options a graph reads the rate alone from memory
    trainer, fit = make(None, **options)
    fit()
    want = result(trainer)
    trainer, fit = make(None, fetch_every=3, **options)
    streams = graphs_of(trainer)
    fit()
    got = result(trainer)
    assert got == want
    assert 1 <= len(streams) <= FORMS
    assert sum(s.ran + s.replayed for s in streams) == len(want["losses"])
    assert sum(s.replayed for s in streams) > len(want["losses"]) / 3


def test_steps_that_cannot_be_captured():
    """What a batch holds, an option that a schedule changes, a value that is read: the call is named, and the weights
    are as they were."""

    def run(make, message, **options):
        trainer, fit = make(None, **options)
        graphs_of(trainer)
        seen = []
        launch = trainer.launch
        trainer.launch = lambda batches: (
            seen.append([p.tolist() for p in trainer.model.parameters()]),
            launch(batches),
        )
        with pytest.raises(CaptureError, match=message):
            fit()
        assert seen[-1] == [p.tolist() for p in trainer.model.parameters()]
        return len(seen)

    assert run(classifier, "'betas' of a parameter group was", checkpoint_every=None) == 2

    def reading(out):
        trainer, fit = classifier(out, cycle_momentum=False, checkpoint_every=None)
        judged = trainer._judged
        trainer._judged = lambda x, y, *criterion: (float(x.sum()), judged(x, y, *criterion))[1]
        return trainer, fit

    assert run(reading, r"reading a tensor's values waits for the device .*float\(x\.sum\(\)\)") == 3

    def series(out):
        from fastnet.models import RNNClassifier
        from fastnet.recipes.rnn import packed

        model = RNNClassifier(1, 2, 4, 1)
        trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1), progress=False)
        data = [(fastnet.randn(n, 1), fastnet.tensor(n % 2)) for n in range(1, 9)]
        loader = DataLoader(data, 4, collate_fn=packed)
        return trainer, lambda: trainer.fit(loader, loader, 1)

    assert run(series, "holds a PackedSequence") == 1
    with pytest.raises(ValueError, match="graph is True and device 'cpu', expected a GPU"):
        Trainer(nn.Linear(1, 1), optim.SGD([fastnet.zeros(1)], lr=0.1), graph=True)


def test_a_form_of_batch_beyond_the_first_four_runs_as_it_is():
    fastnet.manual_seed(0)
    model = nn.Linear(3, 2)
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1), progress=False, fetch_every=4)
    streams = graphs_of(trainer)
    for n in (1, 2, 3, 4, 5, 5, 5, 1, 1):
        trainer.launch([(fastnet.randn(n, 3), fastnet.randint(0, 2, (n,)))])
    trainer.fetch()
    assert [s.ran for s in streams] == [2, 1, 1, 1]
    assert streams[0].replayed == 1
    assert len(trainer.history.step_losses) == 9


def test_loading_a_state_forgets_the_graphs(tmp_path):
    trainer, fit = classifier(tmp_path, cycle_momentum=False)
    streams = graphs_of(trainer)
    fit()
    made = len(streams)
    assert made == len(trainer._graphed._graphs) > 0
    trainer._set(trainer.snapshot())
    assert not trainer._graphed._graphs
