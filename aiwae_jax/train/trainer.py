"""Training to the end in chunks of about a second, with checkpoints and metrics in between."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from aiwae_jax.parallel import processes
from aiwae_jax.runs import checkpoint, folder, metrics, progress, repeats
from aiwae_jax.runs.callbacks import Callback, Moment, plain
from aiwae_jax.runs.interruption import Interrupted, Interruption
from aiwae_jax.train import diagnosis, stopping, watch
from aiwae_jax.train.legs import Stretch
from aiwae_jax.train.loop import LoopState, epoch_averages
from aiwae_jax.train.program import Program
from aiwae_jax.train.step import all_finite
from aiwae_jax.train.trained import Trained
from aiwae_jax.train.validation import Found
from aiwae_jax.train.watch import TrainInfo
from aiwae_jax.types import Params

_SECONDS_PER_CHUNK = 1.0
_MAX_SKIPPED = 100  # updates in a row, from an epoch's start


_all_finite = jax.jit(all_finite)


class NonFiniteError(RuntimeError):
    """Training ran into NaN or infinite parameters; the last good checkpoint is kept."""


class Trainer:
    """Trains one run to its end, in chunks of about a second, with checkpoints in between."""

    def __init__(
        self,
        program: Program,
        claim: folder.Claim,
        checkpoint_minutes: float = 3.0,
        callbacks: Sequence[Callback] = (),
    ):
        """Restores the newest checkpoint of the run's folder, or begins.

        Args:
          program: what is trained.
          claim: on the run's folder.
          checkpoint_minutes: between checkpoints, at most.
          callbacks: who is told how it goes, of each repeat.

        Raises:
          checkpoint.CheckpointError: if there are checkpoints, and none that can be continued.
        """
        self._program, self._claim = program, claim
        self._settings, self._checkpoint_minutes = program.settings, checkpoint_minutes
        self._checkpoints = checkpoint.Checkpoints(claim.folder / "checkpoints", is_owner=True)
        tree, facts = stopping.template(program), {}
        self.wall_time = {"training_seconds": 0.0}
        restored = self._checkpoints.restore(tree, is_exact=True)
        if restored is not None:
            tree, facts = restored
            self.wall_time = facts["wall_time"]
        self.loop_state = LoopState(tree.train, tree.totals)
        self._best: Params | None = None
        self.stopping: list[stopping.Stopping] = []
        if self._settings.patience:
            self._best = tree.best
            at_first = [stopping.Stopping()] * self._settings.num_repeats
            self.stopping = stopping.of_facts(facts) or at_first
        self.step = self.loop_state.num_steps
        self._repeats = repeats.of(claim.folder, self._settings.seed, self._settings.num_repeats)
        self._bar = progress.OfTraining()
        self._writers: list[Sequence[Callback]] = []  # of each repeat, the run's own
        self._callbacks: Sequence[Callback] = ()
        if processes.is_primary():
            self._callbacks = callbacks
            for repeat in self._repeats:
                repeat.folder.mkdir(exist_ok=True)
                own = metrics.JsonLines(repeat.folder), metrics.TensorBoard(repeat.folder)
                self._writers.append(own)
        self._saved_at = time.monotonic()
        self._watch = watch.Watch()

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return self._program.stage_ends[-1]

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done, or patience has ended, of all repeats."""
        has_stopped = bool(self.stopping) and all(each.stopped_at for each in self.stopping)
        return has_stopped or self.step >= self.total_steps

    @property
    def weights(self) -> Params:
        """The weights to be measured and shown: with patience the best ones."""
        return stopping.shown(self._tree(), self.stopping)

    def _tree(self) -> LoopState | stopping.WithBest:
        return stopping.with_best(self.loop_state, self._best)

    def _is_stage_end(self) -> bool:
        ends = {leg.end for leg in self._program.legs}
        return self.step in self._program.stage_ends or self.step in ends

    def save(self) -> None:
        """Writes a checkpoint of this very step."""
        facts = {
            "wall_time": self.wall_time,
            "is_finished": self.is_finished,
            "epochs": self._program.epochs_at(self.step),
        }
        if self.stopping:
            facts["stopping"] = [dataclasses.asdict(each) for each in self.stopping]
        self._checkpoints.save(self.step, self._tree(), facts)
        self._saved_at = time.monotonic()

    def _advance(self, num_steps: int) -> float:
        """Runs a chunk; returns its seconds."""
        before = jax.tree.map(jnp.copy, self.loop_state)  # for a diagnosis
        began = time.monotonic()
        self.loop_state = self._program.run_steps(self.loop_state, num_steps)
        jax.block_until_ready(self.loop_state)
        seconds = time.monotonic() - began
        self.step += num_steps
        self.wall_time["training_seconds"] += seconds
        if not _all_finite(self.loop_state.train):
            found = diagnosis.first_nonfinite(self._program, before, num_steps)
            raise NonFiniteError(
                f"The training state became NaN or infinite in the {num_steps} steps before step "
                f"{self.step}, {found}. {self._last_good()}"
            )
        return seconds

    def _last_good(self) -> str:
        step = self._checkpoints.latest_step()
        if step is None:
            return "No checkpoint had been saved yet."
        return f"The last good checkpoint is of step {step}."

    def _check_totals(self, totals: TrainInfo, steps_in_epoch: int, leg: Stretch) -> None:
        """Says once what went wrong, and stops when all updates of an epoch were skipped."""
        self._watch.look(totals, steps_in_epoch, num_data=leg.batch_size)
        for phase, info in totals.items():
            num_skipped = int(np.max(info.counts["num_skipped_updates"]))  # over repeats
            if num_skipped == steps_in_epoch >= min(_MAX_SKIPPED, leg.steps_per_epoch):
                raise NonFiniteError(
                    f"The gradient of {phase} was not finite in any of the {num_skipped} steps "
                    f"before step {self.step}. {self._last_good()}"
                )

    def _validate(self, epoch: float, leg: Stretch) -> list[Found]:
        """Looks at the rows that are held out, where it is time for it; of each repeat."""
        validation, settings = self._program.validation, self._settings
        if validation is None:
            return []
        number, rest = divmod(self.step - leg.start, leg.steps_per_epoch)
        is_last = self.step == leg.end
        every = self._program.validation_every[self._program.legs.index(leg)]
        is_due = is_last or (rest == 0 and number % every == 0)
        with_nll, nll_every = False, settings.validation_nll_every
        if nll_every is not None:
            with_nll = is_last or (rest == 0 and (leg.first_epoch + number) % nll_every == 0)
        if not (is_due or with_nll):
            return []
        if with_nll:
            self._bar.say(self.step, "annealing rows that are held out")
        began = time.monotonic()
        found = validation.look(self.loop_state.train.weights, with_nll=with_nll)
        seconds = time.monotonic() - began
        self.wall_time["validation_seconds"] = (
            self.wall_time.get("validation_seconds", 0.0) + seconds
        )
        self._watch.look_at_bounds([each.bound for each in found])
        by_nll = settings.patience_by == "nll"
        if self.stopping and (with_nll if by_nll else is_due):
            self._compare([-each.nll if by_nll else each.bound for each in found], epoch)
        return found

    def _compare(self, values: Sequence[float], epoch: float) -> None:
        """Keeps the weights where a validation is the best so far, of the last leg's alone."""
        if self.step <= self._program.legs[-1].start:
            return  # another method's, whose bound is another thing
        is_warming_up = self.step <= self._settings.num_kl_warmup(self.total_steps)
        options = {"patience": self._settings.patience, "is_warming_up": is_warming_up}
        new = [
            each.after(value, self.step, epoch, **options)
            for each, value in zip(self.stopping, values, strict=True)
        ]
        is_better = stopping.are_better(new, self.stopping)
        if is_better.any():
            self._best = stopping.take(is_better, self.loop_state.train.weights, self._best)
        self.stopping = new

    def _facts(self, epoch: float, leg: Stretch) -> dict[str, float]:
        """What an epoch's record says beside averages and validation."""
        facts = {"epoch": epoch}
        if len(self._program.legs) > 1:
            facts["leg"] = self._program.legs.index(leg)
        if self._program.learning_rate is not None:
            facts["learning_rate"] = self._program.learning_rate(self.step - 1)
        if self._program.kl_weight is not None:
            facts["kl_weight"] = self._program.kl_weight(self.step - 1)
        return facts

    def _tell(self, names: Sequence[str], of_repeats: Sequence[dict], pace: float = 0.0) -> None:
        """Tells the callbacks what is due, of each repeat its metrics, and the bar those of all.

        The run's own writers come first, of all repeats: what a caller's callback raises must not
        lose a record of steps that are saved.

        Raises:
          Exception: what a callback raises, after everything has been saved.
        """

        def tell() -> None:
            whole = Moment(
                self.step,
                self.total_steps,
                self._program.epochs_at(self.step),
                {name: [each[name] for each in of_repeats] for name in of_repeats[0]},
                self._claim.folder,
                rows_per_second=pace,
            )
            moments = [
                dataclasses.replace(
                    whole,
                    metrics=plain(own),
                    folder=repeat.folder,
                    repeat=repeat.number,
                    run_fn=self._run_fn(repeat),
                )
                for repeat, own in zip(self._repeats, of_repeats, strict=True)
            ]
            of_callers = [self._callbacks] * len(moments)
            for listeners in (self._writers, of_callers):
                for moment, callbacks in zip(moments, listeners, strict=True):
                    for name in names:
                        for callback in callbacks:
                            getattr(callback, name)(moment)
            for name in names:
                getattr(self._bar, name)(whole)

        try:
            processes.on_primary(tell)
        except Exception as error:
            try:
                self.save()
            except Exception as failure:
                error.add_note(f"What was trained since the last checkpoint is lost: {failure}")
            raise

    def _run_fn(self, repeat: repeats.Repeat) -> Callable[[], Trained]:
        state, program = self.loop_state, self._program

        def run() -> Trained:
            if state.train.step.is_deleted():
                raise RuntimeError(
                    "`moment.run()` is to be called while the callback is told of the moment; the "
                    "next steps have taken the memory of its weights."
                )
            weights = processes.fetch(repeat.select(state.train.weights))
            params = jax.tree.map(lambda array: jnp.asarray(np.array(array)), weights)
            return Trained(
                program.model,
                params,
                program.max_level,
                has_posterior=program.start == "posterior",
                condition=program.condition,
            )

        return run

    def train(self, interruption: Interruption) -> None:
        """Trains to the end, or until patience has ended.

        Raises:
          Interrupted: after saving, on SIGINT, SIGTERM or SIGHUP.
          NonFiniteError: when parameters are no longer finite; nothing bad is saved.
          files.WorkdirError: when the folder is gone; it is not made again.
        """
        self._say_what_is_held_out()
        chunk = 1  # the first chunk also compiles, so the second learns the pace
        try:
            self._tell(["on_start"], [{}] * len(self._repeats))
            while not self.is_finished:
                leg = self._program.leg_at(self.step)
                num_steps = min(chunk, leg.left(self.step))
                seconds = self._advance(num_steps)
                pace = num_steps / max(seconds, 1e-9)
                seconds_since_save = time.monotonic() - self._saved_at
                # Clocks differ, and what comes next must not.
                chunk, is_due = processes.of_primary(
                    np.array(
                        [
                            max(1, int(pace * _SECONDS_PER_CHUNK)),
                            seconds_since_save > 60 * self._checkpoint_minutes,
                        ]
                    )
                ).tolist()
                signal_number = interruption.of_any_process()
                self._claim.check()

                steps_in_epoch = leg.steps_in_epoch(self.step)
                totals = processes.fetch(self._program.totals(self.loop_state, leg))
                self._check_totals(totals, steps_in_epoch, leg)
                averages = epoch_averages(totals, steps_in_epoch)
                epoch = self._program.epochs_at(self.step)
                found = self._validate(epoch, leg)
                facts = self._facts(epoch, leg)
                of_repeats = [
                    facts
                    | metrics.columns(repeat.select(averages), leg.phases)
                    | (found[i].columns() if found else {})
                    for i, repeat in enumerate(self._repeats)
                ]
                is_end_of_leg = len(self._program.legs) > 1 and self.step == leg.end
                is_epoch = steps_in_epoch == leg.steps_per_epoch or is_end_of_leg or found
                told = ["on_report"] * bool(found) + ["on_epoch"] * bool(is_epoch) + ["on_chunk"]
                self._tell(told, of_repeats, pace * leg.batch_size * self._settings.num_repeats)

                if signal_number or is_due or self._is_stage_end():
                    self.save()
                if signal_number and not self.is_finished:
                    raise Interrupted(
                        f"Interrupted; saved at step {self.step} of {self.total_steps}. Start the "
                        "same command again to continue.",
                        signal_number,
                    )
            self.save()
        finally:
            self._bar.close()
        self._say_what_stopped()

    def _say_what_is_held_out(self) -> None:
        validation = self._program.validation
        if validation is None or self.is_finished or not processes.is_primary():
            return
        every = " then ".join(
            "epoch" if number == 1 else f"{number} epochs"
            for number in self._program.validation_every
        )
        print(
            f"validation: {len(validation.rows)} of the training rows are held out; "
            f"L_{validation.num_particles} of them every {every}",
            flush=True,
        )

    def _say_what_stopped(self) -> None:
        if not processes.is_primary():
            return
        for repeat, found in zip(self._repeats, self.stopping, strict=False):
            who = "" if repeat.number is None else f"{repeat.folder.name}: "
            what = "trained to the end"
            if found.stopped_at is not None:
                what = f"stopped early, at epoch {found.stopped_at:g}"
            print(f"{who}{what}; the best weights are those of epoch {found.epoch:g}")

    def close(self) -> None:
        """Closes files and checkpoints."""
        with contextlib.ExitStack() as stack:  # all, whichever of them raises
            stack.callback(self._checkpoints.close)
            for callback in [each for own in (*self._writers, self._callbacks) for each in own]:
                stack.callback(callback.close)
