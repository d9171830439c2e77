"""From the options that were given to whole settings, so that a run's folder says every value.

What is not given is what the model forces, or else comes from the command, or the builder.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from aiwae_jax import methods, moves
from aiwae_jax.cli import build, curriculum
from aiwae_jax.cli.flags import UsageError, refusals, require
from aiwae_jax.cli.settings import (
    BINARY,
    FLAGS,
    MODELS,
    OF_MODELS,
    Fitting,
    foreign_to,
    method_options,
    model_options,
)
from aiwae_jax.models import flows, own

_Kind = TypeVar("_Kind", bound=Fitting)
_OF_CONDITIONAL = ("tang", "tang_annealed", "raiko")


def complete(
    kind: type[_Kind],
    given: dict[str, Any],
    usual_fn: Callable[[str, str], dict[str, Any]] = lambda method, model: {},
) -> _Kind:
    """The settings that are meant.

    Args:
      kind: their dataclass.
      given: field -> value.
      usual_fn: `usual_fn(method, model)`, the command's own defaults.

    Raises:
      UsageError: for what cannot be run.
    """
    if given.get("curriculum") is not None:
        return curriculum.complete(given, lambda own: complete(kind, own, usual_fn))
    said = {"method": "aiwae", "model": "one_layer"} | given
    if ".py:" in said["model"]:
        with refusals(FLAGS):
            said["model"] = own.pinned(said["model"])
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
    _check_networks(said)
    with refusals(FLAGS):
        whole = _whole(kind, said, usual_fn(said["method"], said["model"]))
    _check_builds(whole, said)
    return whole


def _whole(kind: type[_Kind], said: dict[str, Any], usual: dict[str, Any]) -> _Kind:
    """Puts together what was said and what is usual, of what method and model take."""
    foreign = foreign_to(said["method"], said["model"])
    usual = method_options(said["method"]) | model_options(said["model"]) | usual | _forced(said)
    usual = {name: value for name, value in usual.items() if name not in foreign}
    usual |= dict.fromkeys(name for name in OF_MODELS if name in foreign)
    return kind(**{"num_particles": 1} | usual | said)


def _forced(said: dict[str, Any]) -> dict[str, Any]:
    """Finds the values that follow from the model and its posterior."""
    if said["model"] in BINARY:
        return {"chain_space": "latent", "move": moves.DEFAULTS["binary"]}
    forced = {"hidden_size": None} if said.get("hidden_sizes") is not None else {}
    if said.get("posterior") in flows.FLOWS:
        parameters = inspect.signature(flows.FAMILIES[said["posterior"]]).parameters
        forced = {"chain_space": "base", "num_flow_layers": parameters["num_layers"].default}
    return forced


def _check_networks(said: dict[str, Any]) -> None:
    """Raises UsageError for options of networks and priors that have no use beside each other."""
    is_conv = said.get("network") == "conv"
    for name, flag in (("channels", "--channels"), ("hidden_sizes", "--hidden_sizes")):
        require(
            said.get(name) is None or is_conv == (name == "channels"),
            f"{flag} belongs to --network={'conv' if name == 'channels' else 'mlp'}; leave it out.",
        )
    require(
        said.get("hidden_sizes") is None or said.get("hidden_size") is None,
        "--hidden_sizes stands in the place of --hidden_dim; leave one of them out.",
    )
    require(
        said.get("num_components") is None or said.get("prior") == "mixture",
        "--prior_components belongs to --prior=mixture; leave it out.",
    )


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
    cells = {name: _whole(Fitting, {"method": name} | model, {}) for name in methods.BUILDERS}
    return [name for name, cell in cells.items() if why_not(cell) is None]


def why_not(fitting: Fitting) -> str | None:
    """Why it cannot be, in the library's words or in ours; None if it can."""
    if fitting.method in _OF_CONDITIONAL and fitting.model != "conditional":
        return "it trains no q, and needs `model`=conditional"
    try:
        build.stand_in(fitting)
    except ValueError as error:
        # A function of one's own may be made for images of one size; with the data it is asked
        # again.
        is_for_these_pixels = fitting.model not in MODELS and " failed (" in str(error)
        return None if is_for_these_pixels else str(error)
    return None


def _check_builds(fitting: Fitting, said: dict[str, Any]) -> None:
    """Raises UsageError for what the library refuses, with methods that can if this one cannot."""
    with refusals(FLAGS):
        reason = why_not(fitting)
        if reason is None:
            return
        able = able_to_train(said)
        if fitting.method in able or not able:  # with other options, or no model at all
            raise ValueError(reason)
        what = f"`model`={fitting.model}"
        if fitting.posterior not in (None, "normal"):
            what += f" `posterior`={fitting.posterior}"
        raise ValueError(
            f"`method`={fitting.method} cannot train {what}: {reason.partition(';')[0]}; use one "
            f"of {', '.join(able)}."
        )
