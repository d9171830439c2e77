"""Single data: how likely each is, and which are the least and the most likely ones."""

import math
from typing import Any

from aiwae_jax.report import markup
from aiwae_jax.report.sections import shown
from aiwae_jax.report.sections.of_page import Page


def render(page: Page) -> str:
    """Histogram, and the extremes as images or as a table of rows."""
    heading = f"Single {page.description.data}"
    return markup.section("data", heading, shown.of(page, "data"), rows(page))


def rows(page: Page) -> str:
    """The table of rows; nothing where data are images."""
    if page.rows is None:
        return ""
    names = [markup.words(name) for name, _ in page.rows.columns]
    columns = [[markup.words(_short(value)) for value in each] for _, each in page.rows.columns]
    said = "The test rows that the model finds least and most likely, with their NLL in nats."
    if page.rows.num_left_out:
        said += f" {page.rows.num_left_out} further columns are left out."
    cells, num = list(zip(*columns, strict=True)), page.rows.num_worst
    groups = {"Highest NLL": cells[:num], "Lowest NLL": cells[num:]}
    return "<h3>Least and most likely</h3>" + markup.grouped(names, groups) + markup.notes([said])


def _short(value: Any) -> str:
    """Words as they are, numbers with four digits, nothing for what is missing."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)
