"""Where a number was made: versions, device, machine."""

import importlib.metadata
import os
import platform
from typing import Any

import jax


def num_cores() -> int:
    """CPU cores that this process may run on; `taskset` and containers allow some of all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Versions and device that produced a number."""
    names = ("aiwae_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    versions = {}
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
