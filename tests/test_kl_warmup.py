"""The warm-up of the KL: ELBOs written out, and the weight that a training gives it."""

import json

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import own_table
import pytest

from aiwae_jax import methods, objectives, samplers, train
from aiwae_jax.cli import main as cli
from aiwae_jax.train import program

MODEL = lg.model()
X = jnp.asarray(lg.DATUM)


def written_out(z):
    """(mean log p(x|z), KL(q || p)) in double precision."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), lg.params())
    z, x = np.asarray(z, np.float64), np.asarray(X, np.float64)
    residual = x - z @ params.theta["weight"].T - params.theta["bias"]
    constant = -lg.X * np.log(lg.NOISE * np.sqrt(2 * np.pi))
    log_likelihood = constant - 0.5 * (residual**2).sum(axis=1) / lg.NOISE**2
    mean = params.phi["weight"] @ x + params.phi["bias"]
    log_scale = params.phi["log_scale"]
    divergence = 0.5 * (np.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale).sum()
    return log_likelihood.mean(), divergence


@pytest.fixture(scope="module")
def particles():
    sampler = samplers.importance(MODEL, 4)
    return sampler.draw(jax.random.key(0), lg.params(), X, sampler.init())[0]


@pytest.mark.parametrize("kl_weight", [0.0, 0.3, 1.0])
def test_the_elbo_at_a_weight_is_the_likelihood_without_that_much_kl(kl_weight, particles):
    elbo, params = objectives.elbo(MODEL), lg.params()
    log_likelihood, divergence = written_out(particles.z)
    found = elbo.value_at(jnp.asarray(kl_weight), params, particles)
    np.testing.assert_allclose(found, log_likelihood - kl_weight * divergence, rtol=1e-5)
    # By samples, where q has no closed-form KL.
    moved = particles._replace(posterior=None)
    found = elbo.value_at(jnp.asarray(kl_weight), params, moved)
    sampled = log_likelihood - np.mean(np.asarray(particles.log_weights, np.float64))
    np.testing.assert_allclose(found, log_likelihood - kl_weight * sampled, rtol=1e-5)
    if kl_weight == 1.0:
        np.testing.assert_allclose(found, elbo.value(params, moved), rtol=1e-6)


def test_a_weight_is_for_what_has_a_kl(particles):
    elbo, bound, half = objectives.elbo(MODEL), objectives.bound(), jnp.asarray(0.5)
    assert objectives.value_fn(elbo, None) is elbo.value
    assert objectives.value_fn(bound, half) is bound.value
    both = objectives.mean_of(one=elbo, other=bound)
    sets = {"one": particles, "other": particles}
    expected = 0.5 * (
        elbo.value_at(half, lg.params(), particles) + bound.value(lg.params(), particles)
    )
    np.testing.assert_allclose(
        objectives.value_fn(both, half)(lg.params(), sets), expected, rtol=1e-6
    )
    assert objectives.mean_of(one=bound).value_at is None
    assert objectives.elbo(MODEL._replace(prior=None)).value_at is None


def test_a_step_climbs_the_elbo_at_the_weight_of_its_number():
    method, optimizers = methods.vae(MODEL), train.adam(1e-3)
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    step = train.make_train_step(method, optimizers, kl_weight=lambda number: number / 4)
    batch = jnp.stack([X, -X, 0.5 * X])
    (phase,) = method
    for number in range(3):
        params, key = jax.tree.map(jnp.copy, state.params), jax.random.key(number + 7)
        keys = jax.random.split(key, (1, 3))[0]
        values = [
            phase.objective.value_at(
                jnp.asarray(0.25 * number),
                params,
                phase.sampler.draw(own_key, params, x, phase.sampler.init())[0],
            )
            for own_key, x in zip(keys, batch, strict=True)
        ]
        state, info = step(key, state, batch)
        np.testing.assert_allclose(
            info["theta+phi"]["objective"], np.mean(values), rtol=1e-5, err_msg=str(number)
        )


@pytest.mark.slow
def test_the_weight_rises_over_its_share_of_the_steps(tmp_path):
    method = methods.vae(own_table.factor_analysis())
    options = {"method": method, "learning_rate": 0.05, "lr_schedule": "constant"}
    runs = {
        share: own_table.fit(tmp_path / str(share), kl_warmup_share=share, **options)
        for share in (0.0, 0.5)
    }
    lines = (tmp_path / "0.5" / "metrics.jsonl").read_text().splitlines()
    weights = [json.loads(line)["kl_weight"] for line in lines]
    last_steps = 3 * np.arange(1, 7) - 1  # of 18, of which 9 warm up
    np.testing.assert_allclose(weights, np.minimum(last_steps / 9, 1.0), rtol=1e-6)
    assert "kl_weight" not in (tmp_path / "0.0" / "metrics.jsonl").read_text()
    scales = [float(np.mean(run.params.phi["log_scale"])) for run in runs.values()]
    assert scales[1] < scales[0]  # without its KL q is narrower


def test_a_method_without_a_kl_is_refused(tmp_path, capsys):
    model, dataset = own_table.factor_analysis(), own_table.table()
    settings = train.Settings(epochs=2, batch_size=20, kl_warmup_share=0.5)
    iwae, vae = methods.iwae(model, 2), methods.vae(model)
    said = "`kl_warmup_share`=0.5 weighs the KL of an ELBO, and no phase of iwae climbs one"
    with pytest.raises(ValueError, match=said):
        program.build(iwae, model, dataset, settings)
    with pytest.raises(ValueError, match="no phase of `method` climbs one"):
        train.make_train_step(iwae, train.adam(1e-3), kl_weight=lambda step: step / 9)
    legs = [train.Leg(vae, share=0.5), train.Leg(iwae, share=0.5)]
    assert program.build(legs, model, dataset, settings).kl_weight(1) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no phase of iwae"):
        program.build(legs[::-1], model, dataset, settings)
    program.build(methods.aiwae(model, 2, 3, 1), model, dataset, settings)  # φ's
    np.savez(tmp_path / "bits.npz", train=np.eye(8, dtype=np.uint8), test=np.eye(8)[:2])
    arguments = [f"--folder={tmp_path / 'run'}", "--method=iwae", "--kl_warmup_share=0.1"]
    arguments += ["--batch_size=4", "--hidden_dim=3"]
    assert cli.main(["fit", str(tmp_path / "bits.npz"), *arguments]) == 2
    assert "--kl_warmup_share=0.1 weighs the KL" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
