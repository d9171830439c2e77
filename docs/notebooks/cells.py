"""Notebooks as text: their cells, and the outputs that `make notebooks` has kept beside them.

A notebook is MyST Markdown, which Jupytext opens in Jupyter. What its cells put out is committed in
`outputs/`: the texts in a JSON file that also says of which code, when and on what kind of machine,
and the pictures beside it. So the documentation shows them and executes nothing.
"""

import hashlib
import json
import pathlib
import re
from typing import Any

FOLDER = pathlib.Path(__file__).parent
OUTPUTS = FOLDER / "outputs"
LARGEST_PICTURE = 60_000  # bytes, of each picture that is committed

_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```[ ]*$", re.DOTALL | re.MULTILINE)
_OPTION = re.compile(r":[\w-]+:.*")


def names() -> list[str]:
    """Names of all notebooks."""
    return sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")


def source(name: str) -> str:
    """The text of a notebook."""
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def of_text(text: str) -> list[str]:
    """The code of each code cell of a notebook's text, without the cell's options."""
    found = []
    for body in _CELL.findall(text):
        lines = body.splitlines()
        while lines and (_OPTION.fullmatch(lines[0]) or not lines[0].strip()):
            del lines[0]
        found.append("\n".join(lines).rstrip())
    return found


def fingerprint(text: str) -> str:
    """SHA-256 of a notebook's code, all cells together: what follows depends on what was before."""
    return hashlib.sha256("\n\n".join(of_text(text)).encode()).hexdigest()


def read_outputs(name: str) -> dict[str, Any]:
    """What is kept of a notebook; of one that was never executed nothing fits."""
    path = OUTPUTS / f"{name}.json"
    if not path.exists():
        return {"code_sha256": None, "made": {}, "cells": []}
    return json.loads(path.read_text(encoding="utf-8"))


def is_current(name: str, text: str) -> bool:
    """Whether the outputs that are kept are those of this code."""
    return read_outputs(name)["code_sha256"] == fingerprint(text)
