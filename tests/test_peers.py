"""What the benchmark compares with: each estimates log p(x), told apart from a planted fault."""

import importlib.util
import itertools
import json

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import pytest

from aiwae_jax import evaluate, likelihoods, models
from experiments.benchmark.peers import (
    blackjax_smc,
    command,
    dais,
    measure,
    ours,
    picture,
    script,
    sides,
    table,
    tfp_side,
    training,
)
from experiments.benchmark.peers.bounds import Bounds, Moves
from experiments.benchmark.peers.problem import Problem, simulated

# Their packages warn of their own matters, and promote dtypes and ranks.
pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::UserWarning"),
]
NUM_DATA, NUM_CHAINS = 48, 8


def needs(package: str):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None, reason=f"{package} is not installed"
    )


@pytest.fixture
def lenient():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def linear_problem() -> Problem:
    return simulated(
        *(lg.model(), lg.params(), jax.random.key(0)), num_data=NUM_DATA, num_chains=NUM_CHAINS
    )


def exact(problem: Problem) -> np.ndarray:
    return np.asarray(jax.vmap(lg.exact_log_likelihood, (None, 0))(problem.params.theta, problem.x))


def standard_errors_off(differences: np.ndarray) -> float:
    mean, standard_error = evaluate.mean_and_standard_error(differences)
    return mean / standard_error


def is_estimate(lower: np.ndarray, values: np.ndarray) -> bool:
    """Whether exp of estimates has the mean p(x), within 4 standard errors, and they are good."""
    ratios = np.exp(np.asarray(lower, np.float64) - values)
    return abs(standard_errors_off(ratios - 1.0)) < 4.0 and ratios.std() < 0.5


# ------------------------------------------------------------------------------- their adapters


@pytest.mark.slow
@pytest.mark.by_hand
def test_ours_measures_the_images_that_the_problem_holds():
    problem = linear_problem()
    found = ours.side(problem, 60, start="posterior", with_reverse=True)()
    assert is_estimate(found.lower, exact(problem))
    assert not is_estimate(found.lower, exact(problem)[::-1])
    assert np.mean(found.upper - found.lower) < 0.2


@needs("tensorflow_probability")
@pytest.mark.parametrize("start", sides.STARTS)
def test_tfp_estimates_the_exact_log_likelihood(start, lenient):
    problem = linear_problem()
    found = tfp_side.side(problem, 120, Moves(0.5, 3), start=start)()
    assert found.upper is None
    assert is_estimate(found.lower, exact(problem))
    assert not is_estimate(found.lower, exact(problem)[::-1])  # of other images


@needs("blackjax")
@pytest.mark.parametrize("start", sides.STARTS)
def test_smc_estimates_the_exact_log_likelihood(start, lenient):
    problem = linear_problem()
    found = blackjax_smc.side(problem, 2, Moves(0.5, 3), start=start)()
    assert found.upper is None
    assert is_estimate(found.lower, exact(problem))
    assert not is_estimate(found.lower, exact(problem)[::-1])


def linear_log_likelihood_of(x: np.ndarray):
    """log p(x|z) of the linear model, in PyTorch."""
    import torch

    pixels, weight, bias = (torch.tensor(a) for a in (x, lg.WEIGHT, lg.BIAS))
    constant = lg.X * (0.5 * np.log(2 * np.pi) + np.log(lg.NOISE))

    def log_likelihood(z):
        return -0.5 * (((pixels - z @ weight.T - bias) / lg.NOISE) ** 2).sum(1) - constant

    return log_likelihood


@needs("torch")
@pytest.mark.parametrize("growth", [script.GROWTH, 1.0])
def test_the_script_encloses_the_exact_log_likelihood(growth, monkeypatch):
    """With steps adapted on these very chains, whose bias is within the error here, and frozen."""
    monkeypatch.setattr(script, "GROWTH", growth)
    problem, values = linear_problem(), exact(linear_problem())
    options = {"num_temperatures": 100, "num_chains": NUM_CHAINS, "moves": Moves(0.4, 3)}
    found = script.bidirectional(linear_log_likelihood_of, problem.x, problem.latents, **options)
    assert is_estimate(found.lower, values)
    assert is_estimate(2 * values - found.upper, values)  # exp(-upper) has the mean 1 / p(x)
    # Reverse chains that start elsewhere than at the exact latents are seen.
    wrong = script.bidirectional(
        linear_log_likelihood_of, problem.x, problem.latents + 5.0, **options
    )
    assert not is_estimate(2 * values - wrong.upper, values)


@needs("torch")
def test_the_scripts_decoder_is_the_problems():
    model = models.bernoulli_vae(6, 2, hidden_sizes=(3, 3), initialization="torch")
    params = model.init(jax.random.key(0))
    problem = simulated(model, params, jax.random.key(1), num_data=4, num_chains=2)
    script.decoder_of(problem)  # which compares the two
    doubled = params._replace(theta=jax.tree.map(lambda a: 2.0 * a, params.theta))
    relu = models.mlp_vae(
        *(6, 2),
        likelihood=likelihoods.bernoulli(),
        hidden_sizes=(3, 3),
        activation="relu",
        initialization="torch",
    )
    with pytest.raises(script.UnknownDecoderError, match="tanh"):
        script.decoder_of(problem._replace(model=relu, params=doubled))
    with pytest.raises(script.UnknownDecoderError, match="dense"):
        script.decoder_of(linear_problem())


# -------------------------------------------------------------------------------------- training


@pytest.mark.slow
@pytest.mark.by_hand
@needs("numpyro")
def test_dais_trains_the_same_model(lenient):
    """Its bound rises above that of its start, and its parameters are those of our model."""
    import optax

    model = models.bernoulli_vae(6, 2, hidden_sizes=(4, 4), initialization="torch")
    params = model.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).random((16, 1)) < 0.5, jnp.float32) * jnp.ones(6)
    svi = dais.program(params, model.posterior, optax.adam(3e-2), 16, 2, num_steps=2)
    state = svi.init(jax.random.key(1), x)
    (state, losses) = jax.lax.scan(lambda state, _: svi.update(state, x), state, length=200)
    found = dais.params_of(svi, state)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    log_two = 6 * np.log(2) * 16  # of bits that nobody predicts
    assert losses[0] > 0.9 * log_two
    assert losses[-20:].mean() < 0.6 * log_two


def test_all_train_for_equal_seconds(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock) * 0.01)
    monkeypatch.setattr(training, "batches", lambda given: itertools.repeat(None))
    taken = []
    trainees = {
        name: training.Trainee(lambda batch, name=name: taken.append(name), lambda: None, "")
        for name in ("a", "b")
    }
    found = training.side_by_side(trainees, None, 3.0)
    assert {name: each["steps"] + 1 for name, each in found.items()} == {
        name: taken.count(name) for name in trainees
    }
    assert all(3.0 <= each["seconds"] < 3.1 for each in found.values())
    assert taken.index("b", 2) < len(taken) - 1 - taken[::-1].index("a")  # they took turns


# ----------------------------------------------------------------------- measured, drawn, printed


def test_pilots_choose_the_moves_of_the_best_estimates(monkeypatch):
    problem = linear_problem()
    value = {0.1: -3.0, 0.2: -1.0, 0.4: np.nan}

    def build(problem, budget, moves):
        return lambda: Bounds(np.full(2, value[moves.step_size]))

    moves = [Moves(step, 3) for step in value]
    side = sides.Side("s", "s", None, build, (1,), "", moves, 1, False)
    assert side.choose(problem) == Moves(0.2, 3)


def test_gaps_and_shortfalls_are_of_the_bounds_and_the_reference():
    values = np.array([-3.0, -1.0])
    known = measure.Reference(values, 0.01, 0.0, 100, 1.0)

    def build(problem, budget, *, with_reverse):
        return lambda: Bounds(values - 1.0 / budget, values + 2.0 if with_reverse else None)

    absent = sides.Side("nobody", "nobody", "no_such_package", None, (), "", (), 1, False)
    side = sides.Side("s", "s", None, build, (1, 2), "", (), 1, True)
    rows, missing = measure.all_rows(None, [side, absent], known, 2, 60.0)
    found = {(row["kind"], row["budget"]): row["nats"] for row in rows}
    expected = {("shortfall", 1): 1.0, ("shortfall", 2): 0.5, ("gap", 1): 3.0, ("gap", 2): 2.5}
    assert found == pytest.approx(expected)
    assert list(missing) == ["nobody"]
    assert all(row["repeats"] == 2 for row in rows)


def content() -> dict:
    """What a run leaves, made up."""
    rows = [
        {
            **{"side": f"{name}, from {start}", "program": name, "kind": kind, "budget": budget},
            **{"unit": "gradients a chain", "moves": "step 0.1, L=3", "seconds": budget / 100},
            **{"repeats": 3, "compile_seconds": 1.5, "nats": 10.0 / budget - 0.01},
            **{"standard_error": 0.02},
        }
        for name in picture._LOOKS
        for start in sides.STARTS.values()
        for kind in ("shortfall", "gap")
        for budget in (60, 200, 2000)
    ]
    training_row = {"words": "w", "seconds": 1.0, "milliseconds_a_step": 2.0, "epochs": 0.5}
    return {
        **{"command": "c", "date": "d", "processor": "p", "num_cores": 2, "load": 0.1},
        "environment": {"device": "cpu", "machine": "m"},
        **{"versions": {"jax": "1"}, "words": "w", "num_data": 4, "num_chains": 2, "rows": rows},
        "reference": {
            **{"half_gap": 0.02, "half_gap_se": 0.01, "num_temperatures": 9, "seconds": 1.0}
        },
        "training_step": {"cell": "K", "batch_size": 1, "milliseconds": {"aiwae_jax": 2.0}},
        "training": {"a": training_row | {"nll": 90.0, "nll_standard_error": 1.0}},
        "missing": {"TFP": "it is not installed"},
    }


def test_everything_is_made_of_the_numbers_alone(tmp_path):
    command.write(content(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"peers.{e}" for e in command.FILES}
    text = (tmp_path / "peers.md").read_text()
    assert "busy" not in text
    assert "busy" in table.markdown(content() | {"load": 2.0})
    assert "TFP was left out: it is not installed." in text
    assert len((tmp_path / "peers.csv").read_text().splitlines()) == 1 + len(content()["rows"])


def test_the_page_has_the_committed_numbers_and_no_others():
    path = command.COMMITTED / "peers.json"
    found = json.loads(path.read_text()) if path.exists() else None
    page = command.PAGE.read_text()
    assert table.in_page(page, found) == page
    assert table.in_page(table.in_page(page, content()), found) == page
    assert "90.00 ± 1.00" in table.in_page(page, content())
    if found is not None:
        for suffix, text in {"md": table.markdown(found), "csv": table.as_csv(found)}.items():
            assert path.with_suffix(f".{suffix}").read_text() == text
    with pytest.raises(ValueError, match="must hold"):
        table.in_page("no place", found)
