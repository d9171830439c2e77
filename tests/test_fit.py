"""Anybody's model and data: trained in a folder, killed, continued, loaded, measured, reported."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import chex
import eight_units as eu
import interrupting
import jax
import numpy as np
import optax
import own_table
import pytest

import aiwae_jax
from aiwae_jax import data, evaluate, methods, models, report, train
from aiwae_jax.cli import flags
from aiwae_jax.cli import main as cli
from aiwae_jax.report import text
from aiwae_jax.runs import checkpoint, extras, files
from experiments import run as command

ROOT = pathlib.Path(__file__).parent.parent
QUICK = {"num_examples": 8, "num_simulated": 4, "num_bound_samples": 50}
SETTINGS = evaluate.Settings(num_temperatures=40, num_chains=8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, run) of a model of one's own."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, own_table.fit(folder)


@pytest.mark.slow
def test_a_model_of_your_own_is_trained_and_used(finished):
    _, run = finished
    rows = own_table.table().test
    assert run.is_finished
    assert (run.epochs, run.num_steps) == (6.0, 18)
    mean, stddev = run.encode(rows)
    chex.assert_shape([mean, stddev], (20, 2))
    np.testing.assert_allclose(mean, rows @ np.asarray(run.params.phi["encoder"]), rtol=1e-5)
    np.testing.assert_allclose(
        run.decode(mean), mean @ np.asarray(run.params.theta["loadings"]), rtol=1e-5
    )
    x, z = run.sample(jax.random.key(0), 7)
    assert (x.shape, z.shape) == ((7, 5), (7, 2))
    found = run.log_likelihood(rows, SETTINGS)
    exact = -own_table.exact_nll(run.params.theta, rows)
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.1)
    with pytest.raises(ValueError, match=r"`x` must be rows, of shape \[N, 5\]; got \[5\]"):
        run.encode(rows[0])


def test_the_same_call_returns_what_is_finished_and_another_is_refused(finished):
    folder, run = finished
    again = own_table.fit(folder)
    chex.assert_trees_all_equal(again.params, run.params)
    with pytest.raises(files.WorkdirError, match=r"`epochs`: 6\.0 there, 7\.0 here"):
        own_table.fit(folder, epochs=7)
    with pytest.raises(files.WorkdirError, match="data: plane of another content"):
        own_table.fit(folder, dataset=own_table.table(seed=5))
    model = own_table.factor_analysis()
    with pytest.raises(files.WorkdirError, match="`method` was built otherwise"):
        own_table.fit(folder, method=methods.iwae(model, 2), model=model)
    adam = train.adam(1e-3)
    with pytest.raises(files.WorkdirError, match="`optimizers`: adam there, your own here"):
        own_table.fit(folder, optimizers=adam)


@pytest.mark.slow
def test_the_same_rows_split_otherwise_are_other_data(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2, (40, 6)).astype(np.uint8)
    model = models.bernoulli_vae(6, 2, hidden_sizes=(3, 3), initialization="torch")

    def fit(num_train, max_level=None):
        dataset = data.from_arrays(rows[:num_train], rows[num_train:], max_level=max_level)
        method = methods.vae(model)
        return train.fit(method, model, dataset, tmp_path / "run", epochs=1, batch_size=10)

    fit(20)
    with pytest.raises(files.WorkdirError, match="train_images 20 there, 30 here; data: test_im"):
        fit(30)
    with pytest.raises(files.WorkdirError, match=r"max_level None there, 1\.0 here"):
        fit(20, max_level=1)


def test_data_that_the_likelihood_is_not_of_are_refused(tmp_path):
    counts = np.random.default_rng(0).poisson(2.0, (40, 6)).astype(np.float32)
    bits = (counts > 2).astype(np.float32)
    model = models.bernoulli_vae(6, 2, hidden_sizes=(3, 3), initialization="torch")
    for train_rows, test_rows, name in ((counts, bits, "train"), (bits, counts, "test")):
        dataset = data.from_arrays(train_rows, test_rows)
        with pytest.raises(ValueError, match=f"`{name}` must"):
            train.fit(methods.vae(model), model, dataset, tmp_path / "run", batch_size=10)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_builders_model_of_which_something_was_replaced_is_your_own(tmp_path):
    built = models.bernoulli_vae(6, 2, hidden_sizes=(3, 3), initialization="torch")
    assert built.built_by.arguments["posterior"] == "normal"  # a default, said for later versions
    mine = built._replace(log_joint=lambda theta, x, z: 2.0 * built.log_joint(theta, x, z))
    assert mine.built_by is None
    bits = np.random.default_rng(0).integers(0, 2, (30, 6))
    dataset = data.from_arrays(bits[:20], bits[20:])
    train.fit(methods.vae(mine), mine, dataset, tmp_path / "run", epochs=1, batch_size=10)
    with pytest.raises(ValueError, match="of a model of your own: give it"):
        aiwae_jax.load(tmp_path / "run")
    with pytest.raises(files.WorkdirError, match="`model` was built otherwise"):
        train.fit(methods.vae(built), built, dataset, tmp_path / "run", epochs=1, batch_size=10)


@pytest.mark.slow
def test_numbers_of_numpy_are_as_good(tmp_path):
    seed, size, epochs = np.int64(3), np.int32(20), np.float32(1.0)
    run = own_table.fit(tmp_path / "run", seed=seed, batch_size=size, epochs=epochs)
    assert json.loads((run.folder / "config.json").read_text())["training"]["seed"] == 3


def test_a_run_is_loaded_with_its_model_and_with_no_other(finished):
    folder, run = finished
    loaded = aiwae_jax.load(folder, own_table.factor_analysis())
    chex.assert_trees_all_equal(loaded.params, run.params)
    assert (loaded.epochs, loaded.is_finished) == (6.0, True)
    with pytest.raises(ValueError, match=r"of a model of your own: give it, as load\(folder, m"):
        aiwae_jax.load(folder)
    with pytest.raises(ValueError, match=r"loadings of shape \[2, 4\], .* has one of shape \[2, 5"):
        aiwae_jax.load(folder, own_table.factor_analysis(4))
    bernoulli = models.bernoulli_vae(5, 2, hidden_sizes=(3, 3), initialization="torch")
    with pytest.raises(ValueError, match="it is another model"):
        aiwae_jax.load(folder, bernoulli)
    with pytest.raises(files.WorkdirError, match="holds no run"):
        aiwae_jax.load(folder / "checkpoints")


@pytest.mark.slow
def test_a_report_measures_what_is_exact_and_the_same_call_finds_it(finished, capsys):
    folder, run = finished
    dataset = own_table.table()
    content = report.write(run, dataset, SETTINGS, **QUICK)
    exact = own_table.exact_nll(run.params.theta, dataset.test[np.sort(_rows(folder))])
    assert abs(content["nll_test"] - exact.mean()) < 0.05
    assert content["config"]["method"]["arguments"]["num_temperatures"] == 3
    out = capsys.readouterr().out
    assert "plane, aiwae K=2" in out
    assert " rows" in out
    assert " images" not in out
    page = (folder / "report.html").read_text()
    assert "plane: aiwae" in page
    assert "paper (std" not in page
    names = {"learning_curves.png", "acceptance.png", "nll_histogram.png", "latents.png"}
    assert set(content["pictures"]) == names  # rows are no images
    best, *_ = content["baselines"]
    assert best["difference"] == pytest.approx(best["nll_test"] - content["nll_test"])
    assert f"NLL {text.number(content['nll_test'], content['nll_test_se'])} nats" in out
    assert report.write(run, dataset, SETTINGS, **QUICK) == content
    assert "already evaluated like this" in capsys.readouterr().out
    with pytest.raises(ValueError, match="The data are not those that the run"):
        report.write(run, own_table.table(seed=5), SETTINGS, **QUICK)
    for name, wrong in (("num_examples", 1), ("num_bound_samples", 60), ("target_gap", -1.0)):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            report.write(run, dataset, SETTINGS, **QUICK | {name: wrong})


def _rows(folder):
    with np.load(folder / "evaluation.npz") as arrays:
        return arrays["index_test"]


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_model_without_samples_has_a_report_without_a_gap(tmp_path):
    model = own_table.factor_analysis(with_sample=False)
    run = own_table.fit(tmp_path / "run", model=model, method=methods.vae(model), epochs=2)
    with pytest.warns(UserWarning, match="no `sample`: no bidirectional gap"):
        content = report.write(
            run, own_table.table(), SETTINGS, num_examples=4, num_bound_samples=50
        )
    assert "bidirectional_gap" not in content


def test_only_what_can_be_drawn_is_drawn(finished):
    _, run = finished
    without = dataclasses.replace(run, model=own_table.factor_analysis(with_sample=False))
    with pytest.raises(ValueError, match=r"`model.sample` must be given, for"):
        without.sample(jax.random.key(0), 2)
    conditional = dataclasses.replace(run, model=eu.PREDICTOR, params=eu.params(eu.PREDICTOR))
    with pytest.raises(ValueError, match="`x` must be a datum"):
        conditional.sample(jax.random.key(0), 2)
    x, z = conditional.sample(jax.random.key(0), 3, eu.DATUM)
    assert (x.shape, z.shape) == ((3, eu.X), (3, eu.D))
    np.testing.assert_array_equal(x[:, : eu.X // 2], np.tile(eu.DATUM[: eu.X // 2], (3, 1)))


@pytest.mark.slow
def test_optimizers_of_your_own_are_used(tmp_path):
    still = aiwae_jax.types.Params(optax.sgd(0.0), optax.sgd(0.0), optax.sgd(0.0))
    run = own_table.fit(tmp_path / "run", optimizers=still, epochs=1)
    begun = own_table.factor_analysis().init(
        jax.random.split(jax.random.split(jax.random.key(0))[0])[0]
    )
    chex.assert_trees_all_close(run.params.theta, begun.theta, rtol=1e-6)  # of another program


@pytest.mark.slow
def test_models_of_builders_are_built_again_with_their_arguments(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (30, 6))
    dataset = data.from_arrays(bits[:20], bits[20:], name="bits", image_shape=(2, 3))
    model = models.bernoulli_vae(
        6, 2, hidden_sizes=(4, 4), mean_image=bits.mean(axis=0), posterior="planar", num_layers=2
    )
    run = train.fit(
        methods.dreg(model, 2), model, dataset, tmp_path / "run", epochs=2, batch_size=10
    )
    loaded = aiwae_jax.load(tmp_path / "run")
    chex.assert_trees_all_equal(loaded.params, run.params)
    np.testing.assert_array_equal(loaded.model.recipe.arguments["mean_image"], bits.mean(axis=0))
    x = bits[:3]  # integers, as the data set was made of
    np.testing.assert_array_equal(loaded.encode(x)[0], run.encode(x.astype(np.float32))[0])
    assert loaded.log_likelihood(x, SETTINGS).log_likelihood.shape == (3,)


@pytest.mark.slow
def test_a_run_of_the_papers_command_is_loaded_too(tmp_path):
    folder = tmp_path / "run"
    flags = [
        *("--dataset=digits", "--method=vae", "--epochs=0.14", "--batch_size=64"),
        *("--latent_dim=2", "--hidden_dim=4", "--eval=none"),
    ]
    assert command.main(["run", *flags, f"--workdir={folder}"]) == 0
    run = aiwae_jax.load(folder)
    assert run.is_finished
    assert run.model.recipe.arguments["latent_size"] == 2
    content = report.write(run, data.load("digits"), SETTINGS, **QUICK)
    assert content["pictures"][:2] == ["samples.png", "reconstructions.png"]


@pytest.mark.slow
def test_each_repeat_of_a_run_has_its_own_report(tmp_path):
    folder = tmp_path / "run"
    flags = [
        *("--dataset=digits", "--method=vae", "--epochs=0.14", "--batch_size=64", "--repeats=2"),
        *("--latent_dim=2", "--hidden_dim=4", "--eval=none"),
    ]
    assert command.main(["run", *flags, f"--workdir={folder}"]) == 0
    found = [
        report.write(aiwae_jax.load(folder, repeat=i), data.load("digits"), SETTINGS, **QUICK)
        for i in (0, 1)
    ]
    assert found[0]["nll_test"] != found[1]["nll_test"]
    assert [each["config"]["training"]["seed"] for each in found] == [0, 1]
    assert (folder / "repeat_1" / "report.html").exists()
    with pytest.raises(ValueError, match=r"`repeat` must lie in 0 \.\. 1, got 2"):
        aiwae_jax.load(folder, repeat=2)


def test_pilots_are_part_of_the_settings():
    settings = dataclasses.replace(SETTINGS, num_pilot_chains=7, num_pilot_data=5)
    assert report.Evaluation.of(settings).settings() == settings


@pytest.mark.slow
def test_a_run_that_a_signal_ends_is_continued_to_the_same_bits(tmp_path, finished):
    _, run = finished
    with interrupting.after_chunks(2):
        own_table.fit(tmp_path / "run")
    half = aiwae_jax.load(tmp_path / "run", own_table.factor_analysis())
    assert 0 < half.num_steps < 18
    assert not half.is_finished
    chex.assert_trees_all_equal(own_table.fit(tmp_path / "run").params, run.params)


@pytest.mark.by_hand  # the wheel's test kills a run, too
@pytest.mark.slow
def test_a_run_that_is_killed_is_continued_to_the_same_bits(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, str(ROOT / "tests" / "own_table.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, str(cut), "500"], env=environment)
    deadline = time.monotonic() + 120
    while not list(cut.glob("checkpoints/[0-9]*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    for folder in (cut, whole):
        subprocess.run([*command, str(folder), "500"], env=environment, check=True)
    _, arrays, _ = checkpoint.Checkpoints(cut / "checkpoints").read()
    _, expected, _ = checkpoint.Checkpoints(whole / "checkpoints").read()
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "aiwae"}, "`method` must be a tuple of phases"),
        ({"model": "vae", "method": methods.vae(own_table.factor_analysis())}, "`model` must be a"),
        ({"dataset": np.eye(3)}, "`dataset` must be a `data.Dataset`, got ndarray"),
        ({"epochs": 0}, "`epochs` must be positive"),
        ({"epochs": "two"}, "`epochs` must be a number, got str 'two'"),
        ({"batch_size": 1.5}, "`batch_size` must be an integer, got 1.5"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"batch_size": 61}, "`batch_size`=61 is larger than the 60 training rows of plane"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(changed, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        own_table.fit(tmp_path / "run", **changed)
    assert not (tmp_path / "run").exists()


def test_without_the_extra_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(extras._PACKAGES, "no_such_module", "no-such-package")
    message = r"needs no-such-package: install them with pip install 'aiwae_jax\[run\]'"
    for call in (
        lambda: own_table.fit(tmp_path / "run"),
        lambda: aiwae_jax.load(tmp_path / "run"),
        lambda: report.write(None, None),
    ):
        with pytest.raises(ImportError, match=message):
            call()


@pytest.mark.by_hand
@pytest.mark.slow
def test_the_command_fits_and_reports(tmp_path, capsys):
    path, folder = tmp_path / "bits.npz", str(tmp_path / "run")
    chance = np.random.default_rng(0)
    np.savez(path, train=chance.integers(0, 17, (40, 4, 4)), test=chance.integers(0, 17, (8, 4, 4)))
    given = ["fit", str(path), f"--folder={folder}", "--hidden_dim=4", "--latent_dim=2"]
    given += ["--batch_size=20", "--K=2", "--T=3"]
    assert cli.main([*given, "--epochs=2", "--likelihood=categorical+num_classes=3"]) == 2
    assert "whole numbers from 0 on below 3, got" in capsys.readouterr().err
    assert cli.main([*given, "--epochs=2", "--max_level=8"]) == 2
    assert "is `max_level` 16?" in capsys.readouterr().err
    assert cli.main([*given, "--epochs=2"]) == 0
    printed = capsys.readouterr().out
    assert "values: grey levels from 0 to 16, of which 16 is white; bernoulli" in printed
    assert f"aiwae report {folder}" in printed
    assert cli.main([*given, "--epochs=3"]) == 2
    assert "--epochs: 2.0 there, 3.0 here" in capsys.readouterr().err
    small = ["--temperatures=5", "--chains=2", "--simulated=2", "--bound_samples=50"]
    assert cli.main(["report", folder, "--examples=4", *small]) == 0
    content = json.loads((tmp_path / "run" / "report.json").read_text())
    assert content["num_examples"] == 4
    assert "samples.png" in content["pictures"]
    path.rename(tmp_path / "elsewhere.npz")
    assert cli.main(["report", folder, *small]) == 2
    assert "--data must say where the data of the run, bits, are now" in capsys.readouterr().err
    assert cli.main(["report", folder, f"--data={tmp_path / 'elsewhere.npz'}", *small]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.npz"], "DATA must be one of digits, mnist,"),
        (["digits", "--method=vae", "--T=5"], "--T does not belong to --method=vae"),
        (["digits", "--K=0"], "--K must be at least 1"),
        (["digits", "--epochs=-1"], "--epochs must be positive"),
        (["digits", "--batch_size=100000"], "is larger than the 1438 training rows"),
    ],
)
def test_mistakes_of_the_command_are_one_line(arguments, message, tmp_path, capsys):
    assert cli.main(["fit", f"--folder={tmp_path / 'run'}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("train_rows", "test_rows", "options", "message"),
    [
        (np.zeros(3), np.zeros((2, 3)), {}, r"`train` must have shape \[rows, columns\], got \[3"),
        (np.eye(3), np.eye(4), {}, "`test` must have as many"),
        (
            np.eye(3),
            np.full((2, 3), np.nan),
            {},
            "`test`, row 0, column 0: the value is missing, .* 6",
        ),
        (np.eye(3), np.array([["a", "b", "c"]]), {}, "`test` must hold numbers, got <U1"),
        (np.eye(3), np.eye(3), {"max_level": 0.0}, "`max_level` must be a positive"),
        (np.eye(4), np.eye(4), {"image_shape": (3, 2)}, "`image_shape` must hold the 4"),
        (np.eye(4), np.eye(4), {"test_labels": [1, 2]}, r"`test_labels` must have shape \[4\]"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(train_rows, test_rows, options, message):
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(train_rows, test_rows, **options)


@pytest.mark.slow
def test_the_command_hands_on_every_setting(tmp_path):
    path, folder = tmp_path / "bits.npz", tmp_path / "run"
    rows = np.random.default_rng(0).integers(0, 2, (48, 6))
    np.savez(path, train=rows[:40], test=rows[40:])
    said = {
        **{"epochs": 6.0, "batch_size": 20, "seed": 3, "optimizer": "muon", "learning_rate": 0.01},
        **{"lr_schedule": "cosine", "warmup_share": 0.2, "clip_norm": 2.0, "ema": 0.9},
        **{"loss_reduction": "sum", "adam_eps": 1e-5, "num_stages": 3, "kl_warmup_share": 0.1},
        **{"validation_share": 0.2, "validation_particles": 3, "validation_every": 2},
        **{"patience": 2, "patience_by": "bound"},
    }
    names = flags.names_of(train.Settings)
    given = [f"--{names[name]}={value}" for name, value in said.items()]
    sizes = ["--hidden_dim=4", "--latent_dim=2", "--method=vae"]
    assert cli.main(["fit", str(path), f"--folder={folder}", *sizes, *given]) == 0
    stored = json.loads((folder / "config.json").read_text())["training"]
    assert {name: stored[name] for name in said} == said
    assert set(names) == {*said, "num_repeats", "validation_nll_every"}  # which takes longer


def test_settings_of_optimizers_have_no_effect_beside_ones_own(tmp_path):
    for name, value in {"ema": 0.9, "optimizer": "muon", "clip_norm": 1.0}.items():
        with pytest.raises(ValueError, match=f"`{name}` has no effect beside `optimizers`"):
            own_table.fit(tmp_path / "run", optimizers=train.adam(1e-3), **{name: value})


@pytest.mark.by_hand
@pytest.mark.slow
def test_the_average_of_the_weights_is_resumed_and_is_what_is_loaded(tmp_path, monkeypatch):
    said = {"optimizer": "muon", "lr_schedule": "wsd", "clip_norm": 1.0, "ema": 0.9}
    whole = own_table.fit(tmp_path / "whole", **said)
    original = train.trainer.Trainer._advance

    def stopping(self, num_steps):
        seconds = original(self, num_steps)
        if self.step >= 7:
            monkeypatch.setattr(train.trainer.Trainer, "_advance", original)
            raise KeyboardInterrupt
        return seconds

    monkeypatch.setattr(train.trainer.Trainer, "_advance", stopping)
    with pytest.raises(KeyboardInterrupt):
        own_table.fit(tmp_path / "cut", checkpoint_minutes=1e-6, **said)
    cut = own_table.fit(tmp_path / "cut", **said)
    chex.assert_trees_all_equal(whole.params, cut.params)
    chex.assert_trees_all_equal(
        whole.params._replace(psi=()),
        train.load(tmp_path / "cut", own_table.factor_analysis()).params,
    )
    plain = own_table.fit(tmp_path / "plain", **(said | {"ema": 0.0}))
    assert not np.allclose(plain.params.theta["loadings"], whole.params.theta["loadings"])


def test_more_mistakes_in_python_are_one_sentence(tmp_path):
    model = own_table.factor_analysis()
    with pytest.raises(TypeError, match="`model` must be a `types\\.Model`, the first argument of"):
        methods.aiwae(5, 8)
    with pytest.raises(TypeError, match="`epoch` is no argument of `fit`; settings are epochs, "):
        own_table.fit(tmp_path / "run", epoch=1)
    with pytest.raises(ValueError, match="or a list of at least one"):
        own_table.fit(tmp_path / "run", method=[], model=model)
    with pytest.raises(TypeError, match=r"`method\[0\].share` must be a number"):
        own_table.fit(tmp_path / "run", method=[train.Leg(methods.vae(model), "a")], model=model)
    for part in ("train", "test"):
        rows = {"train": np.eye(3), "test": np.eye(3)} | {part: np.zeros((0, 3))}
        with pytest.raises(data.DataError, match=f"`{part}` must hold at least one row"):
            data.from_arrays(**rows)
