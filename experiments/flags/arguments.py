"""From a report's configuration back to a command line."""

from typing import Any

from experiments.flags import evaluation
from experiments.flags.methods import FIELDS, METHODS, flag_of


def arguments_of(config: dict[str, dict[str, Any]]) -> list[str]:
    """The flags that `parse_run` makes this configuration of, whatever the defaults are.

    Args:
      config: "training" and, if there is one, "evaluation", as in report.json.
    """
    training = config["training"]
    takes = METHODS[training["method"]].defaults if training["method"] in METHODS else ()
    found = [
        f"--{flag_of(name)}={value}"
        for name, value in training.items()
        if value is not None and (name in takes or name not in FIELDS)
    ]
    found += [
        f"--{evaluation.flag_of(name)}={value}"
        for name, value in config.get("evaluation", {}).items()
        if value is not None and not name.startswith("num_pilot_")  # which no flag sets
    ]
    return found
