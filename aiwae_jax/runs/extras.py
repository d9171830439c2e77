"""Packages that a run needs beside the library's own few."""

import importlib.util

_PACKAGES = {  # module -> package
    "orbax.checkpoint": "orbax-checkpoint",
    "rich": "rich",
    "tensorboardX": "tensorboardX",
    "matplotlib": "matplotlib",
}


class MissingError(ImportError):
    """A package of an extra that is not installed; the message says how to install it."""


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def require(what: str) -> None:
    """Refuses work that would end in an import that fails.

    Raises:
      MissingError: naming what to install.
    """
    missing = [package for module, package in _PACKAGES.items() if not _is_there(module)]
    if missing:
        raise MissingError(
            f"{what} needs {', '.join(missing)}: install them with pip install 'aiwae_jax[run]'."
        )
