"""How programs of an evaluation are compiled on a CPU: whoever asks for a number waits for that.

LLVM's third level takes twice the time of its second and gains nothing for chains, whose work is
matrix products (40-epoch MNIST VAE, 64 images: 8 s of 31 s until the first number, each further one
as fast). Training steps, which run for hours, keep the third: a VAE's are a fifth faster by it.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

from aiwae_jax import checks

_LEVEL = "xla_backend_optimization_level"


class _Jitted:
    """`jax.jit` of a function, made when it is first used: by then the platform is known."""

    def __init__(self, function: Callable, **options: Any):
        functools.update_wrapper(self, function)
        self._function, self._options = function, options

    @functools.cached_property
    def _of_jax(self) -> Any:
        is_chosen = _LEVEL in os.environ.get("XLA_FLAGS", "")
        is_quick = jax.default_backend() == "cpu" and not is_chosen
        quick = {"compiler_options": {_LEVEL: 2}} if is_quick else {}
        return jax.jit(self._function, **quick, **self._options)

    @functools.cached_property
    def _inside(self) -> Any:
        return jax.jit(self._function, **self._options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # A program inside of another is compiled as that is, which alone may have options.
        is_inside = checks.is_transformed((args, kwargs))
        return (self._inside if is_inside else self._of_jax)(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """As of `jax.jit`."""
        return self._of_jax.trace(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As of `jax.jit`."""
        return self._of_jax.lower(*args, **kwargs)

    def _cache_size(self) -> int:
        return self._of_jax._cache_size()


def jit(**options: Any) -> Callable[[Callable], Any]:
    """Decorates as `jax.jit` does, with its options."""
    return functools.partial(_Jitted, **options)
