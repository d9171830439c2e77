"""Classes by Bayes' rule in a report: of which rows, with which errors, and bounds of them."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from aiwae_jax import data, evaluate, likelihoods, models, train
from aiwae_jax.report import images, measure
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.runs.interruption import Interruption
from aiwae_jax.train.classes import Classified

NUM_CLASSES, NUM_EACH = 3, 8


CODES = np.repeat(np.arange(NUM_CLASSES), NUM_EACH)
EVALUATION = Evaluation(
    num_temperatures=4,
    num_chains=2,
    num_pilot_data=2,
    num_simulated=0,
    num_examples=0,
    num_bound_samples=50,
    num_classified=NUM_EACH,
    start="posterior",
)


def sorted_by_class():
    """Rows of one class after the other, and a model of them."""
    chance = np.random.default_rng(0)
    rows = np.column_stack([chance.normal(size=(len(CODES), 2)) + CODES[:, None], CODES])
    dataset = data.from_arrays(rows, rows, columns=["u", "v", "c"], condition="c")
    dataset = dataset._replace(test_weights=1.0 + chance.random(len(CODES)))
    options = {"likelihood": likelihoods.normal(), "hidden_sizes": ()}
    model = models.mlp_vae(3, 1, condition=data.condition_of(dataset), **options)
    return dataset, train.Trained(model, model.init(jax.random.key(0)))


def measured(dataset, run):
    with Interruption() as interruption:
        return measure.measure(
            *(run.target, run.params, dataset, EVALUATION, {}),
            measure.Watch(interruption, lambda: None),
        )


def test_rows_that_are_sorted_by_class_are_classified_from_all_classes():
    """The first rows of such a file, the planted fault, are all of one class."""
    dataset, _ = sorted_by_class()
    shown = images.choose_images(dataset, EVALUATION).test
    places = images.choose_classified(images.keys_of(EVALUATION), len(shown), NUM_EACH)
    assert len(set(places)) == NUM_EACH
    assert set(shown[places, -1]) == set(range(NUM_CLASSES))
    assert set(shown[:NUM_EACH, -1]) == {0.0}
    more = images.choose_classified(images.keys_of(EVALUATION), len(shown), 100)
    np.testing.assert_array_equal(more[:NUM_EACH], places)
    assert sorted(more) == list(range(len(shown)))


def test_the_time_that_is_announced_counts_every_class_of_a_row(monkeypatch):
    class AnnouncedError(Exception):
        pass

    def estimate_seconds(*_, num_data, **__):
        raise AnnouncedError(num_data)

    monkeypatch.setattr(evaluate, "fit_chunk_size", lambda *_: len(CODES))
    monkeypatch.setattr(evaluate, "estimate_seconds", estimate_seconds)
    with pytest.raises(AnnouncedError) as found:
        measured(*sorted_by_class())
    assert found.value.args == (2 * len(CODES) + NUM_EACH * NUM_CLASSES,)


@pytest.mark.slow
def test_a_report_is_of_the_rows_that_it_names_with_their_weights():
    dataset, run = sorted_by_class()
    found = measured(dataset, run)
    index, bayes = found.arrays["class_index"], found.entries["bayes"]
    own = CODES[index]
    assert set(own) == set(range(NUM_CLASSES))
    np.testing.assert_array_equal(
        np.sum(bayes["confusion"], axis=1), np.bincount(own, minlength=NUM_CLASSES)
    )
    is_right = found.arrays["class_log_likelihood"].argmax(axis=1) == own
    weights = dataset.test_weights[index]
    assert bayes["accuracy"] == pytest.approx(np.average(is_right, weights=weights))


def of_all_classes(log_likelihood, standard_errors=0.1, rounding=1e-6):
    """Estimates `[N, K]` as chains would leave them."""
    shape = np.shape(log_likelihood)
    values = np.ravel(log_likelihood).astype(float)
    plan = evaluate.Plan(np.linspace(0.0, 1.0, 3), np.full(1, 0.1), 0)
    found = evaluate.Likelihood(
        log_likelihood=values,
        standard_errors=np.broadcast_to(standard_errors, shape).ravel().astype(float),
        effective_sample_size=np.full(values.shape, 4.0),
        log_weight_variance=np.full(values.shape, 0.1),
        plan=plan,
        acceptance=np.full(1, 0.6),
        path_sample_size=np.full(1, 4.0),
        num_nonfinite=0,
        num_zero_weight=0,
        num_gradients=0,
        is_unbiased=True,
        is_broken=np.zeros(values.shape, bool),
        rounding=np.broadcast_to(rounding, shape).ravel(),
        is_reliable=np.ones(values.shape, bool),
    )
    names = "abc"[: shape[1]]
    return Classified.of(found, "c", names, np.full(shape[1], -np.log(shape[1])))


def test_an_error_that_is_unknown_is_not_zero():
    errors = [[0.1, 0.2], [np.nan, np.nan], [0.3, np.nan]]
    found = of_all_classes([[-1.0, -1.0], [-1.0, -2.0], [-1.0, -np.inf]], errors)
    wanted = [np.hypot(0.05, 0.1), np.nan, 0.3]  # the last class has the probability 0
    np.testing.assert_allclose(found.log_evidence_errors, wanted)


def test_three_bounds_of_the_same_images_share_a_probability():
    path = pathlib.Path(__file__).parent.parent / "results/labels/measure.py"
    spec = importlib.util.spec_from_file_location("measure_labels", path)
    labels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(labels)
    values = np.array([[-3.0, -1.0], [-2.0, -2.5]])
    mixture = labels.of_mixture(of_all_classes(values))
    wanted = np.log(np.exp(values).mean(axis=1))
    np.testing.assert_allclose(mixture.log_likelihood, wanted)
    slack = np.log(3 / 0.05) / len(values)
    assert labels.bound(mixture)["nll_at_most"] == pytest.approx(slack - wanted.mean())
    # One class that is too coarse is enough, and so are chains that were adapted.
    coarse = of_all_classes(values, rounding=[[1e-6, 1.0], [1e-6, 1e-6]])
    with pytest.raises(SystemExit, match="1 of 2 data"):
        labels.bound(labels.of_mixture(coarse))
    adapted = mixture._replace(is_unbiased=False)
    with pytest.raises(SystemExit, match="adapted on the reported chains"):
        labels.bound(adapted)
