"""A model of one's own from a Python file, which a run's folder can name."""

import hashlib
import inspect
import os
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

from aiwae_jax.recipe import Recipe, attach
from aiwae_jax.types import Model

_OFFERED = ("data_size", "mean_image")


def from_file(
    where: str | os.PathLike,
    *,
    data_size: int | None = None,
    mean_image: Any = None,
    sha256: str | None = None,
) -> Model:
    """Builds a model by a function in a Python file, which is run for it.

    The model knows where it is from: a run's folder keeps the file's name and SHA-256, so that
    `load` builds it again, and refuses a file of another content. Modules that the file imports are
    not looked at.

    Args:
      where: "path/to/file.py:function", also with "@" and the first digits of the SHA-256 that the
        file must have. The function takes, by name, what it asks for of the
        following two, and returns a `Model`.
      data_size: X, offered to it.
      mean_image: `[X]`, offered to it.
      sha256: that the file must have; by default any.

    Raises:
      ValueError: for a file that is not there, cannot be run, has another SHA-256 or no such
        function; a function that asks for something else, or for what is not given.
      TypeError: for a function that returns no `Model`.
    """
    _, path, name, content, found = _read(where, sha256)
    offered = {"data_size": data_size, "mean_image": mean_image}
    function = _function(path, content, name, found)
    given = {key: offered[key] for key in _asked_for(function, path, offered)}
    try:
        model = function(**given)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"`where`: {name} in {path} failed ({reason}).") from error
    if not isinstance(model, Model):
        raise TypeError(
            f"`where`: {name} in {path} must return a `types.Model`, got {type(model).__name__}."
        )
    arguments = {"where": f"{path}:{name}", **dict.fromkeys(_OFFERED), **given, "sha256": found}
    return attach(model, Recipe("models.from_file", arguments))


def pinned(where: str | os.PathLike) -> str:
    """Adds to "FILE.py:FUNCTION" the first digits of the file's SHA-256, by which it is known.

    Raises:
      ValueError: for a file that cannot be read, or that has others than those that are there.
    """
    plain, _, _, _, found = _read(where)
    return f"{plain}@{found[:12]}"


def _read(
    where: str | os.PathLike, sha256: str | None = None
) -> tuple[str, pathlib.Path, str, bytes, str]:
    """Reads a file once, so that what is run is what has the digest.

    Returns:
      `where` without digits, the file's path, the function's name, the content and its SHA-256.
    """
    plain, _, digits = os.fspath(where).partition("@")
    file, _, name = plain.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ValueError(f"`where` must be FILE.py:FUNCTION, got {os.fspath(where)!r}.")
    path = pathlib.Path(file).expanduser().absolute()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"`where`: {path} cannot be read ({error.strerror}).") from None
    found = hashlib.sha256(content).hexdigest()
    for wanted in filter(None, (digits, sha256)):
        if not found.startswith(wanted):
            raise ValueError(
                f"`where`: {path} has changed, its SHA-256 begins with {found[:12]} and not with "
                f"{wanted[:12]}."
            )
    return plain, path, name, content, found


def _function(path: pathlib.Path, content: bytes, name: str, digest: str) -> Callable[..., Any]:
    """Runs the file as a module of its own; returns what it calls `name`."""
    module = types.ModuleType(f"aiwae_jax_model_{digest[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for themselves
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
    except Exception as error:
        raise ValueError(
            f"`where`: {path} cannot be run ({type(error).__name__}: {error})."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"`where`: {path} has no function {name}.")
    return function


def _asked_for(function: Callable, path: pathlib.Path, offered: dict[str, Any]) -> list[str]:
    """Names of what a function takes of what is offered.

    Raises:
      ValueError: where it needs anything else, or what is not given.
    """
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = {p.name for p in parameters if p.default is p.empty and p.kind not in variable}
    if unknown := sorted(needed - offered.keys()):
        raise ValueError(
            f"`where`: {function.__name__} in {path} asks for `{unknown[0]}`; it may ask for "
            f"{' and '.join(offered)} only."
        )
    if missing := sorted(name for name in needed if offered[name] is None):
        raise ValueError(
            f"`{missing[0]}` must be given, for {function.__name__} in {path} asks for it."
        )
    return [p.name for p in parameters if offered.get(p.name) is not None]
