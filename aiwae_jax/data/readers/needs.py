"""Packages of extras, imported where a file needs them."""

import importlib
import pathlib
from collections.abc import Sequence
from types import ModuleType

from aiwae_jax.data.dataset import DataError


def modules(names: Sequence[str], path: pathlib.Path, *, extra: str) -> list[ModuleType]:
    """Imports modules.

    Args:
      names: of them.
      path: the file that is to be read.
      extra: of this package, which brings them.

    Raises:
      DataError: if one is not installed.
    """
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise DataError(
            f"Reading {path} needs {error.name or names[0]}, which is not installed: pip install "
            f"'aiwae_jax[{extra}]'."
        ) from None
