"""How pictures look: transparent, with words in a grey that is legible on white and on black."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

INK = "#7b7f86"  # contrast 4 to 1 with white, and 5 to 1 with the page's dark background
BLUE, ORANGE, GREEN, RED = "#3b82d6", "#e8862e", "#2ea36b", "#dd4b5c"
_OF_WORDS = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
_STYLE = {
    **dict.fromkeys((*_OF_WORDS, "axes.edgecolor", "grid.color"), INK),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.fontsize": 8,
}
DPI = 160
LAYOUT = "constrained"  # which keeps words from each other, and takes half of the time
COLOURS = (BLUE, ORANGE, GREEN, RED, "#8d6cc9", "#9c6b4f", "#d26fb4", "#8a9a2b", "#1fa5b8", INK)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def load() -> None:
    """Imports matplotlib, which tells before any work whether there can be pictures after it.

    Whatever MPLBACKEND says, also of a backend that does not exist: no window is opened here.

    Raises:
      ImportError: if it is not installed.
      OSError: if it has no folder for its own files.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend  # for pyplot in the same process


def styled(draw: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A function that draws, in this style whatever a user's own settings are."""

    @functools.wraps(draw)
    def drawing(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        load()
        import matplotlib

        style = _STYLE | {"axes.prop_cycle": matplotlib.cycler(color=COLOURS)}
        with matplotlib.rc_context(style):
            return draw(*args, **kwargs)

    return drawing


def figure(width: float, height: float) -> Any:
    """A figure of so many inches, without a window."""
    load()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = Figure(figsize=(width, height), layout=LAYOUT)
    FigureCanvasAgg(found)
    return found


def save(drawn: Any, path: str | os.PathLike) -> None:
    """Writes a figure as PNG."""
    drawn.savefig(path, dpi=DPI)
