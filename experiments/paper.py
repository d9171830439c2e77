"""The 168 numbers of the paper's Tables 1 to 4, as data."""

import csv
import functools
import importlib.resources
from typing import NamedTuple


class Cell(NamedTuple):
    """The place of one column in the tables; T is None for IWAE."""

    dataset: str
    num_particles: int
    method: str
    num_temperatures: int | None


LATENT_SIZE = 50
NUM_STAGES = 8


def batch_size(method: str) -> int:
    """The authors', of their own two methods and of all that are like one of them."""
    return 128 if method in ("aiwae", "aiwae_wake") else 20


@functools.cache
def tables() -> dict[Cell, dict[str, tuple[float, float | None]]]:
    """All cells: metric -> (mean, standard deviation over 5 repeats, or None where not given)."""
    cells: dict[Cell, dict[str, tuple[float, float | None]]] = {}
    resource = importlib.resources.files("experiments") / "paper_tables.csv"
    with resource.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            num_temperatures = int(row["T"]) if row["T"] else None
            cell = Cell(row["dataset"], int(row["K"]), row["method"], num_temperatures)
            std = float(row["std"]) if row["std"] else None
            cells.setdefault(cell, {})[row["metric"]] = (float(row["mean"]), std)
    return cells
