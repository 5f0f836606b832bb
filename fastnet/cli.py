"""The command line: ``fastnet train``, ``fastnet profile``, ``fastnet lab``, ``fastnet info``, ``fastnet bench``."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

# What a recipe may say of its result: the name and the form in which it is shown.
_RESULTS = {
    "test_accuracy": ("test accuracy", "{:.2%}"),
    "test_loss": ("test loss", "{:.4f} nats"),
    "generator_loss": ("generator's loss", "{:.4f} nats"),
    "discriminator_loss": ("discriminator's loss", "{:.4f} nats"),
    "test_bits_per_character": ("bits a character", "{:.3f}"),
}


def _positive(kind: type) -> Any:
    def parse(text: str) -> Any:
        value = kind(text)
        if not value > 0 or value != value or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return value

    parse.__name__ = kind.__name__
    return parse


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to below 1")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**64:
        raise argparse.ArgumentTypeError(f"{text} does not fit 64 bits")
    return value


def _parser() -> argparse.ArgumentParser:
    from fastnet._version import __version__

    parser = argparse.ArgumentParser(
        prog="fastnet", description="Neural networks trained with handwritten CUDA kernels."
    )
    parser.add_argument("--version", action="version", version=f"fastnet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train", help="train a recipe", epilog=_recipes_help(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    unset: Any = {"default": argparse.SUPPRESS}  # the recipe's own
    train.add_argument("recipe", help="which one; see below, with what it does by default")
    train.add_argument("--data", type=Path, help="a file or folder to learn from, where the recipe says so", **unset)
    train.add_argument("--epochs", type=_positive(int), help="passes over the training set", **unset)
    train.add_argument("--batch-size", type=_positive(int), help="examples a batch", **unset)
    train.add_argument("--lr", type=_positive(float), help="learning rate at the start, or at its peak", **unset)
    train.add_argument(
        "--precision",
        choices=["float32", "tf32", "bfloat16", "float16"],
        help="of products: float32; tf32, their operands rounded to 10 bits; bfloat16 or float16, forward in 16 bits "
        "where that is safe (default: float32)",
        **unset,
    )
    train.add_argument("--seed", type=_seed, help="of parameters, order and dropout (default: 0)", **unset)
    train.add_argument(
        "--accumulate", type=_positive(int), help="batches whose gradients make one step (default: 1)", **unset
    )
    train.add_argument("--max-norm", type=_positive(float), help="gradients are scaled to at most this norm", **unset)
    train.add_argument(
        "--ema", type=_share, help="keep an exponential moving average of the weights with this decay", **unset
    )
    train.add_argument(
        "--patience", type=_positive(int), help="stop after so many epochs without a better validation", **unset
    )
    train.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder for the run's files (default: runs/RECIPE)"
    )
    train.add_argument(
        "--resume",
        type=Path,
        nargs="?",
        const=True,
        help="go on from the newest checkpoint in --out, or from this checkpoint or folder, with its options",
    )
    train.add_argument(
        "--checkpoint-every", type=_positive(int), help="steps between checkpoints (default: one an epoch)", **unset
    )
    train.add_argument(
        "--plot", action=argparse.BooleanOptionalAction, default=True, help="draw the curves as PNG (default: yes)"
    )
    train.add_argument(
        "--find-lr",
        action="store_true",
        help="do not train: raise the learning rate from step to step until the loss grows, draw that, suggest a rate",
    )
    train.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    train.add_argument(
        "--graph", action="store_true", help="launch each step as one CUDA graph, to the same bits (on a GPU)", **unset
    )
    train.add_argument(
        "--kernels",
        choices=["reference", "emulated", "native"],
        default=None,
        help="which code runs operations (default: native on cuda, reference on cpu)",
    )

    lab = commands.add_parser(
        "lab",
        help="put a claim to the test",
        description="Run a small controlled experiment over several seeds; the exit status is 0 if the claim holds, "
        "1 if it does not.",
        epilog=_labs_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lab.add_argument("claim", nargs="?", help="which one; see below")
    lab.add_argument("--all", action="store_true", help="every one of them")
    lab.add_argument("--quick", action="store_true", help="smaller experiments with fewer seeds")
    lab.add_argument("--out", type=Path, default=Path("runs/labs"), help="folder for the figures (default: runs/labs)")

    profiled = commands.add_parser("profile", help="list the kernels of a recipe's steps by what they cost")
    profiled.add_argument("recipe", help="which one: fastnet train --help lists them")
    profiled.add_argument("--steps", type=_positive(int), default=5, help="steps to look at (default: 5)")
    profiled.add_argument("--batch-size", type=_positive(int), help="examples a batch", **unset)
    profiled.add_argument("--precision", choices=["float32", "tf32", "bfloat16", "float16"], **unset)
    profiled.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N: a GPU is timed (default: cpu)")
    profiled.add_argument(
        "--predict", default="H200", metavar="GPU", help="without a GPU, the one to predict for (default: H200)"
    )

    commands.add_parser("info", help="what this machine and this installation have")

    bench = commands.add_parser("bench", help="benchmarks", add_help=False)
    bench.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _recipes_help() -> str:
    """The recipes, what each does and its defaults."""
    from fastnet.recipes import RECIPES

    lines = ["recipes:"]
    for name, recipe in RECIPES.items():
        defaults = recipe.Options()
        what = (recipe.__doc__ or "").split(": ``")[0].replace("\n", " ")
        lines += [
            f"  {name}: {what}",
            f"      --epochs {defaults.epochs} --batch-size {defaults.batch_size} --lr {defaults.lr:g}"
            + ("; takes --data" if hasattr(defaults, "data") else ""),
        ]
    return "\n".join(lines)


def _labs_help() -> str:
    """The labs, and the claim of each."""
    from fastnet.labs import LABS, claim

    return "\n".join(["claims:", *(f"  {name}: {claim(name)}" for name in LABS)])


def _lab(arguments: argparse.Namespace) -> int:
    from fastnet import labs

    if arguments.all == (arguments.claim is not None):
        return _fail(f"lab: give one claim or --all; there is {', '.join(labs.LABS)}")
    if arguments.claim is not None and arguments.claim not in labs.LABS:
        return _fail(f"lab: there is no claim {arguments.claim!r}; there is {', '.join(labs.LABS)}")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return _fail(f"--out: cannot write to {arguments.out}: {error}")
    names = list(labs.LABS) if arguments.claim is None else [str(arguments.claim)]
    refuted = []
    for name in names:
        print(f"{name}: {labs.claim(name)}", flush=True)
        report, seconds = labs.run(name, quick=arguments.quick)
        for finding in report.findings:
            print(f"  {finding}")
        path = arguments.out / f"{name}.png"
        report.figure.savefig(path, dpi=110)
        print(f"  the claim {'holds' if report.holds else 'does NOT hold'}; {seconds:.0f} s; {path}", flush=True)
        refuted += [] if report.holds else [name]
    if arguments.all:
        print(f"{len(names) - len(refuted)} of {len(names)} claims hold" + "".join(f"; not {n}" for n in refuted))
    return 1 if refuted else 0


def _made_current(where: Any) -> str | None:
    """Let new arrays be on a GPU that is named by its number; why not, if there is none."""
    from fastnet import cuda

    if where.index is not None:
        if where.index >= cuda.device_count():
            return f"there are {cuda.device_count()} GPUs, counted from 0"
        cuda.set_device(where.index)
    return None


def _train(arguments: argparse.Namespace) -> int:
    from fastnet import kernels, recipes
    from fastnet._device import device, why_no_cuda
    from fastnet.errors import KernelsUnavailableError
    from fastnet.train.checkpoints import CheckpointError

    if arguments.recipe not in recipes.RECIPES:
        return _fail(f"there is no recipe {arguments.recipe!r}; there is {', '.join(recipes.RECIPES)}")
    recipe = recipes.RECIPES[arguments.recipe]
    if arguments.find_lr and arguments.resume is not None:
        return _fail("--find-lr looks at a run from its beginning: leave out --resume")
    takes = {f.name for f in fields(recipe.Options)}
    for name in _given(arguments):
        if name not in takes:
            lacks = "takes no file" if name == "data" else "has no such option"
            return _fail(f"--{name.replace('_', '-')}: the recipe {arguments.recipe} {lacks}")
    try:
        where = device(arguments.device)
    except RuntimeError as error:
        return _fail(f"--device: {error}")
    if where.type == "cuda" and (why := why_no_cuda() or _made_current(where)):
        return _fail(f"--device {where}: {why}")
    if "graph" in arguments and where.type == "cpu":
        return _fail("--graph: CUDA graphs need a GPU: give --device cuda")
    if arguments.kernels == "native" and where.type == "cpu":
        return _fail("--kernels native runs on a GPU: give --device cuda, or --kernels emulated to run them on the CPU")
    if arguments.kernels == "emulated" and where.type == "cuda":
        return _fail("--kernels emulated runs on the CPU: leave out --device")
    out = arguments.out / arguments.recipe
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        return _fail(f"--out: cannot write to {out}: {error}")
    if arguments.kernels:
        try:
            kernels.use(arguments.kernels)
        except KernelsUnavailableError as error:
            return _fail(f"--kernels: {error}")
    try:
        options = _options(recipe, arguments, where, out)
    except (CheckpointError, OSError) as error:
        return _fail(f"--resume: {error}")
    if arguments.find_lr:
        return _find_rate(recipe, arguments, options, out)
    return _run_recipe(recipe, arguments, options, where, out)


_OURS = ("command", "recipe", "out", "resume", "plot", "find_lr", "device", "kernels")  # the others are recipes'


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The recipe's options that the command line gave."""
    return {k: v for k, v in vars(arguments).items() if k not in _OURS}


def _options(recipe: Any, arguments: argparse.Namespace, where: Any, out: Path) -> Any:
    """The recipe's options: given ones, or its own; of a run that goes on the checkpoint's."""
    from fastnet.train import checkpoints

    resume = None if arguments.resume is None else out if arguments.resume is True else arguments.resume
    kept: dict[str, Any] = {}
    if resume is not None:
        resume = checkpoints.find(resume)
        kept = _kept(resume, recipe.Options().deciding())
        if isinstance(kept.get("data"), str):
            kept["data"] = Path(kept["data"])
    options = recipe.Options(**{**kept, **_given(arguments)})
    options.device, options.out, options.resume = str(where), out, resume
    return options


def _kept(path: Path, defaults: dict[str, Any]) -> dict[str, Any]:
    """The options in a checkpoint, of the names and kinds that the recipe's have."""
    from fastnet.train import checkpoints

    state = checkpoints.read(path)
    run = state.get("run") if isinstance(state, dict) else None
    kept = run.get("options") if isinstance(run, dict) else None
    if not isinstance(kept, dict) or kept.keys() != defaults.keys():
        raise checkpoints.CheckpointError(
            f"{path}: run.options are not this recipe's: it is another recipe's checkpoint"
        )
    for name, value in kept.items():
        kinds = {float: (int, float)}.get(type(defaults[name]), type(defaults[name]))
        if defaults[name] is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise checkpoints.CheckpointError(f"{path}: run.options.{name} is {value!r:.100}")
        if defaults[name] is None and value is not None and not isinstance(value, (int, float, str)):
            raise checkpoints.CheckpointError(f"{path}: run.options.{name} is {value!r:.100}")
    return kept


def _run_recipe(recipe: Any, arguments: argparse.Namespace, options: Any, where: Any, out: Path) -> int:
    from rich.console import Console
    from rich.table import Table

    from fastnet.cuda.graphs import CaptureError
    from fastnet.train.checkpoints import CheckpointError
    from fastnet.train.interrupts import Interrupted
    from fastnet.utils.cost import readable

    console = Console()
    options.progress = console.is_terminal
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    try:
        trainer, results = recipe.run(options)
    except CheckpointError as error:
        return _fail(f"--resume: {error}")
    except CaptureError as error:
        return _fail(f"--graph: {error}")
    except Interrupted as stopped:
        return _fail(f"{stopped}; go on with: {_resuming(arguments)}", 128 + stopped.signal)
    except FloatingPointError as error:
        return _fail(str(error), 1)
    except (OSError, ValueError) as error:
        return _fail(f"--data: {error}" if "data" in arguments else str(error))
    except KeyboardInterrupt:
        return _fail(f"interrupted; what was finished is in {out}", 130)
    summary = trainer.write_summary(
        recipe=arguments.recipe,
        kernels=arguments.kernels or ("native" if where.type == "cuda" else "reference"),
        device=str(where),
        seed=options.seed,
        **results,
    )
    rows = [(name, form.format(summary[key])) for key, (name, form) in _RESULTS.items() if key in summary]
    if arguments.plot:
        trainer.plot(f"{arguments.recipe}: {' '.join(rows[0])}")
    table = Table(title=f"fastnet train {arguments.recipe}", show_header=False)
    for row in rows:
        table.add_row(*row)
    if "best_epoch" in summary:
        table.add_row(
            "validation",
            f"{summary['validation_accuracy']:.2%} right, loss {summary['validation_loss']:.4f} nats (best, epoch "
            f"{summary['best_epoch']} of {summary['epochs']})",
        )
    for warning in summary["warnings"]:
        table.add_row("warning", warning)
    table.add_row("time", f"{summary['seconds']:.1f} s")
    table.add_row(
        "operations", f"{readable(summary['flops_total'], 'FLOP')}, {readable(summary['flops_per_second'], 'FLOP/s')}"
    )
    table.add_row("share of the peak", f"{summary['share_of_peak']:.1%} ({summary['peak_is']})")
    table.add_row("throughput", f"{summary['examples_per_second']:,.0f} {trainer.units}/s")
    table.add_row("peak memory", readable(summary["peak_memory_bytes"], "B"))
    if summary["energy_joules"] is not None:
        table.add_row("energy", readable(summary["energy_joules"], "J"))
    written = sorted(p.name for p in out.iterdir() if before.get(p.name) != p.stat().st_mtime_ns)
    table.add_row("files", f"{out}: {', '.join(written)}")
    console.print(table)
    return 0


def _resuming(arguments: argparse.Namespace) -> str:
    """The command that goes on with a run: its options are in the checkpoint, but for those that do not decide its
    bits."""
    words = ["fastnet", "train", arguments.recipe, "--out", str(arguments.out), "--resume"]
    for name in ("device", "kernels", "checkpoint_every"):
        value = getattr(arguments, name, None)
        if value is not None and (name, value) != ("device", "cpu"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--graph"] * ("graph" in arguments) + ["--no-plot"] * (not arguments.plot)
    return shlex.join(words)


def _find_rate(recipe: Any, arguments: argparse.Namespace, options: Any, out: Path) -> int:
    from rich.console import Console

    from fastnet.train.rate_finder import find_for

    console = Console()
    options.progress = console.is_terminal
    try:
        found = find_for(lambda: recipe.run(options))
    except (RuntimeError, TypeError) as error:
        return _fail(f"--find-lr: {error}")
    except (OSError, ValueError) as error:
        return _fail(f"--data: {error}" if "data" in arguments else str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    text = (
        f"suggested learning rate: {found.suggestion:.2g} (the loss was least at {found.at_least:.2g}, grows beyond; "
        f"the recipe's own rate is {recipe.Options().lr:g})"
    )
    print(f"{text}\ntrain with it: fastnet train {arguments.recipe} --lr {found.suggestion:.2g}")
    if arguments.plot:
        path = out / "learning_rates.png"
        found.plot(path, f"{arguments.recipe}: learning-rate range test of {len(found.rates)} steps")
        print(path)
    return 0


def _profile(arguments: argparse.Namespace) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fastnet import recipes
    from fastnet._device import device, why_no_cuda
    from fastnet.train.profiling import profile
    from fastnet.utils.cost import readable

    if arguments.recipe not in recipes.RECIPES:
        return _fail(f"there is no recipe {arguments.recipe!r}; there is {', '.join(recipes.RECIPES)}")
    try:
        where = device(arguments.device)
    except RuntimeError as error:
        return _fail(f"--device: {error}")
    if where.type == "cuda" and (why := why_no_cuda() or _made_current(where)):
        return _fail(f"--device {where}: {why}")
    recipe = recipes.RECIPES[arguments.recipe]
    given = {k: v for k, v in vars(arguments).items() if k in ("batch_size", "precision")}
    options = recipe.Options(**given, device=str(where), progress=False)
    try:
        found = profile(
            lambda: recipe.run(options), steps=arguments.steps, on_gpu=where.type == "cuda", device=arguments.predict
        )
    except ValueError as error:
        return _fail(f"--predict: {error}")
    times = f"; times {'measured on' if found.measured else 'predicted for'} {found.device}" if found.device else ""
    table = Table(
        title=f"fastnet profile {arguments.recipe}: one step, the mean of {found.steps}{times}",
        box=box.SIMPLE,
        padding=(0, 1),
        collapse_padding=True,
    )
    table.add_column("function", no_wrap=True)
    table.add_column("dtype", no_wrap=True)
    for heading in ("calls", "FLOP", "bytes", *(["time", "share"] if found.device else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    total = sum(line.seconds for line in found.lines)
    for line in found.lines:
        row = [line.name, line.dtype, f"{line.calls:g}", readable(line.flops, ""), readable(line.bytes, "B")]
        timed = [f"{line.seconds * 1e6:,.1f} us", f"{line.seconds / total:.0%}"] if found.device else []
        table.add_row(*row, *timed)
    console = Console()
    console.print(table)
    whole = sum(line.flops for line in found.lines), sum(line.bytes for line in found.lines)
    console.print(
        f"All: {readable(whole[0], 'FLOP')}, {readable(whole[1], 'B')}; a step took {found.step_seconds * 1e3:.2f} ms "
        "by this machine's clock. Bytes are every operand once; array code outside these functions is not listed."
    )
    if not found.measured:
        console.print("Times are predicted from published rates: they rank, and claim nothing about speed.")
    return 0


def _info() -> int:
    from fastnet.utils.info import report

    print(report())
    return 0


def _bench(arguments: Sequence[str]) -> int:
    try:
        bench = importlib.import_module("fastnet.benchmarks.__main__")  # as installed
    except ModuleNotFoundError:
        try:
            bench = importlib.import_module("benchmarks.__main__")  # in a checkout
        except ModuleNotFoundError:
            return _fail("the benchmarks are not installed: run from a checkout, or install the package")
    return bench.main(list(arguments))


def _fail(message: str, status: int = 2) -> int:
    print(f"fastnet: {message}", file=sys.stderr)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["bench"]:
        return _bench(given[1:])
    parsed = _parser().parse_args(given)
    commands = {"train": _train, "profile": _profile, "lab": _lab, "info": lambda _: _info()}
    return commands[parsed.command](parsed)


if __name__ == "__main__":
    sys.exit(main())
