"""Tables as Markdown and LaTeX, as the paper has them: metrics down, K, method and T across."""

from collections.abc import Sequence

import tabulate

from aiwae_jax.cli.settings import FLAGS
from aiwae_jax.report.text import METRICS, format_mean
from experiments.table import collect
from experiments.table.collect import Average, Column, Table, Value

_LABELS = {key: name for key, (name, _) in METRICS.items()} | {
    "bidirectional_gap": "bidirectional gap"
}


def heading(column: Column) -> str:
    """K=5 AIWAE T=8 b128."""
    parts = [f"K={column.num_particles}", column.method.upper()]
    if column.num_temperatures is not None:
        parts.append(f"T={column.num_temperatures}")
    if column.num_leapfrog_steps not in (None, 5):  # the paper's
        parts.append(f"L={column.num_leapfrog_steps}")
    if column.num_moves is not None:
        parts.append(f"M={column.num_moves}")
    if column.model != "one_layer":
        parts.append(column.model)
    for name, value in column.unusual().items():
        if name == "num_flow_layers":
            parts.append(f"x{value}")
        elif name != "num_moves":
            parts.append(value if isinstance(value, str) else f"{FLAGS[name]}={value}")
    return " ".join([*parts, f"b{column.batch_size}"])


def _ours(value: Value | None) -> str:
    if value is None:
        return ""
    return format_mean(f"{value.mean:.2f}", value.std)


def _papers(cell: Average, key: str) -> str:
    theirs = (cell.paper or {}).get(key)
    if theirs is None:
        return ""
    return format_mean(f"{theirs['mean']:g}", theirs["std"])


def rows(table: Table) -> list[list[str]]:
    """The table's body: a label and one text for each column."""
    cells = list(table.cells.values())
    in_stds = [collect.differences(cell) for cell in cells]
    body = []
    for key, label in _LABELS.items():
        ours = [_ours(cell.values.get(key)) for cell in cells]
        if not any(ours):
            continue
        body.append([label, *ours])
        theirs = [_papers(cell, key) for cell in cells]
        if any(theirs):
            body.append([" paper", *theirs])
        far = [f"{found[key]:+.1f}" if key in found else "" for found in in_stds]
        if any(far):
            body.append([" difference / paper's std", *far])
    body.append(["seeds", *(str(len(cell.seeds)) for cell in cells)])
    body.append(["training minutes", *(f"{cell.minutes:.1f}" for cell in cells)])
    return body


def _setting(table: Table) -> str:
    return f"{table.setting}; made by {table.machines}"


def _join(tables: Sequence[Table], head: str, style: str) -> str:
    """All tables in a style of tabulate, each below its head of `title` and `setting`."""
    found = []
    for table in tables:
        columns = [heading(column) for column in table.cells]
        lines = [["" if style == "github" else table.title, *columns], *rows(table)]
        if style == "github":
            lines = [[text.replace("|", r"\|") for text in line] for line in lines]
        body = tabulate.tabulate(
            lines,
            "firstrow",
            style,
            colalign=["left", *["right"] * len(columns)],
            disable_numparse=True,
        )
        found.append(f"{head.format(title=table.title, setting=_setting(table))}\n{body}\n")
    return "\n".join(found)


def markdown(tables: Sequence[Table]) -> str:
    """All tables, each under its data set and its setting."""
    head = "### {title}\n\nmean (standard deviation over seeds), nats; {setting}\n"
    return _join(tables, head, "github")


def latex(tables: Sequence[Table]) -> str:
    """The same as `tabular`s for the booktabs package."""
    return _join(tables, "% {title}; {setting}", "latex_booktabs")
