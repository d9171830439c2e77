"""Training: one jitted step for any method, and epochs as loops on the device.

`init_state` and `make_train_step` are all that a loop of one's own needs; `make_run_steps` is such
a loop on the device. Both say once, by `warnings.warn`, when data, gradients or moves go wrong.
"""

from aiwae_jax.loop import LoopState, RunSteps, epoch_averages, init_loop_state, make_run_steps
from aiwae_jax.optimizers import Optimizers, adam, paper_epochs, paper_learning_rate, stage_ends
from aiwae_jax.step import TrainState, TrainStep, all_finite, init_state, make_train_step
from aiwae_jax.watch import TrainInfo, Trouble, Watch, troubles

__all__ = [
    "LoopState",
    "Optimizers",
    "RunSteps",
    "TrainInfo",
    "TrainState",
    "TrainStep",
    "Trouble",
    "Watch",
    "adam",
    "all_finite",
    "epoch_averages",
    "init_loop_state",
    "init_state",
    "make_run_steps",
    "make_train_step",
    "paper_epochs",
    "paper_learning_rate",
    "stage_ends",
    "troubles",
]
