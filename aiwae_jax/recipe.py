"""How a builder of ours was called, kept with what it built, so that a file can say it again."""

import base64
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax
import numpy as np

_Builder = TypeVar("_Builder", bound=Callable)  # a decorator keeps its type


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """A builder's name and its arguments.

    Attributes:
      builder: as `models.bernoulli_vae`: its room, where everybody finds it, and its name.
      arguments: by name, defaults included, without a model.
      parts: what was built, so that a recipe does not outlive a `_replace` of them.
    """

    builder: str
    arguments: dict[str, Any]
    parts: tuple = ()

    def is_of(self, parts: Sequence[Any]) -> bool:
        """Whether these very parts were built by it."""
        return len(parts) == len(self.parts) and all(
            here is there for here, there in zip(parts, self.parts, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; `from_json` reads it.

        Raises:
          TypeError: for an argument that JSON has no word for.
        """
        written = {name: _write(name, value) for name, value in self.arguments.items()}
        return {"builder": self.builder, "arguments": written}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays among its arguments, and among those of what these were built by, by name."""
        found = {}
        for name, value in self.arguments.items():
            if isinstance(value, np.ndarray | jax.Array):
                found[name] = np.asarray(value)
            is_many = type(value) in (tuple, list)
            for i, each in enumerate(value if is_many else [value]):
                built_by = each if isinstance(each, Recipe) else getattr(each, "recipe", None)
                own = f"{name}.{i}" if is_many else name
                if isinstance(built_by, Recipe):
                    found |= {f"{own}.{inner}": a for inner, a in built_by.arrays().items()}
        return found

    def summary(self) -> dict[str, Any]:
        """As `to_json`, but of arrays the shape alone: for a report."""
        written = self.to_json()
        return _without_arrays(written)


def _without_arrays(written: Any) -> Any:
    if isinstance(written, dict):
        if "array" in written:
            return {"shape": written["shape"]}
        return {name: _without_arrays(value) for name, value in written.items()}
    return [_without_arrays(each) for each in written] if isinstance(written, list) else written


def from_json(content: Mapping[str, Any]) -> Recipe:
    """Reads what `Recipe.to_json` wrote; what an argument was built by is a `Recipe` again."""
    arguments = {name: _read(value) for name, value in content["arguments"].items()}
    return Recipe(content["builder"], arguments)


def _write(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        content = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {"array": content, "dtype": str(array.dtype), "shape": list(array.shape)}
    # What has one: a likelihood, say; or it itself, where it was read.
    recipe = value if isinstance(value, Recipe) else getattr(value, "built_by", None)
    if isinstance(recipe, Recipe):
        return recipe.to_json()
    if isinstance(value, Mapping):
        return {"entries": {key: _write(name, each) for key, each in value.items()}}
    if isinstance(value, Sequence) and not hasattr(value, "built_by"):
        return [_write(name, each) for each in value]
    raise TypeError(f"`{name}` is {value!r:.60} ({type(value).__name__}), which no file can say.")


def _read(value: Any) -> Any:
    if isinstance(value, Mapping) and "builder" in value:
        return from_json(value)
    if isinstance(value, Mapping) and "entries" in value:
        return {name: _read(each) for name, each in value["entries"].items()}
    if isinstance(value, Mapping):
        flat = np.frombuffer(base64.b64decode(value["array"]), value["dtype"])
        return flat.reshape(value["shape"])
    return tuple(_read(each) for each in value) if isinstance(value, list) else value


class UnknownBuilderError(ValueError):
    """A recipe of a builder that this version does not have."""


def rebuilt(recipe: Recipe, rooms: Mapping[str, Any]) -> Any:
    """Calls the builder of a recipe again, and before it those of its arguments.

    Args:
      recipe: from `from_json`.
      rooms: name -> module, of which the names in `__all__` are builders.

    Raises:
      UnknownBuilderError: for a builder that is not there.
    """
    module, _, name = recipe.builder.rpartition(".")
    if module not in rooms or name not in rooms[module].__all__:
        raise UnknownBuilderError(recipe.builder)

    def resolved(value: Any) -> Any:
        if isinstance(value, Recipe):
            return rebuilt(value, rooms)
        if isinstance(value, Mapping):
            return {key: resolved(each) for key, each in value.items()}
        if isinstance(value, tuple):
            return tuple(map(resolved, value))
        return value

    return getattr(rooms[module], name)(
        **{name: resolved(value) for name, value in recipe.arguments.items()}
    )


def arguments_of(fn: Callable, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name; keywords that a builder hands on stand beside its own."""
    bound = inspect.signature(fn).bind(*args, **kwargs)
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = inspect.signature(fn).parameters[name].kind
        found |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return found


def _signature(fn: Callable, options_of: Callable | None, sets: Sequence[str]) -> inspect.Signature:
    """That of `fn`, with the options that it hands on by name."""
    signature = inspect.signature(fn)
    if options_of is None:
        return signature
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    known = {*sets, *(p.name for p in own)}
    handed_on = [
        p
        for p in inspect.signature(options_of).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in known
    ]
    return signature.replace(parameters=[*own, *handed_on])


def recorded(
    attach: Callable[[Any, Recipe], Any],
    *,
    options_of: Callable | None = None,
    sets: Sequence[str] = (),
) -> Callable[[_Builder], _Builder]:
    """Decorates a builder: what it returns carries its `Recipe`.

    Args:
      attach: `attach(built, recipe)`, the same with the recipe.
      options_of: what the builder hands its `**options` to; they become part of its signature.
      sets: those of them that it sets itself.
    """

    def decorate(fn: _Builder) -> _Builder:
        name = f"{fn.__module__.split('.')[1]}.{fn.__name__}"

        @functools.wraps(fn)
        def build(*args, **kwargs):
            built = fn(*args, **kwargs)
            arguments = arguments_of(fn, args, kwargs)
            arguments.pop("model", None)
            return attach(built, Recipe(name, arguments))

        build.__signature__ = _signature(fn, options_of, sets)  # type: ignore[attr-defined]
        return cast(_Builder, build)

    return decorate


def attach(model, recipe: Recipe):
    """The same model with a recipe."""
    parts = tuple(model._replace(recipe=None))
    return model._replace(recipe=dataclasses.replace(recipe, parts=parts))


of_model = recorded(attach)
