"""Checks a certificate: what it binds together, and by chains run again a part of its evidence."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np

from aiwae_jax import checks, data, evaluate
from aiwae_jax.evaluate import chunks, verdicts
from aiwae_jax.evaluate.certificate import bound_of, numbers_of
from aiwae_jax.report import certificate, environment, text
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.images import choose_images
from aiwae_jax.runs import config, files, progress
from aiwae_jax.train.run import Run

_STANDARD_ERRORS = 4.0  # within which estimates of another machine lie
_ADVICE = "it is no certificate"
_NEEDED = ("nll_test", "standard_error_test", "is_reliable_test")
_NEEDED += ("plan_betas", "plan_step_sizes", "plan_num_gradients")


class _Certificate(TypedDict):
    """The part of a certificate.json that is read."""

    nll_at_most: float
    delta: float
    spent: float
    num_data: int
    hashes: dict[str, str]
    settings: dict
    chunk_size: int
    rows: dict
    data: config.Data
    repeat: dict
    machine: dict
    sha256: str


class Verified(NamedTuple):
    """A certificate that was not refused.

    Attributes:
      certificate: what it says.
      num_recomputed: chunks that were run again.
      num_chunks: of all that it rests on.
      is_same_machine: whether they had to give the same bits.
    """

    certificate: dict[str, Any]
    num_recomputed: int
    num_chunks: int
    is_same_machine: bool

    def words(self) -> str:
        """What was found, and what was not looked at."""
        how = f"within {_STANDARD_ERRORS:g} standard errors, on another machine or a GPU"
        if self.is_same_machine:
            how = "the same bits"
        num_left = self.num_chunks - self.num_recomputed
        others = f"the other {num_left}, " if num_left else ""
        return (
            f"NLL at most {text.up(self.certificate['nll_at_most'])} with probability "
            f"{100 * (1 - self.certificate['delta']):g}%, of {self.certificate['num_data']} data: "
            f"parameters, data, settings, plan and key are those that it names; "
            f"{self.num_recomputed} of {self.num_chunks} chunks, chosen at random, were recomputed"
            f": {how}. Taken on trust: {others}how the plan was tuned, the gap, and that "
            "no look at these data was left out."
        )


def read(path: str | os.PathLike) -> dict[str, Any]:
    """What a certificate says, if no byte of it was changed.

    Raises:
      WorkdirError: if there is no such file.
      RefusedError: if it is not as it was written.
    """
    path = pathlib.Path(path).expanduser()
    files.check_file(path)
    if not path.exists():
        raise files.WorkdirError(f"{path} is not there; a report writes {certificate.NAME}.")
    try:
        content = files.read_json(path, _ADVICE)
        config.check(path, content, _Certificate, _ADVICE)
    except files.WorkdirError as error:
        raise files.RefusedError(str(error)) from None
    plain = {name: value for name, value in content.items() if name != "sha256"}
    as_written = files.to_json(certificate.sealed(plain)) + "\n"
    if path.read_bytes() != as_written.encode():
        raise files.RefusedError(
            f"{path} was changed after it was written: its SHA-256 is another one."
        )
    return content


def verify(
    path: str | os.PathLike, run: Run, dataset: data.Dataset, *, share: float = 0.05
) -> Verified:
    """Checks a certificate against its run and its data, and recomputes a part of its evidence.

    Hashes say that parameters, rows, settings and plan are those that it names, and that the
    chains' key follows from them; the bound follows from the estimates in the evaluation.npz beside
    it. A random share of the chunks is annealed again: on the CPU that made them they must give the
    same bits, on another machine or a GPU estimates of each datum that agree within four standard
    errors of their difference, as if they were independent.

    Args:
      path: of the certificate.json, beside its evaluation.npz; of an earlier report,
        certificate-1.json and evaluation-1.npz.
      run: whose it is.
      dataset: that it was trained on.
      share: of the chunks, in (0, 1]; at least one is recomputed.

    Raises:
      RefusedError: if anything is not as it says.
      WorkdirError: if there is no such file.
      ValueError: for a share outside (0, 1].
    """
    share = checks.positive("share", share)
    if share > 1.0:
        raise ValueError(f"`share` must be at most 1, got {share}.")
    path = pathlib.Path(path).expanduser()
    content = read(path)
    here, there = environment.of_bits(), content["machine"]
    if here["is_x64"] != there.get("is_x64"):
        raise files.RefusedError(
            f"{path} was made with JAX_ENABLE_X64={int(bool(there.get('is_x64')))}; set it."
        )

    # What it names, and what is here.
    arrays = _arrays_beside(path)
    if differences := dataset.differences(content["data"]):
        raise files.RefusedError(f"{path} is of other data ({'; '.join(differences)}).")
    rows = choose_images(
        dataset,
        Evaluation(num_examples=content["rows"]["num_examples"], seed=content["rows"]["seed"]),
        content["rows"]["validation_share"],
    )
    plan = certificate.plan_of(arrays)
    weights = rows.weights_of(dataset).get("weight_test")
    subject = certificate.Subject.of(run.params, rows.test, content["settings"], plan, weights)
    found = {
        **subject._asdict(),
        "key": subject.key_hash,
        "estimates": certificate.hash_of_estimates(arrays),
    }
    for name, value in found.items():
        if content["hashes"].get(name) != value:
            raise files.RefusedError(
                f"{path} is of other {name} than are here: the SHA-256 differ."
            )
    nll = arrays["nll_test"]
    spends = certificate.spends(content["look"])
    if content["settings"].get("adapt") != "pilot" or (
        (content["spent"], content["delta"]) not in spends
    ):
        raise files.RefusedError(f"{path} is of chains that bound nothing with its probability.")
    num_data, num_unreliable = numbers_of(arrays["is_reliable_test"], weights)
    if content["num_unreliable"] != num_unreliable:
        raise files.RefusedError(f"{path} is of {num_unreliable} unreliable data, not as it says.")
    bound, _ = bound_of(nll, content["spent"], weights)
    if (num_data, bound) != (content["num_data"], content["nll_at_most"]):
        raise files.RefusedError(
            f"{path} does not follow from its estimates, which bound by {bound}."
        )

    # A part of the evidence, again.
    names = {field.name for field in dataclasses.fields(evaluate.Settings)}
    settings = evaluate.Settings(**{n: v for n, v in content["settings"].items() if n in names})
    others = {name: v for name, v in content["settings"].items() if name not in names and v}
    target = run.target(contexts=rows.both, **others)
    all_chunks = [
        indices
        for indices, _ in chunks.of(len(rows.both), min(content["chunk_size"], len(rows.both)))
        if indices[0] < len(nll)
    ]
    num = math.ceil(share * len(all_chunks))
    chosen = np.sort(np.random.default_rng().choice(len(all_chunks), num, replace=False))
    # A GPU may choose other kernels each time, which round otherwise.
    is_same_machine = here == there and jax.default_backend() == "cpu"
    with progress.Stages() as shown:
        for place, number in enumerate(chosen):
            indices = all_chunks[number]
            again = evaluate.log_likelihood(
                *(subject.key(), target, chunks.select(rows.both, indices), settings),
                plan=plan,
                numbers=indices,
                chunk_size=len(indices),
                progress_fn=shown.titled(f"chunk {place + 1} of {num}"),
            )
            _compare(path, again, indices, arrays, is_same_machine=is_same_machine)
    return Verified(content, num, len(all_chunks), is_same_machine)


def _arrays_beside(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Of the evaluation.npz that belongs to a certificate."""
    beside = path.with_name(f"{path.stem.replace('certificate', 'evaluation', 1)}.npz")
    try:
        arrays = files.read_arrays(beside, "the certificate cannot be checked without it")
    except files.WorkdirError as error:
        raise files.RefusedError(str(error)) from None
    for name in _NEEDED:
        if name not in arrays:
            raise files.RefusedError(f"{beside} has no `{name}`: it is not of this certificate.")
    return arrays


def _compare(
    path: pathlib.Path,
    again: evaluate.Likelihood,
    indices: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    *,
    is_same_machine: bool,
) -> None:
    """Raises RefusedError where estimates that were made again are others than those noted."""
    is_certified = indices < len(arrays["nll_test"])
    rows = indices[is_certified]
    nll, errors = arrays["nll_test"][rows], arrays["standard_error_test"][rows]
    ours, our_errors = -again.log_likelihood[is_certified], again.standard_errors[is_certified]
    is_right = nll == ours
    if not is_same_machine:
        with np.errstate(invalid="ignore"):
            is_right |= np.abs(nll - ours) <= _STANDARD_ERRORS * np.hypot(errors, our_errors)
    if not is_right.all():
        first = np.flatnonzero(~is_right)[0]
        how = "are other bits" if is_same_machine else "differ by more than their errors allow"
        raise files.RefusedError(
            f"{path}: the estimates of {(~is_right).sum()} of {len(rows)} data that were made "
            f"again {how}; of the datum in row {rows[first]} of evaluation.npz it says an NLL of "
            f"{nll[first]}, and it is {ours[first]}."
        )
    if not (again.rounding[is_certified] <= verdicts.LARGEST_ROUNDING).all():
        raise files.RefusedError(
            f"{path}: the dtype is too coarse for the log densities of some data."
        )
