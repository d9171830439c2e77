"""What a phase says that it moves, one train step moves, to the last leaf; and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import methods, models, train
from aiwae_jax.models import flows

BUILDS = {
    "vae": methods.vae,
    "iwae": lambda m: methods.iwae(m, 3),
    "stl": lambda m: methods.stl(m, 3),
    "dreg": lambda m: methods.dreg(m, 3),
    "aiwae": lambda m: methods.aiwae(m, 3, 3, 2),
    "aiwae_wake": lambda m: methods.aiwae_wake(m, 3, 3, 2),
    "hoffman": lambda m: methods.hoffman(m, 2, 2),
    "persistent": lambda m: methods.persistent(m, 2, 2),
    **{f"rws {how}": lambda m, how=how: methods.rws(m, 3, how) for how in methods.RWS_PHI},
    "hvae": lambda m: methods.hvae(m, 1, 2, tempering="learned"),
    "hvi": lambda m: methods.hvi(m, 1, 2, 2),
    "uha": lambda m: methods.uha(m, 1, 3, 2),
}
NEEDS_DENSITY = ("aiwae_wake", *(f"rws {how}" for how in methods.RWS_PHI))


def model_of(family):
    if family == "two_layer":
        return models.two_layer_vae(6, 2, hidden_sizes=(8, 8), initialization="torch")
    return models.bernoulli_vae(6, 3, hidden_sizes=(8,), initialization="torch", posterior=family)


def check(name, family):
    model = model_of(family)
    options = {"chain_space": "base"} if family in flows.FLOWS else {}
    if name in ("aiwae", "uha") and options:
        method = getattr(methods, name)(model, 1, 3, 2, **options)
    else:
        method = BUILDS[name](model)
    optimizers = train.adam(0.01)
    state = train.init_state(jax.random.key(0), model, method, optimizers)
    before = jax.device_get(state.params)
    batch = jax.random.bernoulli(jax.random.key(1), 0.4, (16, 6)).astype(jnp.float32)
    step = train.make_train_step(method, optimizers)
    state = state._replace(kept=step.init_kept(state, batch))
    state, _ = step(jax.random.key(2), state, batch)
    updated = {part for phase in method for part in phase.updates}
    for part in state.params._fields:
        pairs = zip(
            jax.tree_util.tree_leaves_with_path(getattr(before, part)),
            jax.tree.leaves(getattr(state.params, part)),
            strict=True,
        )
        for (path, old), new in pairs:
            place = f"{name}, {family}: {part}{jax.tree_util.keystr(path)}"
            assert np.any(np.asarray(new) != old) == (part in updated), place


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDS)
def test_one_step_moves_every_leaf_that_the_method_trains(name):
    check(name, "normal")


@pytest.mark.grid
@pytest.mark.slow
@pytest.mark.parametrize("family", ["full", "planar", "iaf", "two_layer"])
@pytest.mark.parametrize("name", BUILDS)
def test_one_step_moves_every_leaf_with_every_posterior(name, family):
    if family in flows.FLOWS and name in NEEDS_DENSITY:
        with pytest.raises(ValueError, match="needs log q"):
            check(name, family)
    else:
        check(name, family)
