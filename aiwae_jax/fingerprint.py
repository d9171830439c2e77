"""Names for what is stored: digests of all that a result depends on, arrays and code."""

import dataclasses
import functools
import hashlib
import types
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from aiwae_jax.types import PyTree


def digest(*parts: PyTree) -> str:
    """Sixteen digits that change with any array, dataclass, function or other value in `parts`.

    The first of `sha256`, which are enough for a name.
    """
    return sha256(*parts)[:16]


def sha256(*parts: PyTree) -> str:
    """The SHA-256, in hexadecimal, of all arrays, dataclasses, functions and values in `parts`.

    Of a function it changes with its code, with the arrays that it closes over or has as defaults,
    and with the code of functions which it closes over or binds, as far as Python shows them.
    Globals and attributes of objects are not seen: bind what is in them by `Partial`.
    """
    hashed = hashlib.sha256()
    for part in jax.tree.leaves(parts, is_leaf=lambda part: isinstance(part, Partial)):
        if isinstance(part, Partial):
            hashed.update(repr(_code_of(part, set())).encode())
    for path, leaf in jax.tree_util.tree_flatten_with_path(parts)[0]:
        if dataclasses.is_dataclass(leaf):
            content = repr(leaf).encode()
        else:
            array = _plain(leaf)
            content = _content_of(array)
        name = jax.tree_util.keystr(path).encode()
        hashed.update(b"%d:%d:" % (len(name), len(content)) + name + content)
    return hashed.hexdigest()


def _plain(array: Any) -> np.ndarray:
    """As NumPy has it; of random keys their numbers."""
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array)


def _content_of(array: np.ndarray) -> bytes:
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()


def _code_of(value: Any, seen: set[int]) -> Any:
    """A function's code as nested tuples; of anything else its type's name, or a plain value.

    What was met before, by its `id` in `seen`, is not gone through again: functions may close over
    each other.
    """
    if isinstance(value, functools.partial | types.MethodType | types.FunctionType | tuple | list):
        if id(value) in seen:
            return "..."
        seen.add(id(value))
    within = functools.partial(_code_of, seen=seen)
    if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, jax.core.Tracer):
        return hashlib.sha256(_content_of(_plain(value))).hexdigest()
    if isinstance(value, functools.partial):  # `Partial` is one
        bound = [*value.args, *(value.keywords[name] for name in sorted(value.keywords))]
        return within(value.func), *map(within, bound)
    if isinstance(value, types.MethodType):
        return within(value.__func__)
    if hasattr(value, "__wrapped__"):  # under `jax.jit`, say
        return within(value.__wrapped__)
    if isinstance(value, types.FunctionType):
        cells = value.__closure__ or ()
        closed = [within(cell.cell_contents) for cell in cells if _is_filled(cell)]
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return within(value.__code__), *closed, *map(within, defaults)
    if isinstance(value, types.CodeType):
        return value.co_code, value.co_names, *map(within, value.co_consts)
    if isinstance(value, tuple | list):
        return tuple(map(within, value))
    if isinstance(value, frozenset):
        return tuple(sorted(map(repr, value)))
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return value
    return type(value).__qualname__


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - asking is what may raise
    except ValueError:
        return False
    return True
