"""The paper's experiments, as commands: `python -m experiments.run`."""

import sys

if sys.argv[:1] == ["-m"]:  # this package is being looked for a command, not imported by a program
    from aiwae_jax.cli import start

    start.begin()
