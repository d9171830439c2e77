"""Standard streams that are closed, full, unread or of few signs cost a run nothing."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest
from test_run import METHODS, TINY

ROOT = pathlib.Path(__file__).parent.parent
PRINTS = (
    "import sys\nfrom aiwae_jax.cli import streams\n"
    "streams.open_closed()\n"
    "with streams.patient() as lost:\n"
    "    for _ in range(3):\n"
    "        print('log p(x) ≥ 1 ± β ☃', flush=True)\n"
    "    print('and', 'more ' * 100000)\n"
    "    found = lost()\n"
    "open(sys.argv[1], 'w').write(repr(found))\n"
)


@pytest.fixture
def prints(tmp_path):
    """A script that prints a good deal, and writes into a file what became of it."""
    path = tmp_path / "prints.py"
    path.write_text(PRINTS, encoding="utf-8")
    return path


def shell(command, **variables):
    """A command line with redirections; `$0` is Python. Returns (exit code, stdout, stderr)."""
    found = subprocess.run(
        ["bash", "-c", command, sys.executable],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        timeout=200,
    )
    return found.returncode, found.stdout.decode(), found.stderr.decode()


@pytest.mark.parametrize(
    ("redirection", "lost"),
    [
        ("| head -1", "None"),
        ("| true", "None"),
        (">&-", "None"),
        (">&- 2>&- <&-", "None"),
        ("> /dev/full", "'No space left on device'"),
        ("2> /dev/full", "None"),
    ],
)
def test_printing_never_raises_and_what_is_lost_is_known(redirection, lost, prints, tmp_path):
    said = tmp_path / "said"
    _, _, err = shell(f"$0 {prints} {said} {redirection}", PYTHONUTF8="1")
    assert said.read_text() == lost
    assert err == ""


def test_signs_that_an_encoding_lacks_are_spelled_and_others_stay(prints, tmp_path):
    for encoding, line in (
        ("ascii", "log p(x) >= 1 +- beta \\u2603"),
        ("latin-1", "log p(x) >= 1 ± beta \\u2603"),
        ("utf-8", "log p(x) ≥ 1 ± β ☃"),
    ):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
        found = subprocess.run(
            [sys.executable, prints, tmp_path / "said"], env=environment, capture_output=True
        )
        assert found.stdout.decode(encoding).splitlines()[0] == line


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    code = (
        "import os\nfrom aiwae_jax.cli import streams\nstreams.open_closed()\n"
        f"file = open({str(tmp_path / 'data')!r}, 'w')\n"
        "assert file.fileno() > 2, file.fileno()\n"
        "os.write(1, b'what a library says'); os.write(2, b'so')\n"
    )
    script = tmp_path / "opens.py"
    script.write_text(code, encoding="utf-8")
    assert shell(f"$0 {script} <&- >&- 2>&-")[0] == 0
    assert (tmp_path / "data").read_text() == ""


@pytest.mark.by_hand
@pytest.mark.slow
def test_a_run_that_nobody_watches_is_whole(tmp_path):
    """Everything at once: unread, ASCII, stderr closed, no such backend, another folder."""
    folder = tmp_path / "run"
    arguments = " ".join([*TINY, *METHODS["vae"], f"--workdir={folder}"])
    code, out, _ = shell(
        f"cd / && $0 -u {ROOT}/experiments/run.py {arguments} 2>&- | head -1; "
        "exit ${PIPESTATUS[0]}",
        PYTHONIOENCODING="ascii",
        MPLBACKEND="nonsense",
        PYTHONPATH="",
    )
    assert code == 0
    assert len(out.splitlines()) == 1
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert {"samples.png", "learning_curves.png", "acceptance.png"} < set(report["pictures"])
    assert "±" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.by_hand
@pytest.mark.slow
def test_output_that_a_full_disk_has_lost_is_an_error():
    arguments = " ".join([*TINY, *METHODS["vae"], "--dry_run", "--eval=none"])
    code, _, err = shell(f"$0 -m experiments.run {arguments} > /dev/full")
    assert code == 1
    assert err.endswith(
        "error: stdout: No space left on device; what belongs on the disk is there.\n"
    )
    code, out, err = shell("$0 -m experiments.run --K=0 2>&1 >&-")
    assert (code, out) == (2, "error: --K must be at least 1, got 0.\n")


def test_every_text_file_has_an_encoding():
    """Whatever the locale is, the files are UTF-8."""
    for path in [*(ROOT / "aiwae_jax").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name not in ("open", "fdopen", "read_text", "write_text"):
                continue
            owner = getattr(getattr(node.func, "value", None), "id", None)
            words = [a.value for a in node.args if isinstance(a, ast.Constant)]
            is_text = not any(
                isinstance(w, str) and set("b") <= set(w) <= set("rwxab+") for w in words
            )
            if owner in ("gzip", "os", "files", "pillow") or not is_text:
                continue  # of bytes, of file descriptors, our own
            if name == "write_text" and owner is None and isinstance(node.func, ast.Name):
                continue
            assert any(k.arg == "encoding" for k in node.keywords), f"{path}:{node.lineno}"
