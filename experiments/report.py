"""The report of a run as text: its numbers beside the paper's, and where they were made."""

import dataclasses
import importlib.metadata
import platform
from typing import Any

import jax

from aiwae_jax import paper, train
from aiwae_jax.evaluate import PAPER_SETTINGS
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
        lines.append("differs from the paper's setting: " + "; ".join(report.get("differs", [])))
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
        reached = "reached" if facts.get("is_reached") else "MISSED"
        lines.append(
            f"{'':20}{'':20}  target {facts['target_gap']:g} {reached}: upper end of the 95% "
            f"interval {report['bidirectional_gap_upper_end']:.3f}"
        )
    return lines
