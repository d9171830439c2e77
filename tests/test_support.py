"""Data outside a likelihood's support are refused with the sentence that helps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import support

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (RNG.integers(0, 17, (5, 4)), r"from 0 to 16.*data\.binarize\(key, x, 16\.0\)"),
        (RNG.integers(0, 256, (50, 4)).astype(np.uint8), r"data\.binarize\(key, x, 255\.0\)"),
        (RNG.random((5, 4), dtype=np.float32), r"100% of them neither.*data\.binarize\(key, x, 1"),
        (jnp.asarray([[0.0, 0.5]]), r"50% of them neither.*binarized anew"),
        (RNG.normal(size=(9, 4)), r"standardized .* need a Gaussian likelihood"),
        (np.array([-1, 1]), r"\(x \+ 1\) / 2"),
        (np.array([[0, np.nan, 1, np.inf]]), r"infinity in 2 of 4 values at \[0, 1\], \[0, 3\]\."),
        ({"a": np.zeros(2), "b": np.full(2, 0.5)}, r"`x\['b'\]` must be 0s and 1s"),
    ],
)
def test_what_is_not_binary_is_refused_with_what_to_do(x, message):
    with pytest.raises(ValueError, match=message):
        support.check_binary(x, name="x")


@pytest.mark.parametrize("x", [np.array(["a"]), np.array([1j]), jax.random.key(0)])
def test_what_is_no_number_is_a_type_error(x):
    with pytest.raises(TypeError, match="`x` must be an array of numbers"):
        support.check_binary(x, name="x")


def test_bits_of_any_kind_pass_and_so_do_tracers():
    bits = np.array([[0, 1], [1, 1]])
    for dtype in (bool, np.uint8, np.int64, np.float32, jnp.bfloat16):
        support.check_binary(bits.astype(dtype), name="x")
        support.check_binary({"x": jnp.asarray(bits.astype(np.float32))}, name="x")
    jax.jit(lambda x: support.check_binary(x, name="x"))(jnp.full(3, 0.5))
    support.check_binary(np.zeros((0, 3)), name="x")


def test_levels_outside_their_range_are_refused():
    support.check_levels(np.array([0, 255], np.uint8), 255.0, name="x")
    with pytest.raises(ValueError, match=r"from 20 to 219; is `max_level` 255\?"):
        support.check_levels(np.array([20, 219]), 1.0, name="x")
    with pytest.raises(ValueError, match="need a Gaussian likelihood"):
        support.check_levels(np.array([-1.5, 0.3]), 1.0, name="x")
    with pytest.raises(ValueError, match="must be finite"):
        support.check_levels(np.array([np.nan, 0.3]), 1.0, name="x")
