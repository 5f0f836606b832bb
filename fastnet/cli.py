"""The command line: ``fastnet train``, ``fastnet info``, ``fastnet bench``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _positive(kind: type) -> Any:
    def parse(text: str) -> Any:
        value = kind(text)
        if not value > 0 or value != value or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return value

    parse.__name__ = kind.__name__
    return parse


def _parser() -> argparse.ArgumentParser:
    from fastnet._version import __version__

    parser = argparse.ArgumentParser(
        prog="fastnet", description="Neural networks trained with handwritten CUDA kernels."
    )
    parser.add_argument("--version", action="version", version=f"fastnet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a recipe", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    train.add_argument("recipe", help="which one: mlp")
    train.add_argument("--epochs", type=_positive(int), default=30, help="passes over the training set")
    train.add_argument("--batch-size", type=_positive(int), default=32, help="examples a step")
    train.add_argument("--lr", type=_positive(float), default=0.05, help="learning rate at the start")
    train.add_argument("--seed", type=int, default=0, help="of parameters, order and dropout")
    train.add_argument("--out", type=Path, default=Path("runs"), help="folder for the run's files: OUT/RECIPE")
    train.add_argument(
        "--kernels",
        choices=["reference", "emulated", "native"],
        default=None,
        help="which code runs operations; default: native on cuda, reference on cpu",
    )
    train.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    train.add_argument("--plot", action=argparse.BooleanOptionalAction, default=True, help="draw curves.png")

    commands.add_parser("info", help="what this machine and this installation have")

    bench = commands.add_parser("bench", help="benchmarks", add_help=False)
    bench.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _train(arguments: argparse.Namespace) -> int:
    from fastnet import kernels, recipes
    from fastnet._device import device, why_no_cuda
    from fastnet.errors import KernelsUnavailableError

    if arguments.recipe not in recipes.RECIPES:
        return _fail(f"there is no recipe {arguments.recipe!r}; there is {', '.join(recipes.RECIPES)}")
    try:
        where = device(arguments.device)
    except RuntimeError as error:
        return _fail(f"--device: {error}")
    if where.type == "cuda" and (why := why_no_cuda()):
        return _fail(f"--device {where}: {why}")
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
    return _run_recipe(recipes.RECIPES[arguments.recipe], arguments, where, out)


def _run_recipe(recipe: Any, arguments: argparse.Namespace, where: Any, out: Path) -> int:
    from rich.console import Console
    from rich.table import Table

    from fastnet.utils.cost import readable

    console = Console()
    options = recipe.Options(
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        lr=arguments.lr,
        seed=arguments.seed,
        device=str(where),
        out=out,
        progress=console.is_terminal,
    )
    try:
        trainer, results = recipe.run(options)
    except FloatingPointError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail(f"interrupted; what was finished is in {out}", 130)
    summary = trainer.write_summary(
        recipe=arguments.recipe,
        kernels=arguments.kernels or ("native" if where.type == "cuda" else "reference"),
        device=str(where),
        seed=arguments.seed,
        **results,
    )
    files = ["metrics.csv", "checkpoint.safetensors", "summary.json"]
    if arguments.plot:
        trainer.plot(f"{arguments.recipe}: {results['test_accuracy']:.1%} of the test set correct")
        files.append("curves.png")
    table = Table(title=f"fastnet train {arguments.recipe}", show_header=False)
    table.add_row("test accuracy", f"{results['test_accuracy']:.2%}")
    table.add_row(
        "validation accuracy",
        f"{summary['validation_accuracy']:.2%} (best, epoch {summary['best_epoch']} of {summary['epochs']})",
    )
    table.add_row("time", f"{summary['seconds']:.1f} s")
    table.add_row(
        "operations", f"{readable(summary['flops_total'], 'FLOP')}, {readable(summary['flops_per_second'], 'FLOP/s')}"
    )
    table.add_row("throughput", f"{summary['examples_per_second']:,.0f} images/s")
    table.add_row("peak memory", readable(summary["peak_memory_bytes"], "B"))
    table.add_row("files", f"{out}: {', '.join(files)}")
    console.print(table)
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
    return _train(parsed) if parsed.command == "train" else _info()


if __name__ == "__main__":
    sys.exit(main())
