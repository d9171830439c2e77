"""Where a number was made: versions, device, machine."""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
from typing import Any

import jax

from aiwae_jax import __version__


def num_cores() -> int:
    """CPU cores that this process may run on; `taskset` and containers allow some of all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Versions and device that produced a number."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = {"aiwae_jax": __version__}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "versions": versions,
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "machine": f"{platform.system()} {platform.machine()}, {num_cores()} CPU cores",
    }


def of_bits() -> dict[str, Any]:
    """All that the bits of a number may depend on, beside the program and what it is given."""
    return {
        **environment(),
        "processor": processor(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "is_x64": bool(jax.config.jax_enable_x64),
    }


def processor() -> str:
    """The kind of CPU with the instructions that it knows, as a hash where the system tells."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "cpu family", "model\t", "flags")
    facts = sorted({line for line in lines if line.startswith(wanted)})
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
