"""The certificate of a report: its looks, its key, and that nothing of it can be changed unseen."""

import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import own_table
import pytest
from test_certificate import PLAN, likelihood

from aiwae_jax import data, evaluate, likelihoods, methods, models, report, train
from aiwae_jax.cli import main as cli
from aiwae_jax.evaluate.certificate import bound_of
from aiwae_jax.report import certificate, measure, text, verification
from aiwae_jax.runs import files

SETTINGS = evaluate.Settings(num_temperatures=8, num_chains=4, num_pilot_data=4)
QUICK = {"num_examples": 6, "num_simulated": 0, "num_bound_samples": 50}
ROWS = np.zeros((2, 5), np.float32)
ESTIMATES = np.array([-3.0, -5.0])


def evidence(plan=PLAN, *, rows=ROWS, is_only_look=False, estimates=ESTIMATES, seed=0):
    params = own_table.factor_analysis().init(jax.random.key(seed))
    subject = certificate.Subject.of(params, rows, {"num_chains": 4}, plan)
    found = likelihood(estimates)
    return certificate.Evidence(subject, {"num_chains": 4}, found, 2, is_only_look)


def other_plan(number):
    return PLAN._replace(step_sizes=np.full(2, 0.1 + number))


# ------------------------------------------------------------------------------------- its looks


def test_every_plan_is_a_look_and_the_same_question_is_the_same_one(tmp_path):
    for number in (1, 2, 3):
        stated = certificate.state(tmp_path, evidence(other_plan(number)), None)
        assert (stated.look, stated.found.delta) == (number, 0.05)
        assert stated.found.spent == pytest.approx(0.05 / (number * (number + 1)))
    again = certificate.state(tmp_path, evidence(other_plan(2)), None)
    assert again.look == 2
    assert again.found.spent == pytest.approx(0.05 / 6)
    assert certificate.state(tmp_path, evidence(rows=ROWS + 1), None).look == 4  # by another seed
    assert certificate.state(tmp_path, evidence(seed=1), None).look == 1  # trained on
    assert len(json.loads((tmp_path / "looks.json").read_text())) == 5


def test_settings_found_on_simulated_data_spend_it_whole_and_later_looks_say_so(tmp_path):
    first = certificate.state(tmp_path, evidence(is_only_look=True), None)
    assert first.found.slack == pytest.approx(math.log(20) / 2)
    again = certificate.state(tmp_path, evidence(is_only_look=True), None)
    assert again.entries() == first.entries()
    later = certificate.state(tmp_path, evidence(other_plan(1), is_only_look=True), None)
    assert later.found.delta == pytest.approx(0.075)  # all that the looks together can miss
    assert later.found.spent == pytest.approx(0.05 / 6)
    total = first.found.spent + sum(0.05 / (k * (k + 1)) for k in range(2, 100_000))
    assert total == pytest.approx(later.found.delta, rel=1e-4)
    # Where somebody has looked before, it is too late.
    certificate.state(tmp_path, evidence(seed=1), None)
    late = certificate.state(tmp_path, evidence(other_plan(1), seed=1, is_only_look=True), None)
    assert late.found.spent == pytest.approx(0.05 / 6)
    assert late.found.delta == 0.05


def test_a_damaged_ledger_is_no_new_beginning(tmp_path):
    (tmp_path / "looks.json").write_text('[{"parameters": 3}]')
    with pytest.raises(files.WorkdirError, match="it counts the looks at this run's data: restore"):
        certificate.state(tmp_path, evidence(), None)


def test_the_key_follows_from_all_that_the_chains_do_and_from_nothing_else():
    params = own_table.factor_analysis().init(jax.random.key(0))
    other = own_table.factor_analysis().init(jax.random.key(1))
    settings = {"num_chains": 4}
    questions = [
        (params, ROWS, settings, PLAN),
        (other, ROWS, settings, PLAN),
        (params, ROWS + 1, settings, PLAN),
        (params, ROWS, {"num_chains": 5}, PLAN),
        (params, ROWS, settings, other_plan(1)),
    ]
    keys = [jax.random.key_data(certificate.Subject.of(*each).key()) for each in questions]
    assert len({tuple(np.asarray(key)) for key in keys}) == len(questions)
    again = certificate.Subject.of(jax.device_get(params), ROWS.copy(), dict(settings), PLAN)
    np.testing.assert_array_equal(jax.random.key_data(again.key()), keys[0])


def test_a_plan_comes_back_from_its_arrays():
    found = certificate.plan_of(certificate.arrays_of(PLAN) | {"nll_test": ESTIMATES})
    jax.tree.map(np.testing.assert_array_equal, found, PLAN)


def test_a_report_says_its_bound_in_words_and_rounds_it_up(tmp_path):
    values = {"num_examples": 500} | certificate.state(tmp_path, evidence(), None).entries()
    assert values["nll_at_most"] == pytest.approx(4.0 + math.log(40) / 2)
    assert text.bound_sentence(values | {"nll_at_most": 84.5501}, "images") == (
        "NLL at most 84.551 with probability 95% (over the sampler's randomness; of these 500 "
        "images)"
    )
    failed = {"passed": False, "faults": ["log_prob is off"]}
    stated = certificate.state(tmp_path, evidence(), failed)
    assert stated.entries()["nll_at_most"] is None
    sentence = text.bound_sentence(stated.entries(), "images")
    assert sentence == "no bound of the NLL: the check of the start failed: log_prob is off"
    empty = certificate.state(tmp_path, evidence(estimates=np.array([-1.0, -np.inf])), None)
    assert empty.entries()["nll_at_most"] is None
    assert "the bound is infinite" in empty.entries()["nll_at_most_reason"]
    assert text.bound_sentence({"num_examples": 3}, "images") is None  # of an earlier version


# ------------------------------------------------------------------------------------ what binds


@pytest.fixture
def sealed(tmp_path):
    """A certificate as `write` makes it."""
    content = {"data": {"title": "t", "sha256": "0"}, "repeat": {"number": 0}}
    arrays = {"nll_test": -ESTIMATES, "standard_error_test": np.ones(2)}
    stated = certificate.state(tmp_path, evidence(), None)
    rows = {"num_examples": 2, "seed": 0, "validation_share": 0.0}
    certificate.write(tmp_path, stated, evidence(), arrays, content, **rows)
    return tmp_path / "certificate.json"


def test_every_flipped_byte_is_refused(sealed):
    content = sealed.read_bytes()
    assert verification.read(sealed)["num_data"] == 2
    for place in range(0, len(content), 7):
        sealed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(files.RefusedError):
            verification.read(sealed)
    sealed.write_bytes(content[:-1])
    with pytest.raises(files.RefusedError):
        verification.read(sealed)


def test_a_report_without_a_bound_leaves_no_certificate(sealed):
    stated = certificate.state(sealed.parent, evidence(), {"passed": False, "faults": []})
    certificate.write(sealed.parent, stated, evidence(), {}, {})
    assert not sealed.exists()
    with pytest.raises(files.WorkdirError, match=r"is not there; a report writes certificate.json"):
        verification.read(sealed)


# ---------------------------------------------------------------------------------- from the disk


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of a run that the command can load, with its report."""
    folder = tmp_path_factory.mktemp("verify")
    table = own_table.table()
    np.savez(folder / "rows.npz", train=table.train, test=table.test)
    dataset = data.from_file(folder / "rows.npz")
    normal = likelihoods.normal()
    model = models.mlp_vae(own_table.NUM_COLUMNS, 2, hidden_sizes=(4,), likelihood=normal)
    run = train.fit(methods.vae(model), model, dataset, folder / "run", epochs=1, batch_size=20)
    # A chunk has rows of both parts. Later reports have the same chunks: products of matrices of
    # other shapes are summed up in another order, and round otherwise.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "_chunk_size", lambda *_: 4)
        report.write(run, dataset, SETTINGS, **QUICK)
        yield folder / "run", dataset


@pytest.fixture
def copied(reported, tmp_path):
    """The same, to be damaged."""
    return shutil.copytree(reported[0], tmp_path / "run"), reported[1]


def verify(folder, capsys, *arguments):
    """(exit code, what it prints)."""
    code = cli.main(["verify", str(folder / "certificate.json"), *arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.slow
def test_the_command_recomputes_the_same_bits_and_says_what_it_trusts(reported, capsys):
    folder, _ = reported
    stated = json.loads((folder / "report.json").read_text())
    written = json.loads((folder / "certificate.json").read_text())
    assert stated["nll_at_most"] == written["nll_at_most"] > stated["nll_test"]
    assert stated["nll_at_most"] == pytest.approx(stated["nll_test"] + math.log(40) / 6)
    assert f"NLL at most {text.up(stated['nll_at_most'])}" in (folder / "report.html").read_text()
    code, said = verify(folder, capsys, "--share=1")
    assert code == 0
    assert "2 of 2 chunks, chosen at random, were recomputed: the same bits" in said
    assert "Taken on trust: how the plan was tuned" in said
    code, said = verify(folder, capsys)
    assert code == 0
    assert "1 of 2 chunks" in said
    assert "Taken on trust: the other 1, how the plan was tuned" in said
    assert verify(folder, capsys, "--share=0")[0] == 2


@pytest.mark.slow
def test_whatever_was_changed_is_refused(copied, capsys):
    folder, dataset = copied
    path = folder / "certificate.json"
    original, arrays = path.read_bytes(), files.read_arrays(folder / "evaluation.npz")
    run = train.load(folder)

    def refused(reason):
        code, said = verify(folder, capsys)
        assert code == 1
        assert reason in said

    # The file, what lies beside it, the run, and the data.
    path.write_bytes(original.replace(b'"num_data": 6', b'"num_data": 7'))
    refused("was changed after it was written")
    path.write_bytes(original)
    for name, what in (("nll_test", "estimates"), ("plan_step_sizes", "plan")):
        files.write_arrays(folder / "evaluation.npz", arrays | {name: arrays[name] * 1.0001})
        refused(f"is of other {what} than are here")
    (folder / "evaluation.npz").write_bytes(b"PK")
    refused("cannot be read")
    files.write_arrays(folder / "evaluation.npz", arrays)
    nudged = jax.tree.map(lambda a: a + 1e-6, run.params)
    with pytest.raises(files.RefusedError, match="is of other parameters than are here"):
        report.verify(path, dataclasses.replace(run, params=nudged), dataset)
    with pytest.raises(files.RefusedError, match="is of other data"):
        report.verify(path, run, own_table.table(seed=5))


@pytest.mark.slow
def test_a_forged_estimate_is_found_by_the_chains_and_on_another_machine_by_its_error(copied):
    folder, dataset = copied
    run, path = train.load(folder), folder / "certificate.json"
    arrays = files.read_arrays(folder / "evaluation.npz")
    content = json.loads(path.read_text())

    def forge(shift, **machine):
        """All hashes are put right, as the owner of the run can."""
        nll = arrays["nll_test"] + shift
        changed = arrays | {"nll_test": nll}
        files.write_arrays(folder / "evaluation.npz", changed)
        hashes = content["hashes"] | {"estimates": certificate.hash_of_estimates(changed)}
        bound = bound_of(nll, content["spent"])[0]
        forged = content | {"nll_at_most": bound, "hashes": hashes}
        forged["machine"] = content["machine"] | machine
        del forged["sha256"]
        files.write_json(path, certificate.sealed(forged))

    forge(-1e-9)
    with pytest.raises(files.RefusedError, match="4 of 4 data that were made again are other bits"):
        report.verify(path, run, dataset, share=1.0)
    forge(-1e-9, processor="another")
    assert "within 4 standard errors" in report.verify(path, run, dataset, share=1.0).words()
    forge(-2.0, processor="another")
    with pytest.raises(files.RefusedError, match="differ by more than their errors allow"):
        report.verify(path, run, dataset, share=1.0)
    forge(0.0, is_x64=True)
    with pytest.raises(files.RefusedError, match="made with JAX_ENABLE_X64=1; set it"):
        report.verify(path, run, dataset)


@pytest.mark.slow
@pytest.mark.by_hand
def test_another_plan_is_another_look_and_the_earlier_certificate_is_kept(copied, capsys):
    folder, dataset = copied
    run = train.load(folder)
    first = json.loads((folder / "certificate.json").read_text())
    more = {"num_temperatures": 12, "num_chains": 4, "num_pilot_data": 4}
    content = report.write(run, dataset, evaluate.Settings(**more), **QUICK)
    assert content["nll_at_most_look"] == 2
    back = report.write(run, dataset, SETTINGS, **QUICK)
    assert (back["nll_at_most_look"], back["nll_at_most"]) == (1, first["nll_at_most"])
    for name in ("certificate-1.json", "certificate-2.json", "certificate.json"):
        assert cli.main(["verify", str(folder / name), "--share=1"]) == 0
    capsys.readouterr()
