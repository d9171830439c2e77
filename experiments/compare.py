"""Methods side by side at equal cost: `python -m experiments.compare --dataset=digits`.

Every method is trained twice: for the same number of epochs, and for the same number of decoder
gradient evaluations, that of the most expensive method. All are measured by the same AIS on the
same images.
"""

import csv
import io
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

if not __package__:  # a script, from whatever folder: `python experiments/compare.py`
    sys.path[0] += "/.."

import jax
import jax.numpy as jnp
import tabulate
from absl import flags as absl_flags

from aiwae_jax import data
from aiwae_jax.cli import command
from aiwae_jax.cli import flags as cli
from aiwae_jax.report import plots
from aiwae_jax.report.text import METRICS, format_mean
from aiwae_jax.runs import files
from experiments import build, completion, cost, evaluate, flags, launch, pool, repeats
from experiments.benchmark import timing

_METHODS = (
    *("vae", "iwae", "stl", "dreg", "rws", "rws+rws_phi=sleep", "rws+rws_phi=both"),
    *("hoffman", "hvae", "hvi", "uha", "aiwae", "aiwae_wake"),
)
_BUDGETS = ("epochs", "gradients")
_FILES = ("comparison.md", "comparison.csv", "comparison.png")
_MINIMUM = {"bidirectional_gap": "bidirectional gap"}
_LABELS = {key: name for key, (name, _) in METRICS.items()} | _MINIMUM


class Variant(NamedTuple):
    """A method with flags of its own.

    Attributes:
      name: as given, `iwae+posterior=iaf`.
      arguments: of `experiments.run`.
      cost: per training image.
    """

    name: str
    arguments: list[str]
    cost: cost.Cost


class Row(NamedTuple):
    """A variant at one budget.

    Attributes:
      variant: its name.
      budget: "epochs" or "gradients".
      epochs: trained.
      num_gradients: of training, in all, for one seed.
      values: metric -> (mean, standard deviation over seeds or None).
      minutes: of training, all seeds together.
      environment: that made it.
    """

    variant: str
    budget: str
    epochs: float
    num_gradients: float
    values: dict[str, tuple[float, float | None]]
    minutes: float
    environment: dict[str, Any]


class Speed(NamedTuple):
    """Time and memory of a train step here."""

    seconds: float
    temporary_bytes: int


def _define(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string("workdir", "runs/compare", "Folder of all runs.", flag_values=fv)
    absl_flags.DEFINE_string(
        "out", None, "Folder of table and picture. Default <workdir>/comparison.", flag_values=fv
    )
    absl_flags.DEFINE_string("dataset", "digits", "Data set.", flag_values=fv)
    absl_flags.DEFINE_list(
        "methods",
        list(_METHODS),
        "Methods, separated by commas, each with flags of its own after plus signs: "
        "iwae+K=50,iwae+posterior=iaf. Any other flag goes to experiments.run, for all alike.",
        flag_values=fv,
    )
    absl_flags.DEFINE_list(
        "budgets",
        list(_BUDGETS),
        "At equal epochs, at as many gradient evaluations as the most expensive method's, or both.",
        flag_values=fv,
    )


def variants_of(
    names: Sequence[str], shared: Sequence[str], dataset: data.Dataset
) -> list[Variant]:
    """Parses the names and counts what each costs.

    Raises:
      flags.UsageError: for one that cannot be run.
    """
    found = []
    for name in names:
        method, *its_own = name.split("+")
        arguments = launch.replacing(
            launch.its_own_flags(method, shared),
            [f"--method={method}", *(f"--{flag}" for flag in its_own)],
        )
        training = flags.parse_run(["run", *arguments]).training
        found.append(Variant(name, arguments, cost.of(training, dataset)))
    return found


def gradients_per_image(variants: Sequence[Variant]) -> dict[str, float]:
    """Counts a train step's cost for one image, in gradients of the *first* one's model."""
    unit = variants[0].cost.gradient
    return {variant.name: variant.cost.step / unit for variant in variants}


def cells_of(variants: Sequence[Variant], budgets: Sequence[str]) -> dict[tuple[str, str], list]:
    """(variant, budget) -> arguments; where both budgets are the same, one run serves both."""
    most = max(variant.cost.step for variant in variants)
    found = {}
    for variant in variants:
        training = flags.parse_run(["run", *variant.arguments]).training
        for budget in budgets:
            its_own = []
            stretch = most / variant.cost.step
            folder = re.sub(r"[^\w.=-]+", "-", variant.name)
            if budget == "gradients" and stretch > 1.0:
                its_own.append(f"--epochs={training.total_epochs * stretch:.6g}")
                folder += "-equal-gradients"
            its_own.append(f"--workdir={folder}")
            found[variant.name, budget] = launch.replacing(variant.arguments, its_own)
    return found


def measure_speed(
    variants: Sequence[Variant], dataset: data.Dataset, num_repeats: int = 5
) -> dict[str, Speed]:
    """Compiles a train step of each variant, and times them in turn."""
    calls, memory = {}, {}
    for variant in variants:
        training = flags.parse_run(["run", *variant.arguments]).training
        built, key = build.build_step(training, dataset), jax.random.key(0)
        batch = jnp.asarray(dataset.train[: training.batch_size] > 0, jnp.float32)
        state = built.init(key, batch)
        step = built.step.lower(key, state, batch).compile()
        memory[variant.name] = step.memory_analysis().temp_size_in_bytes
        calls[variant.name] = _Stepping(step, key, state, batch)
    seconds = timing.interleaved(calls, num_repeats)
    return {name: Speed(seconds[name], memory[name]) for name in calls}


def _settings_of(variant: Variant) -> dict[str, str]:
    """Names what of its setting differs from method to method."""
    training = flags.parse_run(["run", *variant.arguments]).training
    return {
        flag: str(value if value is not None else "")
        for flag, value in (
            ("K", training.num_particles),
            ("T", training.num_temperatures),
            ("moves", training.num_moves),
            ("L", training.num_leapfrog_steps),
            ("batch", training.batch_size),
        )
    }


class _Stepping:
    """Calls of a compiled step, each with the state that the last one left."""

    def __init__(self, step, key, state, batch):
        self._step, self._key, self._state, self._batch = step, key, state, batch

    def __call__(self):
        self._state, _ = self._step(self._key, self._state, self._batch)
        jax.block_until_ready(self._state)


def rows_of(
    root: pathlib.Path,
    cells: dict[tuple[str, str], list[str]],
    variants: Sequence[Variant],
    num_examples: int,
) -> list[Row]:
    """Reads the reports of all cells that have them."""
    costs = gradients_per_image(variants)
    found = []
    for (name, budget), arguments in cells.items():
        config = flags.parse_run(["run", *arguments])
        training, folder = config.training, root / config.workdir
        reports = evaluate.find_reports(folder, training, config.evaluation)
        if None in reports:
            continue
        keys = [key for key in _LABELS if key in reports[0]]
        found.append(
            Row(
                variant=name,
                budget=budget,
                epochs=training.total_epochs,
                num_gradients=costs[name] * training.total_epochs * num_examples,
                values={k: repeats.mean_and_std([r[k] for r in reports]) for k in keys},
                minutes=reports[0]["wall_time"]["training_seconds"] / 60,
                environment=reports[0]["environment"],
            )
        )
    return found


def table(
    rows: Sequence[Row], variants: Sequence[Variant], speeds: dict[str, Speed]
) -> list[dict[str, str]]:
    """A line for each row, texts by column."""
    costs = gradients_per_image(variants)
    by_name = {variant.name: variant for variant in variants}
    lines = []
    for row in sorted(rows, key=lambda row: (row.budget, row.values["nll_test"][0])):
        lines.append(
            {
                "at equal": row.budget,
                "method": row.variant,
                **_settings_of(by_name[row.variant]),
                **{
                    _LABELS[key]: format_mean(f"{mean:.2f}", std)
                    for key, (mean, std) in row.values.items()
                    if key not in ("nll_train", "nvlb_train")
                },
                "epochs": f"{row.epochs:.4g}",
                "gradients": f"{row.num_gradients:.2e}",
                "gradients per image": f"{costs[row.variant]:.1f}",
                "ms per step": f"{1e3 * speeds[row.variant].seconds:.2f}",
                "temporary MiB": f"{speeds[row.variant].temporary_bytes / 2**20:.1f}",
                "minutes": f"{row.minutes:.1f}",
            }
        )
    return lines


def _columns(lines: Sequence[dict[str, str]]) -> list[str]:
    """Of all lines, in their order: some may lack a metric."""
    return list({name: None for line in lines for name in line})


def markdown(lines: Sequence[dict[str, str]], title: str, setting: str) -> str:
    """The table, under its data set and setting."""
    body = tabulate.tabulate(lines, "keys", "github", disable_numparse=True)
    return f"### {title}\n\n{setting}\n\n{body}\n"


def write(
    out: pathlib.Path,
    rows: Sequence[Row],
    lines: Sequence[dict[str, str]],
    title: str,
    setting: str,
) -> None:
    """Writes comparison.md, .csv and .png."""
    files.write_text(out / "comparison.md", markdown(lines, title, setting))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _columns(lines), restval="")
    writer.writeheader()
    writer.writerows(lines)
    files.write_text(out / "comparison.csv", text.getvalue())
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        mean, std = row.values["nll_test"]
        curves.setdefault(row.variant, []).append((row.num_gradients, mean, std or 0.0))
    with files.whole(out / "comparison.png") as path:
        plots.cost_curves(
            path,
            curves,
            f"{title}: NLL (test) against gradient evaluations of training; lower left is better",
            axis_labels=("evaluations of ∇ log p(x, z) in training", "NLL (test), nats"),
        )


def _setting(arguments: Sequence[str], environment: dict[str, Any]) -> str:
    return (
        "mean (standard deviation over seeds), nats; one gradient is log p(x, z) and its gradient "
        "in z for one z, a train step's matrix products are counted in these; nobody stops early, "
        "and methods trained for many epochs may overfit: see the generalization gap; `minutes` of "
        f"training, all seeds together; flags of all: {' '.join(arguments)}; made by "
        f"{environment['device']} on {environment['machine']}, jax {environment['versions']['jax']}"
    )


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = absl_flags.FlagValues()
    _define(fv)
    launch.define(fv)
    cli.define(fv)
    usage = "Compares methods at equal cost: python -m experiments.compare --dataset=digits"
    for_runs = cli.parse(fv, argv, usage, known_only=True)
    for budget in fv.budgets:
        cli.one_of("budgets", budget, _BUDGETS)
    cli.require("--eval=none" not in for_runs, "--eval=none: a comparison needs the evaluations.")
    root = pathlib.Path(fv.workdir).expanduser().absolute()
    out = pathlib.Path(fv.out).expanduser() if fv.out else root / "comparison"
    plots.load()
    for name in _FILES:
        files.prepare(out / name, "--out", is_dry_run=fv.dry_run)
    dataset = data.load(fv.dataset, fv.data_dir)
    shared = launch.shared_flags(fv, for_runs)
    if not any(flag.startswith(("--batch_size=", "--preset=")) for flag in shared):
        # The paper's batch sizes differ by method, which alone is worth nats.
        size = completion.common_batch_size(fv.dataset)
        shared.append(f"--batch_size={size}")
    flags_given = [part for name in fv.methods for part in name.split("+")]
    cli.require(
        bool(fv.methods) and all(flags_given),
        "--methods must name at least one, like aiwae or iwae+K=5, each flag after a single +.",
    )
    variants = variants_of(fv.methods, shared, dataset)
    cells = cells_of(variants, fv.budgets)
    distinct = list({tuple(arguments): None for arguments in cells.values()})
    planned = launch.prepare(root, dataset, distinct)
    failed = pool.carry_out(fv, root, planned, len(dataset.train))
    if failed is None:
        return
    rows = rows_of(root, cells, variants, len(dataset.train))
    if not rows:
        raise files.WorkdirError("No cell has a report yet.")
    speeds = measure_speed(variants, dataset)
    lines = table(rows, variants, speeds)
    setting = _setting([flag for flag in shared if "_dir" not in flag], rows[0].environment)
    write(out, rows, lines, dataset.title, setting)
    print(markdown(lines, dataset.title, setting))
    print(f"written: {out}")
    if failed:
        raise files.WorkdirError(f"These cells failed: {', '.join(failed)}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
