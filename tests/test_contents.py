"""Files of the right syntax and the wrong content, at every door that reads them."""

import json
import os
import shutil

import numpy as np
import pytest
from test_table import DATA, report

from aiwae_jax.report.text import METRICS
from aiwae_jax.runs import files, schema
from experiments import against, contents, evaluate, flags, launch, run
from experiments.table import __main__ as table
from experiments.table import collect

ARGUMENTS = ["run", "--dataset=mnist", "--method=aiwae", "--K=1", "--T=5"]


def shown(**changes):
    """A report with all that its text and its page need."""
    errors = {f"{key}_se": 0.5 for key, (_, with_error) in METRICS.items() if with_error}
    facts = {"num_temperatures": 5, "num_nonfinite_energies": 0, "num_zero_weight_chains": 0}
    facts |= {"is_unbiased": True, "nll": "AIS"}
    return report(num_examples=3) | errors | {"evaluation": facts} | changes


def without(content, *place):
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return copy


def with_value(content, value, *place):
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


def config():
    return {
        "training": vars(flags.parse_run(ARGUMENTS).training),
        "data": DATA,
        "data_dir": None,
    }


def write_run(folder, content=None, **arrays):
    """A folder with a configuration, a report and its arrays, without having run."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config()))
    (folder / "report.json").write_text(json.dumps(shown() if content is None else content))
    found = {"nll_test": np.array([84.0, 85.0, 89.0]), "index_test": np.array([4, 0, 7])} | arrays
    np.savez(folder / "evaluation.npz", **{k: v for k, v in found.items() if v is not None})
    return folder


def error_of(capsys, main, *arguments):
    """The one line of a refusal."""
    assert main(["command", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    return error


WRONG_REPORTS = {
    "`config` must be an object, and is []": with_value(shown(), [], "config"),
    '`nll_test` must be a number, and is "84"': with_value(shown(), "84", "nll_test"),
    "`nll_test` is missing": without(shown(), "nll_test"),
    "`nll_test` must be a number, and is 1000000000000000000000000000000000000000...": with_value(
        shown(), 10**400, "nll_test"
    ),
    "`epochs` must be a number, and is true": with_value(shown(), True, "epochs"),
    "`config.training` must be an object, and is null": with_value(
        shown(), None, "config", "training"
    ),
    '`config.training.num_particles` must be an integer, and is "1"': with_value(
        shown(), "1", "config", "training", "num_particles"
    ),
    "`config.evaluation.num_temperatures` must be an integer, and is 5.5": with_value(
        shown(), 5.5, "config", "evaluation", "num_temperatures"
    ),
    "`config.training.dataset` is missing": without(shown(), "config", "training", "dataset"),
    "`environment.versions` must be an object": with_value(shown(), "x", "environment", "versions"),
    "`wall_time.training_seconds` is missing": with_value(shown(), {}, "wall_time"),
    "`paper` must be an object, and is 3": with_value(shown(), 3, "paper"),
    "`paper.nll_test.std` must be a number": with_value(shown(), "0", "paper", "nll_test", "std"),
    "`pictures[0]` must be a string, and is 5": shown(pictures=[5]),
    "the whole must be an object, and is null": None,
}


@pytest.mark.parametrize("message", WRONG_REPORTS)
def test_a_report_of_wrong_content_is_one_line_at_every_door(message, tmp_path, capsys):
    write_run(tmp_path / "good")
    folder = write_run(tmp_path / "bad")
    (folder / "report.json").write_text(json.dumps(WRONG_REPORTS[message]))
    path = folder / "report.json"
    for main, *arguments in (
        (table.main, f"--workdir={tmp_path}"),
        (evaluate.main, f"--workdir={tmp_path / 'good'}", f"--against={folder}"),
    ):
        error = error_of(capsys, main, *arguments)
        assert f"{path} is not what this program wrote: {message}" in error
        assert "move it away" in error
    with pytest.raises(files.WorkdirError, match="is not what this program wrote"):
        contents.read_report(path, is_shown=True)


def test_what_only_the_text_of_a_report_needs_a_table_does_without(tmp_path):
    for place in (["nll_test_se"], ["evaluation"], ["evaluation", "is_unbiased"]):
        path = write_run(tmp_path / "run", without(shown(), *place)) / "report.json"
        if len(place) == 1:
            assert contents.read_report(path)["nll_test"] == 84.0
        with pytest.raises(files.WorkdirError, match=f"`{'.'.join(place)}` is missing"):
            contents.read_report(path, is_shown=True)
    path = write_run(tmp_path / "run", shown(bidirectional_gap=0.1)) / "report.json"
    with pytest.raises(files.WorkdirError, match="`bidirectional` is missing"):
        contents.read_report(path, is_shown=True)


def test_null_is_a_number_that_json_cannot_write_and_is_one_again_when_read(tmp_path):
    path = tmp_path / "report.json"
    files.write_json(path, shown(nll_test=float("nan"), nll_test_se=float("inf")))
    content = contents.read_report(path, is_shown=True)
    assert np.isnan(content["nll_test"])
    assert np.isnan(content["nll_test_se"])
    assert content["config"]["training"]["num_flow_layers"] is None
    (found,) = collect.tables([content])
    (cell,) = found.cells.values()
    assert np.isnan(cell.values["nll_test"].mean)


WRONG_CONFIGS = {
    "`training` must be an object, and is 3": with_value(config(), 3, "training"),
    "`data.sha256` is missing": without(config(), "data", "sha256"),
    '`training.num_particles` must be an integer, and is "1"': with_value(
        config(), "1", "training", "num_particles"
    ),
    "`training.num_particles` must be an integer, and is true": with_value(
        config(), True, "training", "num_particles"
    ),
    "`training.adam_eps` must be a number, and is null": with_value(
        config(), None, "training", "adam_eps"
    ),
    "`data` is missing": {"training": {}, "name": "of another program"},
    "`data_dir` must be a string, and is 5": with_value(config(), 5, "data_dir"),
    "the whole must be an object, and is []": [],
}


@pytest.mark.parametrize("message", WRONG_CONFIGS)
def test_a_configuration_of_wrong_content_is_one_line_at_every_door(message, tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    (folder / "config.json").write_text(json.dumps(WRONG_CONFIGS[message]))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    expected = f"{folder / 'config.json'} is not what this program wrote: {message}"
    assert expected in error_of(capsys, evaluate.main, f"--workdir={folder}")
    with pytest.raises(files.WorkdirError) as caught:
        launch.look(folder, flags.parse_run(ARGUMENTS), 60_000)
    assert expected in str(caught.value)
    assert "restore it" in str(caught.value)
    assert before == {path: path.read_bytes() for path in folder.iterdir() if path in before}


@pytest.mark.parametrize(
    ("value", "place", "message"),
    [
        (-5, ("num_particles",), "--K must be at least 1, got -5"),
        (10**30, ("num_particles",), "--K must be at most 1,000,000"),
        ("gan", ("method",), "--method must be one of"),
        (float("nan"), ("adam_eps",), "--adam_eps must be finite"),
        ("a,b", ("layers",), "--layers"),
        (1, ("colour",), "colour"),
    ],
)
def test_a_configuration_that_no_run_can_have_is_named_before_anything_is_loaded(
    value, place, message, tmp_path, capsys
):
    folder = write_run(tmp_path / "run")
    content = with_value(config(), value, "training", *place)
    (folder / "config.json").write_text(json.dumps(content))
    error = error_of(capsys, evaluate.main, f"--workdir={folder}")
    assert message in error
    assert "is of another version, or was changed" in error


def test_a_setting_that_is_not_known_here_is_a_difference(tmp_path):
    folder = write_run(tmp_path / "run")
    wanted = flags.parse_run(ARGUMENTS)
    assert launch.workdir.config_differences(folder, wanted.training) == []
    (folder / "config.json").write_text(json.dumps(with_value(config(), 7, "training", "colour")))
    assert launch.workdir.config_differences(folder, wanted.training) == [
        "colour=7 there, unknown here"
    ]


@pytest.mark.parametrize("name", ["config.json", "report.json"])
@pytest.mark.parametrize(
    "content", [b"", b'{"training": {"K', b"\x80\x81\xfe", b"[" * 100_000, b"\xef\xbb\xbf{}"]
)
def test_what_is_no_json_is_one_line(name, content, tmp_path):
    path = write_run(tmp_path / "run") / name
    path.write_bytes(content)
    read = {"config.json": lambda: contents.read_config(path.parent)}.get(
        name, lambda: contents.read_report(path)
    )
    with pytest.raises(files.WorkdirError, match=f"{name} cannot be read") as caught:
        read()
    assert len(str(caught.value).splitlines()) == 1


# ------------------------------------------------------------------------------- evaluation.npz

WRONG_ARRAYS = {
    "has no `nll_test`": {"nll_test": None},
    "`nll_test` must be 3 numbers": {"nll_test": np.arange(2.0)},
    "of shape [1, 3]": {"nll_test": np.ones((1, 3))},
    "is <U1 of shape [3]": {"nll_test": np.array(list("abc"))},
    "cannot be read (Object arrays": {"nll_test": np.array([{}, 1, 2], object)},
    "`index_test` must be 3 different integers": {"index_test": np.array([4, 4, 7])},
    "`index_test` must be 3 numbers": {"index_test": np.arange(4)},
    "`step_sizes` must be 1 numbers": {"betas": np.linspace(0, 1, 3), "step_sizes": np.ones(2)},
}


@pytest.mark.parametrize("message", WRONG_ARRAYS)
def test_arrays_that_do_not_belong_to_their_report_are_one_line(message, tmp_path, capsys):
    good = write_run(tmp_path / "good")
    bad = write_run(tmp_path / "bad", **WRONG_ARRAYS[message])
    error = error_of(capsys, evaluate.main, f"--workdir={good}", f"--against={bad}")
    assert message in error
    assert str(bad / "evaluation.npz") in error
    assert "evaluate again" in error


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "of one array", "text"])
def test_a_file_of_arrays_that_is_none_is_one_line(how, tmp_path):
    folder = write_run(tmp_path / "run")
    path = folder / "evaluation.npz"
    whole = path.read_bytes()
    path.unlink()
    if how == "of one array":
        np.save(tmp_path / "x.npy", np.arange(3.0))
        shutil.move(tmp_path / "x.npy", path)
    elif how != "missing":
        path.write_bytes({"empty": b"", "truncated": whole[:200], "text": b"{}"}[how])
    with pytest.raises(files.WorkdirError, match=r"evaluation.npz cannot be read .*evaluate again"):
        contents.read_evaluation(folder, shown(), ("nll_test",))


def test_pairs_are_of_the_same_image_whatever_their_order(tmp_path):
    first = write_run(tmp_path / "first")
    # The same three images in another order: 4 -> 83, 0 -> 86, 7 -> 89.
    values = {"nll_test": np.array([89.0, 83.0, 86.0]), "index_test": np.array([7, 4, 0])}
    second = write_run(tmp_path / "second", **values)
    # Differences 84-83, 85-86, 89-89.
    error = np.std([1.0, -1.0, 0.0], ddof=1) / np.sqrt(3)
    expected = f"paired difference +0.00 ± {error:.2f} nats; 3 of these cannot be relied on"
    assert against.paired_difference(first, second).endswith(expected)
    other = write_run(tmp_path / "other", index_test=np.array([4, 0, 8]))
    with pytest.raises(files.WorkdirError, match="of different test images: `index_test`"):
        against.paired_difference(first, other)


@pytest.mark.slow
def test_pairs_are_weighted_as_both_reports_are_and_refused_where_these_differ(tmp_path):
    def weighted_run(name, nll, index, **more):
        order = np.argsort(np.argsort(index))
        weights = np.array([1.0, 2.0, 5.0])[order]
        arrays = {"nll_test": nll, "index_test": index, "weight_test": weights}
        folder = write_run(tmp_path / name, **{n: np.array(a) for n, a in arrays.items()})
        content = shown()
        content["data"] |= {"weights": {"sha256": "a", "effective_rows": {"test": 2.1}}} | more
        (folder / "report.json").write_text(json.dumps(content))
        return folder

    first = weighted_run("first", [84.0, 85.0, 89.0], [4, 0, 7])
    second = weighted_run("second", [89.5, 83.0, 86.0], [7, 4, 0])
    # Of images 0, 4, 7: 85-86, 84-83, 89-89.5.
    differences, weights = np.array([-1.0, 1.0, -0.5]), np.array([1.0, 2.0, 5.0])
    mean = np.average(differences, weights=weights)
    error = np.sqrt(1.5 * np.sum(weights**2 * (differences - mean) ** 2)) / weights.sum()
    line = against.paired_difference(first, second)
    assert "weighted means, NLL" in line
    assert f"paired difference {mean:+.2f} ± {error:.2f} nats" in line
    assert f"{mean:+.2f}" != f"{differences.mean():+.2f}"
    broken = weighted_run("broken", [np.nan, 85.0, 89.0], [4, 0, 7])
    assert "paired difference +nan" in against.paired_difference(broken, second)
    neither = [weighted_run(n, [84.0, np.inf, 89.0], [4, 0, 7]) for n in ("here", "there")]
    assert "paired difference +0.00 ± 0.00 nats" in against.paired_difference(*neither)
    others = weighted_run("others", [84.0, 85.0, 89.0], [4, 0, 7], weights={"sha256": "b"})
    given = weighted_run("given", [84.0, 85.0, 89.0], [4, 0, 7], condition=["age"])
    for other, words in (
        (others, "weigh the rows of the same data otherwise"),
        (write_run(tmp_path / "plain"), "weigh the rows of the same data otherwise"),
        (given, "given different things, nothing here and age there"),
    ):
        with pytest.raises(files.WorkdirError, match=words):
            against.paired_difference(first, other)


def test_arrays_of_earlier_versions_without_an_index_are_paired_where_their_order_is_known(
    tmp_path,
):
    old = write_run(tmp_path / "old", nll_test=np.array([83.0, 85.0, 88.0]), index_test=None)
    new = write_run(tmp_path / "new")
    expected = "paired difference +0.67 ± 0.33 nats; 3 of these cannot be relied on"
    assert against.paired_difference(new, old).endswith(expected)
    # A whole test set was in another order then, and two old ones are in the same.
    whole = with_value(shown(), 3, "data", "test_images")
    for folder in (old, new):
        (folder / "report.json").write_text(json.dumps(whole))
    assert against.paired_difference(old, old).endswith(
        "+0.00 ± 0.00 nats; 3 of these cannot be relied on"
    )
    for pair in ((old, new), (new, old)):
        with pytest.raises(files.WorkdirError, match="does not say which images it is of"):
            against.paired_difference(*pair)


# --------------------------------------------------------------------- files that are no files


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["config.json", "report.json", "evaluation.npz", ".lock"])
def test_what_is_no_file_is_refused_and_never_waited_for(make, name, tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    assert f"{folder / name} is " in error_of(capsys, evaluate.main, f"--workdir={folder}")
    if name == "report.json":
        assert f"{folder / name} is " in error_of(capsys, table.main, f"--workdir={tmp_path}")


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "evaluation-float32", "repeat_1"])
@pytest.mark.parametrize("how", ["file", "link"])
def test_a_file_where_a_folder_is_wanted_is_found_before_the_work(how, name, tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    path = folder / name
    if how == "file":
        path.write_text("x")
    else:
        path.symlink_to("/nowhere/at/all")
    error = error_of(capsys, evaluate.main, f"--workdir={folder}")
    assert f"{path} is a {how}" in error
    assert "where a folder is wanted; move it away" in error


def test_a_run_says_so_too_and_leaves_all_as_it_is(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    (folder / "tensorboard").parent.mkdir()
    (folder / "tensorboard").write_text("x")
    monkeypatch.setattr(run, "Trainer", lambda *_: pytest.fail("it began"))
    tiny = ["--dataset=digits", "--method=vae", "--latent_dim=2", "--hidden_dim=4"]
    error = error_of(capsys, run.main, *tiny, f"--workdir={folder}")
    assert f"--workdir={folder} cannot be used: {folder / 'tensorboard'} is a file" in error
    assert [path.name for path in folder.iterdir()] == ["tensorboard"]


# ------------------------------------------------------------------------------- the types


def test_types_are_told_apart_as_json_tells_them():
    for value, kind in (
        (1, float),
        (1e300, float),
        (None, int | None),
        ("a", str | None),
        ([1, 2], list[int]),
        ({"a": [None]}, dict[str, list[int | None]]),
    ):
        assert schema.read(value, kind) == value
    for value, kind in (
        (True, int),
        (True, float),
        (1.0, int),
        ("1", int),
        (0, bool),
        (None, str),
        ([1, "2"], list[int]),
        ({"a": 1}, dict[str, str]),
        (10**309, float),
    ):
        with pytest.raises(schema.SchemaError):
            schema.read(value, kind)
