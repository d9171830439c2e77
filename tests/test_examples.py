"""Every example runs, and so does every Python block of the README."""

import pathlib
import re
import runpy

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_own_density_finds_the_normalizer(capsys):
    runpy.run_path(str(ROOT / "examples" / "own_density.py"), run_name="__main__")
    found, exact = re.search(r"log Z: ([\d.]+), exactly ([\d.]+)", capsys.readouterr().out).groups()
    assert abs(float(found) - float(exact)) < 0.1


@pytest.mark.by_hand
@pytest.mark.slow
def test_own_model_in_bare_jax_is_learned(capsys):
    runpy.run_path(str(ROOT / "examples" / "own_model.py"))["main"](num_steps=400)
    values = re.findall(r"parameters: (-[\d.]+) ±", capsys.readouterr().out)
    true, learned = (float(value) for value in values)
    assert abs(learned - true) < 1.0


def test_readme_shows_run_chain_in_at_most_15_lines():
    block = next(block for block in BLOCKS if "run_chain" in block)
    assert len([line for line in block.splitlines() if line.strip()]) <= 15


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "block",
    [pytest.param(b, marks=[pytest.mark.slow] if "report.write" in b else []) for b in BLOCKS],
    ids=[f"block{i}" for i in range(len(BLOCKS))],
)
def test_readme_python_runs(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.slow
def test_own_method_trains_through_the_same_step(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    runpy.run_path(str(ROOT / "examples" / "own_method.py"))["main"](num_steps=600)
    printed = capsys.readouterr().out
    true, learned = (float(v) for v in re.findall(r"parameters: (-[\d.]+) nats", printed))
    bound = float(re.search(r"steps: (-[\d.]+) nats", printed).group(1))
    assert abs(learned - true) < 0.2
    assert bound < learned
