"""Where a run computes: its mesh of devices, and the processes it belongs to.

It changes no number beyond floating-point order, so a run may be continued under another one.
"""

import dataclasses
import re

from aiwae_jax.cli.flags import require
from aiwae_jax.options import check, option
from aiwae_jax.parallel import sharding


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes of one run; without `coordinator` a cluster's environment tells the rest."""

    is_distributed: bool = option(
        False,
        flag="distributed",
        help="This is one of several processes of one run, on one host or many; Slurm, Open MPI "
        "and Cloud TPU tell which, elsewhere the next three flags do. All need the same --workdir, "
        "on a shared disk.",
    )
    coordinator: str | None = option(None, help="host:port at which process 0 awaits the others.")
    num_processes: int | None = option(None, at_least=1, help="How many there are.")
    process_id: int | None = option(None, at_least=0, help="Which one this is, from 0 on.")

    def __post_init__(self):
        """Raises ValueError for a part that cannot be, or that is missing."""
        check(self)
        said = {
            name: getattr(self, name) for name in ("coordinator", "num_processes", "process_id")
        }
        given = [name for name, value in said.items() if value is not None]
        if not given:
            return
        if len(given) < len(said):
            others = ", ".join(f"`{name}`" for name in said)
            raise ValueError(f"`{given[0]}` needs the others of {others}.")
        if self.process_id >= self.num_processes:
            raise ValueError(
                f"`process_id` must lie in 0 .. {self.num_processes - 1}, got {self.process_id}."
            )
        if re.fullmatch(r"\S+:\d+", self.coordinator) is None:
            raise ValueError(f"`coordinator` must be host:port, got {self.coordinator!r}.")
        object.__setattr__(self, "is_distributed", True)


@dataclasses.dataclass(frozen=True)
class Layout(Processes):
    """The same, and how training is split over their devices."""

    mesh: str | None = option(
        None,
        help="How training is split over devices: data:8, or data:4,particle:2, which also splits "
        "the K particles of each image. Default: data:N with the largest N that divides the batch. "
        "Evaluation takes all devices.",
    )

    def __post_init__(self):
        """Raises ValueError for a layout that cannot be."""
        super().__post_init__()
        parts = [re.fullmatch(r"(\w+):(\d+)", part) for part in (self.mesh or "data:1").split(",")]
        sizes = {part[1]: int(part[2]) for part in parts if part}
        if (
            not all(parts)
            or len(sizes) < len(parts)
            or not set(sizes) <= set(sharding.AXES)
            or min(sizes.values()) < 1
        ):
            raise ValueError(f"`mesh` must be like data:4 or data:4,particle:2, got {self.mesh!r}.")

    def num(self, axis: str) -> int | None:
        """Devices along an axis; None where nothing is said of it."""
        sizes = dict(part.split(":") for part in (self.mesh or "").split(",") if part)
        return int(sizes[axis]) if axis in sizes else None

    def check_splits(self, axis: str, **numbers: int | None) -> None:
        """Raises UsageError where an axis cannot split one of these, each by its flag."""
        size = self.num(axis) or 1
        for flag, number in numbers.items():
            require(
                (number or 0) % size == 0, f"--mesh: {axis}:{size} must divide --{flag}={number}."
            )
