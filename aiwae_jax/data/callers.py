"""Who called the library: a warning points there, and not at a line of ours."""

import os
import pathlib
import sys

_LIBRARY = f"{pathlib.Path(__file__).parent.parent}{os.sep}"


def level() -> int:
    """The `stacklevel` for `warnings.warn`, called beside it, of the first caller outside."""
    frame, number = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        frame, number = frame.f_back, number + 1
    return number
