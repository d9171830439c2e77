"""Programs that run for longer than they compile are optimized, unlike all others of the tests."""

from functools import partial

import jax

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
