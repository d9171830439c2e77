"""Plans the cells of a table or a figure: what is missing, what it will cost, cheapest first.

A cell is one `experiments.run` in its own folder, so that whatever happened before, it continues
where it stopped.
"""

import itertools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags as absl_flags

from aiwae_jax import data, evaluate, methods
from aiwae_jax.cli.flags import one_of
from aiwae_jax.cli.settings import FLAGS, OF_METHODS, method_options
from aiwae_jax.runs import checkpoint, progress
from experiments import build, cost, flags, workdir
from experiments import evaluate as evaluate_command
from experiments.benchmark import limit, timing
from experiments.config import Config

_SECONDS_TO_START = 20.0  # imports and compilation
_EFFICIENCY = 0.5  # of the machine's best matrix product that a run comes to, roughly


class Found(NamedTuple):
    """The state of a cell's folder: how much is trained, and whether its reports are there."""

    share_done: float
    is_finished: bool


class Planned(NamedTuple):
    """A cell to run.

    Attributes:
      name: of its folder below the root.
      arguments: of `experiments.run`.
      config: what they mean.
      found: what is done already.
      seconds: estimate of what is left.
    """

    name: str
    arguments: tuple[str, ...]
    config: Config
    found: Found
    seconds: float


def machine_rate() -> float:
    """Operations per second of the best matrix product here."""
    sides = limit.matrix_products()
    return limit.rate(
        {name: min(timing.seconds(call) for _ in range(3)) for name, call in sides.items()}
    )


def operations(config: Config, dataset: data.Dataset) -> tuple[float, float]:
    """Floating-point operations of a run's training and of its evaluation, nearly."""
    t, per_image = config.training, cost.of(config.training, dataset)
    evaluating = 0.0
    if config.evaluation is not None:
        chains = config.evaluation.settings()
        num_images = 2 * (config.evaluation.num_examples or len(dataset.test))
        num_data = num_images + 2 * config.evaluation.num_simulated
        # A sample of the bound is a forward pass, half of a gradient.
        evaluating = per_image.gradient * (
            evaluate.num_gradients(chains, num_data)
            + 0.5 * num_images * config.evaluation.num_bound_samples
        )
    training = t.total_epochs * len(dataset.train) * per_image.step
    return t.num_repeats * training, t.num_repeats * evaluating


def _latest_step(folder: pathlib.Path) -> int:
    """Of the checkpoints, without opening them."""
    names = (path.name for path in (folder / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _has_stopped(folder: pathlib.Path) -> bool:
    """Whether patience ended a run before its last step."""
    found = checkpoint.Checkpoints(folder / "checkpoints").read()
    return found is not None and found[2]["is_finished"]


def look(folder: pathlib.Path, config: Config, num_examples: int) -> Found:
    """Looks at a cell's folder, which may not be there yet, or hold another run by its name."""
    if not (folder / "config.json").exists() or workdir.config_differences(folder, config.training):
        return Found(0.0, False)
    training = config.training
    steps = build.total_steps(training, num_examples)
    share = min(_latest_step(folder) / steps, 1.0)
    if config.evaluation is None:
        return Found(share, share >= 1.0 or (bool(training.patience) and _has_stopped(folder)))
    is_finished = evaluate_command.is_finished(folder, training, config.evaluation)
    return Found(share, is_finished)


def plan(
    root: pathlib.Path,
    dataset: data.Dataset,
    cells: Sequence[Sequence[str]],
    rate: float,
) -> list[Planned]:
    """Looks at each cell's folder; the cheapest comes first.

    Args:
      root: of all cells' folders.
      dataset: that of all cells.
      cells: arguments of `experiments.run`, without a workdir.
      rate: operations per second of the machine.

    Raises:
      flags.UsageError: for a cell that cannot be run.
    """
    planned = []
    for arguments in cells:
        config = flags.parse_run(["run", *arguments])
        name = pathlib.Path(config.workdir).name
        found = look(root / name, config, len(dataset.train))
        training, evaluating = operations(config, dataset)
        seconds = (training * (1.0 - found.share_done) + evaluating) / (_EFFICIENCY * rate)
        seconds = 0.0 if found.is_finished else seconds + _SECONDS_TO_START
        arguments = tuple(replacing(arguments, [f"--workdir={root / name}"]))
        planned.append(Planned(name, arguments, config, found, seconds))
    return sorted(planned, key=lambda cell: cell.seconds)


def define(fv: absl_flags.FlagValues) -> None:
    """Flags of every command that launches cells."""
    absl_flags.DEFINE_bool("dry_run", False, "Prints the plan only.", flag_values=fv)
    absl_flags.DEFINE_integer(
        "jobs",
        1,
        "Cells at work at once. Each has its share of the CPU's cores and writes to <cell>.log; on "
        "GPUs, start a launcher for each with CUDA_VISIBLE_DEVICES instead.",
        lower_bound=1,
        flag_values=fv,
    )
    absl_flags.DEFINE_string(
        "slurm",
        None,
        "Writes a Slurm array of the missing cells to this file, to be handed to sbatch, and runs "
        "nothing.",
        flag_values=fv,
    )


def shared_flags(fv: absl_flags.FlagValues, for_runs: Sequence[str]) -> list[str]:
    """Arguments of all cells, from a command's own flags and those that it hands on."""
    shared = [f"--dataset={fv.dataset}", *for_runs]
    return shared if fv.data_dir is None else [*shared, f"--data_dir={fv.data_dir}"]


def prepare(
    root: pathlib.Path, dataset: data.Dataset, cells: Sequence[Sequence[str]]
) -> list[Planned]:
    """Plans, and prints the plan."""
    planned = plan(root, dataset, cells, machine_rate())
    print(f"{dataset.title}, cells below {root}:\n{describe(planned)}", flush=True)
    return planned


def describe(planned: Sequence[Planned]) -> str:
    """The plan, a line for each cell."""
    lines = []
    for cell in planned:
        state = (
            "finished"
            if cell.found.is_finished
            else f"about {progress.format_seconds(cell.seconds)}"
        )
        if 0.0 < cell.found.share_done < 1.0:
            state += f", {cell.found.share_done:.0%} trained"
        lines.append(f"  {cell.name:50} {state}")
    total = sum(cell.seconds for cell in planned)
    num = sum(not cell.found.is_finished for cell in planned)
    lines.append(f"{num} of {len(planned)} cells to run, about {progress.format_seconds(total)}")
    return "\n".join(lines)


def cells_of(
    methods: Sequence[str],
    particles: Sequence[str],
    temperatures: Sequence[str],
    shared: Sequence[str],
) -> list[list[str]]:
    """Arguments of every combination; each method gets, of T and of `shared`, what it takes."""
    found = []
    for method in methods:
        its_own = its_own_flags(method, shared)
        takes = method_options(method)
        for num, temperature in itertools.product(
            [f"--K={num}" for num in particles] if "num_particles" in takes else ["--K=1"],
            [[f"--T={t}"] for t in temperatures] if "num_temperatures" in takes else [[]],
        ):
            found.append([f"--method={method}", num, *temperature, *its_own])
    return found


def its_own_flags(method: str, shared: Sequence[str]) -> list[str]:
    """Those of the shared flags that the method takes, or that belong to no method.

    Raises:
      flags.UsageError: for an unknown method.
    """
    one_of("methods", method, methods.BUILDERS)
    takes = method_options(method)
    others = [FLAGS[name] for name in OF_METHODS if name not in takes]
    others += [f"no{name}" for name in others]  # of a boolean
    return [flag for flag in shared if _name(flag) not in others]


def replacing(arguments: Sequence[str], own: Sequence[str]) -> list[str]:
    """The arguments with `own` ones in the place of those for the same flags."""
    names = {_name(flag) for flag in own}
    return [*(flag for flag in arguments if _name(flag) not in names), *own]


def _name(flag: str) -> str:
    """--L=5 -> L."""
    return flag.lstrip("-").partition("=")[0]
