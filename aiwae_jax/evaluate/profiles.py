"""What pilots know of a path: variances and step sizes at the temperatures where they have been."""

from typing import NamedTuple

import numpy as np

from aiwae_jax.evaluate import pilots

NUM_WARM_UP_MOVES = 30  # pilot moves at β=0, while the step size finds its scale
_SMOOTHING_WINDOW = 5  # temperatures
_ODD = 3.0  # between the step sizes of a datum and of most, from which on it has its own
_MOST_ANGLE = 2.0  # radians of a trajectory of a Gaussian; half a turn brings it back
_RESONANT_SHARE = 0.1  # of the temperatures
_LONG_STEP = 0.65  # narrowest deviations; of shorter ones some direction is narrower
_LEAST_FACTOR = 0.6  # of a quarter turn, so that no datum of half the deviation comes back either
_STRETCHED = 3.0  # between the scales of two coordinates, from which on each gets a step size


class Profile(NamedTuple):
    """What pilots know of a path, at temperatures from 0 on.

    Attributes:
      betas: `[S]`.
      log_step_sizes: `[S]`, or `[S, D]` of each coordinate.
      work_variance: `[S]` of log f_n - log f_0, mean over data, nats².
      log_factors: `[B, S]` of the pilots' own data on the step sizes; 0 of those like most.
      least_factor: on neighbouring step sizes, which differ where it is below 1.
      persistences: `[S]` of the momentum, or None for that of the settings.
    """

    betas: np.ndarray
    log_step_sizes: np.ndarray
    work_variance: np.ndarray
    log_factors: np.ndarray
    least_factor: float = 1.0
    persistences: np.ndarray | None = None

    def step_sizes(self, betas: np.ndarray) -> np.ndarray:
        """`[T]` or `[T, D]` at temperatures between those that are known."""
        columns = self.log_step_sizes.reshape(len(self.betas), -1).T
        found = np.stack([np.interp(betas, self.betas, column) for column in columns], axis=1)
        return np.exp(found).reshape(len(betas), *self.log_step_sizes.shape[1:])

    def persistences_at(self, betas: np.ndarray) -> np.ndarray | None:
        """`[T]` likewise; None where all are that of the settings."""
        if self.persistences is None:
            return None
        return np.interp(betas, self.betas, self.persistences)

    def increments(self) -> np.ndarray:
        """`[S-1]` variances of the log weight's increments between these temperatures, nats²."""
        return np.square(np.diff(self.betas)) * self.work_variance[:-1]


def smooth(values: np.ndarray) -> np.ndarray:
    """Moving geometric mean over temperatures `[S, ...]`, with a shorter window at the two ends."""
    return np.exp(smooth_mean(np.log(values)))


def smooth_mean(values: np.ndarray) -> np.ndarray:
    """Moving mean over temperatures `[S, ...]`, likewise."""
    ones = np.ones(_SMOOTHING_WINDOW)
    counts = np.convolve(np.ones(len(values)), ones, mode="same")
    columns = values.reshape(len(values), -1).T
    sums = np.stack([np.convolve(column, ones, mode="same") for column in columns], axis=1)
    return (sums / counts[:, None]).reshape(values.shape)


def profile_of(found: pilots.Found, course: pilots.Course, team: pilots.Team) -> Profile:
    """The profile from the last move at β=0 on; with a step size of each coordinate if they differ.

    A step size is that of most of the data.
    """
    kept = slice(NUM_WARM_UP_MOVES - 1, None)
    of_data = np.log(smooth(np.exp(found.log_step_sizes.T)))[kept]
    log_step_sizes = np.median(of_data, axis=1)
    log_factors = (of_data - log_step_sizes[:, None]).T
    log_factors[np.abs(log_factors).max(axis=1) < np.log(_ODD)] = 0.0
    least_factor, persistences = course.least_factor, None
    if found.scales.ndim == 2:
        log_step_sizes = log_step_sizes[:, None] + np.log(smooth(found.scales))[kept]
        scales = np.log(smooth(np.where(found.deviations > 0, found.deviations, 1.0)))[kept]

        # Steps along the narrowest coordinate were not too long, and stay as they are.
        narrowest = np.argmin(scales - log_step_sizes, axis=1)[:, None]
        step, scale = (np.take_along_axis(a, narrowest, axis=1) for a in (log_step_sizes, scales))
        is_stretched = np.ptp(scales, axis=1).max() > np.log(_STRETCHED)
        log_steps = step - scale  # in deviations of each coordinate
        angles = _angles(np.exp(log_steps), team.program.num_leapfrog_steps)
        is_resonant = np.mean(angles > _MOST_ANGLE) > _RESONANT_SHARE
        is_round = np.mean(log_steps > np.log(_LONG_STEP)) > _RESONANT_SHARE
        if is_resonant and not is_round:
            least_factor = pilots.LEAST_FACTOR
        elif is_resonant:
            # No direction is much narrower than what a coordinate shows: all can turn alike, by a
            # quarter at most, after which nothing is left of where a Gaussian was.
            is_stretched, least_factor = True, _LEAST_FACTOR
            log_steps = np.minimum(log_steps, np.log(_step_of_a_quarter(team)))
            most = team.work.settings.momentum_persistence
            persistences = _best_persistences(np.minimum(angles[:, 0], 0.5 * np.pi), most)
        log_step_sizes = scales + log_steps if is_stretched else step[:, 0]
    return Profile(
        found.betas[kept],
        log_step_sizes,
        mean(found.work_variance)[kept],
        log_factors,
        least_factor,
        persistences,
    )


def _angles(steps: np.ndarray, num_leapfrog_steps: int) -> np.ndarray:
    """Radians of a Gaussian's trajectories, in steps of its deviation."""
    return 2.0 * num_leapfrog_steps * np.arcsin(np.minimum(steps / 2.0, 1.0))


def _step_of_a_quarter(team: pilots.Team) -> float:
    """Deviations, by which a trajectory turns a Gaussian by a right angle."""
    return 2.0 * np.sin(0.25 * np.pi / team.program.num_leapfrog_steps)


def _best_persistences(angles: np.ndarray, most: float) -> np.ndarray | None:
    """Those that damp a Gaussian critically, `[S]` for trajectories of these angles.

    A turn by θ, of which α of the momentum stays, forgets where it was fastest at
    √α = (1 - sin θ) / cos θ: all is drawn anew after a quarter, and nearly none after short moves.
    """
    if not most:
        return None
    return np.minimum(np.square((1.0 - np.sin(angles)) / np.maximum(np.cos(angles), 1e-9)), most)


def mean(of_data: np.ndarray) -> np.ndarray:
    """Mean `[S]` over data `[B, S]` for which there is a number; 0 of none."""
    is_known = np.isfinite(of_data)
    return np.where(is_known, of_data, 0.0).sum(axis=0) / np.maximum(is_known.sum(axis=0), 1)
