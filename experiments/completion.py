"""Values of what is not given to the paper's command: presets, and what the data ask for."""

import dataclasses
from typing import Any

from aiwae_jax import evaluate, moves, paths, train
from aiwae_jax.cli import completion, sources
from aiwae_jax.cli.build import stand_in
from aiwae_jax.cli.flags import names_of, refusals, require
from aiwae_jax.cli.settings import BINARY, MODELS
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.writer import check_start
from aiwae_jax.train import program as programs
from experiments import paper
from experiments.settings import Training

# `--preset`: values of what is not given.
PRESETS = {
    "default": {},
    "paper": {
        "initialization": "torch",
        "num_stages": paper.NUM_STAGES,
    },
    # The recipe of results/recipe.md, found on MNIST.
    "best": {
        **{"optimizer": "muon", "lr_schedule": "linear", "learning_rate": 0.04},
        **{"batch_size": 512, "epochs": 90.0, "chain_space": "base"},
    },
}
# Of `best`, in the place of AIWAE alone, and where its K and T are not given.
_CURRICULUM = "vae:0.83,aiwae:0.17"
_OF_ITS_CHAINS = {"num_particles": 1, "num_temperatures": 5}
# The digits are small, and a first run should end within two minutes on two cores.
_DIGITS = {"batch_size": 32, "num_stages": 4}
_COMMON_BATCH_SIZE = 20
# Tens of thousands of images; a file of one's own may be of any size.
_LARGE = (
    *("mnist", "binarized_mnist", "fashion_mnist", "kmnist", "emnist"),
    *("omniglot", "omniglot_tfds"),
)

EVALUATIONS = ("default", "paper", "none")
_DIGITS_TEMPERATURES = 100
_SEARCH_FROM = 100  # temperatures


def common_batch_size(dataset: str) -> int:
    """Where methods are compared, whatever each would have by itself."""
    return _DIGITS["batch_size"] if dataset == "digits" else _COMMON_BATCH_SIZE


def complete(given: dict[str, Any], preset: str = "default") -> Training:
    """The training that is meant.

    Args:
      given: field -> value.
      preset: a key of `PRESETS`.

    Raises:
      UsageError: for one that cannot be run.
    """
    given = {"dataset": "digits"} | given
    given["dataset"] = sources.resolve(given["dataset"], given)
    is_aiwae = given.get("method", "aiwae") == "aiwae" and given.get("model") not in BINARY
    if preset == "best" and is_aiwae and given.get("curriculum") is None:
        given = _OF_ITS_CHAINS | given | {"curriculum": _CURRICULUM}
        stages = given.get("num_stages")
        usual_epochs = train.paper_epochs(stages) if stages else PRESETS[preset]["epochs"]
        given.setdefault("epochs", usual_epochs)
        given.pop("method", None)

    def usual(method: str, model: str) -> dict[str, Any]:
        batch_size = _COMMON_BATCH_SIZE if model in BINARY else paper.batch_size(method)
        found = {"batch_size": batch_size, "num_stages": paper.NUM_STAGES}
        found |= _DIGITS if given["dataset"] == "digits" else {}
        found |= PRESETS[preset]
        if preset == "paper":
            found["batch_size"] = paper.batch_size(method)
        if preset == "best" and given["dataset"] not in _LARGE:
            found["batch_size"] = _DIGITS["batch_size"]  # 512 would be a few steps an epoch
        if "num_stages" in given:
            found.pop("epochs", None)
        return found

    return completion.complete(Training, given, usual)


def complete_evaluation(
    given: dict[str, Any], training: Training, preset: str = "default"
) -> Evaluation | None:
    """The evaluation that is meant; None for "none".

    Args:
      given: field -> value.
      training: of the run that is measured.
      preset: one of `EVALUATIONS`.

    Raises:
      UsageError: for one that this run cannot have.
    """
    if preset == "none":
        return None
    latents = _latents(training)
    is_binary = latents == "binary"
    usual: dict[str, Any] = {}
    if preset == "paper":
        require(
            not is_binary,
            "--eval=paper is HMC, which cannot move binary latents; leave it out, and set "
            "--eval_temperatures=10000 --eval_examples=0 for as much work.",
        )
        usual = dataclasses.asdict(evaluate.PAPER_SETTINGS) | {"num_examples": 0}
    elif is_binary:
        usual = dataclasses.asdict(evaluate.BINARY_SETTINGS)
    elif given.get("start") != "prior":  # which need not have a `transport`
        usual["chain_space"] = "base"
    if training.dataset == "digits" and preset != "paper":
        usual["num_temperatures"] = _DIGITS_TEMPERATURES
    if given.get("target_gap") is not None:
        usual["num_temperatures"] = _SEARCH_FROM
    if given.get("adapt") == "paper":
        usual["num_simulated"] = 0
    with refusals(names_of(Evaluation)):
        values = usual | given
        moves.check(values.get("move", "hmc"), latents)
        if training.model in MODELS:
            method, model = stand_in(training)
            check_start(values.get("start"), programs.start_of(method))
            if "chain_space" in values:
                paths.check_space(values["chain_space"], model)
        return Evaluation(**values)


def _latents(training: Training) -> str:
    """Of what kind they are; of a model of one's own that asks for its data, continuous."""
    try:
        return stand_in(training)[1].latents
    except ValueError:
        return "continuous"
