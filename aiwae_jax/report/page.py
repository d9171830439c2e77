"""A report as one HTML file that needs nothing else: numbers, pictures, configuration, command."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiwae_jax.report import look, sections
from aiwae_jax.report.extremes import Table
from aiwae_jax.report.markup import words
from aiwae_jax.report.text import Description


def render(
    folder: pathlib.Path,
    report: dict[str, Any],
    description: Description,
    captions: Mapping[str, str],
    *,
    rows: Table | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """The page of a report.json.

    Args:
      folder: with its pictures.
      report: what it says.
      description: of the run.
      captions: by the names of the pictures.
      rows: the least and the most likely rows, see `extremes.table`.
      curves: columns of the learning curves.
    """
    page = sections.Page(folder, report, description, captions, rows, curves)
    title, seed = words(description.title), report["config"]["training"].get("seed", 0)
    parts = [
        f"<header><h1>{title}</h1><p>{words(description.summary)}, {report['epochs']:g} epochs, "
        f"seed {seed}; made by aiwae_jax</p></header>",
        *(render_section(page) for render_section in sections.ALL),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{look.STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<script>{look.SCRIPT}</script></body></html>\n"
    )
