"""The machine's own best fp32 matrix-product rate on all cores, by NumPy or PyTorch."""

import importlib.util
from collections.abc import Callable

import numpy as np

_SIZE = 2048


def matrix_products() -> dict[str, Callable[[], None]]:
    """Sides to time: one product of two `[2048, 2048]` matrices."""
    a = np.random.default_rng(0).random((_SIZE, _SIZE), np.float32)
    sides = {"matrix product, NumPy": lambda: np.matmul(a, a)}
    if importlib.util.find_spec("torch"):
        import torch

        b = torch.from_numpy(a)
        sides["matrix product, PyTorch"] = lambda: torch.matmul(b, b)
    return sides


def rate(medians: dict[str, float]) -> float:
    """Operations per second of the faster one."""
    return 2 * _SIZE**3 / min(medians[name] for name in medians if name.startswith("matrix"))
