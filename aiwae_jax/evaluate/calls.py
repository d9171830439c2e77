"""Calls of evaluation are made on the host, by a `Target`, and pass along one `Work`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar, cast

import numpy as np

from aiwae_jax import checks
from aiwae_jax.evaluate.settings import Settings
from aiwae_jax.evaluate.target import Target
from aiwae_jax.types import PyTree

# Finished pieces by name: {} to forget them, or something dict-like that writes them to a disk.
Store = MutableMapping[str, dict[str, np.ndarray]]
ProgressFn = Callable[..., None]
_Function = TypeVar("_Function", bound=Callable)  # a decorator keeps its type


def _on_host(*arguments: PyTree) -> None:
    """Raises TypeError under a caller's jit, vmap or grad."""
    if checks.is_transformed(arguments):
        raise TypeError(
            "Evaluation runs on the host, which tunes, advances and watches the chains: it cannot "
            "be called under `jax.jit`, `vmap` or `grad`; call it outside, or use `ais.run_chain`, "
            "which can."
        )


def of_target(fn: _Function) -> _Function:
    """Makes `fn` refuse a call under a caller's jit, and one by functions, its earlier form."""
    parameters = inspect.signature(fn).parameters.values()
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    place = names.index("target")

    @functools.wraps(fn)
    def call(*args: Any, **options: Any) -> Any:
        target = options.get("target", args[place] if len(args) > place else None)
        if not isinstance(target, Target):
            raise TypeError(
                f"`target` must be an `evaluate.Target`, got {checks.describe(target)}: call "
                f"`evaluate.{fn.__name__}({', '.join(names)})` with `target = evaluate.Target("
                "log_joint, start, sample)`, which holds the functions that were arguments of "
                "their own."
            )
        _on_host(args, options, target.functions, target.sample)
        return fn(*args, **options)

    return cast(_Function, call)


@dataclasses.dataclass(frozen=True)
class Work:
    """An evaluation behind its door: arguments that were looked at, passed along as one.

    Attributes:
      target: what is measured.
      settings: of the chains, whose space is chosen.
      chunk_size: data annealed at once; None for as many as memory suggests.
      store: where finished pieces are kept, and found again.
      progress_fn: called with (gradient evaluations done, in all).

    Raises:
      TypeError, ValueError: for what cannot be what it is for.
    """

    target: Target
    settings: Settings
    chunk_size: int | None = None
    store: Store | None = None
    progress_fn: ProgressFn | None = None

    def __post_init__(self):
        check_settings(self.settings)
        if self.store is None:
            object.__setattr__(self, "store", {})
        needed = ("__getitem__", "__setitem__", "__contains__")
        if not all(hasattr(self.store, name) for name in needed):
            raise TypeError(f"`store` must be like a dict, got {checks.describe(self.store)}.")
        check_progress(self.progress_fn)
        if self.chunk_size is not None:
            checks.integer("chunk_size", self.chunk_size, least=1)

    def counter(self, total: int) -> Callable[[int], None]:
        """Counts gradient evaluations, and reports how many of `total` are done."""
        done = 0

        def count(num: int) -> None:
            nonlocal done
            done += num
            if self.progress_fn is not None:
                self.progress_fn(done, total)

        return count


def check_settings(settings: Any) -> None:
    """Raises TypeError for what are no settings."""
    if not isinstance(settings, Settings):
        raise TypeError(
            f"`settings` must be of `evaluate.Settings`, got {checks.describe(settings)}."
        )


def check_progress(progress_fn: Any) -> None:
    """Raises TypeError for what cannot be called."""
    if progress_fn is not None:
        checks.function("progress_fn", progress_fn, "`(done, total)`")
