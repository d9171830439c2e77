"""An evaluation in a stated time: what is chosen for it, and how long it takes."""

import dataclasses
import time

import jax
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import evaluate
from aiwae_jax.evaluate import budget, cost, tuning

TARGET = evaluate.Target.of(lg.model(), lg.params())
X = np.tile(lg.DATUM, (40, 1))
SETTINGS = evaluate.Settings(num_chains=16, num_pilot_data=4, num_pilot_chains=4)
_PER_CHAIN = 1e-5  # seconds of a move, in the machine below


@pytest.fixture(name="machine")
def _machine(monkeypatch):
    """A machine whose moves take a time that is known, for each chain of each datum."""

    def seconds_per_move(target, x, settings, num_rows, num_chains=None):
        return _PER_CHAIN * num_rows * (num_chains or settings.num_chains)

    monkeypatch.setattr(cost, "seconds_per_move", seconds_per_move)


def takes(settings):
    """Seconds on that machine, from the counts of gradients that an evaluation states."""
    num_moves = evaluate.num_gradients(settings, len(X)) / settings.num_leapfrog_steps
    return _PER_CHAIN * (num_moves + tuning.num_pilot_moves(settings, len(X)))


@pytest.mark.parametrize("chunk_size", [None, 8])
@pytest.mark.parametrize("seconds", [1.0, 3.0, 10.0, 30.0])
def test_the_time_is_spent_and_not_exceeded(seconds, chunk_size, machine):
    found = evaluate.settings_within(TARGET, X, seconds, SETTINGS, chunk_size=chunk_size)
    more = dataclasses.replace(found, num_temperatures=found.num_temperatures + 1)
    assert found.num_chains == 16
    assert takes(found) <= seconds < takes(more)
    # The planted fault: pilots left out.
    pilots = _PER_CHAIN * tuning.num_pilot_moves(found, len(X))
    assert takes(more) - pilots < seconds


def test_chains_make_room_for_temperatures_and_take_what_these_leave(machine):
    few = evaluate.settings_within(TARGET, X, 0.6, SETTINGS)
    assert few.num_chains == 8
    assert few.num_temperatures >= 100
    assert takes(dataclasses.replace(few, num_chains=16)) > 0.6 >= takes(few)
    many = evaluate.settings_within(TARGET, X, 300.0, SETTINGS)
    assert many.num_chains == 4 * 16
    assert 9000 < many.num_temperatures <= 10_000
    assert takes(many) <= 300.0


def test_a_time_that_nothing_fits_into_is_refused_before_the_work(machine):
    smallest = dataclasses.replace(SETTINGS, num_chains=8, num_temperatures=10)
    message = (
        rf"`seconds`=0.01 are too few for 40 data: 8 chains x 10 .* about {takes(smallest):.3g}"
    )
    with pytest.raises(ValueError, match=message):
        evaluate.within(TARGET, X, 0.01, SETTINGS)
    with pytest.raises(ValueError, match="`seconds` must be positive"):
        evaluate.within(TARGET, X, 0.0, SETTINGS)
    with pytest.raises(TypeError, match="`target` must be an `evaluate"):
        evaluate.within(lg.log_joint, X, 1.0)


@pytest.mark.slow
def test_it_is_the_evaluation_of_the_settings_that_were_found(machine):
    found = evaluate.within(TARGET, X, 0.5, SETTINGS, key=jax.random.key(2))
    settings = evaluate.settings_within(TARGET, X, 0.5, SETTINGS)
    again = evaluate.log_likelihood(jax.random.key(2), TARGET, X, settings)
    assert len(found.plan.betas) == settings.num_temperatures
    np.testing.assert_array_equal(found.log_likelihood, again.log_likelihood)


def test_rounds_of_pilots_beyond_the_fewest_take_their_time_from_the_chains(machine, monkeypatch):
    settings = evaluate.settings_within(TARGET, X, 1.0, SETTINGS)
    num, counted = settings.num_temperatures, tuning.num_pilot_moves(settings, len(X))
    num_more = 16 * 1000  # moves of single pilots
    plan = evaluate.Plan(
        np.linspace(0.0, 1.0, num),
        np.linspace(0.1, 1.0, num - 2),
        settings.num_leapfrog_steps * (counted + num_more),
    )
    given = {}

    def anneal(key, work, plan, x):
        given.update(plan=plan, settings=work.settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "find_plan", lambda key, work, x: plan)
    monkeypatch.setattr(budget, "anneal", anneal)
    with pytest.raises(KeyboardInterrupt):
        evaluate.within(TARGET, X, 1.0, SETTINGS)
    found = given["plan"]
    assert given["settings"].num_temperatures == len(found.betas) == len(found.step_sizes) + 2
    of_chains = evaluate.num_gradients(given["settings"], len(X)) / settings.num_leapfrog_steps
    spent = _PER_CHAIN * (of_chains + counted + num_more)
    assert spent <= 1.0 < spent + 2 * _PER_CHAIN * 16 * len(X)
    np.testing.assert_allclose(np.interp(found.betas, plan.betas, plan.betas), found.betas)
    assert (found.betas[0], found.betas[-1]) == (0.0, 1.0)
    of_moves = np.interp(found.betas[1:-1], plan.betas[1:-1], plan.step_sizes)
    np.testing.assert_allclose(found.step_sizes, of_moves)


@pytest.mark.by_hand
@pytest.mark.slow
def test_the_clock_agrees():
    """Within a factor of 0.3 to 2, for other work may come and go."""
    x = np.tile(lg.DATUM, (1000, 1))
    evaluate.within(TARGET, x, 1.0, SETTINGS)  # compiles
    began = time.monotonic()
    found = evaluate.within(TARGET, x, 5.0, SETTINGS)
    wall = time.monotonic() - began
    assert 0.3 * 5.0 < wall < 2.0 * 5.0
    assert found.is_reliable.all()
