"""Notebooks: what is shown as their output is that of their code, and can be shown."""

import json
import pathlib
import re
import struct
import sys

import pytest

NOTEBOOKS = pathlib.Path(__file__).parent.parent / "docs" / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
import cells  # noqa: E402  beside the notebooks, for their documentation, too

NAMES = cells.names()


@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_are_those_of_the_code(name):
    text = cells.source(name)
    assert cells.is_current(name, text), f"{name}.md was changed: run `make notebooks`"
    kept = cells.read_outputs(name)
    assert len(kept["cells"]) == len(cells.of_text(text))
    assert {"on", "seconds", "seconds_of_computing", "machine", "jax"} <= kept["made"].keys()


def test_a_changed_cell_is_noticed_and_changed_prose_is_not():
    text = cells.source(NAMES[0])
    code = cells.of_text(text)[-1]
    assert not cells.is_current(NAMES[0], text.replace(code, f"{code}  # changed"))
    assert not cells.is_current(NAMES[0], f"{text}\n```{{code-cell}}\nprint(1)\n```\n")
    assert cells.is_current(NAMES[0], f"{text}\nOne more sentence.\n")


def test_the_options_of_a_cell_are_no_code():
    text = "```{code-cell}\n:alt: A line.\n:tags: [a]\n\nx = 1\n\ny = {1: 2}\n```\n"
    assert cells.of_text(f"# Title\n\n{text}\nwords\n\n{text}") == ["x = 1\n\ny = {1: 2}"] * 2


@pytest.mark.parametrize("name", NAMES)
def test_jupyter_can_open_it(name):
    front = cells.source(name).split("---")[1]
    assert "format_name: myst" in front
    assert re.search(r"kernelspec:\n(  .*\n)*  name: python3", front)


def test_each_picture_is_there_is_small_and_is_described():
    kept = {name: cells.read_outputs(name)["cells"] for name in NAMES}
    shown = {file for each in kept.values() for cell in each for file in cell["pictures"]}
    assert shown == {path.name for path in cells.OUTPUTS.glob("*.png")}
    for path in cells.OUTPUTS.glob("*.png"):
        content = path.read_bytes()
        assert len(content) <= cells.LARGEST_PICTURE, path
        assert struct.unpack(">II", content[16:24])[0] >= 400, path  # pixels
    for name, each in kept.items():
        bodies = re.findall(r"^```\{code-cell\}\n(.*?)^```", cells.source(name), re.S | re.M)
        for body, cell in zip(bodies, each, strict=True):
            assert bool(cell["pictures"]) == body.startswith(":alt: "), (name, body[:60])


def test_all_are_listed_and_nothing_is_kept_of_others():
    listed = re.search(r"```\{toctree\}\n.*?\n\n(.*?)```", cells.source("index"), re.S).group(1)
    assert sorted(listed.split()) == NAMES
    assert {path.stem for path in cells.OUTPUTS.glob("*.json")} == set(NAMES)


def test_no_output_names_a_folder_of_the_machine_that_made_it():
    for name in NAMES:
        said = json.dumps(cells.read_outputs(name))
        assert not re.search(r"/(tmp|home|usr|root|var)/", said), name


WRONG = {
    "an error": ("1 / 0", "division by zero"),
    "a warning": ("import warnings\nwarnings.warn('look here')", "look here"),
    "a picture that nobody described": (
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        ":alt:",
    ),
}


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.parametrize("code", WRONG)
def test_what_cannot_be_shown_fails(code):
    pytest.importorskip("jupytext")
    pytest.importorskip("ipykernel")
    execute = pytest.importorskip("execute")
    front = cells.source(NAMES[0]).split("# ")[0]
    cell, said = WRONG[code]
    with pytest.raises(execute.NotebookError, match=re.escape(said)):
        execute.run(f"{front}# Wrong\n\n```{{code-cell}}\n{cell}\n```\n", "wrong", timeout=60)


@pytest.mark.slow
@pytest.mark.by_hand
def test_what_a_cell_prints_is_kept():
    pytest.importorskip("jupytext")
    pytest.importorskip("ipykernel")
    execute = pytest.importorskip("execute")
    front = cells.source(NAMES[0]).split("# ")[0]
    text = f"{front}# Right\n\n```{{code-cell}}\nprint('a')\n1 + 1\n```\n"
    text += "\n```{code-cell}\nimport pathlib\nprint(pathlib.Path('runs/a').resolve())\n```\n"
    progress = "import sys\nprint('training 100%  took 3s', file=sys.stderr)"
    text += f"\n```{{code-cell}}\n{progress}\n```\n"
    assert execute.run(text, "right", timeout=60) == [
        ("a\n2", []),
        ("runs/a", []),
        ("", []),
    ]
