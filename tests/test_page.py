"""The page of a report: one file that says what came of a run, and shows it."""

import base64
import html.parser
import json
import re

import jax
import numpy as np
import pytest
from test_contents import shown as content_of

from aiwae_jax import data, likelihoods, models
from aiwae_jax.evaluate import grid
from aiwae_jax.report import (
    extremes,
    headline,
    of_data,
    of_training,
    page,
    pictures,
    plots,
    text,
)
from aiwae_jax.report import images as evaluated
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.runs import tables

CHANCE = np.random.default_rng(0)
NUM_TEST, NUM = 24, 12  # of which so many are evaluated
BITS = (CHANCE.uniform(size=(60, 12)) < CHANCE.uniform(size=(60, 1))).astype(np.float32)
LABELS = (BITS.sum(axis=1) > 6).astype(int)
IMAGES = data.from_arrays(
    *(BITS[:36], BITS[36:]),
    name="mine",
    image_shape=(3, 4),
    train_labels=LABELS[:36],
    test_labels=LABELS[36:],
)
COLUMNS = ("age", "height", "weight")
VALUES = CHANCE.normal(size=(60, 3)).astype(np.float32)
TABLE = data.from_arrays(VALUES[:36], VALUES[36:], name="table", columns=COLUMNS)
RECORDS = [
    {
        "step": step,
        "epoch": step / 2,
        "theta/objective": -30.0,
        "theta/log_likelihood_bound": -20.0 - 30.0 / step,
        "phi/log_likelihood_bound": -99.0,
        "validation/bound": -21.0 - 30.0 / step,
    }
    for step in range(1, 21)
]
MOVES = {"betas": np.linspace(0, 1, 5), "step_sizes": [0.1] * 3, "acceptance": [0.8] * 3}
MOVES |= {"path_sample_size": [8.0] * 3}
GAP = {
    "bidirectional_gap": 0.0123,
    "bidirectional_gap_se": 0.004,
    "bidirectional_gap_upper_end": 0.02,
    "bidirectional": {"num_simulated": 8},
}
BASELINE = {"nll_test": 90.25, "nll_test_se": 0.5, "difference": 6.25, "difference_se": 0.25}
MEASURED = GAP | {
    "nll_at_most": 84.3214,
    "nll_at_most_delta": 0.05,
    "baselines": [{"name": "independent pixels", **BASELINE}],
}
# Words for us, and of other models than a plain one.
BANNED = (
    "objective",
    "theta",
    "num_",
    "log likelihood bound",
    "conditional",
    "binary",
    "upper half",
)


def found_of(folder, dataset, model, **changes):
    """A report's pictures and page, of a model as it begins."""
    params = model.init(jax.random.key(0))
    phi = jax.tree.map(lambda leaf: 4.0 * leaf, params.phi)  # whose means vary as if trained
    evaluation = Evaluation(num_examples=NUM)
    chosen = evaluated.choose_images(dataset, evaluation)
    nll = {f"nll_{part}": CHANCE.normal(size=NUM) for part in ("test", "train")}
    material = pictures.Shown(
        *(folder, dataset, model, params.theta, jax.tree_util.Partial(model.posterior, phi)),
        *(chosen, RECORDS, MOVES | nll, "hmc", evaluation),
    )
    names = pictures.draw_missing(material)
    content = content_of(data=dataset.describe(), pictures=names, **MEASURED | changes)
    content["config"] |= {"model": None, "method": None}
    content["evaluation"] |= {"num_unreliable": 1}
    del content["paper"]
    captions = pictures.captions(
        *(dataset, model, "posterior", RECORDS),
        with_best=False,
        num_latents=material.latent_size,
    )
    tables.write(folder / "per_datum.csv", {"index": chosen.test_index, "nll": nll["nll_test"]})
    written = page.render(
        *(folder, content, text.describe(content), captions),
        rows=extremes.table(material),
        curves=of_training.columns(RECORDS),
    )
    return material, content, written


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    model = models.bernoulli_vae(12, 3, hidden_sizes=(8,), initialization="torch")
    return found_of(tmp_path_factory.mktemp("images"), IMAGES, model)


@pytest.fixture(scope="module")
def of_rows(tmp_path_factory):
    options = {"latent_size": 2, "hidden_sizes": (8,), "initialization": "torch"}
    model = models.mlp_vae(3, likelihood=likelihoods.normal(), **options)
    return found_of(tmp_path_factory.mktemp("rows"), TABLE, model)


class Reader(html.parser.HTMLParser):
    """What a page has: pictures, links, words that can be read."""

    def __init__(self, written):
        super().__init__()
        self.images, self.links, self.words, self.open = [], {}, [], []
        self.feed(written)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("img", "meta", "link", "input", "br"):
            self.images += [attributes] if tag == "img" else []
            return
        self.open.append(tag)
        if tag == "a":
            self.links[attributes.get("download")] = attributes["href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.words.append("" if tag == "strong" else " ")

    def handle_data(self, words):
        if not {"style", "script"} & set(self.open):
            self.words.append(words)

    @property
    def said(self):
        return " ".join("".join(self.words).split())


def csv_of(link):
    start, _, content = link.partition("base64,")
    assert start == "data:text/csv;"
    lines = base64.b64decode(content).decode().splitlines()
    return [line.split(",") for line in lines]


@pytest.mark.parametrize("kind", [pytest.param("of_images", marks=pytest.mark.slow), "of_rows"])
def test_a_page_is_whole_in_one_file_and_every_picture_says_what_it_shows(kind, request):
    material, content, written = request.getfixturevalue(kind)
    found = Reader(written)
    assert not found.open
    assert len(found.images) == len(content["pictures"])
    for image in found.images:
        assert len(image["alt"]) > 20
        assert image["src"].startswith("data:image/png;base64,")
        assert int(image["width"]) > 0 < int(image["height"])
    assert len({image["alt"] for image in found.images}) == len(found.images)
    assert not re.search(r"https?:|src=\"(?!data:)|@import|url\(", written)
    assert "prefers-color-scheme: dark" in written
    other = {"rows": "images", "images": "rows"}[material.noun]
    assert f" {other} " not in found.said.partition("Settings")[0]


def test_a_plain_page_has_no_words_of_other_models_nor_of_our_own(of_images):
    _, content, written = of_images
    of_conditions = {"condition_samples.png", "condition_traversals.png", "confusion.png"}
    assert set(content["pictures"]) == set(pictures.NAMES) - of_conditions
    said = Reader(written).said.partition("Settings")[0]
    for word in BANNED:
        assert word not in said, word


def test_the_headline_says_the_numbers_of_the_report(of_images):
    _, content, written = of_images
    said = Reader(written).said
    (sentence,) = re.findall(r"NLL 84\.00.*?6\.25 ± 0\.25 worse\.", said)
    assert sentence == (
        "NLL 84.00 ± 0.50 nats, mean of 3 test images, at most 84.322 with 95 % confidence; "
        "gap between lower and upper bound 0.012 ± 0.004 nats on simulated images; "
        "1 of 6 estimates, of test and training images, are unreliable; "
        "the best baseline without latents, independent pixels, has 90.25, 6.25 ± 0.25 worse."
    )
    assert sentence == headline.of(content, "images").sentence
    assert "To be read with care: some estimates are unreliable" in said


def test_the_headline_says_of_what_and_of_whom_the_mean_is():
    content = content_of(**MEASURED, effective_rows={"test": 2.5})
    assert "weighted mean of 3 test rows" in headline.of(content, "rows").sentence
    content["data"] |= {"condition": ["age", "sex"]}
    assert headline.of(content, "rows").sentence.startswith("NLL of p(x|age and sex) 84.00")


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        (headline.SOUND, {}),
        (headline.CARE, {"is_finished": False}),
        (headline.CARE, {"nll_at_most": None, "nll_at_most_reason": "no chain moved"}),
        (headline.CARE, {"bidirectional_gap_upper_end": 0.7}),
        (headline.CARE, {"baselines": [{"name": "x", **BASELINE, "difference": -0.5}]}),
        (headline.FAULT, {"check": {"passed": False, "faults": ["a slope"]}}),
        (headline.FAULT, {"bidirectional": {"num_simulated": 8, "is_possible": False}}),
    ],
)
def test_a_verdict_is_no_better_than_what_was_found(verdict, changes):
    content = content_of(**MEASURED | changes)
    found = headline.of(content, "images")
    assert found.verdict == verdict
    assert bool(found.reasons) == bool(changes)
    reason = changes.get("nll_at_most_reason", "84.322 with 95 % confidence")
    assert reason in found.sentence
    if changes.get("baselines"):
        assert "6.25" not in found.sentence
        assert found.sentence.endswith("has 90.25, 0.50 ± 0.25 better.")
    assert headline.line(content).startswith(f"{verdict}{' (' if changes else ''}")


def test_what_is_saved_from_a_page_is_what_was_measured(of_images):
    material, content, written = of_images
    links = Reader(written).links
    rows = {name: (value, error) for name, value, error in csv_of(links["numbers.csv"])[1:]}
    for key, (_, with_error) in text.METRICS.items():
        assert float(rows[key][0]) == content[key]
        if with_error:
            assert float(rows[key][1]) == content[f"{key}_se"]
    assert float(rows["nll_at_most"][0]) == content["nll_at_most"]
    assert float(rows["nll_test of independent pixels"][0]) == BASELINE["nll_test"]
    head, *curves = csv_of(links["learning_curves.csv"])
    assert head == ["epoch", "training", "validation"]
    for record, row in zip(RECORDS, curves, strict=True):
        wanted = [record[n] for n in ("epoch", "theta/log_likelihood_bound", "validation/bound")]
        assert [float(value) for value in row] == wanted
    per_datum = (material.folder / "per_datum.csv").read_text().splitlines()
    assert csv_of(links["per_datum.csv"]) == [line.split(",") for line in per_datum]


def test_the_least_and_the_most_likely_rows_are_those_of_the_nll(of_rows):
    material, content, written = of_rows
    assert "extremes.png" not in content["pictures"]
    found = extremes.table(material)
    columns = dict(found.columns)
    nll, num = material.arrays["nll_test"], NUM // 2
    assert columns["NLL"][:num] == sorted(nll, reverse=True)[:num]
    assert columns["NLL"][num:] == sorted(nll)[:num]
    for i, row in enumerate(columns["row"]):
        wanted = TABLE.test[row]
        assert [columns[name][i] for name in COLUMNS] == wanted.tolist()
        place = list(material.images.test_index).index(row)
        assert columns["NLL"][i] == nll[place]
    said = Reader(written).said
    assert "Highest NLL" in said
    assert all(f" {name} " in said for name in COLUMNS)


def test_a_column_of_the_data_may_have_any_name():
    wide = data.from_arrays(
        *np.split(CHANCE.normal(size=(48, 14)), 2),
        name="wide",
        columns=("NLL", "row", *(f"c{i}" for i in range(12))),
    )
    chosen = evaluated.choose_images(wide, Evaluation(num_examples=0))
    nll = np.arange(24.0)
    nll[3] = np.nan  # the least likely of all
    material = pictures.Shown(
        *(None, wide, None, None, None, chosen, [], {"nll_test": nll}, "hmc", Evaluation())
    )
    found = extremes.table(material)
    names = [name for name, _ in found.columns]
    assert names == ["row", "NLL", "NLL", "row", *(f"c{i}" for i in range(10))]
    assert found.num_left_out == 2
    assert [found.columns[0][1][i] for i in (0, 1, 10)] == [3, 23, 0]


def test_latents_lie_in_the_plane_of_the_largest_variance(of_images, of_rows):
    material, *_ = of_images
    plane = material.once(of_data.plane)
    assert plane.points.shape == (NUM_TEST, 2)
    chosen = material.images
    np.testing.assert_array_equal(chosen.all_test[chosen.places], chosen.test)
    few = chosen._replace(all_index=np.array([7, 2, 9]), test_index=np.array([2, 7]))
    np.testing.assert_array_equal(few.places, [1, 0])
    centred = material.latent_means - material.latent_means.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred / NUM_TEST)[::-1]
    np.testing.assert_allclose(plane.points.var(axis=0), variances[:2], rtol=1e-6)
    assert plane.share == pytest.approx(variances[:2].sum() / variances.sum())
    material, *_ = of_rows  # of two latents these themselves
    np.testing.assert_array_equal(material.once(of_data.plane).points, material.latent_means)


def test_early_epochs_are_drawn_with_the_rest_and_parts_begin_where_they_do(monkeypatch):
    epochs, curves, is_bound = of_training.curves_of(RECORDS)
    assert is_bound
    assert curves[0].values[0] == -50.0
    assert len(epochs) == len(RECORDS)
    plain = [{"step": i, "epoch": i, "theta/objective": -float(i)} for i in (1, 2)]
    _, (curve,), is_bound = of_training.curves_of(plain)
    assert not is_bound
    assert curve.values.tolist() == [-1.0, -2.0]
    assert of_training.curves_of([])[1] == []
    legs = [{"epoch": e, "leg": int(e > 2)} for e in (1, 2, 3, 4)]
    assert of_training.beginnings(legs, ("vae", "aiwae")) == {"1: vae": 0.0, "2: aiwae": 2}
    assert of_training.beginnings(legs[:2], ("vae", "aiwae")) == {}


def test_a_panel_of_a_posterior_contains_the_ellipse_of_q(tmp_path, monkeypatch):
    drawn, make = [], plots.figure
    monkeypatch.setattr(plots, "figure", lambda *size: drawn.append(make(*size)) or drawn[-1])
    axis = np.linspace(-1.0, 1.0, 21)
    density = np.exp(-20.0 * (axis[:, None] ** 2 + axis[None, :] ** 2))
    density /= density.sum() * 0.01
    panel = {
        "posterior": grid.GridPosterior((axis, axis), density, 0.0),
        "q_mean": np.array([3.0, -2.0]),
        "q_stddev": np.array([0.5, 1.5]),
        "particles": np.zeros((3, 2)),
    }
    plots.posteriors(tmp_path / "x.png", {("T=5", "K=1"): panel}, ["T=5"], ["K=1"], "a title")
    (axes,) = drawn[0].axes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < -0.5
    assert right > 3.5
    assert bottom < -3.5
    assert top > 0.5


def test_what_is_drawn_again_is_the_same(of_images, tmp_path):
    material, *_ = of_images
    again = pictures.Shown(
        tmp_path,
        *(getattr(material, name) for name in ("dataset", "model", "theta", "start", "images")),
        *(material.records, material.arrays, material.move, material.evaluation),
    )
    for name in ("traversals.png", "latents.png"):
        assert pictures.PICTURES[name].draw(again, tmp_path / name)
        assert (tmp_path / name).read_bytes() == (material.folder / name).read_bytes()


def test_a_page_tells_nothing_that_is_not_markup(of_rows):
    """Titles and names come from files, and may hold anything."""
    material, content, _ = of_rows
    evil = "<script>alert(1)</script>"
    content = json.loads(json.dumps(content))
    content["data"]["title"] = evil
    content["baselines"][0]["name"] = evil
    captions = dict.fromkeys(pictures.NAMES, evil)
    description = text.describe(content)._replace(command=evil)
    written = page.render(material.folder, content, description, captions)
    assert evil not in written
    assert written.count("<script>") == 1
