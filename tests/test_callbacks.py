"""Callbacks: who is told what of a training, and what becomes of a run when one of them raises."""

import json
import signal

import jax
import numpy as np
import own_table
import pytest

import aiwae_jax
from aiwae_jax import evaluate, report, train
from aiwae_jax.runs import metrics
from aiwae_jax.runs.interruption import Interrupted


class Noted(train.Callback):
    """Notes all that it is told; does `act(name, moment)` then."""

    def __init__(self, act=lambda name, moment: None):
        self.told, self._act, self.num_closed = [], act, 0

    def _note(self, name, moment):
        self.told.append((name, moment))
        self._act(name, moment)

    def on_start(self, moment):
        self._note("start", moment)

    def on_chunk(self, moment):
        self._note("chunk", moment)

    def on_epoch(self, moment):
        self._note("epoch", moment)

    def on_report(self, moment):
        self._note("report", moment)

    def close(self):
        self.num_closed += 1

    def of(self, name):
        return [moment for told, moment in self.told if told == name]


def raise_at(step, error):
    def act(name, moment):
        if name == "epoch" and moment.step == step:
            raise error

    return act


@pytest.mark.slow
def test_a_callback_is_told_of_each_chunk_epoch_and_validation_in_plain_numbers(tmp_path):
    weights = []

    def act(name, moment):
        if name == "epoch":
            weights.append(moment.run())

    noted = Noted(act)
    options = {"validation_share": 0.34, "validation_every": 2, "epochs": 4}  # 40 rows are left
    run = own_table.fit(tmp_path / "run", callbacks=[noted], **options)
    assert [m.step for m in noted.of("start")] == [0]
    assert [(m.step, m.epoch) for m in noted.of("epoch")] == [(2, 1.0), (4, 2.0), (6, 3.0), (8, 4)]
    assert [m.step for m in noted.of("report")] == [4, 8]
    chunks = [m.step for m in noted.of("chunk")]
    assert chunks[0] == 1
    assert chunks == sorted(set(chunks))
    assert {2, 4, 6, 8} <= set(chunks)
    assert noted.num_closed == 1
    at_last = noted.of("epoch")[-1]
    assert (at_last.total_steps, at_last.folder, at_last.repeat) == (8, tmp_path / "run", None)
    # The same numbers as the file has, and nothing that belongs to a device.
    record = metrics.read(tmp_path / "run")[-1]
    assert record == {"step": 8, **json.loads(json.dumps(dict(at_last.metrics)))}
    assert at_last.metrics["validation/bound"] == noted.of("report")[-1].metrics["validation/bound"]
    # Weights are of their own moment, and a model to be used.
    differences = [
        float(
            np.abs(np.asarray(each.params.theta["loadings"]) - run.params.theta["loadings"]).max()
        )
        for each in weights
    ]
    assert differences[-1] == 0.0
    assert min(differences[:-1]) > 0.0
    assert weights[0].encode(own_table.table().test)[0].shape == (20, 2)
    with pytest.raises(RuntimeError, match="while the callback is told"):
        noted.of("epoch")[0].run()


@pytest.mark.slow
def test_one_that_raises_ends_a_run_that_is_saved_and_nothing_is_told_twice(tmp_path):
    whole = own_table.fit(tmp_path / "whole")
    first = Noted(raise_at(9, ZeroDivisionError("mine")))
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        own_table.fit(tmp_path / "run", callbacks=[first])
    assert caught.traceback[-1].path.name == "test_callbacks.py"
    assert first.num_closed == 1
    saved = aiwae_jax.load(tmp_path / "run", own_table.factor_analysis())
    assert saved.num_steps == 9

    second = Noted()
    run = own_table.fit(tmp_path / "run", callbacks=[second])
    assert [m.step for m in second.of("start")] == [9]
    epochs = [m.step for noted in (first, second) for m in noted.of("epoch")]
    assert epochs == [3, 6, 9, 12, 15, 18]
    for mine, theirs in zip(
        jax.tree.leaves(run.params), jax.tree.leaves(whole.params), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert metrics.read(tmp_path / "run") == metrics.read(tmp_path / "whole")
    # What is finished is said to have been, and trains no more.
    third = Noted()
    own_table.fit(tmp_path / "run", callbacks=[third])
    assert [(name, m.step) for name, m in third.told] == [("start", 18)]


@pytest.mark.slow
@pytest.mark.by_hand
def test_one_that_raises_on_a_report_loses_no_line_of_its_epoch(tmp_path):
    def act(name, moment):
        if name == "report" and moment.step == 4:
            raise ZeroDivisionError("mine")

    options = {"validation_share": 0.34, "validation_every": 2, "epochs": 4}
    own_table.fit(tmp_path / "whole", **options)
    noted = Noted(act)
    with pytest.raises(ZeroDivisionError, match="mine"):
        own_table.fit(tmp_path / "run", callbacks=[noted], **options)
    assert noted.num_closed == 1
    own_table.fit(tmp_path / "run", **options)
    found = metrics.read(tmp_path / "run")
    assert [each["step"] for each in found] == [2, 4, 6, 8]
    assert found == metrics.read(tmp_path / "whole")


@pytest.mark.slow
def test_after_a_signal_nothing_is_told_twice(tmp_path):
    def act(name, moment):
        if name == "epoch" and moment.step == 6:
            signal.raise_signal(signal.SIGTERM)

    first, second = Noted(act), Noted()
    with pytest.raises(Interrupted):
        own_table.fit(tmp_path / "run", callbacks=[first])
    own_table.fit(tmp_path / "run", callbacks=[second])
    told = [m.step for noted in (first, second) for m in noted.of("chunk")]
    assert told == sorted(set(told))


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (Noted(), "put it into brackets"),
        ([Noted], r"`callbacks\[0\]` must be a `train.Callback`, got the class Noted; call it"),
        ([Noted(), print], r"`callbacks\[1\]` must be a `train.Callback`, got builtin_function"),
    ],
)
def test_what_is_no_callback_is_refused_before_the_work(callbacks, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        own_table.fit(tmp_path / "run", callbacks=callbacks)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_report_is_told_in_numbers(tmp_path):
    noted, table = Noted(), own_table.table()
    run = own_table.fit(tmp_path / "run", epochs=2)
    settings = evaluate.Settings(num_temperatures=20, num_chains=4)
    sizes = {"num_examples": 6, "num_simulated": 4, "num_bound_samples": 50}
    content = report.write(run, table, settings, callbacks=[noted], **sizes)
    ((name, moment),) = noted.told
    assert (name, moment.step, moment.epoch) == ("report", 6, 2.0)
    assert moment.metrics["nll_test"] == content["nll_test"]
    assert moment.run() is run
    with pytest.raises(TypeError, match="put it into brackets"):
        report.write(run, table, settings, callbacks=noted, **sizes)
