"""What the report comes to: one sentence and its verdict, and what must not be overlooked."""

from typing import Any

from aiwae_jax.report import headline, text
from aiwae_jax.report.markup import sentence, words
from aiwae_jax.report.sections.of_page import Page

_TONES = {headline.SOUND: "good", headline.CARE: "care", headline.FAULT: "bad"}
_VERDICTS = {
    headline.SOUND: "Sound: nothing speaks against this number",
    headline.CARE: "To be read with care",
    headline.FAULT: "Not to be relied on",
}


def render(page: Page) -> str:
    """The sentence in a frame whose colour is the verdict, and warnings below."""
    found = headline.of(page.report, page.description.data)
    verdict = _VERDICTS[found.verdict]
    if found.reasons:
        verdict += f": {'; '.join(found.reasons)}"
    first, *rest = found.parts
    said = "; ".join([f"<strong>{words(first)}</strong>", *map(words, rest)])
    return (
        f'<div class="headline {_TONES[found.verdict]}"><p class="verdict">{words(verdict)}</p>'
        f"<p>{said}.</p></div>"
        + "".join(f'<p class="warning">{words(line)}</p>' for line in warnings(page.report))
    )


def warnings(report: dict[str, Any]) -> list[str]:
    """Sentences on all that makes the numbers less than they seem."""
    found = []
    if report["data"].get("is_stand_in"):
        found.append(
            f"{report['data']['title']}: these images are not the papers', and the numbers are not "
            "comparable with theirs."
        )
    if not report["is_finished"]:
        found.append("The run is not finished; this is a checkpoint of it.")
    if not report["evaluation"]["is_unbiased"]:
        found.append("The NLL's step sizes were adapted on the reported chains: it is biased.")
    if not report.get("bidirectional", {}).get("is_reached", True):
        found.append("The target of the bidirectional gap was missed.")
    sentences = (
        text.check_sentence(report),
        text.start_sentence(report),
        text.unreliable_sentence(report),
    )
    return found + [sentence(each) for each in sentences if each is not None]
