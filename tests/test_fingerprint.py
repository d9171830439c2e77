"""Names of stored pieces: the same for the same question, others for another one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from aiwae_jax import distributions, evaluate, fingerprint

ARRAY = np.arange(3.0)


def scaled(factor):
    return lambda w, x, z: factor * jnp.sum(w * z)


def test_a_digest_changes_with_arrays_settings_and_code_and_with_nothing_else():
    settings = evaluate.Settings()
    questions = {
        "a": (Partial(scaled(1.0), ARRAY), settings),
        "another number in a closure": (Partial(scaled(2.0), ARRAY), settings),
        "another array": (Partial(scaled(1.0), ARRAY + 1), settings),
        "other settings": (Partial(scaled(1.0), ARRAY), evaluate.Settings(num_chains=3)),
        "other code": (Partial(lambda w, x, z: jnp.prod(w * z), ARRAY), settings),
        "another function inside": (Partial(functools.partial(scaled(3.0)), ARRAY), settings),
        "another one, jitted": (Partial(jax.jit(scaled(4.0)), ARRAY), settings),
        "an array in a closure": (Partial(scaled(ARRAY), ARRAY), settings),
        "another array in a closure": (Partial(scaled(ARRAY + 1), ARRAY), settings),
        "random keys in one": (Partial(scaled(jax.random.key(0)), ARRAY), settings),
        "another default": (Partial(lambda w, x, z, c=2.0: c * jnp.sum(w * z), ARRAY), settings),
    }
    found = {name: fingerprint.digest(*question) for name, question in questions.items()}
    assert len(set(found.values())) == len(found)
    again = fingerprint.digest(Partial(scaled(1.0), ARRAY.copy()), evaluate.Settings())
    assert again == found["a"]


@pytest.mark.slow
@pytest.mark.parametrize("is_named", [True, False])
def test_a_store_does_not_answer_for_a_function_that_was_corrected(is_named):
    prior = distributions.standard_normal(2)
    store, x = {}, np.zeros((2, 1), np.float32)
    settings = evaluate.Settings(num_temperatures=3, num_chains=2, num_leapfrog_steps=1)
    plan = evaluate.Plan(np.linspace(0, 1, 3), np.full(1, 0.1), 0)

    def estimate(log_joint_fn):
        fn = Partial(log_joint_fn) if is_named else log_joint_fn
        target = evaluate.Target(fn, lambda x: prior)
        return evaluate.log_likelihood(
            *(jax.random.key(0), target, x, settings), plan=plan, store=store
        ).mean

    wrong = estimate(lambda x, z: prior.log_prob(z) + 5.0)
    right = estimate(lambda x, z: prior.log_prob(z))
    assert wrong == pytest.approx(5.0, abs=1e-4)
    assert right == pytest.approx(0.0, abs=1e-4)
    assert estimate(lambda x, z: prior.log_prob(z)) == right
