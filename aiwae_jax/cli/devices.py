"""Tells JAX what it must know before it first touches a device."""

import contextlib
import os
import sys

import jax

from aiwae_jax import data
from aiwae_jax.cli.flags import UsageError
from aiwae_jax.cli.layout import Processes
from aiwae_jax.parallel import processes
from aiwae_jax.report.environment import num_cores as num_cores

_SECONDS_TO_JOIN = 300
_SECONDS_TO_LEAVE = 60  # after which one that failed takes the others with it


def configure() -> None:
    """One CPU device for each core that may be used, and compiled programs kept for later starts.

    JAX_NUM_CPU_DEVICES and JAX_COMPILATION_CACHE_DIR, where set, are left alone. Later calls in the
    same process change nothing.
    """
    if jax.config.jax_num_cpu_devices < 0:
        try:
            jax.config.update("jax_num_cpu_devices", num_cores())
        except RuntimeError:  # some device is in use already
            return
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(data.cache_folder() / "compiled"))


def share_one(ordered_blocks: int | None) -> None:
    """Makes two CPU devices of a single one, for a batch in ordered blocks, see `train.blocks`.

    Of one that JAX_NUM_CPU_DEVICES asks for, too: it says what there is, and both share a core.
    """
    if ordered_blocks and jax.config.jax_num_cpu_devices == 1:
        with contextlib.suppress(RuntimeError):  # it is in use already
            jax.config.update("jax_num_cpu_devices", 2)


def why_none() -> str | None:
    """Why JAX has no device to compute on, in one line; None if it has some."""
    try:
        jax.devices()
    except Exception as error:  # of many kinds: it even asserts
        names = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "CUDA_VISIBLE_DEVICES")
        given = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
        reason = str(error).strip().partition("\n")[0] or "it is not installed for that"
        return (
            f"JAX finds no device with {' '.join(given) or 'this installation'} ({reason}); unset "
            "what is wrong, or install JAX for that device."
        )
    return None


def join(layout: Processes) -> None:
    """Joins the other processes of a run, if there are any; only process 0 keeps its stdout.

    Raises:
      UsageError: if they cannot be found.
    """
    if not layout.is_distributed:
        return
    try:
        jax.distributed.initialize(
            coordinator_address=layout.coordinator,
            num_processes=layout.num_processes,
            process_id=layout.process_id,
            initialization_timeout=_SECONDS_TO_JOIN,
            shutdown_timeout_seconds=_SECONDS_TO_LEAVE,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--distributed: the other processes could not be joined ({reason}); where no "
            "cluster's environment tells, give --coordinator, --num_processes and --process_id."
        ) from None
    if not processes.is_primary():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open to the end of the process
