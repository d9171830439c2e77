"""The machine's own best fp32 matrix-product rate: of all its cores, or of its accelerator."""

import functools
import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import torch_side

_CPU_SIZE, _ACCELERATOR_SIZE = 2048, 8192  # an accelerator is not filled by the smaller one
# What JAX calls each precision; only the first one makes the limit.
_PRECISIONS = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "bfloat16"}


def _size() -> int:
    return _CPU_SIZE if jax.default_backend() == "cpu" else _ACCELERATOR_SIZE


def _by_jax(a: np.ndarray, precision: str) -> Callable[[], None]:
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    b = jnp.asarray(a, dtype)
    product = jax.jit(lambda b: jnp.matmul(b, b, precision=_PRECISIONS[precision]))
    return lambda: jax.block_until_ready(product(b))


def _by_torch(a: np.ndarray) -> Callable[[], None]:
    import torch

    b = torch.from_numpy(a).to(torch_side.device())

    def call() -> None:
        torch.matmul(b, b)
        torch_side.wait()

    return call


def matrix_products() -> dict[str, Callable[[], Callable[[], None]]]:
    """How to build sides to time: one product of two square matrices, in fp32 by each library.

    On an accelerator in lower precisions too, for the record.
    """
    size = _size()
    a = np.random.default_rng(0).random((size, size), np.float32)
    if jax.default_backend() == "cpu":
        sides = {"matrix product, NumPy": lambda: lambda: np.matmul(a, a)}
    else:
        sides = {"matrix product, JAX": functools.partial(_by_jax, a, "float32")}
        for name in list(_PRECISIONS)[1:]:
            sides[f"{name} matrix product, JAX"] = functools.partial(_by_jax, a, name)
    if importlib.util.find_spec("torch"):
        sides["matrix product, PyTorch"] = functools.partial(_by_torch, a)
    return sides


def rates(medians: dict[str, float]) -> dict[str, float]:
    """Operations per second of every product that was timed."""
    operations = 2 * _size() ** 3
    return {name: operations / medians[name] for name in medians if "matrix product" in name}


def rate(medians: dict[str, float]) -> float:
    """Operations per second of the fastest in fp32."""
    return max(value for name, value in rates(medians).items() if name.startswith("matrix"))
