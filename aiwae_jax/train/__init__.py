"""Training: one jitted step for any method, epochs as loops on the device, runs in a folder.

`fit` trains in a folder of its own, where the same call continues what was interrupted.
`init_state` and `make_train_step` are all that a loop of one's own needs; `make_run_steps` is such
a loop on the device. Both say once, by `warnings.warn`, when data, gradients or moves go wrong.
"""

from aiwae_jax.runs.callbacks import Callback, Moment
from aiwae_jax.train.blocks import Blocks
from aiwae_jax.train.classes import Classified
from aiwae_jax.train.fitting import fit
from aiwae_jax.train.imputation import Imputed
from aiwae_jax.train.learning_rates import make_schedule, paper_learning_rate
from aiwae_jax.train.legs import Leg
from aiwae_jax.train.loop import (
    LoopState,
    RunSteps,
    epoch_averages,
    init_loop_state,
    make_run_steps,
)
from aiwae_jax.train.optimizers import (
    Optimizers,
    adam,
    average_weights,
    averaged,
    make_optimizers,
    paper_epochs,
    stage_ends,
)
from aiwae_jax.train.run import Run, load
from aiwae_jax.train.settings import Settings
from aiwae_jax.train.state import Kept, TrainState, init_state
from aiwae_jax.train.step import TrainStep, all_finite, make_train_step
from aiwae_jax.train.stopping import Stopping
from aiwae_jax.train.trained import Trained
from aiwae_jax.train.trainer import NonFiniteError
from aiwae_jax.train.validation import Split, split, training_part
from aiwae_jax.train.watch import TrainInfo, Trouble, Watch, troubles
from aiwae_jax.train.weighting import Weighted, weighted

__all__ = [
    "Blocks",
    "Callback",
    "Classified",
    "Imputed",
    "Kept",
    "Leg",
    "LoopState",
    "Moment",
    "NonFiniteError",
    "Optimizers",
    "Run",
    "RunSteps",
    "Settings",
    "Split",
    "Stopping",
    "TrainInfo",
    "TrainState",
    "TrainStep",
    "Trained",
    "Trouble",
    "Watch",
    "Weighted",
    "adam",
    "all_finite",
    "average_weights",
    "averaged",
    "epoch_averages",
    "fit",
    "init_loop_state",
    "init_state",
    "load",
    "make_optimizers",
    "make_run_steps",
    "make_schedule",
    "make_train_step",
    "paper_epochs",
    "paper_learning_rate",
    "split",
    "stage_ends",
    "training_part",
    "troubles",
    "weighted",
]
