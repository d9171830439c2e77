"""The installed command: `aiwae fit mine.csv --folder=runs/mine`, `aiwae report runs/mine`."""

import importlib
import sys
from collections.abc import Sequence

from aiwae_jax.cli import start, streams

_COMMANDS = {
    "fit": "trains a model of your data, or continues where it stopped",
    "evaluate": "measures the NLL of a run's test data, or of a file's rows, and nothing else",
    "report": "measures all of a run, with pictures on a page, or continues to",
    "verify": "checks the certificate of a report, and recomputes a part of its evidence",
    "score": "says how likely new rows are under a trained model, each with its error",
    "encode": "says which latents new rows have",
    "impute": "fills in the missing values of new rows",
    "sample": "draws rows from a trained model",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 where the work is done, 2 for a mistake, 1 for what could not be done."""
    if argv is None:
        start.begin()
        argv = sys.argv[1:]
    name = argv[0] if argv else "--help"
    if name in _COMMANDS:
        return importlib.import_module(f"aiwae_jax.cli.{name}").main(argv)
    if name in ("--help", "-h", "help"):
        lines = [f"  aiwae {name:10} {what}" for name, what in _COMMANDS.items()]
        with streams.patient():  # `| head` is a reader that has had enough
            print("\n".join([__doc__, *lines, "\n`aiwae COMMAND --help` lists the flags of one."]))
        return 0 if argv else 2
    print(f"error: `aiwae {name}` must be one of {', '.join(_COMMANDS)}.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
