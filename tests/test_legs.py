"""Tests of runs of several methods: what passes on and when, and that no cut changes a bit."""

import dataclasses

import chex
import interrupting
import jax
import numpy as np
import own_table
import pytest

from aiwae_jax import methods, train
from aiwae_jax.runs import files
from aiwae_jax.train import legs as rooms
from aiwae_jax.train import program

MODEL = own_table.factor_analysis()
LEGS = [
    train.Leg(methods.vae(MODEL), 0.5, batch_size=10),
    train.Leg(methods.aiwae(MODEL, 1, 3, 2), 0.25),
    train.Leg(methods.aiwae(MODEL, 2, 5, 2), 0.25),
]
SETTINGS = train.Settings(epochs=8.0, batch_size=20, lr_schedule="linear", ema=0.9)


@pytest.fixture(scope="module")
def built():
    return program.build(LEGS, MODEL, own_table.table(), SETTINGS)


def run(built, state, end):
    """One step a time: what a chunk is cut into changes nothing."""
    while state.num_steps < end:
        state = built.run_steps(state, 1)
    return state


def test_the_legs_share_the_epochs_whatever_their_batches(built):
    assert [(leg.start, leg.end) for leg in built.legs] == [(0, 24), (24, 30), (30, 36)]
    assert [leg.steps_per_epoch for leg in built.legs] == [6, 3, 3]
    assert [leg.first_epoch for leg in built.legs] == [0, 4, 6]
    assert built.stage_ends[-1] == 36
    assert [built.epochs_at(step) for step in (0, 6, 24, 27, 36)] == [0, 1, 4, 5, 8]
    assert built.learning_rate(36) == 0.0  # one schedule over the whole
    assert 0.0 < built.learning_rate(30) < built.learning_rate(24)


@pytest.mark.slow
def test_a_leg_starts_from_exactly_the_state_of_the_leg_before(built):
    at_end = run(built, built.init(), 24)
    part = rooms.view(at_end, LEGS, built.legs, 1)
    for name in ("params", "opt_states", "step"):
        chex.assert_trees_all_equal(getattr(part.train, name), getattr(at_end.train, name))
    # A VAE has no step sizes: those of the chains begin anew.
    np.testing.assert_array_equal(part.train.sampler_states[0], np.full(2, 0.1, np.float32))
    moved = run(built, jax.tree.map(np.copy, at_end), 25)
    assert not np.array_equal(
        moved.train.params.theta["loadings"], part.train.params.theta["loadings"]
    )


@pytest.mark.slow
@pytest.mark.by_hand
def test_step_sizes_are_interpolated_in_beta_where_the_temperatures_change(built):
    at_end = run(built, built.init(), 30)
    three = np.asarray(at_end.train.sampler_states[1])  # of the moves at β = 0.5 and 1
    part = rooms.view(at_end, LEGS, built.legs, 2)
    found = np.asarray(part.train.sampler_states[0])  # at β = 0.25, 0.5, 0.75, 1
    expected = [three[0], three[0], np.sqrt(three[0] * three[1]), three[1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not np.allclose(three, 0.1)
    # Only at the first step: later ones have their own.
    later = run(built, jax.tree.map(np.copy, at_end), 32)
    again = rooms.view(later, LEGS, built.legs, 2)
    np.testing.assert_array_equal(again.train.sampler_states[0], later.train.sampler_states[3])


@pytest.mark.slow
def test_chains_of_another_space_begin_anew():
    others = [
        LEGS[1]._replace(share=0.5),
        train.Leg(methods.aiwae(MODEL, 1, 3, 2, chain_space="base"), 0.5),
    ]
    built = program.build(others, MODEL, own_table.table(), SETTINGS)
    at_end = run(built, built.init(), built.legs[0].end)
    part = rooms.view(at_end, others, built.legs, 1)
    np.testing.assert_array_equal(part.train.sampler_states[0], np.full(2, 0.3, np.float32))


@pytest.mark.slow
@pytest.mark.by_hand
def test_one_leg_is_the_method_itself():
    settings = train.Settings(epochs=2.0, batch_size=20)
    alone = program.build(LEGS[1].method, MODEL, own_table.table(), settings)
    as_leg = program.build([LEGS[1]._replace(share=1.0)], MODEL, own_table.table(), settings)
    chex.assert_trees_all_equal(run(alone, alone.init(), 6), run(as_leg, as_leg.init(), 6))


@pytest.mark.slow
def test_a_curriculum_is_resumed_to_the_bit_wherever_it_is_cut(tmp_path):
    said = {"method": LEGS, "model": MODEL, "epochs": 8, "lr_schedule": "linear", "ema": 0.9}
    whole = own_table.fit(tmp_path / "whole", **said)
    assert whole.epochs == 8.0
    for cut in (10, 24):  # in the first leg, and between two
        folder = tmp_path / str(cut)
        with interrupting.at_step(cut):
            own_table.fit(folder, **said)
        again = own_table.fit(folder, **said)
        chex.assert_trees_all_equal(again.params, whole.params)
        chex.assert_trees_all_equal(train.load(folder, MODEL).params, whole.params._replace(psi=()))


@pytest.mark.parametrize(
    ("legs", "error", "message"),
    [
        ([LEGS[0], LEGS[1]], ValueError, "shares of the legs of `method` must sum to 1, got 0.75"),
        (
            [LEGS[0]._replace(share=-1.0), LEGS[1]],
            ValueError,
            r"`method\[0\].share` must be positive",
        ),
        ([LEGS[0], "aiwae"], TypeError, r"`method\[1\]` must be a `train.Leg`, got str"),
    ],
)
def test_what_is_no_curriculum_is_refused(legs, error, message):
    with pytest.raises(error, match=message):
        program.build(legs, MODEL, own_table.table(), SETTINGS)


def test_what_is_learned_by_gradient_in_several_legs_must_be_of_one_shape():
    legs = [train.Leg(methods.uha(MODEL, 1, num), 0.5) for num in (3, 5)]
    with pytest.raises(ValueError, match=r"`method\[1\]` learns .* of other shapes than a leg"):
        program.build(legs, MODEL, own_table.table(), SETTINGS)
    same = [train.Leg(methods.uha(MODEL, 1, 3), 0.5), train.Leg(methods.uha(MODEL, 2, 3), 0.5)]
    assert len(program.build(same, MODEL, own_table.table(), SETTINGS).legs) == 2


def test_a_falling_rate_is_refused_for_what_begins_to_move_late():
    legs = [train.Leg(methods.vae(MODEL), 0.5), train.Leg(methods.uha(MODEL, 1, 3), 0.5)]
    with pytest.raises(
        ValueError, match=r"`method\[1\]` moves psi, which a leg before it does not"
    ):
        program.build(legs, MODEL, own_table.table(), SETTINGS)
    settings = dataclasses.replace(SETTINGS, lr_schedule="constant")
    assert len(program.build(legs, MODEL, own_table.table(), settings).legs) == 2


@pytest.mark.slow
def test_chains_that_other_parameters_follow_pass_on_their_step_sizes_too():
    legs = [LEGS[1]._replace(share=0.5), train.Leg(methods.aiwae_wake(MODEL, 1, 3, 2), 0.5)]
    built = program.build(legs, MODEL, own_table.table(), SETTINGS)
    at_end = run(built, built.init(), built.legs[0].end)
    part = rooms.view(at_end, legs, built.legs, 1)
    np.testing.assert_allclose(
        part.train.sampler_states[0], at_end.train.sampler_states[0], rtol=1e-6
    )
    assert not np.allclose(part.train.sampler_states[0], 0.1)


def test_the_batch_of_a_single_leg_is_part_of_the_run(tmp_path):
    own_table.fit(tmp_path / "run", method=[train.Leg(methods.vae(MODEL), 1.0, 10)], model=MODEL)
    with pytest.raises(files.WorkdirError, match="`legs` was built otherwise"):
        own_table.fit(
            tmp_path / "run", method=[train.Leg(methods.vae(MODEL), 1.0, 30)], model=MODEL
        )


def test_legs_need_a_number_of_epochs():
    with pytest.raises(ValueError, match="`epochs` must be given for several legs"):
        program.build(LEGS, MODEL, own_table.table(), train.Settings(batch_size=20))
