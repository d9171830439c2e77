"""Diagnostics from a sampler to the picture of its moves: what is averaged, counted, and where."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import own_table
import pytest

from aiwae_jax import methods, objectives, samplers, train
from aiwae_jax.report import evaluation, pictures, plots
from aiwae_jax.runs import metrics
from aiwae_jax.types import ChainInfo, Info, Params, phase

EARLIER = pathlib.Path(__file__).parent / "earlier_run"
MODEL = own_table.factor_analysis()


def example(scale=1.0):
    chain = ChainInfo(scale * np.array([0.5, 0.7]), scale * np.array([0.1, 0.2]), (0.3, 1.0))
    part = Info(counts={"num_nonfinite": 3}, chain=chain)
    return Info({"objective": scale * -2.0}, {"num_zero_weight": 4}, chain, {"wake": part})


def test_its_arrays_have_their_columns_names_in_files_and_checkpoints():
    names = ["acceptance", "acceptance_wake", "num_nonfinite_wake", "num_zero_weight"]
    names += ["objective", "step_sizes", "step_sizes_wake"]
    assert list(example()) == names
    assert example()["objective"] == -2.0
    paths, _ = jax.tree_util.tree_flatten_with_path({"theta": example()})
    found = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    assert found == [f"theta.{name}" for name in names]
    assert list(jax.jit(lambda: example())().chains()["_wake"].betas) == [0.3, 1.0]


def test_averages_are_divided_and_counts_stay_sums():
    found = train.epoch_averages({"theta": example(4.0)}, 4)["theta"]
    assert (found["objective"], found["num_zero_weight"], found["num_nonfinite_wake"]) == (-2, 4, 3)
    for chain in found.chains().values():
        np.testing.assert_array_equal(chain.acceptance, [0.5, 0.7])
        assert chain.betas == (0.3, 1.0)


def test_a_record_gives_back_the_chains_that_it_was_made_of():
    record = metrics.columns({"theta": example()}, ["theta"])
    assert {"theta/objective", "theta/betas", "theta/betas_wake"} <= record.keys()
    plain = {name: np.asarray(value).tolist() for name, value in record.items()}
    found = metrics.chains(plain)
    assert list(found) == ["theta", "theta_wake"]
    assert found["theta"] == ChainInfo([0.5, 0.7], [0.1, 0.2], [0.3, 1.0])
    plain["theta/step_sizes"] = [0.1]  # of another chain
    assert metrics.chains(plain)["theta"].step_sizes is None


def test_the_record_of_an_earlier_version_has_no_temperatures():
    (record,) = metrics.read(EARLIER)
    (found,) = metrics.chains(record).values()
    assert (found.acceptance, found.betas) == (record["theta/acceptance"], None)


def test_joined_samplers_adapt_each_by_its_own_moves():
    both = samplers.joined(
        a=samplers.annealed(MODEL, 1, 3),
        b=samplers.annealed(MODEL, 1, 3),
        none=samplers.ancestral(MODEL),
    )
    parts = {
        "a": Info(chain=ChainInfo(jnp.array([0.9, 0.1]))),
        "b": Info(chain=ChainInfo(jnp.array([0.1, 0.9]))),
        "none": Info(),
    }
    state = both.adapt(both.init(), Info(parts=parts))
    np.testing.assert_allclose(state["a"], [0.1002, 0.0998], rtol=1e-5)
    np.testing.assert_allclose(state["b"], [0.0998, 0.1002], rtol=1e-5)
    assert state["none"] == ()


def one_step(method):
    optimizers = Params(*(optax.sgd(1e-3) for _ in range(3)))
    state = train.init_state(jax.random.key(0), MODEL, method, optimizers)
    batch = jnp.asarray(own_table.table().train[:4])
    return train.make_train_step(method, optimizers)(jax.random.key(1), state, batch)


@pytest.mark.slow
@pytest.mark.by_hand
def test_phases_are_recorded_in_their_order_and_not_by_their_names(tmp_path):
    theta, phi = methods.aiwae(MODEL, 2, 3, 1)
    for method, names in (((theta, phi), ["theta", "phi"]), ((phi, theta), ["phi", "theta"])):
        run = own_table.fit(tmp_path / names[0], model=MODEL, method=method, epochs=1)
        (record,) = metrics.read(run.folder)
        phases = [column.split("/")[0] for column in record if "/" in column]
        assert list(dict.fromkeys(phases)) == names


def test_diagnostics_that_are_no_info_are_refused():
    importance = samplers.importance(MODEL, 2)

    def draw(*arguments, **options):
        return importance.draw(*arguments, **options)[0], {"num_tries": 1}

    own = phase(("theta", "phi"), importance._replace(draw=draw), objectives.bound())
    with pytest.raises(TypeError, match=r"must return \(Particles, types.Info\), got .* dict"):
        one_step((own,))


@pytest.mark.parametrize(
    ("name", "build", "betas"),
    [
        ("aiwae_wake", lambda: methods.aiwae_wake(MODEL, 2, 4, 1), (1 / 3, 2 / 3, 1.0)),
        (
            "a sigmoid schedule",
            lambda: methods.aiwae(MODEL, 2, 4, 1, schedule="sigmoid"),
            (0.197735, 0.802265, 1.0),
        ),
        ("hoffman", lambda: methods.hoffman(MODEL, 3, 1), None),
        ("persistent", lambda: methods.persistent(MODEL, 3, 1), None),
    ],
)
@pytest.mark.slow
@pytest.mark.by_hand
def test_moves_of_training_are_drawn_where_they_were_made(
    name, build, betas, tmp_path, monkeypatch
):
    """At their temperatures, in whatever phase; those on one density by their numbers."""
    run = own_table.fit(tmp_path / "run", model=MODEL, method=build(), epochs=1)
    drawn, draw = [], plots.acceptance

    def watched(path, columns, title):
        drawn.append(columns)
        draw(path, columns, title)

    monkeypatch.setattr(plots, "acceptance", watched)
    records = metrics.read(run.folder)
    shown = pictures.Shown(
        *(run.folder, own_table.table(), MODEL, run.params.theta, run.target().start, None),
        *(records, {}, "hmc", evaluation.Evaluation()),
    )
    assert "acceptance.png" in pictures.draw_missing(shown)
    ((title, moves),) = drawn[0].items()
    assert title == "training, last epoch"
    assert moves.acceptance.shape == moves.step_sizes.shape == (3,)
    assert (moves.betas is None) == (betas is None), name
    if betas is not None:
        np.testing.assert_allclose(moves.betas, betas, rtol=1e-5)
