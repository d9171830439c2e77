"""MNIST given its labels: `PYTHONPATH=. python results/labels/measure.py`, from the root.

Two models of the same networks, trained alike by the curriculum of `--preset=best`
(results/recipe.md) for fewer epochs: one of p(x), one of p(x|c) given the label. Measured are, on
the first test images, binarized once:

- log p(x|c) at the true label, with `nll_at_most`;
- log p(x) of both models, with `nll_at_most`: of the conditional one log Σ p(c) p(x|c), whose
  estimate is the weighted mean of those of the ten labels, and unbiased before the log as they are;
  these three bounds are of the same images, and each spends a third of the 5 % that they all have;
- the accuracy of Bayes' rule by the estimates of log p(x|c) of all ten labels, and how many images
  are decided by more than two standard errors;
- beside it logistic regression of the grey images, scikit-learn's at C=0.01, on all training
  images.

Everything is kept in --folder, and a stopped measurement continues there.
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import aiwae_jax
from aiwae_jax import data, evaluate, likelihoods, methods, models, train
from aiwae_jax.data import conditions
from aiwae_jax.runs import files, progress, store
from aiwae_jax.train.classes import Classified

_DELTA = 0.05  # of all bounds together
_NUM_BOUNDS = 3  # of the same images: log p(x|c), and log p(x) of either model
_TRAINING = {"optimizer": "muon", "lr_schedule": "linear", "learning_rate": 0.04}
_OF_CLASSES = evaluate.Settings(num_temperatures=80, num_chains=16)
_OF_LABEL = evaluate.Settings(num_temperatures=160, num_chains=16)
_PIXELS, _CHAINS, _GAP, _CLASSES = range(4)  # of keys


def trained(dataset: data.Dataset, folder: pathlib.Path, epochs: float) -> train.Run:
    """A VAE and then AIWAE, given what the data set's condition is."""
    model = models.mlp_vae(
        dataset.train.shape[1],
        50,
        likelihood=likelihoods.bernoulli(),
        mean=dataset.mean_image(),
        condition=data.condition_of(dataset) or None,
    )
    annealed = methods.aiwae(model, num_particles=1, num_temperatures=5, chain_space="base")
    legs = [train.Leg(methods.vae(model), 0.83), train.Leg(annealed, 0.17)]
    train.fit(legs, model, dataset, folder, epochs=epochs, batch_size=512, **_TRAINING)
    return aiwae_jax.load(folder)


class Found(dict):
    """What was measured, each shown as it comes."""

    def __setitem__(self, name: str, value: dict) -> None:
        super().__setitem__(name, value)
        print(name, json.dumps(value), flush=True)


def bound(found: evaluate.Likelihood) -> dict[str, float]:
    """NLL of N images, and what it is at most, with this bound's share of the probability.

    Raises:
      SystemExit: where nothing can be certified, with the reason.
    """
    certified = evaluate.certificate(found, delta=_DELTA / _NUM_BOUNDS, look=None)
    if certified.reason is not None:
        raise SystemExit(certified.reason)
    mean, error = evaluate.mean_and_standard_error(-found.log_likelihood)
    return {"nll": mean, "nll_se": error, "nll_at_most": certified.nll_at_most}


def of_mixture(of_all: Classified) -> evaluate.Likelihood:
    """Estimates of log p(x) by those in all classes, each as coarse and broken as the worst."""
    shape = of_all.log_likelihood.shape
    return of_all.estimates.of_first(len(of_all.log_likelihood))._replace(
        log_likelihood=of_all.log_evidence,
        standard_errors=of_all.log_evidence_errors,
        rounding=of_all.estimates.rounding.reshape(shape).max(axis=1),
        is_broken=of_all.estimates.is_broken.reshape(shape).any(axis=1),
        is_reliable=of_all.is_reliable.all(axis=1),
    )


def estimated(run: train.Run, rows: np.ndarray, folder: pathlib.Path) -> tuple[dict, np.ndarray]:
    """Log p(x) or log p(x|c) of rows, by a plan that is frozen before, and the gap at this plan."""
    key, pieces = jax.random.key(_CHAINS), store.FolderStore(folder)
    target = run.target(contexts=rows)
    with progress.Stages() as shown:
        plan = evaluate.tune(jax.random.fold_in(key, 1), target, rows, _OF_LABEL, store=pieces)
        found = evaluate.log_likelihood(
            *(key, target, rows, _OF_LABEL),
            plan=plan,
            store=pieces,
            progress_fn=shown.titled("log p"),
        )
        gap = evaluate.bidirectional(
            *(jax.random.key(_GAP), target, _OF_LABEL),
            num_data=50,
            plan=plan,
            store=pieces,
            progress_fn=shown.titled("gap"),
        )
    facts = {"gap": gap.gap, "gap_se": gap.gap_standard_error}
    facts["num_unreliable"] = int((~found.is_reliable).sum())
    return facts | bound(found), found.log_likelihood


def classified(run: train.Run, rows: np.ndarray, folder: pathlib.Path, prior: np.ndarray):
    """Log p(x|c) of rows in all classes."""
    return run.classify(
        rows,
        _OF_CLASSES,
        prior=prior,
        key=jax.random.key(_CLASSES),
        store=store.FolderStore(folder),
        chunk_size=100,
    )


def of_logistic_regression(plain: data.Dataset, num: int) -> dict[str, float]:
    """Accuracy on the same images, and on all test images."""
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression(C=0.01, max_iter=100)
    white = np.float32(255.0)
    fit.fit(plain.train / white, plain.train_labels)
    is_right = fit.predict(plain.test / white) == plain.test_labels
    mean, error = evaluate.mean_and_standard_error(is_right[:num].astype(float))
    return {"accuracy": mean, "accuracy_se": error, "accuracy_of_all": float(is_right.mean())}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/labels"))
    parser.add_argument("--epochs", type=float, default=30.0)
    parser.add_argument("--num", type=int, default=1000)
    arguments = parser.parse_args()
    plain = data.load("mnist", arguments.data_dir)
    given = conditions.condition_on(plain, "label")
    num, labels = arguments.num, plain.test_labels[: arguments.num]
    bits = plain.batch_fn(jax.random.key(_PIXELS), jnp.asarray(plain.test[:num]))
    with_labels = np.concatenate([np.asarray(bits), labels[:, None].astype(np.float32)], axis=1)

    folder = arguments.folder
    deltas = {"delta": _DELTA, "delta_of_each_bound": _DELTA / _NUM_BOUNDS}
    found = Found({"num_images": num, "epochs": arguments.epochs, **deltas})
    run = trained(given, folder / "given", arguments.epochs)
    found["log p(x|c)"], _ = estimated(run, with_labels, folder / "given-estimates")
    prior = conditions.shares(given, "label")
    of_all = classified(run, with_labels, folder / "given-classes", prior)
    accuracy, error = of_all.accuracy(labels)
    uniform = of_all._replace(log_prior=np.full(10, -np.log(10.0)))
    found["Bayes"] = {
        "accuracy": accuracy,
        "accuracy_se": error,
        "accuracy_with_uniform_prior": uniform.accuracy(labels)[0],
        "num_sure": int(of_all.is_sure.sum()),
        "accuracy_of_the_sure": float((of_all.codes == labels)[of_all.is_sure].mean()),
        "median_margin": float(np.median(of_all.margins)),
        "median_margin_error": float(np.median(of_all.margin_errors)),
        "num_unreliable": int((~of_all.is_reliable).sum()),
        "confusion": of_all.confusion(labels).tolist(),
    }
    found["log p(x) by labels"] = bound(of_mixture(of_all))
    run = trained(plain, folder / "plain", arguments.epochs)
    found["log p(x) without"], without = estimated(
        run, np.asarray(bits), folder / "plain-estimates"
    )
    gained, error = evaluate.mean_and_standard_error(of_all.log_evidence - without)
    found["log p(x) by labels less without"] = {"nats": gained, "se": error}
    found["logistic regression"] = of_logistic_regression(plain, num)
    files.write_text(pathlib.Path(__file__).with_name("mnist.json"), json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
