"""Two estimates of the same log likelihoods, printed and compared."""

import numpy as np


def compare(name, ours, theirs, *, within):
    """Prints their number, ours with its error, and the gap; raises where it is too large.

    Both are lower bounds in expectation: theirs may be below by what its samples cost, `within`.
    """
    error = np.sqrt(np.mean(ours.standard_errors**2) / len(ours.standard_errors))
    gap = ours.mean - np.mean(theirs)
    print(
        f"\n{name}: {np.mean(theirs):.3f} by its own estimate, {ours.mean:.3f} ± {error:.3f} by "
        f"annealing, gap {gap:.3f}"
    )
    assert abs(gap) < within + 4.0 * error
