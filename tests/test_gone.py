"""A run's folder that is deleted, moved or taken by another while a process is at work in it."""

import shutil

import pytest
from test_run import METHODS, TINY, main

from aiwae_jax import data
from aiwae_jax.runs import store
from experiments import build, flags, run, workdir

ARGUMENTS = [*TINY, *METHODS["vae"]]


def while_training(monkeypatch, change):
    """Does `change` once, between two steps."""
    real, times = build.build, []

    def changing(*arguments):
        built = real(*arguments)

        def run_steps(state, num_steps):
            if state.num_steps > 0 and not times:
                times.append(state.num_steps)
                change()
            return built.run_steps(state, num_steps)

        return built._replace(run_steps=run_steps)

    monkeypatch.setattr(build, "build", changing)


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_folder_deleted_while_training_is_said_and_not_made_again(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    while_training(monkeypatch, lambda: shutil.rmtree(folder))
    assert main(*ARGUMENTS, f"--workdir={folder}") == 2
    captured = capsys.readouterr()
    assert f"error: {folder} is gone" in captured.err
    assert "trained" not in captured.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_folder_moved_while_training_keeps_what_it_had(tmp_path, monkeypatch, capsys):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    while_training(monkeypatch, lambda: folder.rename(elsewhere))
    assert main(*ARGUMENTS, f"--workdir={folder}") == 2
    assert "is gone" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    assert main(*ARGUMENTS, f"--workdir={elsewhere}", "--eval=none") == 0  # and it goes on there


@pytest.mark.slow
def test_a_folder_without_its_configuration_is_no_run_any_more(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    while_training(monkeypatch, (folder / "config.json").unlink)
    assert main(*ARGUMENTS, f"--workdir={folder}") == 2
    assert "its config.json, was deleted" in capsys.readouterr().err
    assert not list((folder / "checkpoints").iterdir())


def test_a_folder_that_another_process_has_made_again_is_left_to_it(tmp_path):
    config = flags.parse_run(["run", *ARGUMENTS, f"--workdir={tmp_path / 'run'}"])
    digits = data.load("digits")
    with workdir.claim(config, digits) as first:
        first.check()
        shutil.rmtree(first.folder)
        with workdir.claim(config, digits) as second:
            second.check()
            with pytest.raises(workdir.WorkdirError, match="is gone"):
                first.check()


@pytest.mark.parametrize("what", [".", pytest.param("config.json", marks=pytest.mark.slow)])
@pytest.mark.slow
@pytest.mark.by_hand
def test_a_folder_deleted_while_evaluating_is_said_and_not_made_again(
    what, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    real = store.FolderStore.__setitem__

    def write(self, name, arrays):
        real(self, name, arrays)
        path = folder / what
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    monkeypatch.setattr(store.FolderStore, "__setitem__", write)
    # Deleted under the run's own evaluation, which has a chunk in hand.
    monkeypatch.setattr(run.Trainer, "train", lambda *_: None)
    assert main(*ARGUMENTS, f"--workdir={folder}") == 2
    captured = capsys.readouterr()
    assert f"error: {folder} is gone" in captured.err
    assert "report and pictures" not in captured.out
    assert not (folder / "report.json").exists()
    assert folder.exists() == (what != ".")


def test_a_piece_of_an_evaluation_makes_no_folder_of_a_run(tmp_path):
    pieces = store.FolderStore(tmp_path / "gone" / "evaluation-float32")
    with pytest.raises(workdir.WorkdirError, match="gone is gone: it was deleted or moved"):
        pieces["a"] = {}
    assert list(tmp_path.iterdir()) == []
