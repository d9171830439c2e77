"""The files of a run of the command line, whose settings are those of the flags."""

import pathlib
from typing import Any

from aiwae_jax.cli.completion import why_not
from aiwae_jax.cli.flags import in_flags
from aiwae_jax.report import contents
from aiwae_jax.report.contents import read_evaluation as read_evaluation
from aiwae_jax.runs import config
from aiwae_jax.runs.files import WorkdirError
from experiments.settings import FLAGS, Training


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """Reads a run's config.json; see `aiwae_jax.runs.config.read`."""
    return config.read(folder, Training)


def read_report(path: pathlib.Path, *, is_shown: bool = False) -> dict[str, Any]:
    """Reads a report.json; see `aiwae_jax.report.contents.read_report`."""
    return contents.read_report(path, training=Training, is_shown=is_shown)


def settings_of(folder: pathlib.Path, stored: dict[str, Any]) -> Training:
    """The settings of a config.json, as far as they can be trained.

    Raises:
      WorkdirError: if they cannot, or are of another version.
    """
    path = folder / "config.json"
    try:
        training = Training(**stored["training"])
        reason = why_not(training)
    except (TypeError, ValueError, KeyError) as error:
        reason = str(error).removeprefix("Training.__init__() ")
    if reason is not None:
        raise WorkdirError(
            f"{path} is of another version, or was changed ({in_flags(reason, FLAGS)}); "
            f"{config.CONFIG_ADVICE}."
        )
    return training
