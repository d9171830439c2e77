"""Checks of a single argument, for every door: a count, a number, a key, a position, a density.

Each check names the argument, the rule, what was received and what to do, and costs a look at a
shape. Values are looked at where they are known: tracers are let through.
"""

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_transformed(arguments: Any) -> bool:
    """Whether a caller's `jit`, `vmap` or `grad` is at work, on these arguments or around them."""
    return isinstance(jnp.zeros(()), jax.core.Tracer) or is_traced(arguments)


def is_traced(tree: Any) -> bool:
    """Whether any leaf is a tracer, whose value nobody knows yet."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def describe(value: Any) -> str:
    """A value in a few words: the shape and dtype of an array, or else what it is."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 80 else type(value).__name__


def num_rows(name: str, tree: Any) -> int:
    """The length N of the leading axis that all leaves of a tree share; tracers have one too.

    JAX clamps indices beyond an array's end, so that a shorter leaf would repeat its last row.

    Raises:
      TypeError: for what is no array of numbers.
      ValueError: for leaves of different lengths, without an axis, or no data.
    """
    lengths = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        leaf_name = name + jax.tree_util.keystr(path)
        dtype = getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
        if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.number)):
            raise TypeError(f"`{leaf_name}` must be of numbers, got {describe(leaf)}.")
        if not np.shape(leaf):
            raise ValueError(
                f"`{leaf_name}` must be an array whose leading axis counts the data, got "
                f"{describe(leaf)}, a single number; of a list, make one by `np.asarray({name})`."
            )
        lengths[leaf_name] = np.shape(leaf)[0]
    if not lengths:
        raise TypeError(
            f"`{name}` must be an array whose leading axis counts the data, or a pytree of them, "
            f"got {describe(tree)}."
        )
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"`{leaf_name}` {length}" for leaf_name, length in lengths.items())
        raise ValueError(f"All leaves of `{name}` must hold as many data, got {found}.")
    num_data = next(iter(lengths.values()))
    if num_data < 1:
        raise ValueError(f"`{name}` must hold at least one datum, got none.")
    return num_data


def integer(name: str, value: Any, *, least: int | None = None) -> int:
    """`value` as an int.

    Raises:
      TypeError: for what is no whole number by its type, such as 1e3.
      ValueError: for one below `least`.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        is_whole = isinstance(value, float) and value.is_integer()
        hint = f"; write {int(value)}" if is_whole else ""
        raise TypeError(f"`{name}` must be an integer, got {value!r}{hint}.") from None
    if least is not None and number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}.")
    return number


def real(name: str, value: Any) -> float:
    """`value` as a Python number.

    Raises:
      TypeError: for what is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, np.ndarray | np.generic | jax.Array) and not is_traced(value):
        array = np.asarray(value)
        if array.ndim == 0 and array.dtype.kind in "iuf":
            return float(array)
    raise TypeError(f"`{name}` must be a number, got {describe(value)}.")


def positive(name: str, value: Any) -> float:
    """`value` as a Python number above 0.

    Raises:
      TypeError: for what is no number.
      ValueError: for one that is not positive and finite.
    """
    value = real(name, value)
    if not 0.0 < value < math.inf:
        rule = "finite" if value == math.inf else "positive"
        raise ValueError(f"`{name}` must be {rule}, got {value}.")
    return value


def numbers(name: str, value: Any) -> None:
    """Raises TypeError for what is no array of real numbers; what is traced is one."""
    if is_traced(value):
        return
    dtype = np.asarray(value).dtype
    if dtype.kind not in "biuf" and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"`{name}` must be of numbers, got {describe(value)}.")


def given(name: str, value: Any, why: str) -> None:
    """Raises ValueError for what was left out, and is needed here."""
    if value is None:
        raise ValueError(f"`{name}` must be given, for {why}.")


def function(name: str, value: Any, signature: str) -> None:
    """Raises TypeError for what cannot be called."""
    if not callable(value):
        raise TypeError(f"`{name}` must be a function {signature}, got {describe(value)}.")


def takes(name: str, fn: Callable | None, *arguments: str) -> None:
    """Raises TypeError for a function of a model that cannot be called with these arguments."""
    if fn is None:
        return
    wanted = ", ".join(arguments)
    function(name, fn, f"of ({wanted})")
    try:
        signature = inspect.signature(fn)
        signature.bind(*arguments)
    except ValueError:  # written in C, it has no signature
        return
    except TypeError:
        raise TypeError(
            f"`{name}` must be a function of ({wanted}), got one of {signature}; a model of all of "
            "x ignores its x."
        ) from None


def is_key(value: Any) -> bool:
    """Whether a value is one random key, of the new or of the old kind."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return shape == ()
    return dtype == np.uint32 and len(shape) == 1


def key(value: Any, name: str = "key") -> None:
    """Raises TypeError unless `value` is one random key, of the new or of the old kind."""
    if not is_key(value):
        raise TypeError(
            f"`{name}` must be one random key, such as `jax.random.key(0)`, got {describe(value)}."
        )


def position(value: Any, name: str = "`z`") -> None:
    """Raises unless `value`, called `name`, is a vector `[D]` of floats, of one particle.

    Raises:
      TypeError: for what is no array, or one of other numbers.
      ValueError: for one of another rank.
    """
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        raise TypeError(
            f"{name} must be an array [D] of floats, got {describe(value)}; a pytree is made one "
            "by `jax.flatten_util.ravel_pytree`."
        )
    if len(shape) != 1:
        raise ValueError(
            f"{name} must be a vector [D], one particle, got shape {list(shape)}; several are "
            "for `jax.vmap`, and a single number is a vector [1]."
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} must be of floats, also where it is of 0s and 1s, got {describe(value)}; "
            "use `.astype(jnp.float32)`."
        )


def log_density(name: str, fn: Any, z: jax.Array) -> None:
    """Raises unless `fn` maps a position `z` `[D]` to a log density `[]`.

    Raises:
      TypeError: for no function, or one of no real number.
      ValueError: for a value of another shape.
    """
    function(name, fn, "`[D] -> []`")
    scalar(f"{name}(z)", shape_of(name, fn, z, given=f"z of shape {list(jnp.shape(z))}"))


def scalar(call: str, found: Any) -> None:
    """Raises unless `found`, the shape that `call` returns, is one float `[]`."""
    if not (hasattr(found, "shape") and hasattr(found, "dtype")):
        raise TypeError(f"`{call}` must return one float [], nats, got {describe(found)}.")
    if found.shape != ():
        raise ValueError(
            f"`{call}` must return one number [], nats, got shape {list(found.shape)}; is a sum "
            "over dimensions missing?"
        )
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(f"`{call}` must return a float, nats, got {found.dtype}.")


def shape_of(name: str, fn: Callable, *args: Any, given: str) -> Any:
    """Finds the shapes that `fn(*args)` returns; an error inside `fn` is told with its name.

    Args:
      name: of the argument that holds `fn`.
      fn: called with tracers of `args`.
      *args: arrays, or their shapes.
      given: these in words.

    Raises:
      TypeError: where `fn` raises one, or returns what is no array.
      ValueError: where `fn` raises anything else.
    """
    try:
        return jax.eval_shape(lambda *args: fn(*args), *args)
    except Exception as error:
        text = str(error).strip().splitlines()
        line = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"`{name}` fails with {given}: {line}") from error


def step_sizes(value: Any, name: str = "step_sizes") -> None:
    """Raises for step sizes that are negative or not finite, where they are known.

    Raises:
      ValueError: for these.
      TypeError: for what are no numbers.
    """
    numbers(name, value)
    if is_traced(value):
        return
    array = np.asarray(value)
    if not (np.isfinite(array).all() and (array >= 0).all()):
        broken = array.ravel()[~(np.isfinite(array) & (array >= 0)).ravel()]
        raise ValueError(
            f"`{name}` must be finite and not negative, got {float(broken[0]):g}"
            f"{'' if array.ndim == 0 else f' ({broken.size} of {array.size} are not)'}."
        )
