"""The numbers of the paper's tables for one model, each with its uncertainty."""

import dataclasses
import math
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from aiwae_jax import data, evaluate, row_weights
from aiwae_jax.evaluate.check import check
from aiwae_jax.report import certificate, conditions, starts
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.images import Keys, choose_classified, choose_images, keys_of
from aiwae_jax.runs import progress
from aiwae_jax.runs.interruption import Interrupted, Interruption
from aiwae_jax.types import Params

# Gradient evaluations per image in the paper: 16 chains, 10,000 temperatures, 10 leapfrog steps.
PAPER_GRADIENTS_PER_IMAGE = evaluate.num_gradients(evaluate.PAPER_SETTINGS, 1)
_NLL_NOTES = {
    True: "AIS, step sizes tuned on pilot chains and frozen; a stochastic upper bound",
    False: "AIS, step sizes adapted on the reported chains, the authors' rule: biased",
}
# What evaluation.npz says of each estimate -> field of `evaluate.Likelihood`.
_OF_ESTIMATES = {
    "standard_error": "standard_errors",
    "effective_sample_size": "effective_sample_size",
    "log_weight_variance": "log_weight_variance",
    "is_broken": "is_broken",
    "is_reliable": "is_reliable",
}


class Watch(progress.Stages):
    """Progress bars, one after the other, and an eye on what may end the work.

    Args:
      interruption: the user's.
      check_fn: raises where the work has become useless.
    """

    def __init__(self, interruption: Interruption, check_fn: Callable[[], None]):
        super().__init__()
        self._interruption, self._check_fn = interruption, check_fn

    def update(self, title: str, done: int, total: int) -> None:
        """Shows the state of the work that is called `title`.

        Raises:
          Interrupted: on SIGINT, SIGTERM or SIGHUP.
          Exception: what `check_fn` raises.
        """
        self._check_fn()
        super().update(title, done, total)
        if signal_number := self._interruption.of_any_process():
            raise Interrupted(
                "Interrupted during evaluation; the trained model and all finished chunks are "
                "kept. Start the same command again to continue.",
                signal_number,
            )


class Measured(NamedTuple):
    """Results of an evaluation.

    Attributes:
      entries: for report.json.
      arrays: per image and per temperature, for evaluation.npz.
      evidence: of the test images' NLL, for its bound.
    """

    entries: dict[str, Any]
    arrays: dict[str, np.ndarray]
    evidence: certificate.Evidence


def _chunk_size(target: evaluate.Target, images: np.ndarray, evaluation: Evaluation) -> int:
    """One size for real and simulated images, hence one compiled program, where that costs little.

    Nobody wants a large chunk filled up for a few simulated images.
    """
    fitting = evaluate.fit_chunk_size(target, images, evaluation.settings())
    num_simulated = evaluation.num_simulated
    return min(fitting, num_simulated) if 2 * num_simulated >= fitting else fitting


class _Chosen(NamedTuple):
    """Settings of the NLL that were chosen, and the gap at them.

    Attributes:
      settings: of the chains.
      plan: tuned for them.
      gap: bounds from both sides at these, if they were asked for.
      num_gradients: that all of this took.
      facts: for report.json.
    """

    settings: evaluate.Settings
    plan: evaluate.Plan
    gap: evaluate.Bidirectional | None
    num_gradients: int
    facts: dict[str, Any]


def _choose(
    keys: Keys,
    target: evaluate.Target,
    images: np.ndarray,
    evaluation: Evaluation,
    watch: Watch,
    **options: Any,
) -> _Chosen:
    """Tunes the chains, by a search where a gap is to be reached, and measures the gap.

    Args:
      keys: of the evaluation.
      target: what is measured.
      images: those that will be.
      evaluation: what is asked for.
      watch: of the progress.
      **options: store and size of the chunks, for all of it.
    """
    settings, num_simulated = evaluation.settings(), evaluation.num_simulated
    if evaluation.target_gap is not None:
        found = evaluate.reach_gap(
            *(keys.gap, target, settings),
            target_gap=evaluation.target_gap,
            num_data=num_simulated,
            x=images,
            progress_fn=lambda num, *done: watch.update(f"gap at {num} temperatures", *done),
            **options,
        )
        names = ("target_gap", "is_reached", "search")
        facts = {name: getattr(found, name) for name in names}
        return _Chosen(found.settings, found.plan, found.result, found.num_gradients, facts)
    plan = evaluate.tune(
        *(keys.tuning, target, images, settings),
        store=options["store"],
        progress_fn=watch.titled("tuning"),
    )
    if not num_simulated:
        return _Chosen(settings, plan, None, plan.num_gradients, {})
    gap = evaluate.bidirectional(
        *(keys.gap, target, settings),
        num_data=num_simulated,
        plan=plan,
        progress_fn=watch.titled("bidirectional gap"),
        **options,
    )
    return _Chosen(settings, plan, gap, plan.num_gradients + gap.num_gradients, {})


def _describe_gap(result: evaluate.Bidirectional | None, facts: dict[str, Any]) -> dict[str, Any]:
    """The bidirectional gap as report.json has it."""
    if result is None:
        return {}
    lower, upper = (r.log_likelihood for r in (result.forward, result.reverse))
    return {
        "bidirectional_gap": result.gap,
        "bidirectional_gap_se": result.gap_standard_error,
        "bidirectional_gap_upper_end": result.gap_upper_end,
        "bidirectional": {
            "num_simulated": len(lower),
            "lower_bound_mean": float(lower.mean()),
            "upper_bound_mean": float(upper.mean()),
            "is_possible": result.is_possible,
            "note": "measured at the settings of the NLL; encloses log p(x) of data simulated "
            "from the model only, and is no bound for real data",
            **facts,
        },
    }


def measure(
    target_fn: Callable[..., evaluate.Target],
    params: Params,
    dataset: data.Dataset,
    evaluation: Evaluation,
    store: MutableMapping,
    watch: Watch,
    validation_share: float = 0.0,
    other_start: str | None = None,
) -> Measured:
    """Measures NLL, NVLB, gaps and active units.

    Args:
      target_fn: makes what is measured, of the options of `evaluate.Target.of`.
      params: of it.
      dataset: of the images.
      evaluation: how.
      store: of finished pieces.
      watch: of the progress.
      validation_share: see `choose_images`.
      other_start: what the model's chains could start from instead, if there is anything.

    Raises:
      Interrupted: on SIGINT, SIGTERM or SIGHUP; finished chunks are in the store.
    """
    # The images, and the model that sees them.
    keys, images = keys_of(evaluation), choose_images(dataset, evaluation, validation_share)
    both, num = images.both, len(images.test)
    weights = images.weights_of(dataset)
    to_classify = choose_classified(keys, num, evaluation.num_classified)
    in_classes = images.test[to_classify]
    num_in_classes = conditions.num_in_classes(in_classes, dataset)
    noun = "rows" if dataset.image_shape is None else "images"
    if evaluation.num_examples > num:
        print(
            f"{evaluation.num_examples} were asked for, and there are only {num}: all are measured"
        )
    chains_fn = partial(target_fn, force_precision=evaluation.force_precision, contexts=both)
    target = chains_fn(start=evaluation.start)

    # How long it will take.
    began = time.monotonic()
    chunk_size = _chunk_size(target, both, evaluation)
    seconds = evaluate.estimate_seconds(
        *(target, both, evaluation.settings()),
        num_data=len(both) + 2 * evaluation.num_simulated + num_in_classes,
        chunk_size=chunk_size,
    )
    print(
        f"evaluation: {evaluation.num_chains} chains x {evaluation.num_temperatures} temperatures, "
        f"{len(both)} {noun}"
        + (f" and {evaluation.num_simulated} simulated" if evaluation.num_simulated else "")
        + (f", {len(in_classes)} {noun} in all classes" if num_in_classes else "")
        + f", about {progress.format_seconds(seconds)}"
        + (" at the first setting of the search" if evaluation.target_gap else ""),
        flush=True,
    )

    # Faults of the target that no gap shows.
    checked = check(target_fn(start=evaluation.start, contexts=both), both)
    if sentence := checked.sentence():
        print(sentence, flush=True)

    # The settings first, on pilots; then what is reported, with keys of its own.
    options = {"store": store, "chunk_size": chunk_size}
    with watch:
        chosen = _choose(keys, target, both, evaluation, watch, **options)
        names = ("start", "force_precision")
        chains = dataclasses.asdict(chosen.settings) | {n: getattr(evaluation, n) for n in names}
        subject = certificate.Subject.of(
            *(params, images.test, chains, chosen.plan), weights.get("weight_test")
        )
        likelihood = evaluate.log_likelihood(
            *(subject.key(), target, both, chosen.settings),
            plan=chosen.plan,
            progress_fn=watch.titled(f"NLL of 2 x {num} {noun}"),
            **options,
        )
        tried = {}
        is_wide = chosen.gap is not None and not chosen.gap.gap <= starts.LARGE_GAP
        if (
            is_wide
            and other_start is not None
            and starts.can_start(chains_fn(start=other_start), both[0], chosen.settings)
        ):
            tried["other_start"] = starts.try_other(
                *(keys.starts, chains_fn, evaluation.start, other_start, chosen.settings),
                store=store,
                progress_fn=watch.titled(f"chains from the {other_start}"),
            )
        bound = evaluate.importance_bound(
            *(keys.bound, target_fn(), both),
            num_samples=evaluation.num_bound_samples,
            progress_fn=watch.titled(f"L_{evaluation.num_bound_samples}"),
        )
        classified = conditions.classify(
            *(keys.classes, target, in_classes, dataset, chosen.settings),
            plan=chosen.plan,
            progress_fn=watch.titled(f"{len(in_classes)} {noun} in all classes"),
            **options,
        )
    num_active, activity = evaluate.active_units(target_fn(), jnp.asarray(images.all_test))

    # Per image, of both sets.
    parts = {"test": slice(None, num), "train": slice(num, None)}
    per_image = {
        f"{name}_{part}": -values[rows]
        for name, values in (("nll", likelihood.log_likelihood), ("nvlb", bound.bound))
        for part, rows in parts.items()
    }
    per_image["variational_gap"] = per_image["nvlb_test"] - per_image["nll_test"]
    quality = {
        f"{name}_{part}": getattr(likelihood, field)[rows]
        for name, field in _OF_ESTIMATES.items()
        for part, rows in parts.items()
    }

    # Their means, and what else report.json says.
    entries: dict[str, Any] = {}
    for name, values in per_image.items():
        own = weights.get("weight_train" if name.endswith("_train") else "weight_test")
        entries[name], entries[f"{name}_se"] = evaluate.mean_and_standard_error(values, own)
    entries["generalization_gap"] = entries["nll_test"] - entries["nll_train"]
    entries["generalization_gap_se"] = math.hypot(entries["nll_test_se"], entries["nll_train_se"])
    entries["active_units"] = num_active
    entries["num_examples"] = num
    if weights:
        numbers = {name: row_weights.effective_number(each) for name, each in weights.items()}
        entries["effective_rows"] = {n.removeprefix("weight_"): each for n, each in numbers.items()}
    entries["check"] = checked.describe()
    counts = weights.get("weight_test")
    counts = None if counts is None else counts[to_classify]
    index = images.test_index[to_classify]
    of_classes, class_arrays = conditions.of_report(classified, in_classes, index, dataset, counts)
    entries |= of_classes
    entries |= _describe_gap(chosen.gap, chosen.facts | tried)
    entries["evaluation"] = {
        "seconds": time.monotonic() - began,
        "num_zero_weight_bound_samples": bound.num_zero_weight,
        "gradients_of_pilots_search_and_gap": chosen.num_gradients,
        **describe_chains(likelihood, chosen.settings),
    }

    # What evaluation.npz holds beside the images.
    arrays = {
        "betas": chosen.plan.betas,
        "step_sizes": _of_moves(likelihood.plan.step_sizes),
        "acceptance": likelihood.acceptance,
        "path_sample_size": likelihood.path_sample_size,
        "activity": activity,
        **certificate.arrays_of(chosen.plan),
    }
    if chosen.gap is not None:
        arrays["simulated_lower_bound"] = chosen.gap.forward.log_likelihood
        arrays["simulated_upper_bound"] = chosen.gap.reverse.log_likelihood
    arrays = images.identity(dataset) | per_image | quality | arrays | class_arrays
    is_chosen_elsewhere = evaluation.target_gap is not None
    of_test = likelihood.of_first(num)
    evidence = certificate.Evidence(
        *(subject, chains, of_test, chunk_size, is_chosen_elsewhere), weights.get("weight_test")
    )
    return Measured(entries, arrays, evidence)


def _of_moves(step_sizes: np.ndarray) -> np.ndarray:
    """One step size of each move, `[T-2]`: of `[T-2, D]` the geometric mean over coordinates."""
    if step_sizes.ndim == 1:
        return step_sizes
    return np.exp(np.log(step_sizes).mean(axis=1))


def describe_chains(likelihood: evaluate.Likelihood, settings: evaluate.Settings) -> dict[str, Any]:
    """Says how the chains of the NLL went, and what they took."""
    rates = likelihood.acceptance
    # A Gibbs sweep takes no gradient.
    num_data = len(likelihood.log_likelihood)
    per_image = None if settings.move == "gibbs" else likelihood.num_gradients // num_data
    return {
        "num_temperatures": len(likelihood.plan.betas),
        "acceptance_mean": float(rates.mean()) if rates.size else None,
        "acceptance_min": float(rates.min()) if rates.size else None,
        "effective_sample_size_mean": float(likelihood.effective_sample_size.mean()),
        "log_weight_variance_mean": float(likelihood.log_weight_variance.mean()),
        "num_nonfinite_energies": likelihood.num_nonfinite,
        "num_zero_weight_chains": likelihood.num_zero_weight,
        "num_broken_images": int(likelihood.is_broken.sum()),
        "num_unreliable": int((~likelihood.is_reliable).sum()),
        "move": settings.move,
        "gradients_per_image": per_image,
        "gradients_per_image_paper": PAPER_GRADIENTS_PER_IMAGE,
        "gradients_of_nll": likelihood.num_gradients,
        "is_unbiased": likelihood.is_unbiased,
        "nll": _NLL_NOTES[likelihood.is_unbiased],
    }
