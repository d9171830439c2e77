"""Values to be saved as CSV; they lie in the page itself, which may have been sent alone."""

from aiwae_jax.report import markup
from aiwae_jax.report.sections.of_page import Page
from aiwae_jax.report.text import METRICS
from aiwae_jax.runs import tables

_PER_DATUM = "per_datum.csv"
_MOST_BYTES = 2_000_000  # of a file that is put into the page


def render(page: Page) -> str:
    """Links."""
    links = [markup.download("numbers.csv", numbers(page))]
    if page.curves is not None:
        links.append(markup.download("learning_curves.csv", tables.as_csv(page.curves)))
    path = page.folder / _PER_DATUM
    if path.is_file():
        is_small = path.stat().st_size <= _MOST_BYTES
        beside = f'<a class="button" href="{_PER_DATUM}">{_PER_DATUM}, beside this page</a>'
        links.append(
            markup.download(_PER_DATUM, path.read_text(encoding="utf-8")) if is_small else beside
        )
    return markup.section("values", "Values as CSV", f"<p>{''.join(links)}</p>")


def numbers(page: Page) -> str:
    """The metrics with all their digits, and the baselines."""
    report = page.report
    rows = [
        (key, report[key], report[f"{key}_se"] if with_error else None)
        for key, (_, with_error) in METRICS.items()
    ]
    for key in ("nll_at_most", "bidirectional_gap", "bits_per_dim"):
        if report.get(key) is not None:
            rows.append((key, report[key], report.get(f"{key}_se")))
    rows += [
        (f"nll_test of {each['name']}", each["nll_test"], each["nll_test_se"])
        for each in report.get("baselines", [])
    ]
    names, values, errors = zip(*rows, strict=True)
    errors = [float("nan") if error is None else error for error in errors]
    return tables.as_csv({"name": names, "value": values, "standard_error": errors})
