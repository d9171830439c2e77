"""What a check of a target has found, in numbers and in words."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
      name: of it.
      statistic: how far it is from what must hold.
      standard_error: of `statistic`; 0 of what is exact but for rounding, NaN where nothing was
        measured.
      passed: whether it holds; None where that cannot be told.
      text: a sentence of what is wrong, or of why it cannot be told; empty where it holds.
      is_doubtful: whether a None is worth a warning: what should be 0 is not, and need not be.
    """

    name: str
    statistic: float
    standard_error: float
    passed: bool | None
    text: str = ""
    is_doubtful: bool = False

    @property
    def num_standard_errors(self) -> float:
        """`statistic` in standard errors; NaN of what has none."""
        return self.statistic / self.standard_error if self.standard_error else float("nan")


def skipped(name: str, why: str) -> Finding:
    """What was not looked at."""
    return Finding(name, float("nan"), float("nan"), None, f"{name} was not looked at: {why}.")


class Check(NamedTuple):
    """What `check` has found.

    Attributes:
      findings: all that was looked at, or could not be.
    """

    findings: tuple[Finding, ...]

    @property
    def is_ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults

    @property
    def faults(self) -> list[str]:
        """What is wrong, a sentence each."""
        return [each.text for each in self.findings if each.passed is False]

    @property
    def doubts(self) -> list[str]:
        """What does not hold and need not, for a density with edges or jumps; a sentence each."""
        return [each.text for each in self.findings if each.is_doubtful]

    @property
    def notes(self) -> list[str]:
        """What was not looked at, or not to its end, and why; a sentence each."""
        unknown = [each for each in self.findings if each.passed is None]
        return [each.text for each in unknown if not each.is_doubtful]

    def raise_if_bad(self) -> None:
        """Raises ValueError that names the faults, if there are any."""
        if self.faults:
            raise ValueError(f"`target` is at fault: {_joined(self.faults)}")

    def sentence(self) -> str | None:
        """All faults and doubts in one line; None where there are none."""
        if self.faults:
            return f"the check of the target FAILED: {_joined(self.faults)}"
        if self.doubts:
            return f"the check of the target leaves a doubt: {_joined(self.doubts)}"
        return None

    def describe(self) -> dict[str, Any]:
        """The same for report.json."""
        return {
            "passed": self.is_ok,
            "faults": self.faults,
            "doubts": self.doubts,
            "notes": self.notes,
        }


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(sentences)
