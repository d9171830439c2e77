"""What real runs meet: kills, damaged files, full and read-only disks, bad data."""

import fcntl
import os
import shutil
import subprocess
import warnings

import harness
import numpy as np
import pytest
import scipy.io

CHARACTERS = {"data": (784, 24345), "testdata": (784, 8070)}


@pytest.mark.by_hand
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(uninterrupted, tmp_path):
    num_killed = harness.kill_at_random(tmp_path, seed=1, longest_s=9.0)
    assert num_killed > 0
    code, _, err = harness.finish(tmp_path)
    assert code == 0, err
    harness.assert_same_run(tmp_path, uninterrupted)
    left = [path.name for path in (tmp_path / "checkpoints").iterdir() if "tmp" in path.name]
    assert left == []


# An evaluation of some seconds.
EVALUATION = [
    *("--eval_temperatures=4000", "--eval_examples=40", "--eval_chains=2"),
    *("--eval_bound_samples=50", "--eval_simulated=4"),
]


@pytest.mark.by_hand
def test_an_evaluation_killed_at_random_moments_ends_with_the_same_numbers(uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted, tmp_path / "copy")
    other = shutil.copytree(uninterrupted, tmp_path / "other")
    options = {"module": "experiments.evaluate"}
    num_killed = harness.kill_at_random(folder, 2, 9.0, *EVALUATION, **options)
    assert num_killed > 0
    for path in (folder, other):
        code, _, err = harness.finish(path, *EVALUATION, **options)
        assert code == 0, err
    (numbers, arrays), (expected, others) = map(harness.numbers_of, (folder, other))
    assert numbers == expected
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


@pytest.mark.by_hand
def test_a_second_evaluation_of_the_same_run_is_refused(uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted, tmp_path / "copy")
    with (folder / ".evaluation.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = harness.finish(folder, *EVALUATION, module="experiments.evaluate")
    assert code == 2
    assert "is being evaluated by another process" in err


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def newest_of(folder):
    steps = [int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdecimal()]
    return folder / "checkpoints" / str(max(steps)), sorted(steps)


def arrays_of(checkpoint):
    """The file that the arrays themselves are in, by its size."""
    return max((checkpoint / "tree").glob("ocdbt*/d/*"), key=lambda path: path.stat().st_size)


@pytest.mark.by_hand
@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_whatever_file_is_damaged_nothing_wrong_is_restored(how, uninterrupted, tmp_path):
    """Either what was saved last, bit for bit, or what was saved before it, with a warning."""
    newest, (before, last) = newest_of(uninterrupted)
    _, expected = harness.state_of(uninterrupted)
    num_noticed = 0
    for path in sorted(p for p in newest.rglob("*") if p.is_file() and p.stat().st_size):
        folder = shutil.copytree(uninterrupted, tmp_path / "copy")
        damage(folder / path.relative_to(uninterrupted), how)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step, leaves = harness.state_of(folder)
        is_noticed = any("is damaged" in str(each.message) for each in caught)
        assert step == (before if is_noticed else last), path
        if not is_noticed:
            for name, leaf in leaves.items():
                np.testing.assert_array_equal(leaf, expected[name], err_msg=f"{path} {name}")
        assert is_noticed or path != arrays_of(newest)
        num_noticed += is_noticed
        shutil.rmtree(folder)
    assert num_noticed >= 4


@pytest.mark.by_hand
@pytest.mark.parametrize(
    "which",
    [
        arrays_of,
        pytest.param(lambda newest: newest / "content" / "metadata", marks=pytest.mark.by_hand),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(which, uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted, tmp_path / "copy")
    (folder / "report.json").unlink()
    newest, (before, _) = newest_of(folder)
    damage(which(newest), "flipped")
    code, out, err = harness.finish(folder)
    assert code == 0, err
    assert f"{newest} is damaged" in err
    assert "Traceback" not in err
    assert f"continuing at step {before}" in out
    harness.assert_same_run(folder, uninterrupted)


@pytest.mark.by_hand
def test_a_file_size_limit_stops_it_with_a_message_and_earlier_checkpoints_intact(
    uninterrupted, tmp_path
):
    """As a full disk does, but without privileges: no file may grow beyond 8 KiB."""
    process = harness.start(tmp_path)
    harness.wait_for_checkpoint(tmp_path, process)
    process.kill()
    process.communicate()
    before = harness.state_of(tmp_path)
    limited = ["bash", "-c", 'ulimit -f 8; exec "$0" "$@"']
    code, _, err = harness.finish(tmp_path, prefix=limited)
    assert code == 1, err
    assert "Traceback" not in err
    assert "could not be written" in err or "File too large" in err
    step, leaves = harness.state_of(tmp_path)
    assert step >= before[0]
    if step == before[0]:
        for name, leaf in leaves.items():
            np.testing.assert_array_equal(leaf, before[1][name], err_msg=name)
    assert harness.finish(tmp_path)[0] == 0
    harness.assert_same_run(tmp_path, uninterrupted)


@pytest.mark.by_hand
def test_a_full_disk_stops_it_with_a_message(tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this system lets nobody mount a small disk")
    try:
        code, _, err = harness.finish(small / "run", "--hidden_dim=60")
        assert code == 1, err
        assert "Traceback" not in err
        assert "No space left on device" in err or "could not be written" in err
        assert harness.state_of(small / "run", "--hidden_dim=60")[0] > 0  # what was saved before
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.by_hand
def test_a_folder_without_write_permission_stops_it_with_a_message(uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted, tmp_path / "copy")
    prefix = []
    if os.geteuid() == 0:  # whom permissions do not stop, unless this is taken from them
        if shutil.which("setpriv") is None:
            pytest.skip("as root, this needs setpriv")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    (folder / "checkpoints").chmod(0o555)
    try:
        code, _, err = harness.finish(folder, "--stages=6", prefix=prefix)
    finally:
        (folder / "checkpoints").chmod(0o755)
    assert code == 1, err
    assert "Traceback" not in err
    assert "could not be written" in err or "Permission denied" in err
    assert {path.name for path in (folder / "checkpoints").iterdir()} == names


@pytest.mark.grid
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a | {"data": np.where(a["data"] > 0, np.nan, 0.0)},
            "must lie within [0, 1]",
        ),
        (lambda a: a | {"data": a["data"][:, :100]}, "must have shape [784, 24345]"),
        (lambda a: a | {"testdata": a["testdata"] * 255.0}, "must lie within [0, 1]"),
        (lambda a: a | {"data": a["data"] - 0.5}, "must lie within [0, 1]"),
        (
            lambda a: a | {"testdata": np.full(CHARACTERS["testdata"], "x")},
            "must lie within [0, 1]",
        ),
        (lambda a: a | {"data": a["data"] + 1j}, "must lie within [0, 1]"),
    ],
)
def test_bad_data_are_one_line_and_leave_nothing(change, message, tmp_path):
    chance = np.random.default_rng(0)
    good = {name: (chance.random(shape) < 0.1) * 1.0 for name, shape in CHARACTERS.items()}
    scipy.io.savemat(tmp_path / "chardata.mat", change(good), do_compression=True)
    folder = tmp_path / "run"
    code, _, err = harness.finish(folder, "--dataset=omniglot", f"--data_dir={tmp_path}")
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1, err
    assert not folder.exists()


@pytest.mark.by_hand
def test_the_same_command_twice_at_once_is_refused_and_harms_nothing(uninterrupted, tmp_path):
    first = harness.start(tmp_path)
    harness.wait_for_checkpoint(tmp_path, first)
    code, _, err = harness.finish(tmp_path)
    assert code == 2
    assert "is in use by another process" in err
    first.communicate(timeout=harness.TIMEOUT_S)
    assert first.returncode == 0
    harness.assert_same_run(tmp_path, uninterrupted)
