"""What an evaluation leaves: numbers that know their image, pictures that can be drawn again."""

import json

import jax
import numpy as np
import pytest
from test_run import METHODS, TINY, copy_of, main

from aiwae_jax import data, evaluate
from aiwae_jax.report import images as evaluated
from aiwae_jax.report import measure, pictures
from aiwae_jax.runs import checkpoint, files
from experiments import build, flags, launch, run, workdir
from experiments import evaluate as evaluate_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`data_dir` .* is not looked at"),
]

ALL = [*(flag for flag in TINY if "examples" not in flag and "simulated" not in flag)]
ALL += ["--eval_examples=0", "--eval_simulated=0", *METHODS["vae"]]
RENDERED = {*pictures.NAMES, "report.html"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was evaluated on the whole test set; tests that write work on a copy."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(*ALL, f"--workdir={folder}", f"--data_dir={folder.parent}") == 0
    return folder


def rest_of(folder):
    """All files of a run's folder but those that are drawn, and report.json, by name."""
    names = {path.name for path in folder.iterdir() if path.is_file()} - RENDERED
    return {name: (folder / name).read_bytes() for name in names - {"report.json"}}


# ----------------------------------------------------------------------------------- identity


def test_numbers_of_all_images_are_in_the_order_of_the_data_and_say_so(finished):
    digits = data.load("digits")
    arrays = files.read_arrays(finished / "evaluation.npz")
    np.testing.assert_array_equal(arrays["index_test"], np.arange(359))
    np.testing.assert_array_equal(arrays["label_test"], digits.test_labels)
    assert len(np.unique(arrays["index_train"])) == 359 < len(digits.train)
    assert not np.array_equal(arrays["index_train"], np.sort(arrays["index_train"]))
    np.testing.assert_array_equal(arrays["label_train"], digits.train_labels[arrays["index_train"]])


@pytest.mark.by_hand
def test_joined_to_the_labels_they_are_what_each_class_has_when_it_is_measured_alone(finished):
    """A permutation would bring every class to the mean of all, many standard errors away."""
    digits = data.load("digits")
    _, training, _ = workdir.open_run(str(finished))
    built = build.build(training, digits)
    restored, _ = checkpoint.Checkpoints(finished / "checkpoints").restore(built.init())
    params = jax.device_get(restored.train.params)
    arrays = files.read_arrays(finished / "evaluation.npz")
    target = evaluate.Target.of(built.model, params, start=built.start)
    evaluation = flags.parse_run(["run", *ALL]).evaluation
    pixels = evaluated.keys_of(evaluation).test_pixels
    images = np.asarray(data.binarize(pixels, digits.test, digits.max_level))
    nll, labels = arrays["nll_test"], arrays["label_test"]
    rows = np.concatenate([np.flatnonzero(digits.test_labels == label) for label in (0, 1)])
    alone = -evaluate.log_likelihood(
        jax.random.key(1), target, images[rows], evaluation.settings()
    ).log_likelihood
    joined = np.concatenate([nll[labels == label] for label in (0, 1)])
    is_one = digits.test_labels[rows] == 1
    for is_of_class in (is_one, ~is_one):
        differences = joined[is_of_class] - alone[is_of_class]
        mean, error = evaluate.mean_and_standard_error(differences)
        assert abs(mean) < 4 * error
    assert alone[~is_one].mean() - alone[is_one].mean() > 3.0  # the hardest and the easiest class
    assert np.corrcoef(joined, alone)[0, 1] > 0.9
    permuted = np.random.default_rng(0).permutation(nll)  # as it was
    joined = np.concatenate([permuted[labels == label] for label in (0, 1)])
    assert np.corrcoef(joined, alone)[0, 1] < 0.5


def test_a_subset_says_which_rows_it_is_and_belongs_to_every_larger_one():
    digits = data.load("digits")

    def chosen(num):
        evaluation = flags.parse_run(["run", f"--eval_examples={num}"]).evaluation
        return evaluated.choose_images(digits, evaluation)

    whole = chosen(0)
    for num in (20, 200, 359, 1000):
        few = chosen(num)
        np.testing.assert_array_equal(few.test, whole.all_test[few.test_index])
        assert set(few.test_index) <= set(chosen(min(num + 50, 359)).test_index)
        assert len(few.test) == len(few.train) == min(num, 359)
    np.testing.assert_array_equal(chosen(200).test_index[:20], chosen(20).test_index)
    # Those that were recorded before rows were saved.
    assert chosen(20).test_index[:5].tolist() == [240, 135, 62, 284, 125]


# ----------------------------------------------------------------------------------- pictures


def again(monkeypatch, capsys, folder, *arguments):
    """The same command, where nothing may be measured; returns what it says."""
    where = (folder / "config.json").read_text()
    monkeypatch.setattr(measure, "measure", lambda *_: pytest.fail("it evaluated again"))
    monkeypatch.setattr(run.Trainer, "_advance", lambda *_: pytest.fail("it trained again"))
    arguments = arguments or [f"--data_dir={json.loads(where)['data_dir']}"]
    assert main(*ALL, f"--workdir={folder}", *arguments) == 0
    return "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "gone",
    [
        ["report.html"],
        ["samples.png", "acceptance.png"],
        pytest.param(["extremes.png", "nll_histogram.png", "report.html"], marks=pytest.mark.slow),
    ],
    ids=len,
)
@pytest.mark.by_hand
def test_what_was_drawn_and_deleted_is_drawn_again_from_what_is_there(
    gone, finished, tmp_path, monkeypatch, capsys
):
    folder = copy_of(finished, tmp_path)
    before = {name: (folder / name).read_bytes() for name in gone}
    measured, report = rest_of(folder), (folder / "report.json").read_bytes()
    for name in gone:
        (folder / name).unlink()
    assert "here is the existing report" in again(monkeypatch, capsys, folder)
    assert {name: (folder / name).read_bytes() for name in gone} == before
    assert (rest_of(folder), (folder / "report.json").read_bytes()) == (measured, report)


def test_a_picture_that_a_full_disk_cut_short_is_drawn_again(
    finished, tmp_path, monkeypatch, capsys
):
    folder = copy_of(finished, tmp_path)
    whole = (folder / "samples.png").read_bytes()
    (folder / "samples.png").write_bytes(whole[:1000])
    (folder / "acceptance.png").write_bytes(b"")
    again(monkeypatch, capsys, folder)
    assert (folder / "samples.png").read_bytes() == whole
    assert pictures.present(folder) == pictures.present(finished)


@pytest.mark.filterwarnings("default:The moves")
def test_what_cannot_be_drawn_is_neither_named_nor_shown(finished, tmp_path, monkeypatch, capsys):
    """Of a vae, the moves are those of the evaluation alone, which are in evaluation.npz."""
    folder = copy_of(finished, tmp_path)
    of_arrays = ("acceptance.png", "nll_histogram.png", "extremes.png")
    for name in ("evaluation.npz", "metrics.jsonl", "learning_curves.png", *of_arrays):
        (folder / name).unlink()
    assert "moves of the evaluation cannot be drawn" in again(monkeypatch, capsys, folder)
    report = json.loads((folder / "report.json").read_text())
    gone = {"learning_curves.png", *of_arrays}
    assert report["pictures"] == [n for n in pictures.present(finished) if n not in gone]
    count = (folder / "report.html").read_text().count("data:image/png")
    assert count == len(report["pictures"]) >= 2
    assert not (folder / "acceptance.png").exists()
    assert evaluate_command.is_drawn(folder)


def test_a_launcher_finishes_what_is_measured_and_not_drawn(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    config, num = flags.parse_run(["run", *ALL]), len(data.load("digits").train)
    assert launch.look(folder, config, num).is_finished
    (folder / "report.html").unlink()
    assert launch.look(folder, config, num) == (1.0, False)


def test_the_command_to_reproduce_a_report_says_where_its_data_were(
    finished, tmp_path, monkeypatch, capsys
):
    assert f"--data_dir={finished.parent}" in (finished / "report.html").read_text()
    folder = copy_of(finished, tmp_path)
    report = json.loads((folder / "report.json").read_text())
    assert report.pop("data_dir") == str(finished.parent)
    (folder / "report.json").write_text(json.dumps(report))  # as earlier versions wrote it
    (folder / "report.html").unlink()
    again(monkeypatch, capsys, folder, f"--data_dir={tmp_path}")
    assert f"--data_dir={tmp_path}" in (folder / "report.html").read_text()


def test_pictures_of_what_is_measured_anew_are_not_those_of_before(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    before = (folder / "reconstructions.png").read_bytes()
    arguments = [flag for flag in ALL if flag.startswith("--eval_") and "examples" not in flag]
    seven = ["--eval_examples=7", f"--workdir={folder}"]
    assert evaluate_command.main(["evaluate", *arguments, *seven]) == 0
    assert (folder / "reconstructions.png").read_bytes() != before
    assert (folder / "report-1.json").exists()
    assert (folder / "evaluation-1.npz").exists()
