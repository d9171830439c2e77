"""`aiwae score`, `encode` and `sample`: tables of what the library gives for the same rows."""

import csv
import io

import jax
import numpy as np
import pytest

import aiwae_jax
from aiwae_jax import data, evaluate, likelihoods, methods, models, train
from aiwae_jax.cli import likelihood, sources
from aiwae_jax.cli import main as cli
from aiwae_jax.runs.interruption import Interrupted

NAMES = ("age", "income", "colour")
COLOURS = ("blue", "red")
QUICK = ["--temperatures=6", "--chains=4", "--pilot_data=4"]
SETTINGS = evaluate.Settings(num_temperatures=6, num_chains=4, num_pilot_data=4)


def write_csv(path, rows, names=("income", "colour", "who", "age")):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([row[name] for name in names] for row in rows)
    return path


def people(num, seed):
    chance = np.random.default_rng(seed)
    age = chance.normal(size=num).round(3)
    return [
        {
            "age": a,
            "income": round(a + chance.normal(), 3),
            "colour": COLOURS[chance.integers(2)],
            "who": int(chance.integers(5)),
        }
        for a in age
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on a table of numbers and words, with labels."""
    folder = tmp_path_factory.mktemp("score")
    path = write_csv(folder / "train.csv", people(60, 0), (*NAMES, "who"))
    dataset = data.from_file(path, label="who")
    of_columns = likelihoods.columns(
        {"age,income": likelihoods.normal("per_column"), "colour": likelihoods.categorical(2)},
        dataset.columns,
    )
    model = models.mlp_vae(
        3, 2, likelihood=of_columns, hidden_sizes=(4,), mean=dataset.mean_image(), columns=NAMES
    )
    return train.fit(methods.vae(model), model, dataset, folder / "run", epochs=2, batch_size=16)


@pytest.fixture
def new(run, tmp_path):
    """(path, rows in the run's columns and codes, labels) of new people."""
    rows = people(5, 1)
    coded = [[r["age"], r["income"], COLOURS.index(r["colour"])] for r in rows]
    path = write_csv(tmp_path / "new.csv", rows)
    return path, np.array(coded, np.float32), [r["who"] for r in rows]


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


@pytest.mark.slow
def test_scores_are_those_of_the_library_in_the_order_of_the_file(run, new, tmp_path, capsys):
    path, rows, labels = new
    found = run.log_likelihood(rows, SETTINGS)
    arguments = ["score", f"--workdir={run.folder}", f"--data={path}", *QUICK]
    assert cli.main(arguments) == 0
    printed = read(capsys.readouterr().out)
    np.testing.assert_allclose(column(printed, "log_likelihood"), found.log_likelihood, rtol=1e-5)
    np.testing.assert_allclose(column(printed, "standard_error"), found.standard_errors, rtol=1e-3)
    assert [row["index"] for row in printed] == list("01234")
    assert column(printed, "label").tolist() == labels
    assert [row["is_reliable"] for row in printed] == [str(b) for b in found.is_reliable.tolist()]

    out = tmp_path / "scores.csv"
    assert cli.main([*arguments, f"--out={out}"]) == 0
    assert "nats over 5 rows" in capsys.readouterr().out
    kept = read(out.read_text())
    np.testing.assert_allclose(column(kept, "log_likelihood"), found.log_likelihood, rtol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.csv", "scores.csv"]  # no pieces


@pytest.mark.slow
def test_a_written_table_of_scores_has_the_words_of_labels(run, tmp_path):
    words = ["new", "", "old", "new", "true"]
    rows = [row | {"who": word} for row, word in zip(people(5, 1), words, strict=True)]
    path, out = write_csv(tmp_path / "new.csv", rows), tmp_path / "scores.csv"
    arguments = ["score", f"--workdir={run.folder}", f"--data={path}", f"--out={out}", *QUICK]
    assert cli.main(arguments) == 0
    assert [row["label"] for row in read(out.read_text())] == words


@pytest.mark.slow
@pytest.mark.by_hand
def test_scores_go_to_parquet_and_folder_is_another_name(run, new, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path, rows, _ = new
    out = tmp_path / "scores.parquet"
    arguments = ["score", f"--folder={run.folder}", f"--data={path}", f"--out={out}", *QUICK]
    assert cli.main([*arguments, "--start=prior", "--seed=3"]) == 0
    found = run.log_likelihood(rows, SETTINGS, key=jax.random.key(3), start="prior")
    table = parquet.read_table(out).to_pydict()
    np.testing.assert_allclose(table["log_likelihood"], found.log_likelihood, rtol=1e-5)


@pytest.mark.slow
def test_an_interrupted_score_keeps_what_it_has(run, new, tmp_path, monkeypatch, capsys):
    path, _, _ = new
    out = tmp_path / "scores.csv"
    arguments = ["score", f"--workdir={run.folder}", f"--data={path}", f"--out={out}", *QUICK]
    real = evaluate.log_likelihood

    def interrupted(*args, **options):
        real(*args, **options)
        raise Interrupted("stopped", 2)

    monkeypatch.setattr(evaluate, "log_likelihood", interrupted)
    assert cli.main(arguments) == 130
    monkeypatch.setattr(evaluate, "log_likelihood", real)
    (pieces,) = tmp_path.glob(".scores.csv-*")
    assert any(pieces.glob("chunk-*"))
    from aiwae_jax.evaluate import population

    monkeypatch.setattr(population, "run", None)  # nothing is left to do
    assert cli.main(arguments) == 0
    assert len(read(out.read_text())) == 5


@pytest.mark.slow
def test_latents_are_those_of_the_library(run, new, capsys):
    path, rows, labels = new
    arguments = ["encode", f"--workdir={run.folder}", f"--data={path}"]
    assert cli.main(arguments) == 0
    printed = read(capsys.readouterr().out)
    mean, stddev = run.encode(rows)
    for i in range(2):
        np.testing.assert_allclose(column(printed, f"mean_{i}"), mean[:, i], rtol=1e-4)
        np.testing.assert_allclose(column(printed, f"stddev_{i}"), stddev[:, i], rtol=1e-4)
    assert cli.main([*arguments, "--samples=3", "--seed=1"]) == 0
    printed = read(capsys.readouterr().out)
    z = run.sample_latents(jax.random.key(1), rows, 3)
    np.testing.assert_allclose(column(printed, "z_1"), z[:, :, 1].ravel(), rtol=1e-4)
    assert column(printed, "index").tolist() == np.repeat(np.arange(5), 3).tolist()
    assert column(printed, "label").tolist() == np.repeat(labels, 3).tolist()
    assert column(printed, "sample").tolist() == [0, 1, 2] * 5


@pytest.mark.slow
def test_drawn_rows_have_the_names_and_the_words_of_the_data(run, capsys):
    assert cli.main(["sample", f"--workdir={run.folder}", "--num=7", "--seed=2", "--latents"]) == 0
    printed = read(capsys.readouterr().out)
    x, z = aiwae_jax.load(run.folder).sample(jax.random.key(2), 7)
    assert list(printed[0]) == [*NAMES, "z_0", "z_1"]
    np.testing.assert_allclose(column(printed, "age"), x[:, 0], rtol=1e-5)
    assert [row["colour"] for row in printed] == [COLOURS[int(code)] for code in x[:, 2]]
    np.testing.assert_allclose(column(printed, "z_1"), z[:, 1], rtol=1e-5)


@pytest.mark.slow
def test_counts_get_the_total_that_their_model_is_given(tmp_path, capsys):
    chance = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(4)]
    rows = [dict(zip(genes, (1 + chance.poisson(3.0, 4)).tolist(), strict=True)) for _ in range(30)]
    path, folder = write_csv(tmp_path / "counts.csv", rows, genes), tmp_path / "run"
    dataset = likelihood.with_library(data.from_file(path))
    model = models.mlp_vae(
        5,
        2,
        likelihood=likelihoods.poisson(library=True),
        hidden_sizes=(4,),
        initialization="torch",
    )
    train.fit(methods.vae(model), model, dataset, folder, epochs=1, batch_size=8)
    capsys.readouterr()
    assert cli.main(["encode", f"--workdir={folder}", f"--data={path}"]) == 0
    printed = read(capsys.readouterr().out)
    counts = np.array([[row[gene] for gene in genes] for row in rows])
    mean, _ = aiwae_jax.load(folder).encode(likelihoods.with_library(counts))
    np.testing.assert_allclose(column(printed, "mean_0"), mean[:, 0], rtol=1e-4)
    assert cli.main(["sample", f"--workdir={folder}"]) == 2
    assert "draws no rows by itself" in capsys.readouterr().err


def test_mistakes_are_one_line(run, new, tmp_path, capsys):
    path, _, _ = new
    wrong = write_csv(tmp_path / "wrong.csv", people(3, 2), ("age", "income"))
    green = write_csv(tmp_path / "green.csv", [{"age": 1, "income": 1, "colour": "green"}], NAMES)
    workdir = f"--workdir={run.folder}"
    for arguments, message in (
        (["score", f"--data={path}"], "--workdir is needed: the folder of a run"),
        (["score", workdir], "--data is needed: a file of new rows"),
        (["score", f"--workdir={tmp_path}", f"--data={path}"], "holds no run"),
        (["score", workdir, f"--data={tmp_path / 'none.csv'}"], "There is no file"),
        (["score", workdir, f"--data={wrong}"], "has no column 'colour'"),
        (["encode", workdir, f"--data={green}"], "'green', which is none of the categories"),
        (["score", workdir, f"--data={path}", "--out=a.txt"], "--out must end in .csv or .parq"),
        (["score", workdir, f"--data={path}", "--temperatures=1"], "--temperatures must be at l"),
        (["score", workdir, f"--data={path}", "--start=q"], "--start must be one of posterior, pr"),
        (["encode", workdir, f"--data={path}", "--samples=0"], "--samples must be at least 1, g"),
        (["sample", workdir, "--num=0"], "--num must be at least 1, got 0"),
        (["score", workdir, f"--folder={tmp_path}", f"--data={path}"], "is given twice, as"),
    ):
        assert cli.main(arguments) == 2, arguments
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""


def test_the_help_names_what_there_is(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"aiwae {name}" in out for name in ("score", "encode", "sample"))
    with pytest.raises(SystemExit):
        cli.main(["score", "--help"])
    out = capsys.readouterr().out
    assert all(flag in out for flag in ("--workdir", "--folder", "--data", "--out", "--start"))


@pytest.mark.filterwarnings("default")
def test_columns_taken_by_their_place_are_said(run, tmp_path, capsys):
    rows = np.array([[0.1, 0.2, 1.0], [0.3, 0.4, 0.0]], np.float32)
    np.save(tmp_path / "new.npy", rows)
    assert cli.main(["encode", f"--workdir={run.folder}", f"--data={tmp_path}/new.npy"]) == 0
    assert "new.npy has no names of columns" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["score", "encode", "report", "fit"])
def test_every_command_says_which_large_file_it_reads(run, command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sources, "_LARGE", 1)
    path = tmp_path / "broken.csv"
    path.write_text("age,income\n1,x\n2,3\n")
    arguments = {
        "fit": [str(path), f"--folder={tmp_path / 'run'}"],
        "report": [str(run.folder), f"--data={path}"],
    }
    using = [f"--workdir={run.folder}", f"--data={path}"]
    assert cli.main([command, *arguments.get(command, using)]) == 2
    captured = capsys.readouterr()
    assert f"reading {path} (0 MB)" in (captured.out if command == "fit" else captured.err)
