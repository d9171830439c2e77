"""Prints setup.py's lower bounds as exact versions, which pip takes as constraints."""

import ast
import pathlib
import re

EXTRAS = ("run", "test")


def lower_bounds(setup: str) -> list[str]:
    """Requirements like `jax==0.7` of the core and of the extras that the tests need."""
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(setup).body
        if isinstance(node, ast.Assign)
    }
    named = lists["CORE"] + [name for extra in EXTRAS for name in lists["EXTRAS"][extra]]
    return [re.sub("[>~]=", "==", name) for name in named]


if __name__ == "__main__":
    text = pathlib.Path(__file__).parent.parent.joinpath("setup.py").read_text(encoding="utf-8")
    print(*lower_bounds(text), sep="\n")
