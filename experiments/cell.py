"""`experiments.run` as the child of a launcher, which it does not outlive.

Its stdin is a pipe that the launcher alone holds open, so that it ends with the launcher, whatever
that died of; then the run is told to save itself and stop.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence


def _stop_with_launcher() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    threading.Thread(target=_stop_with_launcher, daemon=True).start()
    from experiments import run  # takes seconds, in which the launcher may die

    return run.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
