"""A run of several methods, one after the other: which steps are whose, and what passes on.

Parameters and the optimizers' states of θ, φ and ψ go from leg to leg, under one learning rate. A
leg whose chains are of the same kind as the last one's begins with that one's step sizes,
interpolated in β; all other samplers begin anew, and with them what persistent ones keep of each
datum.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aiwae_jax import checks
from aiwae_jax.train.loop import LoopState
from aiwae_jax.train.optimizers import paper_epochs, stage_ends
from aiwae_jax.train.settings import Settings
from aiwae_jax.train.state import check_method, phase_names
from aiwae_jax.types import ChainInfo, Method


class Leg(NamedTuple):
    """A method for a share of a run's passes over the data.

    Attributes:
      method: from `aiwae_jax.methods`, or a tuple of phases.
      share: of the run's epochs; those of all legs sum to 1.
      batch_size: B; None for the run's.
    """

    method: Method
    share: float = 1.0
    batch_size: int | None = None


class Stretch(NamedTuple):
    """A leg at its place in a run.

    Attributes:
      start: steps done before it.
      end: steps done after it.
      batch_size: B.
      steps_per_epoch: full batches in the data.
      first_epoch: passes begun before it.
      phases: their names in their order, which a compiled function's dictionaries do not keep.
    """

    start: int
    end: int
    batch_size: int
    steps_per_epoch: int
    first_epoch: int
    phases: tuple[str, ...]

    def steps_in_epoch(self, step: int) -> int:
        """Steps done of the epoch that step `step` was the last of so far."""
        return (step - 1 - self.start) % self.steps_per_epoch + 1

    def left(self, step: int) -> int:
        """Steps to the end of the epoch or of the leg, whichever comes first."""
        in_epoch = self.steps_per_epoch - (step - self.start) % self.steps_per_epoch
        return min(in_epoch, self.end - step)


def as_legs(method: Method | Sequence[Leg]) -> tuple[Leg, ...]:
    """A method as a single leg; legs as they are.

    Raises:
      TypeError: for what is neither a method nor legs.
      ValueError: for shares that do not sum to 1.
    """
    if isinstance(method, list) and not method:
        raise ValueError("`method` must be a method, or a list of at least one `train.Leg`.")
    is_curriculum = isinstance(method, list | tuple) and any(isinstance(m, Leg) for m in method)
    if not is_curriculum:
        check_method(method)
        return (Leg(method),)
    for i, leg in enumerate(method):
        if not isinstance(leg, Leg):
            raise TypeError(f"`method[{i}]` must be a `train.Leg`, got {type(leg).__name__}.")
        check_method(leg.method)
        checks.positive(f"method[{i}].share", leg.share)
        if leg.batch_size is not None:
            checks.integer(f"method[{i}].batch_size", leg.batch_size, least=1)
    if not math.isclose(total := sum(leg.share for leg in method), 1.0, abs_tol=1e-6):
        raise ValueError(f"The shares of the legs of `method` must sum to 1, got {total:g}.")
    return tuple(method)


def check_psi(legs: Sequence[Leg]) -> None:
    """Refuses legs that would share parameters ψ of one name and of another shape or number.

    Raises:
      ValueError: naming them.
    """
    known: dict[str, Any] = {}
    for i, leg in enumerate(legs):
        for phase in leg.method:
            for name, psi in jax.eval_shape(phase.init_params, jax.random.key(0)).items():
                shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), psi)
                if known.setdefault(name, shapes) != shapes:
                    raise ValueError(
                        f"`method[{i}]` learns {name} of other shapes than a leg before it; legs "
                        "that learn by gradient how to sample must do so in the same number of "
                        "steps."
                    )


def check_rates(legs: Sequence[Leg], settings: Settings) -> None:
    """Refuses a falling learning rate for parameters that begin to move late.

    An optimizer counts its own updates, so that these would begin the schedule in mid-run.

    Raises:
      ValueError: naming the parameters and the leg.
    """
    if settings.lr_schedule == "constant" and not settings.warmup_share:
        return
    moved = [{name for phase in leg.method for name in phase.updates} for leg in legs]
    for i, names in enumerate(moved):
        for name in names:
            if not all(name in others for others in moved[:i]):
                raise ValueError(
                    f"`method[{i}]` moves {name}, which a leg before it does not, so that its "
                    "learning rate would begin anew in mid-run; use `lr_schedule`='constant', or "
                    f"legs that all move {name}."
                )


def place(
    legs: Sequence[Leg], settings: Settings, num_examples: int
) -> tuple[tuple[Stretch, ...], list[int]]:
    """Lays the legs out over the steps of a run; and the ends of the learning rate's stages.

    Raises:
      ValueError: for several legs without a number of epochs.
    """
    sizes = [settings.batch_size if leg.batch_size is None else leg.batch_size for leg in legs]
    if len(legs) == 1:
        per_epoch = num_examples // sizes[0]
        ends = stage_ends(per_epoch, settings.num_stages, epochs=settings.epochs)
        names = tuple(phase_names(legs[0].method))
        return (Stretch(0, ends[-1], sizes[0], per_epoch, 0, names),), ends
    if settings.epochs is None:
        raise ValueError("`epochs` must be given for several legs, which share them.")
    found, start, first_epoch = [], 0, 0
    for leg, size in zip(legs, sizes, strict=True):
        per_epoch = num_examples // size
        num_steps = max(round(leg.share * settings.epochs * per_epoch), 1)
        names = tuple(phase_names(leg.method))
        found.append(Stretch(start, start + num_steps, size, per_epoch, first_epoch, names))
        start, first_epoch = start + num_steps, first_epoch + math.ceil(num_steps / per_epoch)
    whole = paper_epochs(settings.num_stages)
    shares = [paper_epochs(i + 1) / whole for i in range(settings.num_stages)]
    return tuple(found), [max(round(share * start), 1) for share in shares]


def index_at(stretches: Sequence[Stretch], step: int) -> int:
    """The leg that the next step belongs to; after the last step the last leg."""
    return next((i for i, s in enumerate(stretches) if step < s.end), len(stretches) - 1)


def _phases_before(legs: Sequence[Leg], index: int) -> int:
    return sum(len(leg.method) for leg in legs[:index])


def view(state: LoopState, legs: Sequence[Leg], stretches: Sequence[Stretch], index: int):
    """A leg's own part of the state of a run of several, as its steps take it.

    At the leg's first step the last leg's step sizes have passed on, so that it does not matter
    whether the run was interrupted there.
    """
    first = _phases_before(legs, index)
    own = state.train.sampler_states[first : first + len(legs[index].method)]
    if index:
        is_first_step = state.train.step == stretches[index].start
        handed = _handed_on(state, legs, index, own)
        own = jax.tree.map(lambda new, old: jnp.where(is_first_step, new, old), handed, own)
    train = state.train._replace(sampler_states=own, kept=state.train.kept[index])
    return LoopState(train, state.totals[index])


def merge(whole: LoopState, part: LoopState, legs: Sequence[Leg], index: int) -> LoopState:
    """Puts a leg's part back into the state of the run."""
    first = _phases_before(legs, index)
    states = list(whole.train.sampler_states)
    states[first : first + len(legs[index].method)] = part.train.sampler_states
    train = part.train._replace(
        sampler_states=tuple(states), kept=_replaced(whole.train.kept, index, part.train.kept)
    )
    return LoopState(train, _replaced(whole.totals, index, part.totals))


def _replaced(of_legs: tuple, index: int, own: Any) -> tuple:
    return (*of_legs[:index], own, *of_legs[index + 1 :])


def _handed_on(state: LoopState, legs: Sequence[Leg], index: int, own: tuple) -> tuple:
    """The sampler states that a leg begins with."""
    before, after = legs[index - 1].method, legs[index].method
    first = _phases_before(legs, index - 1)
    theirs = {
        chain.kind: (chain, state.train.sampler_states[first + i])
        for i, chain in enumerate(_chains(before, state.totals[index - 1]))
        if chain is not None and chain.kind is not None
    }
    found = []
    for chain, mine in zip(_chains(after, state.totals[index]), own, strict=True):
        if chain is not None and chain.kind in theirs:
            last_chain, last = theirs[chain.kind]
            at, known_at = (jnp.asarray(c.betas, last.dtype) for c in (chain, last_chain))
            mine = jnp.exp(jnp.interp(at, known_at, jnp.log(last)))
        found.append(mine)
    return tuple(found)


def _chains(method: Method, totals: Any) -> list[ChainInfo | None]:
    """The chain of each phase's diagnostics, if it has one."""
    return [totals[name].chain for name in phase_names(method)]
