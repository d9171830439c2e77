"""The report of a run: its numbers beside the paper's, and its pictures."""

import dataclasses
import importlib.metadata
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import data, kernels, metrics, paper, plots, train
from aiwae_jax.evaluate import PAPER_SETTINGS, Likelihood
from aiwae_jax.samplers import TARGET_ACCEPTANCE
from aiwae_jax.types import Model, PyTree
from experiments import devices, flags
from experiments.flags import Evaluation, Training

# key in report.json -> (name in the paper, whether it has a standard error)
METRICS = {
    "nll_test": ("NLL (test)", True),
    "nll_train": ("NLL (train)", True),
    "nvlb_test": ("NVLB (test)", True),
    "nvlb_train": ("NVLB (train)", True),
    "variational_gap": ("variational gap", True),
    "generalization_gap": ("generalization gap", True),
    "active_units": ("active units", False),
}


_STEP_SIZES = {"pilot": "tuned on pilot chains and frozen", "paper": "adapted on the chains"}


# Beside method and K, what heads a report's table where a method has it.
_SHOWN = {
    "num_temperatures": "T",
    "num_moves": "moves",
    "num_leapfrog_steps": "L",
    "rws_phi": "phi",
    "tempering": "tempering",
    "move": "move",
    "raiko_estimator": "estimator",
}


def environment() -> dict[str, Any]:
    """Versions and device that produced a number."""
    names = ("aiwae_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "versions": versions,
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "machine": f"{platform.system()} {platform.machine()}, {devices.num_cores()} CPU cores",
    }


def paper_cell(training: Training, is_stand_in: bool) -> dict[str, dict[str, float | None]] | None:
    """The paper's numbers for the same data set, K, method, T and latent size, or None."""
    cell = paper.Cell(
        training.dataset, training.num_particles, training.method, training.num_temperatures
    )
    numbers = paper.tables().get(cell)
    if numbers is None or is_stand_in or training.latent_size != paper.LATENT_SIZE:
        return None
    return {key: dict(zip(("mean", "std"), numbers[key], strict=True)) for key in METRICS}


def differences_from_paper(
    training: Training, evaluation: Evaluation, epochs: float, num_test_images: int
) -> list[str]:
    """What was not done as in the paper, in words."""
    paper_epochs = train.paper_epochs(flags.PAPER_STAGES)
    expected = {
        "epochs": (round(epochs, 2), paper_epochs),
        "batch size": (training.batch_size, flags.PAPER_BATCH_SIZES[training.method]),
        "hidden units": (training.hidden_size, 200),
        "Adam eps": (training.adam_eps, 1e-4),
        "leapfrog steps": (training.num_leapfrog_steps or 5, 5),
        "schedule": (training.schedule, "linear"),
        "chain space": (training.chain_space, "latent"),
        "force precision": (training.force_precision, "float32"),
        "loss reduction": (training.loss_reduction, "mean"),
        "initialization": (training.initialization, "torch"),
        **{
            f"evaluation {field.removeprefix('num_').replace('_', ' ')}": (
                getattr(evaluation, field),
                value,
            )
            for field, value in dataclasses.asdict(PAPER_SETTINGS).items()
            if field != "adapt" and hasattr(evaluation, field)
        },
        "evaluation force precision": (evaluation.force_precision, "float32"),
        "evaluation step sizes": (
            _STEP_SIZES[evaluation.adapt],
            _STEP_SIZES["paper"],
        ),
        "bound samples": (evaluation.num_bound_samples, 5000),
        "repeats": (training.num_repeats, 5),
        "test images evaluated": (
            min(evaluation.num_examples or num_test_images, num_test_images),
            num_test_images,
        ),
    }
    found = [
        f"{name}: {ours}, paper {theirs}"
        for name, (ours, theirs) in expected.items()
        if ours != theirs
    ]
    if training.method == "iwae" and training.num_particles == 1:
        found.append("bound: sampled log p - log q, authors' K=1 uses the closed-form KL")
    return [
        *found,
        "last partial batch of each epoch: skipped, authors' code keeps it",
        "evaluated images: binarized once from a seed, authors' code anew for each number",
    ]


def table(report: dict[str, Any]) -> str:
    """The result row as people read it, with the paper's number beside where there is one."""
    training = report["config"]["training"]
    settings = " ".join(
        [
            *(training[name] for name in ("model", "layers") if training["layers"]),
            f"{training['method']} K={training['num_particles']}",
            *(
                f"{flag}={training[name]}"
                for name, flag in _SHOWN.items()
                if training[name] is not None
            ),
        ]
    )
    evaluation = report["config"]["evaluation"]
    num_temperatures = report["evaluation"]["num_temperatures"]
    lines = [
        f"{report['data']['title']}, {settings}, {report['epochs']:g} epochs; "
        f"{report['num_examples']} images, {evaluation['num_chains']} chains x "
        f"{num_temperatures} temperatures; "
        f"NVLB = -L_{evaluation['num_bound_samples']}; nats"
    ]
    cell = report.get("paper")
    lines.append(f"{'':20}{'this run':>20}" + (f"{'paper':>18}" if cell else ""))
    for key, (name, with_error) in METRICS.items():
        value = report[key]
        ours = f"{value:.2f} ± {report[key + '_se']:.2f}" if with_error else f"{value}"
        lines.append(f"{name:20}{ours:>20}" + _paper_column(cell, key))
    lines += model_notes(training)
    lines += _gap_lines(report)
    if cell:
        lines.append("differs from the paper's setting: " + "; ".join(report["differs"]))
    return "\n".join(lines)


def model_notes(training: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know of the model."""
    notes = []
    if training["model"] == "conditional":
        notes.append("NLL and NVLB are of the lower half of an image, given the upper one")
    if not flags.METHODS[training["method"]].trains_posterior:
        notes.append(
            "this method trains no q: NVLB, variational gap, active units and reconstructions are "
            "of the prior given the upper half"
        )
    return notes


def summary_table(summary: dict[str, Any], example: dict[str, Any]) -> str:
    """Mean (standard deviation over repeats) of each metric; `example` is a repeat's report."""
    cell = example.get("paper")
    title = f"mean (std over {summary['num_repeats']} seeds)"
    lines = ["", f"{'':20}{title:>26}" + (f"{'paper':>18}" if cell else "")]
    for key, (name, _) in METRICS.items():
        ours = format_mean(f"{summary[key]['mean']:.2f}", summary[key]["std"])
        lines.append(f"{name:20}{ours:>26}" + _paper_column(cell, key))
    return "\n".join(lines)


def _paper_column(cell: dict[str, dict[str, float | None]] | None, key: str) -> str:
    if not cell:
        return ""
    return format_mean(f"{cell[key]['mean']:>11g}", cell[key]["std"])


def format_mean(mean: str, std: float | None) -> str:
    """84.55 (0.07), as the paper writes a mean and the standard deviation over repeats."""
    return mean + (f" ({std:.2f})" if std is not None else "")


def _gap_lines(report: dict[str, Any]) -> list[str]:
    """What the bidirectional bounds say of the NLL."""
    if not report["evaluation"]["is_unbiased"]:
        return ["the NLL's step sizes were adapted on the reported chains: it is biased"]
    if "bidirectional_gap" not in report:
        return []
    facts = report["bidirectional"]
    value = f"{report['bidirectional_gap']:.2f} ± {report['bidirectional_gap_se']:.2f}"
    lines = [
        f"{'bidirectional gap':20}{value:>20}  on {facts['num_simulated']} images simulated from "
        "the model; exact for these only"
    ]
    if not facts.get("is_possible", True):
        lines.append(
            f"{'':20}{'':20}  IMPOSSIBLE for exact draws: the model's samples and its log p(x, z) "
            "disagree, and neither bound holds"
        )
    if "target_gap" in facts:
        reached = "reached" if facts["is_reached"] else "MISSED"
        lines.append(
            f"{'':20}{'':20}  target {facts['target_gap']:g} {reached}: upper end of the 95% "
            f"interval {report['bidirectional_gap_upper_end']:.3f}"
        )
    return lines


def draw_pictures(
    folder: pathlib.Path,
    *,
    dataset: data.Dataset,
    model: Model,
    theta: PyTree,
    initial: Partial,
    test_images: np.ndarray,
    likelihood: Likelihood,
    training: Training,
    evaluation: Evaluation,
    seed: int,
) -> list[str]:
    """Draws samples, reconstructions, learning curves and acceptance; returns their file names."""
    shape, title, num = dataset.image_shape, dataset.title, 10
    keys = jax.random.split(jax.random.key(seed), (num, num))
    shown = np.asarray(test_images[:num])

    def mean_image(z, x):
        """The mean of what is modelled of x, below the part of x that is given."""
        mean = model.likelihood(theta, z).mean()
        return jnp.concatenate([x[: x.size - mean.size], mean])

    @jax.jit
    @jax.vmap
    def samples(keys, x):
        return jax.vmap(lambda key: mean_image(model.prior_given(theta, x).sample(key), x))(keys)

    @jax.jit
    @jax.vmap
    def reconstruct(key, x):
        q = initial(x)
        return mean_image(q.sample(key) if model.has_binary_latents else q.mean(), x)

    given = " for the upper halves of test images" if model.conditional_prior else ""
    # Each of a conditional model's columns is of one test image.
    contexts = np.resize(shown, (num, shown.shape[1]))
    plots.image_grid(
        folder / "samples.png",
        np.swapaxes(samples(keys, contexts), 0, 1).reshape(num * num, -1),
        shape,
        num_columns=num,
        title=f"{title}: mean images of prior samples{given}",
    )
    means = reconstruct(keys[0, : len(shown)], shown)
    plots.image_grid(
        folder / "reconstructions.png",
        np.concatenate([shown, means]),
        shape,
        num_columns=len(shown),
        title=f"{title}: test images and their reconstructions",
        row_labels=("binarized", "mean of p(x|z)"),
    )
    names = ["samples.png", "reconstructions.png"]

    records = metrics.read(folder)
    if records:
        curves = {
            key.replace("/", " ").replace("_", " "): [record[key] for record in records]
            for key in records[-1]
            if key.endswith(("/objective", "/log_likelihood_bound"))
        }
        plots.learning_curves(
            folder / "learning_curves.png",
            [record["epoch"] for record in records],
            curves,
            f"{title}: training, epoch averages",
        )
        names.append("learning_curves.png")

    columns = {}
    if records and "theta/acceptance" in records[-1]:
        rates = records[-1]["theta/acceptance"]
        betas = np.linspace(0, 1, len(rates) + 1)[1:]
        columns["training, last epoch"] = plots.Moves(
            betas,
            rates,
            _step_sizes_of(training.move or "hmc", records[-1]["theta/step_sizes"]),
            TARGET_ACCEPTANCE,
        )
    columns["evaluation"] = plots.Moves(
        likelihood.plan.betas[1:-1],
        likelihood.acceptance,
        _step_sizes_of(evaluation.move, likelihood.plan.step_sizes),
        evaluation.target_acceptance,
        likelihood.path_sample_size,
    )
    plots.acceptance(folder / "acceptance.png", columns, f"{title}: acceptance of the moves")
    return [*names, "acceptance.png"]


def _step_sizes_of(move: str, step_sizes: Sequence[float]) -> Sequence[float] | None:
    """The step sizes, of a move that has some."""
    return None if kernels.MOVES[move].step_sizes is None else step_sizes
