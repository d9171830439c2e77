"""`python -m experiments.benchmark --peers`: everything measured, one picture, one table."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aiwae_jax.cli.devices import num_cores
from aiwae_jax.runs import files
from experiments import report
from experiments.benchmark import ours as our_step
from experiments.benchmark import problem as of_steps
from experiments.benchmark import timing
from experiments.benchmark.peers import measure, picture, table, training
from experiments.benchmark.peers import problem as problems
from experiments.benchmark.peers.sides import all_sides

_VERSIONS = {
    "aiwae_jax": "aiwae_jax",
    "jax": "jax",
    "torch": "torch",
    "tfp-nightly": "tensorflow_probability",
    "tensorflow-probability": "tensorflow_probability",
    "blackjax": "blackjax",
    "numpyro": "numpyro",
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is done; the defaults take eight to twelve minutes on two quiet cores.

    Attributes:
      num_data: images, each with its own bounds.
      num_chains: of each.
      num_epochs: of the decoder, where no run is given.
      reference: gradients of each of its chains.
      num_repeats: of every side, at most.
      most_seconds: of all repeats together.
      train_seconds: of each who trains.
      num_test_images: whose NLL is measured then.
    """

    num_data: int = 24
    num_chains: int = 16
    num_epochs: int = 2
    reference: int = 3000
    num_repeats: int = 5
    most_seconds: float = 110.0
    train_seconds: float = 25.0
    num_test_images: int = 100


QUICK = Sizes(
    num_data=4,
    num_chains=4,
    num_epochs=1,
    reference=60,
    num_repeats=1,
    most_seconds=1.0,
    train_seconds=0.5,
    num_test_images=4,
)


def _versions() -> dict[str, str]:
    """Of what takes part."""
    found = {}
    for name, module in _VERSIONS.items():
        if importlib.util.find_spec(module):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def _load() -> float:
    """Cores that others keep busy during a second in which this process waits.

    The average that the system keeps would count what ended a minute ago.
    """

    def busy_and_all() -> np.ndarray:
        fields = pathlib.Path("/proc/stat").read_text(encoding="utf-8").split()[1:9]
        ticks = np.array(fields, float)  # user, nice, system, idle, waiting for disks, ...
        return np.array([ticks.sum() - ticks[3] - ticks[4], ticks.sum()])

    try:
        before = busy_and_all()
        time.sleep(1.0)
        busy, all_ticks = busy_and_all() - before
    except OSError:
        return os.getloadavg()[0]
    return float(busy / all_ticks * num_cores())


def _processor() -> str:
    """The kind of CPU, as the system calls it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def _training_steps(
    cell: of_steps.Size, others: dict[str, tuple[str, Callable, Callable]], num_repeats: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Milliseconds of a training step by all, interleaved, and who is missing."""
    calls, missing = {"aiwae_jax": our_step.step_of(our_step.aiwae(cell))}, {}
    for name, (package, build, is_of_use) in others.items():
        if not is_of_use():
            continue
        if importlib.util.find_spec(package):
            calls[name] = build(cell)
        else:
            missing[name] = f"{package} is not installed"
    medians = timing.interleaved(calls, num_repeats)
    milliseconds = {name: 1e3 * value for name, value in medians.items()}
    return {
        "cell": str(cell),
        "batch_size": of_steps.BATCH_SIZE,
        "milliseconds": milliseconds,
    }, missing


def run(
    command: str,
    folder: pathlib.Path,
    *,
    cell: of_steps.Size,
    others: dict[str, tuple[str, Callable, Callable]],
    is_quick: bool,
    run_folder: str | None = None,
    data_dir: str | None = None,
    sizes: Sizes | None = None,
) -> dict[str, Any]:
    """Measures everything, and writes `peers.json`, `.csv`, `.md` and `.png` to `folder`.

    Args:
      command: as it was called, for the table.
      folder: where the files go.
      cell: of the training step.
      others: who makes training steps beside ours, see `experiments.benchmark.__main__`.
      is_quick: whether small sizes are enough.
      run_folder: of a trained run whose decoder is measured; by default one is trained.
      data_dir: with MNIST's files; without, scikit-learn's digits are the data.
      sizes: how much is done.
    """
    load, began = _load(), time.perf_counter()
    sizes = sizes or (QUICK if is_quick else Sizes())
    # Compilations are told apart, and should be those of a first start.
    jax.config.update("jax_enable_compilation_cache", False)
    given = problems.dataset(None if is_quick else data_dir)

    def say(words: str) -> None:
        print(f"[{time.perf_counter() - began:4.0f} s] {words}", flush=True)

    say("training steps")
    steps, missing = _training_steps(cell, others, 2 if is_quick else 7)
    say("the decoder")
    trained = (
        problems.of_run(run_folder) if run_folder else problems.trained(given, sizes.num_epochs)
    )
    model, params, words = trained
    problem = problems.simulated(
        *(model, params, jax.random.key(0)),
        num_data=sizes.num_data,
        num_chains=sizes.num_chains,
        words=words,
    )
    say(f"reference: {words}")
    known = measure.reference(problem, sizes.reference)
    say(f"log p(x) {np.mean(known.values):.2f}, within {known.half_gap:.3f}; all sides in turn")
    rows, absent = measure.all_rows(
        problem, all_sides(is_quick=is_quick), known, sizes.num_repeats, sizes.most_seconds
    )
    say("training")
    trainings, without = training.compare(
        given,
        seconds=sizes.train_seconds,
        num_images=sizes.num_test_images,
        num_chains=sizes.num_chains,
    )
    content = {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "environment": report.environment(),
        "processor": _processor(),
        "num_cores": num_cores(),
        "load": load,
        "versions": _versions(),
        "words": words,
        "num_data": sizes.num_data,
        "num_chains": sizes.num_chains,
        "sizes": dataclasses.asdict(sizes),
        "reference": {
            "mean": float(np.mean(known.values)),
            **{name: value for name, value in known._asdict().items() if name != "values"},
        },
        "rows": rows,
        "training_step": steps,
        "training": trainings,
        "missing": missing | absent | without,
    }
    write(content, folder)
    say(f"{folder / 'peers.png'}, .md, .csv, .json")
    return content


_ROOT = pathlib.Path(__file__).parents[3]
COMMITTED, PAGE = _ROOT / "results" / "benchmark", _ROOT / "docs" / "speed.md"
FILES = ("json", "csv", "md", "png")


def write(content: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes the numbers, and what is made of them; in the checkout's results also the page."""
    files.write_json(folder / "peers.json", content)
    files.write_text(folder / "peers.csv", table.as_csv(content))
    files.write_text(folder / "peers.md", table.markdown(content))
    picture.draw(content, folder / "peers.png")
    if folder.resolve() == COMMITTED:
        files.write_text(PAGE, table.in_page(PAGE.read_text(encoding="utf-8"), content))
