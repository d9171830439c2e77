"""Executes notebooks and keeps what they put out: `make notebooks`.

    python docs/notebooks/execute.py             # all
    python docs/notebooks/execute.py sure table  # some

Each runs in a Jupyter kernel of its own, in an empty folder. An error in a cell fails, and so does
a warning that nobody caught, for it is no part of a lesson.
"""

import argparse
import base64
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import sys
import tempfile
import time
from typing import Any

import cells
import jax
import jupytext
import nbclient
from traitlets.config import Config

# What matters to nobody later: the progress of long work (`runs.progress`), and XLA's alarm that a
# compilation took minutes, which speaks of a machine that had other work.
_PASSED_OVER = re.compile(
    r".{1,40} +\d+%  .*|\s*"
    r"|E\d{4} .*slow_operation_alarm.*|\*{8,}|\[Compiling module .*\] Very slow compile.*"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class NotebookError(Exception):
    """A notebook that cannot be shown as it is."""


def _output_of(cell: Any, where: str) -> tuple[str, list[bytes]]:
    """The text of one executed cell, and its pictures."""
    text, errors, pictures = "", "", []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            errors += output.text  # a line may come in pieces
        elif output.output_type == "stream":
            text += output.text
        elif "image/png" in output.data:
            pictures.append(base64.b64decode(output.data["image/png"]))
        else:
            text += f"{output.data['text/plain']}\n"
    lines = _ESCAPES.sub("", errors).splitlines()
    if said := [line for line in lines if not _PASSED_OVER.fullmatch(line)]:
        raise NotebookError(f"{where} warns:\n" + "\n".join(said))
    for picture in pictures:
        if len(picture) > cells.LARGEST_PICTURE:
            raise NotebookError(
                f"{where} draws {len(picture):,} bytes; a picture may have "
                f"{cells.LARGEST_PICTURE:,}, so that it can be committed."
            )
    if pictures and not cell.metadata.get("alt"):
        raise NotebookError(f"{where} draws without an `:alt:` that says what is seen.")
    return _ESCAPES.sub("", text).rstrip(), pictures


def run(text: str, name: str, timeout: float) -> list[tuple[str, list[bytes]]]:
    """Executes a notebook's text in an empty folder.

    Args:
      text: MyST Markdown.
      name: for what is said of it.
      timeout: seconds of any one cell.

    Returns:
      For each code cell its text, and its pictures as PNG.

    Raises:
      NotebookError: for an error, an uncaught warning, or a picture that cannot be shown.
    """
    notebook = jupytext.reads(text, fmt="md:myst")
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.source.rstrip() for cell in code_cells] != cells.of_text(text):
        raise NotebookError(f"{name}: Jupytext finds other cells than this documentation.")
    with tempfile.TemporaryDirectory() as folder:
        at_work = pathlib.Path(folder, "work").resolve()
        at_work.mkdir()
        shutil.copy(cells.FOLDER / "matplotlibrc", at_work)
        # By files of this user's, where ports would be open to everybody on the machine.
        transport = {"transport": "ipc", "ip": str(pathlib.Path(folder, "kernel"))}
        client = nbclient.NotebookClient(
            notebook,
            timeout=timeout,
            startup_timeout=timeout,
            kernel_name="python3",
            config=Config({"KernelManager": transport}),
            resources={"metadata": {"path": str(at_work)}},
        )
        try:
            client.execute()
        except nbclient.exceptions.CellExecutionError as error:
            raise NotebookError(f"{name}: {_ESCAPES.sub('', str(error))}") from None
        except nbclient.exceptions.CellTimeoutError:
            raise NotebookError(f"{name}: a cell took more than {timeout:g} s") from None
        outputs = [_output_of(cell, f"{name}, cell {i}") for i, cell in enumerate(code_cells)]
        # Where a run is told by its whole path, of which only the last part is anybody's.
        return [(printed.replace(f"{at_work}/", ""), drawn) for printed, drawn in outputs]


def keep(name: str, text: str, outputs: list[tuple[str, list[bytes]]], **made: Any) -> None:
    """Writes a notebook's outputs, in the place of those that were there."""
    cells.OUTPUTS.mkdir(exist_ok=True)
    for path in cells.OUTPUTS.glob(f"{name}-*.png"):
        path.unlink()
    kept = []
    for number, (printed, pictures) in enumerate(outputs):
        files = [f"{name}-{number}-{i}.png" for i in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            (cells.OUTPUTS / file).write_bytes(picture)
        kept.append({"text": printed, "pictures": files})
    content = {"code_sha256": cells.fingerprint(text), "made": made, "cells": kept}
    path = cells.OUTPUTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _computing() -> float:
    """Seconds that the processors spent on kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Executes those named, or all, and says how long each took."""
    parser = argparse.ArgumentParser(description="Executes notebooks and keeps their outputs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(cells.names()))
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds of any one cell")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(cells.names())):
        parser.error(f"no notebook {unknown[0]!r}; there are {', '.join(cells.names())}")
    # `aiwae` in a cell is that of this environment, as `python` is.
    os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    machine = f"{os.cpu_count()} {platform.machine().replace('_', '-')} cores"
    is_failed = False
    for name in arguments.names or cells.names():
        text, began, computed = cells.source(name), time.monotonic(), _computing()
        try:
            outputs = run(text, name, arguments.timeout)
        except NotebookError as error:
            print(f"error: {error}", file=sys.stderr)
            is_failed = True
            continue
        seconds, computing = round(time.monotonic() - began), round(_computing() - computed)
        keep(
            *(name, text, outputs),
            on=datetime.datetime.now(datetime.UTC).date().isoformat(),
            seconds=seconds,
            seconds_of_computing=computing,
            is_compiled_before="JAX_COMPILATION_CACHE_DIR" in os.environ,
            machine=machine,
            python=platform.python_version(),
            jax=jax.__version__,
        )
        print(f"{name}: {seconds} s, of which {computing} s of computing", flush=True)
    return int(is_failed)


if __name__ == "__main__":
    sys.exit(main())
