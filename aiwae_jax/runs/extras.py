"""Packages that a run needs beside the library's own few."""

import importlib.util
from collections.abc import Sequence

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


def require(what: str, modules: Sequence[str] | None = None, *, extra: str = "run") -> None:
    """Refuses work that would end in an import that fails.

    Args:
      what: the work.
      modules: that it imports; by default those of every run.
      extra: of this package, which brings them.

    Raises:
      MissingError: naming what to install.
    """
    modules = _PACKAGES if modules is None else modules
    missing = [_PACKAGES.get(module, module) for module in modules if not _is_there(module)]
    if missing:
        raise MissingError(
            f"{what} needs {', '.join(missing)}: install them with pip install "
            f"'aiwae_jax[{extra}]'."
        )
