"""Reports of the command line: the flags, the cost, and the paper's numbers."""

import dataclasses
import shlex
from typing import Any

from aiwae_jax import data, train
from aiwae_jax.cli import build
from aiwae_jax.evaluate import PAPER_SETTINGS
from aiwae_jax.report import conditions
from aiwae_jax.report.environment import environment as environment
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.text import METRICS, Description, noun, units_words, weight_notes
from aiwae_jax.train import program
from experiments import cost, flags, paper
from experiments.settings import Training

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


def paper_cell(training: Training, is_stand_in: bool) -> dict[str, dict[str, float | None]] | None:
    """The paper's numbers for the same data set, K, method, T and latent size, or None."""
    is_papers = training.curriculum is None and training.condition is None
    if not is_papers or training.likelihood not in (None, "bernoulli"):
        return None
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
    """Lists in words what was not done as in the paper."""
    paper_epochs = train.paper_epochs(paper.NUM_STAGES)
    expected = {
        "epochs": (round(epochs, 2), paper_epochs),
        "batch size": (training.batch_size, paper.batch_size(training.method)),
        "hidden units": (training.hidden_sizes or training.hidden_size, 200),
        "networks": (training.network or "mlp", "mlp"),
        "activation": (training.activation or "tanh", "tanh"),
        "prior": (training.prior or "normal", "normal"),
        "optimizer": (training.optimizer, "adam"),
        "learning rate": (training.learning_rate or 1e-3, 1e-3),
        "learning rate's schedule": (training.lr_schedule, "paper"),
        "clipping of gradients": (training.clip_norm, None),
        "average of the weights": (training.ema, 0.0),
        "KL warm-up's share": (training.kl_warmup_share, 0.0),
        "validation share": (training.validation_share, 0.0),
        "patience": (training.patience, None),
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


def beside_the_paper(
    training: Training, evaluation: Evaluation, dataset: data.Dataset, content: dict[str, Any]
) -> dict[str, Any]:
    """Adds to report.json the run's cost, and the paper's numbers where it has some."""
    costs = {"cost": cost.describe(training, dataset, content["epochs"])}
    cell = paper_cell(training, dataset.is_stand_in)
    if cell is None:
        return costs
    num_temperatures = content["evaluation"]["num_temperatures"]
    used = dataclasses.replace(evaluation, num_temperatures=num_temperatures)
    num_test_images = len(dataset.test)
    differs = differences_from_paper(training, used, content["epochs"], num_test_images)
    return costs | {"paper": cell, "differs": differs}


def differs_line(content: dict[str, Any]) -> list[str]:
    """The last line of a table, where the paper's numbers stand in it."""
    if not content.get("paper"):
        return []
    return ["\ndiffers from the paper's setting: " + "; ".join(content.get("differs", []))]


def describe(report: dict[str, Any]) -> Description:
    """Makes the heads of its table and its page, and the command that does the same again."""
    training = report["config"]["training"]
    model = [training[name] for name in ("model", "layers") if training["layers"]]
    if ".py:" in training["model"]:
        model = [training["model"].rpartition("/")[2]]
    method = f"{training['method']} K={training['num_particles']}"
    settings = [
        f"{flag}={training[name]}" for name, flag in _SHOWN.items() if training[name] is not None
    ]
    title = " ".join([*model, method])
    if training["num_temperatures"]:
        title += f" T={training['num_temperatures']}"
    parts = ()
    if training["curriculum"] is not None:
        legs = [part.rpartition(":") for part in training["curriculum"].split(",")]
        parts = tuple(name.replace("+", " ") for name, _, _ in legs)
        shares = [f"{part} ({float(leg[2]):.0%})" for part, leg in zip(parts, legs, strict=True)]
        method, settings = " then ".join(shares), []
        title = " ".join([*model, method])
    command = ["python", "-m", "experiments.run", *flags.arguments_of(report["config"])]
    if report.get("data_dir"):
        command.append(f"--data_dir={report['data_dir']}")
    return Description(
        f"{report['data']['title']}: {title}",
        f"{report['data']['title']}, {' '.join([*model, method, *settings])}",
        weight_notes(report)
        + model_notes(training)
        + conditions.notes(report)
        + ([cost.line(report["cost"])] if "cost" in report else []),
        shlex.join(command),
        noun(report["data"], "images"),
        parts,
    )


def model_notes(training: dict[str, Any]) -> list[str]:
    """Says what a reader of the numbers must know of the model."""
    notes = []
    if training.get("likelihood") not in (None, "bernoulli"):
        words = training["likelihood"]
        notes.append(f"the likelihood p(x|z) is {words}{units_words(words)}")
    if training["model"] == "conditional":
        notes.append("NLL and NVLB are of the lower half of an image, given the upper one")
    if not _trains_posterior(training):
        given = " given the upper half" if training["model"] == "conditional" else ""
        notes.append(
            "this method trains no q: NVLB, variational gap, active units and reconstructions are "
            f"of the prior{given}"
        )
    return notes


def _trains_posterior(training: dict[str, Any]) -> bool:
    """Whether its method does; of a model whose file is gone nobody can say, and most do."""
    try:
        method, _ = build.stand_in(Training(**training))
    except ValueError:
        return True
    return program.trains_posterior(method)
