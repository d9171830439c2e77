"""The bound that a report states of its NLL, the looks that it took, and its certificate.json.

The chains' key is made of the hashes of all that they follow from: parameters, data, settings and
plan. Nobody can try keys until one pleases; whoever changes the plan looks once more, and the
ledger in the run's folder counts it.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np

from aiwae_jax import evaluate, fingerprint
from aiwae_jax.evaluate.certificate import spent_by
from aiwae_jax.evaluate.settings import OF_VERDICTS
from aiwae_jax.report import environment
from aiwae_jax.runs import config, files
from aiwae_jax.types import Params

NAME = "certificate.json"
LEDGER = "looks.json"
DELTA = 0.05  # that the bound is missed
_AFTER_A_WHOLE = 1.5 * DELTA  # δ, and the sum of δ/(k(k+1)) from k = 2 on
_LEDGER_ADVICE = "it counts the looks at this run's data: restore it"
_OF_NO_CHAIN = (
    *OF_VERDICTS,
    *("num_pilot_data", "num_pilot_chains", "num_pilot_rounds", "conditional_sample_size"),
)
_OF_PLAN = "plan_"  # before the fields of a plan in evaluation.npz


class Subject(NamedTuple):
    """What an NLL's chains follow from, as SHA-256.

    Attributes:
      parameters: θ and φ.
      data: the rows, binarized, that the bound speaks of, with their weights if they have some.
      settings: of the chains, with their start and the precision of their forces.
      plan: temperatures and step sizes.
    """

    parameters: str
    data: str
    settings: str
    plan: str

    @classmethod
    def of(
        cls,
        params: Params,
        rows: np.ndarray,
        settings: Mapping[str, Any],
        plan: evaluate.Plan,
        weights: np.ndarray | None = None,
    ) -> "Subject":
        """Hashes them; `settings` as JSON has them.

        Settings that change no chain are left out, verdicts' thresholds and what the pilots did,
        whose plan is hashed itself: with them one could try keys.
        """
        of_chains = {name: value for name, value in settings.items() if name not in _OF_NO_CHAIN}
        if of_chains.get("start", "") is None:
            of_chains["start"] = "posterior"  # which is the default
        return cls(
            fingerprint.sha256(params.theta, params.phi),
            fingerprint.sha256(rows if weights is None else (rows, weights)),
            _sha256(of_chains),
            fingerprint.sha256(plan.of_chains),
        )

    @property
    def key_hash(self) -> str:
        """The SHA-256 that the key is made of."""
        return _sha256(self._asdict())

    def key(self) -> jax.Array:
        """The key of the chains."""
        key = jax.random.key(0)
        for word in np.frombuffer(bytes.fromhex(self.key_hash)[:8], ">u4"):
            key = jax.random.fold_in(key, np.uint32(word))
        return key


class Evidence(NamedTuple):
    """What a bound rests on.

    Attributes:
      subject: what the chains followed from.
      settings: of which `subject.settings` is the hash.
      likelihood: of the data that the bound speaks of.
      chunk_size: data that were annealed at once.
      is_only_look: whether the settings were chosen on simulated data, for one look at these.
      weights: `[N]` of the data, or None.
    """

    subject: Subject
    settings: dict[str, Any]
    likelihood: evaluate.Likelihood
    chunk_size: int
    is_only_look: bool
    weights: np.ndarray | None = None


class Stated(NamedTuple):
    """A bound as a report states it.

    Attributes:
      found: the bound.
      look: which look at the run's data with these parameters it is, from 1 on.
    """

    found: evaluate.Certificate
    look: int

    def entries(self) -> dict[str, Any]:
        """For report.json; there is no bound, but a reason, where it is infinite."""
        found = self.found
        return {
            "nll_at_most": found.nll_at_most if found.reason is None else None,
            "nll_at_most_delta": found.delta,
            "nll_at_most_look": self.look,
            "nll_at_most_reason": found.reason,
            "num_unreliable": found.num_unreliable,
        }


class _Look(TypedDict):
    """One of the ledger."""

    parameters: str
    data: str
    key: str
    is_only_look: bool


def state(where: pathlib.Path, evidence: Evidence, check: Mapping[str, Any] | None) -> Stated:
    """Bounds the NLL, and notes the look in the ledger of the folder `where`.

    The same question is the same look, however often it is asked. The first look, of settings
    that were chosen on simulated data, spends δ whole; the k-th one else δ/(k(k+1)), and after a
    whole one the statement is that all looks hold with a probability of 1 - 1.5 δ.

    Args:
      where: the folder.
      evidence: what the bound rests on.
      check: what report.json says of the check of the start, if there was one.

    Raises:
      WorkdirError: for a damaged ledger.
    """
    path, subject = where / LEDGER, evidence.subject
    ledger = []
    if path.exists():
        content = files.read_json(path, _LEDGER_ADVICE)
        ledger = config.check(path, content, list[_Look], _LEDGER_ADVICE)
    # Other rows, or another binarization, by another seed are looks too: the best would be chosen.
    looks = [look for look in ledger if look["parameters"] == subject.parameters]
    keys = [look["key"] for look in looks]
    if subject.key_hash not in keys:
        keys.append(subject.key_hash)
        look = {
            "parameters": subject.parameters,
            "data": subject.data,
            "key": subject.key_hash,
            "is_only_look": evidence.is_only_look and not looks,
        }
        looks.append(look)
        files.write_json(path, [*ledger, look])
    number = keys.index(subject.key_hash) + 1
    is_whole = looks[0]["is_only_look"]
    found = evaluate.certificate(
        evidence.likelihood,
        delta=DELTA,
        look=None if is_whole and number == 1 else number,
        check=check,
        weights=evidence.weights,
    )
    if is_whole and len(looks) > 1:
        found = found._replace(delta=_AFTER_A_WHOLE)
    return Stated(found, number)


def spends(look: int) -> list[tuple[float, float]]:
    """What look number `look` may spend, and the δ that it is a part of."""
    each = spent_by(look, DELTA)
    shared = [(each, DELTA)]
    if look == 1:
        return [*shared, (DELTA, DELTA), (DELTA, _AFTER_A_WHOLE)]
    return [*shared, (each, _AFTER_A_WHOLE)]


def arrays_of(plan: evaluate.Plan) -> dict[str, np.ndarray]:
    """A plan as evaluation.npz has it, for `plan_of`."""
    return {f"{_OF_PLAN}{name}": array for name, array in plan.of_chains.items()}


def plan_of(arrays: Mapping[str, np.ndarray]) -> evaluate.Plan:
    """The plan that an evaluation.npz has.

    Raises:
      TypeError: where it has none.
    """
    fields = {
        name.removeprefix(_OF_PLAN): array
        for name, array in arrays.items()
        if name.startswith(_OF_PLAN)
    }
    plan = evaluate.Plan(**fields)
    return plan._replace(num_gradients=int(plan.num_gradients))


def hash_of_estimates(arrays: Mapping[str, np.ndarray]) -> str:
    """Of the estimates in an evaluation.npz that the bound is made of, with their errors."""
    return fingerprint.sha256([arrays["nll_test"], arrays["standard_error_test"]])


def write(
    where: pathlib.Path,
    stated: Stated,
    evidence: Evidence,
    arrays: Mapping[str, np.ndarray],
    report: Mapping[str, Any],
    **rows: Any,
) -> None:
    """Writes certificate.json, or where there is no bound removes it.

    Args:
      where: the folder of the report.
      stated: the bound.
      evidence: what it rests on.
      arrays: of the report's evaluation.npz.
      report: what report.json says.
      **rows: arguments by which the rows are chosen again.
    """
    found = stated.found
    if found.reason is not None:
        (where / NAME).unlink(missing_ok=True)
        return
    gap = ("bidirectional_gap", "bidirectional_gap_se", "bidirectional_gap_upper_end")
    content = {
        "nll_at_most": found.nll_at_most,
        "delta": found.delta,
        "look": stated.look,
        "spent": found.spent,
        "num_data": found.num_data,
        "num_unreliable": found.num_unreliable,
        "gap": {name: report[name] for name in gap if name in report},
        "hashes": {
            **evidence.subject._asdict(),
            "key": evidence.subject.key_hash,
            "estimates": hash_of_estimates(arrays),
        },
        "settings": evidence.settings,
        "chunk_size": evidence.chunk_size,
        "rows": rows,
        "data": report["data"],
        "repeat": report["repeat"],
        "machine": environment.of_bits(),
    }
    files.write_json(where / NAME, sealed(content))


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the SHA-256 of all that it says."""
    plain = json.loads(files.to_json(dict(content)))
    return plain | {"sha256": _sha256(plain)}


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(files.to_json(dict(content)).encode()).hexdigest()
