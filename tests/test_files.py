"""Files and folders of results: found wanting before the work, written whole or not at all."""

import pytest
from test_run import TINY

from aiwae_jax.runs import files
from experiments import compare, posteriors, scale
from experiments.table import __main__ as table

NO_EVALUATION = [flag for flag in TINY if "eval" not in flag and "dataset" not in flag]


def refused(main, *arguments, capsys):
    assert main(["command", *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_by_the_name_of_a_file_is_left_alone(tmp_path):
    path = tmp_path / "report.json"
    path.mkdir()
    for write in (
        lambda: files.write_text(path, "x"),
        lambda: files.write_json(path, {}),
        lambda: files.write_arrays(path, {}),
    ):
        with pytest.raises(files.WorkdirError, match=r"report.json is a folder, where a file"):
            write()
    assert names_below(tmp_path) == ["report.json"]


def test_what_fails_half_written_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("before")

    def write(file):
        file.write(b"half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        files.write_whole(path, write)
    assert path.read_text() == "before"
    with files.whole(path) as temporary:
        assert temporary.suffix == ".png"
    assert path.read_text() == "before"  # nothing was written
    files.write_text(path, "after")
    assert path.read_text() == "after"
    assert names_below(tmp_path) == ["a.png"]


def test_numbers_of_scaling_do_not_go_into_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scale, "measure", lambda *_: pytest.fail("it began"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for target, message in (
        ("folder", "is a folder, where a file is wanted"),
        ("file/x.json", "cannot be made a folder"),
    ):
        arguments = ["--dataset=digits", f"--json={tmp_path / target}"]
        error = refused(scale.main, *arguments, capsys=capsys)
        assert error.startswith("error: --json: ")
        assert message in error
    assert names_below(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize(
    ("main", "name"),
    [
        (compare.main, "comparison.png"),
        (posteriors.main, "posteriors.json"),
        (posteriors.main, "posterior-7.png"),
    ],
)
def test_results_that_could_not_be_written_are_found_before_the_work(
    main, name, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("experiments.launch.prepare", lambda *_: pytest.fail("it began"))
    out, root = tmp_path / "out", tmp_path / "runs"
    (out / name).mkdir(parents=True)
    arguments = ["--dataset=digits", f"--workdir={root}"]
    error = refused(main, *arguments, f"--out={out}", capsys=capsys)
    assert f"--out: {out / name} is a folder" in error
    (tmp_path / "file").write_text("x")
    error = refused(main, *arguments, f"--out={tmp_path / 'file'}", capsys=capsys)
    assert "cannot be made a folder" in error
    assert not root.exists()


def test_a_table_that_could_not_be_written_is_found_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.launch.prepare", lambda *_: pytest.fail("it began"))
    (tmp_path / "table.tex").mkdir()
    arguments = [f"--workdir={tmp_path / 'runs'}", f"--out={tmp_path / 'table'}", "--launch"]
    error = refused(table.main, *arguments, "--dataset=digits", capsys=capsys)
    assert f"--out: {tmp_path / 'table.tex'} is a folder" in error


@pytest.mark.parametrize("main", [compare.main, posteriors.main, table.main])
@pytest.mark.slow
@pytest.mark.by_hand
def test_a_dry_run_makes_nothing(main, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.launch.machine_rate", lambda: 1e9)
    methods = ["--K=1", "--T=5"] if main is posteriors.main else ["--methods=vae"]
    small = [flag for flag in NO_EVALUATION if main is not posteriors.main or "latent" not in flag]
    arguments = ["command", "--dataset=digits", "--dry_run", *methods, *small]
    assert main([*arguments, f"--workdir={tmp_path / 'a' / 'runs'}"]) == 0
    assert "cells to run, about" in capsys.readouterr().out
    assert names_below(tmp_path) == []
    (tmp_path / "file").write_text("x")
    assert main([*arguments, f"--workdir={tmp_path / 'file' / 'runs'}"]) == 2
    assert "cannot be made a folder" in capsys.readouterr().err
