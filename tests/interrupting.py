"""Trainings that end early: by a signal after so many chunks of steps, or at a step of choice."""

import contextlib
import os
import signal

import pytest

from aiwae_jax import train
from aiwae_jax.runs.interruption import Interrupted


@contextlib.contextmanager
def after_chunks(num_chunks, match="Interrupted; saved at step"):
    """Sends SIGTERM to what trains within after its chunk of this number; it must say so."""
    advance, times = train.trainer.Trainer._advance, []

    def interrupted(self, num_steps):
        seconds = advance(self, num_steps)
        times.append(num_steps)
        if len(times) == num_chunks:
            os.kill(os.getpid(), signal.SIGTERM)
        return seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.trainer.Trainer, "_advance", interrupted)
        with pytest.raises(Interrupted, match=match):
            yield


@contextlib.contextmanager
def at_step(step):
    """What trains within saves a checkpoint after this step, and ends."""
    advance = train.trainer.Trainer._advance

    def stopping(self, num_steps):
        seconds = advance(self, min(num_steps, max(step - self.step, 1)))
        if self.step == step:
            self.save()
            raise KeyboardInterrupt
        return seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.trainer.Trainer, "_advance", stopping)
        with pytest.raises(KeyboardInterrupt):
            yield
