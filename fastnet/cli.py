"""The command line: ``fastnet train``, ``fastnet info``, ``fastnet bench``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
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
    train.add_argument("--epochs", type=_positive(int), help="passes over the training set", **unset)
    train.add_argument("--batch-size", type=_positive(int), help="examples a step", **unset)
    train.add_argument("--lr", type=_positive(float), help="learning rate at the start, or at its peak", **unset)
    train.add_argument("--seed", type=int, help="of parameters, order and dropout (default: 0)", **unset)
    train.add_argument("--data", type=Path, help="a file to learn from, where the recipe says so", **unset)
    train.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder for the run's files (default: runs/RECIPE)"
    )
    train.add_argument(
        "--kernels",
        choices=["reference", "emulated", "native"],
        default=None,
        help="which code runs operations (default: native on cuda, reference on cpu)",
    )
    train.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    train.add_argument(
        "--plot", action=argparse.BooleanOptionalAction, default=True, help="draw curves.png (default: yes)"
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


def _train(arguments: argparse.Namespace) -> int:
    from fastnet import kernels, recipes
    from fastnet._device import device, why_no_cuda
    from fastnet.errors import KernelsUnavailableError

    if arguments.recipe not in recipes.RECIPES:
        return _fail(f"there is no recipe {arguments.recipe!r}; there is {', '.join(recipes.RECIPES)}")
    if hasattr(arguments, "data") and not hasattr(recipes.RECIPES[arguments.recipe].Options(), "data"):
        return _fail(f"--data: the recipe {arguments.recipe} takes no file")
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
    given = {k: v for k, v in vars(arguments).items() if k in ("epochs", "batch_size", "lr", "seed", "data")}
    options = recipe.Options(**given, device=str(where), out=out, progress=console.is_terminal)
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    try:
        trainer, results = recipe.run(options)
    except (FloatingPointError, OSError, ValueError) as error:
        if isinstance(error, (OSError, ValueError)) and "data" not in given:
            raise
        return _fail(str(error) if isinstance(error, FloatingPointError) else f"--data: {error}")
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
    table.add_row("time", f"{summary['seconds']:.1f} s")
    table.add_row(
        "operations", f"{readable(summary['flops_total'], 'FLOP')}, {readable(summary['flops_per_second'], 'FLOP/s')}"
    )
    table.add_row("throughput", f"{summary['examples_per_second']:,.0f} {trainer.units}/s")
    table.add_row("peak memory", readable(summary["peak_memory_bytes"], "B"))
    written = sorted(p.name for p in out.iterdir() if before.get(p.name) != p.stat().st_mtime_ns)
    table.add_row("files", f"{out}: {', '.join(written)}")
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
