import json

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from aiwae_jax.runs import checkpoint, metrics
from aiwae_jax.runs.callbacks import Moment
from aiwae_jax.types import Params


def tree(value):
    theta = {"w": [jnp.full(3, value)], "n": jnp.asarray(int(value))}
    return Params(theta, (), ({"e": jnp.ones(2)},))


def test_restored_tree_is_the_saved_one_bit_for_bit(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints.save(7, tree(0.1), {"note": "x"})
    restored, facts = checkpoints.restore(tree(9.0))
    chex.assert_trees_all_equal(restored, tree(0.1))
    assert isinstance(restored, Params)
    assert facts == {"note": "x"}
    checkpoints.close()


def test_newest_is_restored_and_only_the_newest_two_are_kept(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, tree(step), {})
    restored, _ = checkpoints.restore(tree(0))
    assert int(restored.theta["n"]) == 3
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "3"]
    assert len(list(tmp_path.glob(".*.sha256.json"))) == 2
    checkpoints.close()


def test_nothing_saved_is_none(tmp_path):
    assert checkpoint.Checkpoints(tmp_path).restore(tree(0)) is None


def test_damaged_newest_is_passed_over_with_a_warning_that_names_it(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, tree(step), {})
    for path in (tmp_path / "2" / "tree").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    reopened = checkpoint.Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match=r"/2 is damaged"):
        restored, _ = reopened.restore(tree(0))
    assert int(restored.theta["n"]) == 1
    reopened = checkpoint.Checkpoints(tmp_path, is_owner=True)
    with pytest.warns(UserWarning, match=r"/2 is damaged"):
        reopened.restore(tree(0))
    reopened.save(2, tree(22), {})
    assert int(reopened.restore(tree(0))[0].theta["n"]) == 22
    assert (tmp_path / "2.damaged").is_dir()


def test_a_damaged_manifest_says_nothing_of_the_checkpoint(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints.save(1, tree(1), {})
    for content in (b"", b"[]", b'{"content', b"\xff"):
        (tmp_path / ".1.sha256.json").write_bytes(content)
        assert int(checkpoints.restore(tree(0))[0].theta["n"]) == 1


def test_what_was_not_written_like_this_is_damaged(tmp_path, monkeypatch):
    """Storage that gives back other bits than it got."""
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints.save(1, tree(1), {"note": "x"})
    digests = checkpoint._digests
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoint, "_digests", lambda flat, facts: digests(flat, facts) | {"theta.n": "0"}
        )
        checkpoints.save(2, tree(2), {"note": "x"})
    with pytest.warns(UserWarning, match=r"/2 is damaged \(theta.n: not what was written\)"):
        restored, _ = checkpoints.restore(tree(0))
    assert int(restored.theta["n"]) == 1


def test_tree_of_another_model_is_refused(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints.save(1, tree(1), {})
    other = tree(1)._replace(phi={"more": jnp.ones(2)})
    with pytest.raises(checkpoint.CheckpointError, match="another method, model or version"):
        checkpoints.restore(other)


def test_metrics_survive_a_torn_line_and_drop_what_came_after_the_checkpoint(tmp_path):
    def write(since, values):
        writer = metrics.JsonLines(tmp_path)
        writer.on_start(Moment(since, 9, 1.0, {}, tmp_path))
        for step, value in values.items():
            found = {"loss": np.float32(value), "rates": np.array([0.5, value])}
            writer.on_epoch(Moment(step, 9, 1.0, found, tmp_path))
        writer.close()

    write(0, {1: 1.0, 2: 2.0, 3: 3.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [r["step"] for r in metrics.read(tmp_path)] == [1, 2, 3]
    write(2, {3: 30.0})
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["loss"] for r in records] == [1.0, 2.0, 30.0]
    assert records[1]["rates"] == [0.5, 2.0]


def damage_all(folder, step):
    for path in (folder / str(step) / "tree").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def test_where_all_are_damaged_none_is_moved_and_every_start_says_so(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, tree(step), {})
        damage_all(tmp_path, step)
    for _ in range(2):
        reopened = checkpoint.Checkpoints(tmp_path, is_owner=True)
        with (
            pytest.warns(UserWarning, match="is damaged"),
            pytest.raises(checkpoint.CheckpointError, match="None of the checkpoints"),
        ):
            reopened.restore(tree(0))
    assert {"1", "2"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("error", [MemoryError("device"), PermissionError(13, "denied")])
def test_what_cannot_be_read_now_is_not_taken_for_damage(error, tmp_path, monkeypatch):
    checkpoints = checkpoint.Checkpoints(tmp_path, is_owner=True)
    for step in (1, 2):
        checkpoints.save(step, tree(step), {})

    def restore_step(self, step, template):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "_restore_step", restore_step)
        with pytest.raises(checkpoint.CheckpointError, match="/2 cannot be read now"):
            checkpoints.restore(tree(0))
    assert int(checkpoints.restore(tree(0))[0].theta["n"]) == 2


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_damaged_list_of_arrays_is_damage_and_no_other_model(has_manifest, tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, tree(step), {})
    path = tmp_path / "2" / "content" / "metadata"
    content = json.loads(path.read_text())
    content["names"][0] += "u"
    path.write_text(json.dumps(content))
    if not has_manifest:
        (tmp_path / ".2.sha256.json").unlink()
    with pytest.warns(UserWarning, match=r"/2 is damaged"):
        restored, _ = checkpoint.Checkpoints(tmp_path).restore(tree(0))
    assert int(restored.theta["n"]) == 1
