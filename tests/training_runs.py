"""Small runs that exercise everything a checkpoint holds; as a program, a run that is killed again and again.

``python training_runs.py FOLDER KILLS SEED`` trains once without a break, then in processes that it kills with SIGKILL
at random moments, each going on from the newest checkpoint, until so many kills; prints what it saw as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

import fastnet
from fastnet import nn, optim
from fastnet.models import DCGAN, CharLSTM
from fastnet.recipes.lstm import CarryingTrainer
from fastnet.train import Trainer, checkpoints
from fastnet.train.adversarial import AdversarialTrainer
from fastnet.utils.data import DataLoader, TensorDataset


class Jittered:
    """Points in two classes, with noise from every generator that a data set may use."""

    def __init__(self, n):
        rng = np.random.default_rng(0)
        self.y = rng.integers(0, 2, n)
        self.x = (rng.standard_normal((n, 6)) + self.y[:, None]).astype(np.float32)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = fastnet.from_numpy(self.x[i] + np.float32(0.1 * random.random() + 0.1 * np.random.random()))
        return x + 0.1 * fastnet.rand(6, device="cpu"), int(self.y[i])


def classifier(out, resume=None, epochs=3, checkpoint_every=3, sampler=None, cycle_momentum=True, **options):
    """A trainer of a network with batch normalisation and dropout, and what to fit it on."""
    fastnet.manual_seed(5)
    random.seed(5), np.random.seed(5)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    data = Jittered(60)
    loader = DataLoader(data, 8, shuffle=sampler is None, sampler=sampler and sampler(data))
    per_epoch = -(-len(loader) // options.get("accumulate", 1))
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=epochs * per_epoch + 1, cycle_momentum=cycle_momentum
    )
    trainer = Trainer(
        model, optimizer, scheduler=schedule, schedule_by="step", out=out, resume=resume, progress=False,
        checkpoint_every=checkpoint_every, options={"epochs": epochs}, **options,
    )  # fmt: skip
    validation = DataLoader(TensorDataset(fastnet.randn(10, 6), fastnet.randint(0, 2, (10,))), 5)
    return trainer, lambda: trainer.fit(loader, validation, epochs)


def characters(out, resume=None, **options):
    """A recurrent network whose state is carried from batch to batch."""
    from fastnet.data.text import Streams

    fastnet.manual_seed(6)
    model = CharLSTM(7, embedding=4, hidden=6, layers=2, dropout=0.2)
    optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    numbers = np.random.default_rng(0).integers(0, 7, 400)
    trainer = CarryingTrainer(
        model, optimizer, scheduler=schedule, out=out, resume=resume, progress=False, checkpoint_every=2,
        best_by="loss", max_norm=0.5, patience=2, **options,
    )  # fmt: skip
    return trainer, lambda: trainer.fit(Streams(numbers[:300], 4, 9), Streams(numbers[300:], 2, 9), 5)


def images(out, resume=None, **options):
    """A generator against a discriminator; the order is drawn by a generator of the loader's own."""
    fastnet.manual_seed(7)
    gan = DCGAN(latent=4, image_size=8, width=2)
    optimizers = [optim.Adam(p.parameters(), lr=1e-3) for p in (gan.generator, gan.discriminator)]
    data = TensorDataset(fastnet.randn(24, 1, 8, 8).tanh(), fastnet.zeros(24))
    loader = DataLoader(data, 6, shuffle=True, generator=fastnet.Generator().manual_seed(1))
    trainer = AdversarialTrainer(
        gan, *optimizers, out=out, resume=resume, progress=False, checkpoint_every=3, max_norm=1.0, **options
    )
    return trainer, lambda: trainer.fit(loader, 2)


def result(trainer):
    """The bits that a run gave."""
    state = {n: p.state_dict() for n, p in trainer.parts().items() if n in ("model", "ema") and p is not None}
    weights = {f"{n}.{k}": v.cpu().numpy().tobytes().hex() for n, s in state.items() for k, v in s.items()}
    rows = [{k: v for k, v in vars(e).items() if k not in ("seconds", "examples_per_second")} for e in
            trainer.history.epochs]  # fmt: skip
    return {
        "losses": trainer.history.step_losses,
        "norms": getattr(trainer.history, "gradient_norms", None),
        "weights": weights,
        "epochs": rows,
        "random": fastnet.get_rng_state().tolist(),
    }


def in_child(function):
    """The process in which a function runs; it never returns."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return pid


def main(folder: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    options = {"accumulate": 2, "ema": 0.9, "checkpoint_every": 1, "epochs": 4, "max_norm": 1.0}

    def run(out, resume):
        trainer, fit = classifier(out, resume, **options)
        trainer.say = lambda text: None
        fit()
        (out / "result.json").write_text(json.dumps(result(trainer)))

    whole, broken = folder / "whole", folder / "broken-0"
    for path in (whole, broken):
        path.mkdir()
    began = time.perf_counter()
    assert os.waitpid(in_child(lambda: run(whole, None)), 0)[1] == 0
    length = time.perf_counter() - began
    want = json.loads((whole / "result.json").read_text())
    seen = {"killed": 0, "finished": 0, "resumed at": [], "temporary files left": 0}
    while seen["killed"] < kills or not seen["finished"]:
        has_one = any((broken / "checkpoints").glob("step_*.json"))
        pid = in_child(lambda out=broken, has_one=has_one: run(out, out if has_one else None))
        time.sleep(rng.uniform(0, 0.7 * length) if seen["killed"] < kills else 10 * length)
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        seen["temporary files left"] += sum(1 for _ in broken.rglob(".step*"))
        if os.WIFSIGNALED(status):
            seen["killed"] += 1
        else:
            assert status == 0, f"the run failed after {seen}"
            assert json.loads((broken / "result.json").read_text()) == want, "the resumed run is not the whole one"
            seen["finished"] += 1
            broken = folder / f"broken-{seen['finished']}"
            broken.mkdir()
            continue
        listed = sorted((broken / "checkpoints").glob("step_*.json")) if (broken / "checkpoints").is_dir() else []
        for path in listed:  # all of them are whole
            losses = checkpoints.read(path)["run"]["step_losses"].tolist()
            assert losses == want["losses"][: len(losses)]
        seen["resumed at"].append(len(losses) if listed else 0)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
