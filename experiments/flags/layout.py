"""Flags of where a run computes: its mesh of devices, and the processes it belongs to.

They change no number beyond floating-point order, so a run may be continued under others.
"""

import dataclasses
import re

from absl import flags as absl_flags

from aiwae_jax.parallel import sharding
from experiments.flags import common

_COORDINATES = ("coordinator", "num_processes", "process_id")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a run computes.

    Attributes:
      num_data: devices that share each batch; None for as many as divide it.
      num_particle: devices that share the particles of each datum.
      is_distributed: whether this is one process of several.
      coordinator: host:port of process 0; None where a cluster's environment tells.
      num_processes: likewise.
      process_id: likewise.
    """

    num_data: int | None = None
    num_particle: int = 1
    is_distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


ANYWHERE = Layout()


def define_mesh(fv: absl_flags.FlagValues) -> None:
    """Defines the flag that says how training is split; evaluation takes all devices."""
    absl_flags.DEFINE_string(
        "mesh",
        None,
        "How training is split over devices: data:8, or data:4,particle:2, which also splits the K "
        "particles of each image. Default: data:N with the largest N that divides the batch. "
        "Evaluation takes all devices.",
        flag_values=fv,
    )


def define(fv: absl_flags.FlagValues) -> None:
    """Defines those of the processes."""
    absl_flags.DEFINE_bool(
        "distributed",
        False,
        "This is one of several processes of one run, on one host or many; Slurm, Open MPI and "
        "Cloud TPU tell which, elsewhere the next three flags do. All need the same --workdir, on "
        "a shared disk.",
        flag_values=fv,
    )
    absl_flags.DEFINE_string(
        "coordinator", None, "host:port at which process 0 awaits the others.", flag_values=fv
    )
    absl_flags.DEFINE_integer("num_processes", None, "How many there are.", flag_values=fv)
    absl_flags.DEFINE_integer("process_id", None, "Which one this is, from 0 on.", flag_values=fv)


def parse(fv: absl_flags.FlagValues) -> Layout:
    """The layout that the flags describe.

    Raises:
      common.UsageError: for one that cannot be.
    """
    mesh = _parse_mesh(fv.mesh) if "mesh" in fv else {}
    given = [name for name in _COORDINATES if fv[name].value is not None]
    common.require(
        len(given) in (0, len(_COORDINATES)),
        f"--{given[0] if given else ''} needs the others of "
        f"{', '.join('--' + name for name in _COORDINATES)}.",
    )
    if given:
        common.check_at_least("num_processes", fv.num_processes, 1)
        common.require(
            0 <= fv.process_id < fv.num_processes,
            f"--process_id must lie in 0 .. {fv.num_processes - 1}, got {fv.process_id}.",
        )
        common.require(
            re.fullmatch(r"\S+:\d+", fv.coordinator) is not None,
            f"--coordinator must be host:port, got {fv.coordinator!r}.",
        )
    return Layout(
        num_data=mesh.get(sharding.DATA),
        num_particle=mesh.get(sharding.PARTICLE, 1),
        is_distributed=fv.distributed or bool(given),
        coordinator=fv.coordinator,
        num_processes=fv.num_processes,
        process_id=fv.process_id,
    )


def _parse_mesh(text: str | None) -> dict[str, int]:
    """data:4,particle:2 -> {"data": 4, "particle": 2}."""
    if text is None:
        return {}
    parts = [re.fullmatch(r"(\w+):(\d+)", part) for part in text.split(",")]
    sizes = {part[1]: int(part[2]) for part in parts if part}
    common.require(
        all(parts)
        and len(sizes) == len(parts)
        and set(sizes) <= set(sharding.AXES)
        and min(sizes.values()) >= 1,
        f"--mesh must be like data:4 or data:4,particle:2, got {text!r}.",
    )
    return sizes


def check(layout: Layout, batch_size: int, num_particles: int, chunk: int | None) -> None:
    """Raises UsageError where batch or particles cannot be split like this."""
    common.require(
        batch_size % (layout.num_data or 1) == 0,
        f"--mesh: data:{layout.num_data} must divide --batch_size={batch_size}.",
    )
    common.require(
        num_particles % layout.num_particle == 0,
        f"--mesh: particle:{layout.num_particle} must divide --K={num_particles}.",
    )
    common.require(
        (chunk or num_particles) % layout.num_particle == 0,
        f"--mesh: particle:{layout.num_particle} must divide --particle_chunk={chunk}.",
    )
