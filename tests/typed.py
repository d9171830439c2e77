"""What users write, for a type checker to read (`make types`): nothing here is ever called."""

import pathlib
from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import aiwae_jax
from aiwae_jax import (
    ais,
    data,
    distributions,
    evaluate,
    likelihoods,
    methods,
    models,
    moves,
    networks,
    report,
    samplers,
    train,
    types,
    weights,
)


def from_data_to_a_report(rows: np.ndarray, folder: pathlib.Path) -> float:
    """The README's own data and model."""
    dataset = data.from_arrays(rows[:400], rows[400:], name="mine", columns=["a", "b"])
    model = models.bernoulli_vae(16, 2, mean_image=rows[:400].mean(axis=0))
    method = methods.aiwae(model, num_particles=2, num_temperatures=4)
    run = train.fit(method, model, dataset, folder, epochs=5, batch_size=50, patience=3)
    settings = evaluate.Settings(num_temperatures=50)
    content = report.write(run, dataset, settings, num_examples=20)
    certified = report.verify(folder / "certificate.json", run, dataset)
    print(certified.words(), dataset.kind, dataset.image_shape)
    return float(content["nll_test"])


def with_a_trained_model(rows: np.ndarray, folder: str) -> list[float]:
    """Encode, score, sample, impute, export."""
    run = aiwae_jax.load(folder)
    mean, stddev = run.encode(rows)
    found = run.log_likelihood(rows, evaluate.Settings(num_chains=8), start="prior")
    assert_type(run, train.Run)
    assert_type(found, evaluate.Likelihood)
    x, z = run.sample(jax.random.key(0), 7)
    filled = run.impute(rows, level=0.5)
    run.export("weights.npz")
    numbers = [mean.sum(), stddev.sum(), z.sum(), filled.mean.sum(), found.mean]
    is_good: np.ndarray = found.is_reliable
    bound = evaluate.certificate(found)
    return [float(number) for number in numbers] + [float(is_good.mean()), bound.slack, len(x)]


def of_any_file_and_likelihood(path: str) -> types.Model:
    """A table with words in it."""
    data.from_file(path, label="who", missing="at_random")
    likelihood = likelihoods.columns(
        {"age,income": likelihoods.normal("per_column"), "colour": likelihoods.categorical(2)},
        ["age", "income", "colour"],
    )
    model = models.mlp_vae(3, 2, likelihood=likelihoods.masked(likelihood), hidden_sizes=(4,))
    assert_type(likelihood, likelihoods.Likelihood)
    assert_type(model, types.Model)
    return model


def of_two_networks() -> types.Method:
    """A model of one's own networks, by another method."""
    model = models.vae(
        networks.mlp(5, (8,), (2, 2)),
        networks.mlp(2, (8,), (5, 5)),
        likelihood=likelihoods.normal(),
    )
    return methods.iwae(model, 5)


def between_two_densities(key: jax.Array) -> jax.Array:
    """The README's annealing."""

    def log_wide(z: jax.Array) -> jax.Array:
        return jnp.sum(-0.5 * (z / 3) ** 2)

    def log_ring(z: jax.Array) -> jax.Array:
        return -0.5 * ((jnp.linalg.norm(z) - 3) / 0.3) ** 2

    def chain(key: jax.Array) -> jax.Array:
        z = 3 * jax.random.normal(key, (2,))
        betas = ais.linear_schedule(100)
        z, log_weight, info = ais.run_chain(
            key, z, log_wide, log_ring, betas, 0.2, move=moves.hmc(5)
        )
        return jnp.asarray(log_weight) + 0 * jnp.asarray(info.acceptance).sum()

    return weights.log_mean_exp(jax.vmap(chain)(jax.random.split(key, 20)))


def a_decoder_from_anywhere(w: dict[str, jax.Array], images: np.ndarray) -> float:
    """The README's evaluation of a decoder."""
    prior = distributions.standard_normal(2)

    def log_joint(w: dict[str, jax.Array], x: jax.Array, z: jax.Array) -> jax.Array:
        return distributions.Bernoulli(z @ w["w"]).log_prob(x) + prior.log_prob(z)

    def sample(w: dict[str, jax.Array], key: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = prior.sample(key)
        return distributions.Bernoulli(z @ w["w"]).sample(key), z

    target = evaluate.Target(Partial(log_joint, w), lambda x: prior, Partial(sample, w))
    settings = evaluate.Settings(num_temperatures=200)
    found = evaluate.log_likelihood(jax.random.key(2), target, images, settings)
    bounds = evaluate.bidirectional(jax.random.key(3), target, settings, plan=found.plan)
    search = evaluate.reach_gap(jax.random.key(4), target, settings, target_gap=0.1)
    assert_type(found, evaluate.Likelihood)
    assert_type(bounds, evaluate.Bidirectional)
    assert_type(search, evaluate.GapSearch)
    return found.mean + found.standard_error + bounds.gap + search.result.gap


def a_method_of_ones_own(model: types.Model) -> types.Method:
    """Phases, put together by hand."""
    method = methods.aiwae(model, 5, 8)
    return (*method[:1], *methods.vae(model)[-1:])


def an_estimator(rows: np.ndarray) -> np.ndarray:
    """In scikit-learn's words."""
    found: np.ndarray = aiwae_jax.AIWAE().fit(rows).score_samples(rows)
    return found


def a_sampler(model: types.Model) -> types.Sampler:
    """Particles by themselves."""
    return samplers.importance(model, 5)
