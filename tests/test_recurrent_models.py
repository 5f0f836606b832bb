"""Recurrent models, and the recipes that train them: `fastnet train rnn`, `fastnet train lstm`."""

import numpy as np
import pytest

import fastnet
from fastnet.data import strokes
from fastnet.data.text import Streams
from fastnet.models import CharLSTM, CharRNN, RNNClassifier
from fastnet.nn.utils.rnn import pack_sequence
from fastnet.recipes import lstm, rnn
from fastnet.recipes.lstm import CarryingTrainer


@pytest.mark.parametrize("model", [CharRNN, CharLSTM])
def test_a_carried_state_continues_the_sequence(model):
    fastnet.manual_seed(0)
    net = model(11, embedding=5, hidden=7, layers=2).eval()
    x = fastnet.randint(0, 11, (3, 9))
    whole, _ = net(x)
    first, state = net(x[:, :4])
    second, _ = net(x[:, 4:], state)
    got = fastnet.cat([first, second], 1).detach().numpy()
    np.testing.assert_allclose(got, whole.detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", [CharRNN, CharLSTM])
def test_generation_takes_the_likeliest(model):
    """Each character is the likeliest after all before it, computed anew."""
    fastnet.manual_seed(1)
    net = model(11, embedding=5, hidden=7, dropout=0.5).train()
    out = net.generate(fastnet.tensor([[1, 2], [3, 4]]), 6, temperature=0)
    assert net.training
    net.eval()
    for i in range(2, 8):
        np.testing.assert_array_equal(net(out[:, :i])[0][:, -1].argmax(-1).numpy(), out[:, i].numpy())
    with pytest.raises(ValueError, match="T at least 1"):
        net.generate(fastnet.zeros(1, 0, dtype=fastnet.int64), 1)


def test_classes_do_not_depend_on_the_company():
    """A series alone and packed among others of other lengths gives the same logits."""
    fastnet.manual_seed(2)
    net = RNNClassifier(2, 4, hidden=6, layers=2, bidirectional=True)
    series = [fastnet.randn(n, 2) for n in (3, 8, 1, 8)]
    together = net(pack_sequence(series, enforce_sorted=False)).detach().numpy()
    alone = np.concatenate([net(s.unsqueeze(0)).detach().numpy() for s in series])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_streams_go_on_where_they_ended():
    streams = Streams(np.arange(30), 2, 4)  # strips 0..13 and 14..27
    batches = [(x.tolist(), y.tolist()) for x, y in streams]
    assert len(batches) == len(streams) == 3
    assert batches[1] == ([[4, 5, 6, 7], [18, 19, 20, 21]], [[5, 6, 7, 8], [19, 20, 21, 22]])
    with pytest.raises(ValueError, match="has 8 characters"):
        Streams(np.arange(8), 2, 4)


def test_gradients_stop_between_chunks_and_the_state_does_not():
    fastnet.manual_seed(3)
    net = CharLSTM(11, embedding=5, hidden=7)
    trainer = CarryingTrainer(net, fastnet.optim.SGD(net.parameters(), lr=0.0), progress=False)
    x = fastnet.randint(0, 11, (2, 8))
    trainer.begin_pass()
    trainer.step(x[:, :4], x[:, 1:5])
    assert all(not s.requires_grad for s in trainer.carried)
    carried = trainer.logits(x[:, 4:]).detach().numpy()
    np.testing.assert_allclose(carried, net(x)[0][:, 4:].detach().numpy(), rtol=0, atol=1e-6)
    trainer.begin_pass()
    fresh = trainer.logits(x[:, 4:]).detach().numpy()
    np.testing.assert_array_equal(fresh, net(x[:, 4:])[0].detach().numpy())


def test_strokes():
    parts, again = strokes(count=80), strokes(count=80)
    assert [len(p) for p in parts] == [56, 8, 16]
    series = [s for p in parts for s, _ in p]
    assert all(
        np.array_equal(a.numpy(), b.numpy()) for a, b in zip(series, [s for p in again for s, _ in p], strict=True)
    )
    assert {y.item() for p in parts for _, y in p} == set(range(8))
    assert len({len(s) for s in series}) > 10
    assert min(map(len, series)) >= 12
    assert max(map(len, series)) <= 40


def test_rnn_learns():
    trainer, results = rnn.run(rnn.Options(epochs=20, count=640, batch_size=8, progress=False))
    assert trainer.history.epochs[-1].train_loss < 0.6 * trainer.history.epochs[0].train_loss
    assert results["test_accuracy"] > 0.5  # of eight shapes, by chance one in eight


def test_lstm_learns():
    options = lstm.Options(
        epochs=2, characters=12_000, length=16, batch_size=8, hidden=32, lr=1e-2, sampled=5, progress=False
    )
    trainer, results = lstm.run(options)
    epochs = trainer.history.epochs
    assert epochs[1].validation_loss < epochs[0].validation_loss < np.log(len(results["vocabulary"]))
