"""From the options that were given to a whole `Training`, so that a run's folder says every value.

What is not given is what the model forces, or else comes from the preset, the data set, or the
method's builder.
"""

import dataclasses
import inspect
from typing import Any

from aiwae_jax import evaluate, methods, moves, paths
from aiwae_jax.cli.flags import UsageError, names_of, refusals, require
from aiwae_jax.models import flows
from aiwae_jax.report.evaluation import Evaluation
from experiments import build, paper
from experiments.settings import (
    BINARY,
    FLAGS,
    MODELS,
    OF_MODELS,
    Training,
    foreign_to,
    method_options,
)

# `--preset`: values of what is not given.
PRESETS = {
    "default": {},
    "paper": {
        "initialization": "torch",
        "batch_size": paper.batch_size,
        "num_stages": paper.NUM_STAGES,
    },
    "best": {"batch_size": 20, "adam_eps": 1e-8, "chain_space": "base"},
}
# The digits are small, and a first run should end within two minutes on two cores.
_DIGITS = {"batch_size": 32, "num_stages": 4}
_COMMON_BATCH_SIZE = 20

EVALUATIONS = ("default", "paper", "none")
_OF_CONDITIONAL = ("tang", "tang_annealed", "raiko")
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
    said = {"dataset": "digits", "method": "aiwae", "model": "one_layer"} | given
    for name in given:
        if name in foreign_to(said["method"], said["model"]):
            _refuse_foreign(name, said)
    posterior = said.get("posterior", "normal")
    require(
        said["model"] != "two_layer" or posterior == "normal",
        f"--posterior={posterior}: --model=two_layer has a posterior of its own, one normal for "
        "each layer; leave --posterior out.",
    )
    require(
        "num_flow_layers" not in given or posterior in flows.FLOWS,
        f"--flow_layers belongs to --posterior={' or '.join(flows.FLOWS)}.",
    )
    with refusals(FLAGS):
        training = _whole(said, preset)
    _check_builds(training, said)
    return training


def _whole(said: dict[str, Any], preset: str = "default") -> Training:
    """Puts together what was said and what is usual."""
    foreign, is_binary = foreign_to(said["method"], said["model"]), said["model"] in BINARY
    usual = {
        "batch_size": _COMMON_BATCH_SIZE if is_binary else paper.batch_size,
        **method_options(said["method"]),
        **MODELS[said["model"]],
        **(_DIGITS if said["dataset"] == "digits" else {}),
        **PRESETS[preset],
        **_forced(said),
    }
    usual = {name: value for name, value in usual.items() if name not in foreign}
    values = {"num_particles": 1} | usual | said
    if callable(values["batch_size"]):
        values["batch_size"] = values["batch_size"](said["method"])
    return Training(**values)


def _forced(said: dict[str, Any]) -> dict[str, Any]:
    """What follows from the model and its posterior."""
    if said["model"] in BINARY:
        return {"chain_space": "latent", "move": moves.DEFAULTS["binary"]}
    if said.get("posterior") in flows.FLOWS:
        parameters = inspect.signature(flows.FAMILIES[said["posterior"]]).parameters
        return {"chain_space": "base", "num_flow_layers": parameters["num_layers"].default}
    return {}


def _refuse_foreign(name: str, said: dict[str, Any]) -> None:
    """Raises UsageError for an option that has no use here; one particle is what any method has."""
    method, model = said["method"], said["model"]
    if name in OF_MODELS:
        able = [other for other, takes in MODELS.items() if name in takes]
        raise UsageError(
            f"--{FLAGS[name]} does not belong to --model={model}; leave it out, or use one of "
            f"{', '.join(able)}."
        )
    able = ", ".join(m for m in able_to_train(said) if name in method_options(m))
    if name == "num_particles":
        require(
            said[name] == 1,
            f"--K={said[name]}: {method} uses one sample; methods with several are {able}.",
        )
    else:
        raise UsageError(
            f"--{FLAGS[name]} does not belong to --method={method}; leave it out, or use one of "
            f"{able or 'those of other models'}."
        )


def able_to_train(said: dict[str, Any]) -> list[str]:
    """The methods that can train the model and its posterior, as they are."""
    model = {name: said[name] for name in ("model", "posterior") if name in said}
    cells = {name: {"dataset": "digits", "method": name} | model for name in methods.BUILDERS}
    return [name for name, cell in cells.items() if _why_not(_whole(cell)) is None]


def _why_not(training: Training) -> str | None:
    """Why it cannot be, in the library's words or in ours; None if it can."""
    if training.method in _OF_CONDITIONAL and training.model != "conditional":
        return "it trains no q, and needs `model`=conditional"
    try:
        build.stand_in(training)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _check_builds(training: Training, said: dict[str, Any]) -> None:
    """Raises UsageError for what the library refuses, with methods that can if this one cannot."""
    with refusals(FLAGS):
        reason = _why_not(training)
        if reason is None:
            return
        able = able_to_train(said)
        if training.method in able:  # with other options
            raise ValueError(reason)
        what = f"`model`={training.model}"
        if training.posterior not in (None, "normal"):
            what += f" `posterior`={training.posterior}"
        raise ValueError(
            f"`method`={training.method} cannot train {what}: {reason.partition(';')[0]}; use one "
            f"of {', '.join(able)}."
        )


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
    is_binary = training.model in BINARY
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
    else:
        usual["chain_space"] = "base"
    if training.dataset == "digits" and preset != "paper":
        usual["num_temperatures"] = _DIGITS_TEMPERATURES
    if given.get("target_gap") is not None:
        usual["num_temperatures"] = _SEARCH_FROM
    if given.get("adapt") == "paper":
        usual["num_simulated"] = 0
    with refusals(names_of(Evaluation)):
        _, model = build.stand_in(training)
        values = usual | given
        moves.check(values.get("move", "hmc"), model.latents)
        paths.check_space(values["chain_space"], model)
        return Evaluation(**values)
