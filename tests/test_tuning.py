"""Schedules and settings of an evaluation."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax import ais, evaluate, options, report, schedules
from aiwae_jax.evaluate import tuning


def test_sigmoid_schedule_runs_from_0_to_1_and_is_densest_at_its_ends():
    betas = np.asarray(ais.sigmoid_schedule(101))
    assert betas[0] == 0.0
    assert betas[-1] == 1.0
    steps = np.diff(betas)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps[::-1], rtol=1e-3)
    assert steps[0] < 0.2 * steps[50]
    expected = 1 / (1 + np.exp(-4 * np.linspace(-1, 1, 101)))
    expected = (expected - expected[0]) / (expected[-1] - expected[0])
    np.testing.assert_allclose(betas, expected, atol=1e-6)


def test_equal_variance_schedule_follows_the_standard_deviation():
    """Where sd = 1 / (β + 0.01), equal increments of its integral are equal steps of a log."""
    at = np.linspace(0, 1, 2001)
    betas = tuning.equal_variance_schedule(at, 1 / (at + 0.01) ** 2, 51)
    assert betas[0] == 0.0
    assert betas[-1] == 1.0
    assert (np.diff(betas) > 0).all()
    increments = np.diff(np.log(betas + 0.01))
    inner = increments[:-12]  # the linear share thins out the upper end
    assert inner.std() < 0.25 * inner.mean()
    assert np.diff(betas)[-1] < 6 / 50


@pytest.mark.parametrize("variance", [np.zeros(5), np.full(5, np.nan)])
def test_equal_variance_schedule_without_any_variance_is_linear(variance):
    betas = tuning.equal_variance_schedule(np.linspace(0, 1, 5), variance, 11)
    np.testing.assert_allclose(betas, np.linspace(0, 1, 11))


def test_a_schedule_of_float32_stays_a_schedule():
    at = np.linspace(0, 1, 100)
    betas = tuning.equal_variance_schedule(at, 1e6 * np.exp(-50 * at), 10_000)
    schedules.check_schedule(jnp.asarray(betas, jnp.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_chains": 0}, "`num_chains` must be at least 1, got 0"),
        ({"num_temperatures": 1}, "`num_temperatures` must be at least 2, got 1"),
        ({"num_leapfrog_steps": 0}, "`num_leapfrog_steps` must be at least 1"),
        ({"num_pilot_chains": 1}, "`num_pilot_chains` must be at least 2"),
        ({"momentum_persistence": 1.0}, "`momentum_persistence` must be (at least 0|below 1)"),
        ({"target_acceptance": 1.0}, "`target_acceptance` must be (positive|below 1)"),
        ({"schedule": "cosine"}, "`schedule` must be one of linear, sigmoid, adaptive; got"),
        ({"chain_space": "data"}, "`chain_space` must be one of latent, base; got 'data'"),
        ({"adapt": "never"}, "`adapt` must be one of pilot, paper; got 'never'"),
        ({"adapt": "paper"}, "`adapt='paper'` runs no pilot chains"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate.Settings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_examples": 1}, r"`num_examples` must be 0 \(all\) or at least 2, got 1"),
        ({"num_simulated": 1}, r"`num_simulated` must be 0 \(none\) or at least 2, got 1"),
        ({"num_simulated": -2}, "`num_simulated` must be at least 0, got -2"),
        ({"num_bound_samples": 60}, "must be a multiple of 50, got 60"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"force_precision": "half"}, "`force_precision` must be one of float32, "),
        ({"target_gap": 0.1, "num_simulated": 0}, "`target_gap` needs `num_simulated` > 0"),
        (
            {"target_gap": 0.1, "adapt": "paper", "schedule": "linear", "num_simulated": 0},
            "and `adapt`='pilot', got 0 and 'paper'",
        ),
        ({"num_chains": 0}, "`num_chains` must be at least 1, got 0"),
        (
            {"adapt": "paper", "schedule": "linear"},
            "`num_simulated` must be 0 with `adapt`='paper'",
        ),
        ({"seed": 2**32}, "`seed` must be below 4,294,967,296"),
    ],
)
def test_impossible_measurements_of_a_report_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        report.Evaluation(**changes)


def test_every_setting_is_an_option_with_a_flag_of_its_own():
    fields = dict.fromkeys(field.name for field, _ in options.options_of(report.Evaluation))
    assert list(fields) == [field.name for field in dataclasses.fields(report.Evaluation)]
    flags = [said.flag for _, said in options.options_of(report.Evaluation)]
    assert None not in flags
    assert len(set(flags)) == len(flags)
    assert all(said.help.endswith((".", ")")) for _, said in options.options_of(report.Evaluation))
