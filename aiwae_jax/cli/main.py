"""`aiwae fit DATA --folder=RUN` trains a model of your data, `aiwae report RUN` measures it."""

import argparse
import inspect
import pathlib
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aiwae_jax import data, evaluate, methods, models, report, train
from aiwae_jax.runs import checkpoint, files
from aiwae_jax.runs.interruption import Interrupted
from aiwae_jax.types import Method, Model

_METHODS = ("vae", "iwae", "aiwae", "dreg", "rws", "uha", "hvae")
# Letters of the field for arguments of methods' builders.
_LETTERS = {"num_particles": "K", "num_temperatures": "T", "num_leapfrog_steps": "L"}
_DEFAULTS = {"num_particles": 5, "num_temperatures": 5}


class _UsageError(ValueError):
    """A mistake on the command line; the message is one clear line."""


_OURS = (_UsageError, data.DataError, files.WorkdirError, ImportError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aiwae", description="Trains deep latent-variable models, and measures their log p(x)."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    fit = commands.add_parser("fit", help="trains a model, or continues where it stopped")
    fit.add_argument("data", help=f"an .npz file with `train` and `test`, or {_names()}")
    fit.add_argument("--folder", required=True, help="of the run")
    fit.add_argument("--data_dir", help="with the files of a named data set")
    fit.add_argument("--max_level", type=float, help="grey level that stands for 1, of a file")
    fit.add_argument("--method", choices=_METHODS, default="aiwae", help="default aiwae")
    for name, letter in _LETTERS.items():
        default = f", default {_DEFAULTS[name]}" if name in _DEFAULTS else ""
        words = name.removeprefix("num_").replace("_", " ")
        fit.add_argument(f"--{letter}", type=int, help=f"{words}, where a method has some{default}")
    fit.add_argument("--latent_size", type=int, default=10, help="D, default 10")
    fit.add_argument("--hidden_size", type=int, default=200, help="of two layers, default 200")
    fit.add_argument("--epochs", type=float, default=40.0, help="passes over the data, default 40")
    fit.add_argument("--batch_size", type=int, default=64, help="default 64")
    fit.add_argument("--seed", type=int, default=0, help="default 0")
    fit.add_argument("--checkpoint_minutes", type=float, default=3.0, help="default 3")

    write = commands.add_parser("report", help="measures a run, or continues to")
    write.add_argument("folder", help="of the run")
    write.add_argument("--data", help="where it is now, if not where it was trained from")
    write.add_argument("--data_dir", help="with the files of a named data set")
    write.add_argument("--temperatures", type=int, default=1000, help="T, default 1000")
    write.add_argument("--chains", type=int, default=16, help="for each datum, default 16")
    write.add_argument("--examples", type=int, default=200, help="0 for all, default 200")
    write.add_argument("--simulated", type=int, default=50, help="for the gap, default 50")
    write.add_argument("--bound_samples", type=int, default=5000, help="K of L_K, default 5000")
    write.add_argument("--target_gap", type=float, help="nats; raises T until it is reached")
    write.add_argument("--seed", type=int, default=0, help="default 0")
    return parser


def _names() -> str:
    return f"{', '.join(data.NAMES[:-1])} or {data.NAMES[-1]}"


def _load(name: str, data_dir: str | None, max_level: float | None) -> data.Dataset:
    if name in data.NAMES:
        return data.load(name, data_dir)
    path = pathlib.Path(name).expanduser()
    if not path.is_file():
        raise _UsageError(f"{name} is no file, and none of {_names()}.")
    arrays = files.read_arrays(path, "it must be an .npz file with `train` and `test`")
    for part in ("train", "test"):
        if part not in arrays:
            raise _UsageError(f"{path} has no `{part}`, but {', '.join(arrays) or 'nothing'}.")
    labels = {f"{part}_labels": arrays.get(f"{part}_labels") for part in ("train", "test")}
    return data.from_arrays(
        arrays["train"],
        arrays["test"],
        **labels,
        max_level=max_level,
        name=path.stem,
        source=str(path.absolute()),
    )


def _model(arguments: argparse.Namespace, dataset: data.Dataset) -> Model:
    """The paper's model, whose pixels are bits."""
    rows = np.concatenate([dataset.train, dataset.test])
    if dataset.max_level is None and not np.isin(rows, (0, 1)).all():
        raise _UsageError(
            "the data must be bits, or grey levels with --max_level, for Bernoulli pixels; other "
            "likelihoods are for a model of your own, with train.fit in Python."
        )
    mean = dataset.mean_image() if dataset.max_level else dataset.train.mean(axis=0)
    return models.bernoulli_vae(
        dataset.train.shape[1],
        arguments.latent_size,
        hidden_sizes=(arguments.hidden_size, arguments.hidden_size),
        mean_image=np.asarray(mean, np.float32),
    )


def _method(arguments: argparse.Namespace, model: Model) -> Method:
    builder = getattr(methods, arguments.method)
    takes = inspect.signature(builder).parameters
    options: dict[str, Any] = {}
    for name, letter in _LETTERS.items():
        value = getattr(arguments, letter)
        if name not in takes:
            if value is not None:
                raise _UsageError(f"--{letter} does not belong to --method={arguments.method}.")
            continue
        if value is None:
            value = _DEFAULTS.get(name)
        if value is not None:
            options[name] = value
    return builder(model, **options)


def _fit(arguments: argparse.Namespace) -> None:
    dataset = _load(arguments.data, arguments.data_dir, arguments.max_level)
    print(
        f"data: {dataset.title}, {len(dataset.train)} for training and {len(dataset.test)} for "
        f"testing ({dataset.source})"
    )
    model = _model(arguments, dataset)
    run = train.fit(
        _method(arguments, model),
        model,
        dataset,
        arguments.folder,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        checkpoint_minutes=arguments.checkpoint_minutes,
    )
    print(f"trained, {run.epochs:g} epochs. Measure it with: aiwae report {arguments.folder}")


def _report(arguments: argparse.Namespace) -> None:
    run = train.load(arguments.folder)
    facts = run.config["data"]
    name = arguments.data or _where(facts)
    dataset = _load(name, arguments.data_dir, facts.get("max_level"))
    settings = evaluate.Settings(
        num_temperatures=arguments.temperatures, num_chains=arguments.chains
    )
    report.write(
        run,
        dataset,
        settings,
        num_examples=arguments.examples,
        num_simulated=arguments.simulated,
        num_bound_samples=arguments.bound_samples,
        target_gap=arguments.target_gap,
        seed=arguments.seed,
    )


def _where(facts: dict[str, Any]) -> str:
    """The name or the file that a run's data came from."""
    source, name = facts.get("source", ""), facts.get("name", "")
    if pathlib.Path(source).is_file():
        return source
    if name in data.NAMES and not source.endswith(".npz"):
        return name
    raise _UsageError(
        f"the data, {facts['title']}, are not at {facts.get('source') or 'a known place'} any more;"
        " say where they are, with --data."
    )


_COMMANDS = {"fit": _fit, "report": _report}
# Arguments of the library, as the flags that gave them.
_FLAGS = {
    **{name: f"--{letter}" for name, letter in _LETTERS.items()},
    **{name: f"--{name}" for name in ("batch_size", "data_dir", "epochs", "folder", "max_level")},
    **{name: f"--{name}" for name in ("latent_size", "seed", "target_gap")},
    **{"num_chains": "--chains", "num_examples": "--examples", "num_simulated": "--simulated"},
    **{
        "num_bound_samples": "--bound_samples",
        "dataset": "--data",
        "hidden_sizes": "--hidden_size",
    },
}
_OF_REPORT = {"num_temperatures": "--temperatures"}


def _in_flags(message: str, command: str) -> str:
    """A refusal of the library in the words of the command line."""
    names = _FLAGS | (_OF_REPORT if command == "report" else {})
    return re.sub(r"`(\w+)(\[\d\])?`", lambda found: names.get(found[1], found[0]), message)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 where the work is done, 2 for a mistake, 1 for what could not be done."""
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(
                f"warning: {message}", file=sys.stderr
            )
            _COMMANDS[arguments.command](arguments)
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal_number
    except KeyboardInterrupt:
        print("Interrupted; what was saved before stays as it is.", file=sys.stderr)
        return 128 + signal.SIGINT
    except (OSError, MemoryError, checkpoint.CheckpointError, train.NonFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except (ImportError, ValueError, TypeError) as error:
        is_refusal = isinstance(error, _OURS) or str(error).startswith("`")  # names an argument
        if not is_refusal:
            raise
        print(f"error: {_in_flags(str(error), arguments.command)}", file=sys.stderr)
        return 2
    return 0
