"""What a report comes to, in one sentence, and whether it can be relied on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aiwae_jax.report import text

SOUND, CARE, FAULT = "sound", "to be read with care", "not to be relied on"
_WIDE_GAP = 0.5  # nats: the upper end of a gap that is as large as an error that is unreliable


class Headline(NamedTuple):
    """The sentence, and the verdict on it.

    Attributes:
      verdict: SOUND, CARE or FAULT.
      reasons: why it is no better, a few words each.
      parts: of the sentence.
    """

    verdict: str
    reasons: list[str]
    parts: list[str]

    @property
    def sentence(self) -> str:
        """All parts as one sentence."""
        return "; ".join(self.parts) + "."


def of(report: Mapping[str, Any], data: str) -> Headline:
    """Makes it of a report.json.

    Args:
      report: what it says.
      data: what several data are called, as `Description.data`.
    """
    faults, cares = _faults(report), _cares(report, data)
    verdict = FAULT if faults else CARE if cares else SOUND
    parts = [_nll(report, data), _gap(report, data), _unreliable(report, data), _baseline(report)]
    return Headline(verdict, faults + cares, [part for part in parts if part])


def line(report: Mapping[str, Any], otherwise: str = text.NO_NOUN) -> str:
    """Verdict, its reasons and the sentence, as a terminal shows them.

    Args:
      report: what report.json says.
      otherwise: what data are called that do not say what they are.
    """
    found = of(report, text.noun(report["data"], otherwise))
    why = f" ({'; '.join(found.reasons)})" if found.reasons else ""
    return f"{found.verdict}{why}: {found.sentence}"


def _nll(report: Mapping[str, Any], data: str) -> str:
    value = text.number(report["nll_test"], report["nll_test_se"])
    names = " and ".join(report["data"].get("condition") or ())
    given = f" of p(x|{names})" if names else ""
    mean = "weighted mean" if "test" in report.get("effective_rows", {}) else "mean"
    found = f"NLL{given} {value} nats, {mean} of {report['num_examples']} test {data}"
    if report.get("nll_at_most") is not None:
        confidence = 100 * (1 - report["nll_at_most_delta"])
        found += f", at most {text.up(report['nll_at_most'])} with {confidence:g} % confidence"
    elif report.get("nll_at_most_reason"):
        found += f", without a bound from above ({report['nll_at_most_reason']})"
    return found


def _gap(report: Mapping[str, Any], data: str) -> str:
    if "bidirectional_gap" not in report:
        return "no gap between lower and upper bound was measured"
    gap = text.number(report["bidirectional_gap"], report["bidirectional_gap_se"], digits=3)
    return f"gap between lower and upper bound {gap} nats on simulated {data}"


def _num_unreliable(report: Mapping[str, Any]) -> tuple[int, int] | None:
    """How many of how many estimates; None of earlier versions."""
    num = report["evaluation"].get("num_unreliable")
    return None if num is None else (num, 2 * report["num_examples"])


def _unreliable(report: Mapping[str, Any], data: str) -> str:
    if (found := _num_unreliable(report)) is None:
        return ""
    num, num_all = found
    which = f"{num_all} estimates, of test and training {data},"
    return f"all {which} are reliable" if not num else f"{num} of {which} are unreliable"


def _baseline(report: Mapping[str, Any]) -> str:
    if not report.get("baselines"):
        return ""
    best = report["baselines"][0]
    by = text.number(abs(best["difference"]), best["difference_se"])
    side = "worse" if best["difference"] >= 0 else "better"
    return (
        f"the best baseline without latents, {best['name']}, has {best['nll_test']:.2f}, "
        f"{by} {side}"
    )


def _faults(report: Mapping[str, Any]) -> list[str]:
    """What makes the number mean nothing."""
    found = []
    if report.get("check", {}).get("faults"):
        found.append("the check of the model failed")
    if not report["evaluation"]["is_unbiased"]:
        found.append("the estimate is biased")
    if not report.get("bidirectional", {}).get("is_possible", True):
        found.append("the bounds contradict each other")
    return found


def _cares(report: Mapping[str, Any], data: str) -> list[str]:
    """What a reader must not overlook."""
    found = []
    if not report["is_finished"]:
        found.append("the training is not finished")
    if report["data"].get("is_stand_in"):
        found.append(f"these {data} stand in for others")
    if (unreliable := _num_unreliable(report)) and unreliable[0]:
        found.append("some estimates are unreliable")
    if "nll_at_most" in report and report["nll_at_most"] is None:
        found.append("no bound from above")
    if not report.get("bidirectional", {}).get("is_reached", True):
        found.append("the wanted gap was missed")
    elif report.get("bidirectional_gap_upper_end", 0.0) > _WIDE_GAP:
        found.append("the gap is wide")
    if report.get("baselines") and report["baselines"][0]["difference"] < 0:
        found.append("a baseline is better")
    return found
