"""Times training steps of many settings on one GPU: compiled side by side, timed one at a time.

    python results/gpu/time_steps.py jobs.json found.jsonl

`jobs.json` is a list of {"name": ..., "flags": [of experiments.run], "env": {...},
"epochs": epochs of the real training loop to time, 0 for none}. Every job is a process of its own;
none is timed before all are compiled.
"""

import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

ROUNDS = 5
SECONDS = 0.3


def worker(job):
    """Compiles, says so, waits for its turn, prints what it found as JSON."""
    began = time.time()
    import jax

    from aiwae_jax.cli import command, devices

    devices.configure()
    from aiwae_jax import data
    from aiwae_jax.train.trainer import Trainer
    from experiments import build, flags, report, workdir

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        training = job["flags"] + (
            [f"--epochs={job['epochs']}", "--stages=1"] if job.get("epochs") else []
        )
        config = flags.parse_run(["run", *training, "--eval=none", f"--workdir={folder}/run"])
        dataset = data.load(config.training.dataset, config.data_dir)
        run = build.build(config.training, dataset, config.layout)
        trainer = Trainer(config, run, stack.enter_context(workdir.claim(config, dataset)))
        state = run.init()
        jax.block_until_ready(state)
        compiling = time.time()
        state = jax.block_until_ready(run.run_steps(state, 1))
        compiling = time.time() - compiling
        text = run.lower(run.init()).compile().as_text() if job.get("hlo") else ""
        if job.get("hlo"):
            with open(job["hlo"], "w") as file:
                file.write(text)
        print("ready", flush=True)
        sys.stdin.readline()  # until it is this one's turn

        def call(num_steps):
            def run_it():
                nonlocal state
                state = state._replace(
                    train=state.train._replace(step=state.train.step * 0)
                )  # never over an epoch's end
                jax.block_until_ready(state)
                start = time.perf_counter()
                state = jax.block_until_ready(run.run_steps(state, num_steps))
                return time.perf_counter() - start

            return run_it

        few, many = 10, 100
        one = min(call(few)() for _ in range(3)) / few
        many = max(20, min(run.steps_per_epoch, int(SECONDS / one)))
        samples = sorted(call(many)() for _ in range(ROUNDS))
        shorts = sorted(call(few)() for _ in range(ROUNDS))
        per_step = (samples[ROUNDS // 2] - shorts[ROUNDS // 2]) / (many - few)
        found = {
            "name": job["name"],
            "flags": job["flags"],
            "env": job.get("env", {}),
            "seconds_per_step": per_step,
            "seconds_per_call_beside_steps": shorts[ROUNDS // 2] - few * per_step,
            "spread": (samples[-1] - samples[0]) / samples[ROUNDS // 2],
            "steps_per_epoch": run.steps_per_epoch,
            "images_per_second": config.training.batch_size
            * config.training.num_repeats
            / per_step,
            "compile_seconds": compiling,
            "ready_seconds": time.time() - began,
            "environment": report.environment(),
        }
        if job.get("epochs"):
            write, stamps = trainer._write_metrics, []

            def stamped(*args):
                write(*args)
                stamps.append(time.perf_counter())

            trainer._write_metrics = stamped
            with command.Interruption() as interruption:
                start = time.perf_counter()
                trainer.train(interruption)
                seconds = time.perf_counter() - start
            found["epoch_seconds_with_host"] = seconds / job["epochs"]
            between = sorted(b - a for a, b in itertools.pairwise(stamps))
            found["epoch_seconds_median"] = between[len(between) // 2] if between else None
            found["epoch_seconds_in_calls"] = trainer.wall_time["training_seconds"] / job["epochs"]
            start = time.perf_counter()
            trainer._checkpoints._manager.delete(trainer.step)
            trainer.save()
            found["save_seconds"] = time.perf_counter() - start
        trainer.close()
        if job.get("profile"):
            found |= _profile(call, job["profile"])
            found["busy_share"] = found["busy_seconds_per_step"] / per_step
        print("found " + json.dumps(found), flush=True)


def _profile(call, num_steps):
    """Kernels per step, and the time they are at work; the profiler itself switches graphs off."""
    import collections
    import glob

    import jax

    kernels = collections.defaultdict(lambda: [0, 0.0])
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            call(num_steps)()
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        for plane in jax.profiler.ProfileData.from_file(path).planes:
            for line in plane.lines:
                events = list(line.events)
                lines.append((plane.name, line.name, len(events)))
                if not plane.name.startswith("/device:GPU") or "Stream" not in line.name:
                    continue
                for event in events:
                    kernels[event.name][0] += 1
                    kernels[event.name][1] += event.duration_ns * 1e-9
    top = sorted(kernels.items(), key=lambda item: -item[1][1])
    return {
        "kernels_per_step": sum(n for n, _ in kernels.values()) / num_steps,
        "busy_seconds_per_step": sum(s for _, s in kernels.values()) / num_steps,
        "top_kernels": [(name, n / num_steps, 1e6 * s / num_steps) for name, (n, s) in top[:45]],
        "lines": [line for line in lines if line[2]][:20],
    }


def main(jobs_file, found_file):
    """Starts all jobs, waits until they are compiled, gives each its turn."""
    with open(jobs_file) as file:
        jobs = json.load(file)
    began, processes = time.time(), []
    wait = float(os.environ.get("TIME_STEPS_WAIT", "150"))
    gate = threading.Semaphore(int(os.environ.get("TIME_STEPS_AT_ONCE", "16")))

    def start(job, slot):
        with gate:
            slot["process"] = subprocess.Popen(
                [sys.executable, __file__, "--worker", json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=slot["log"],
                text=True,
                env=os.environ | job.get("env", {}),
            )
            for line in slot["process"].stdout:
                if line.startswith("ready"):
                    slot["ready"] = True
                    return

    for job in jobs:
        slot = {"job": job, "ready": False}
        slot["log"] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open to the end
        slot["thread"] = threading.Thread(target=start, args=(job, slot), daemon=True)
        slot["thread"].start()
        processes.append(slot)
    for slot in processes:
        slot["thread"].join(max(0.1, began + wait - time.time()))
    if report_to := os.environ.get("TIME_STEPS_READY"):
        pathlib.Path(report_to).touch()
    hold = os.environ.get("TIME_STEPS_HOLD")  # a file that says that nothing else is running
    while hold and not os.path.exists(hold) and time.time() - began < wait:
        time.sleep(0.5)
    print(f"all compiled after {time.time() - began:.0f} s", flush=True)
    with open(found_file, "a") as file:
        for slot in processes:
            found = None
            process = slot.get("process")
            if slot["ready"]:
                process.stdin.write("go\n")
                process.stdin.flush()
                for line in process.stdout:
                    if line.startswith("found "):
                        found = json.loads(line[6:])
            if found is None:
                if process is not None:
                    process.kill()
                slot["log"].seek(0)
                found = {"name": slot["job"]["name"], "error": slot["log"].read()[-3000:]}
            file.write(json.dumps(found) + "\n")
            file.flush()
            if "error" in found:
                print(found["name"], "FAILED", found["error"][-600:], flush=True)
                continue
            print(
                f"{found['name']:34} {1e3 * found['seconds_per_step']:8.3f} ms/step "
                f"{found['images_per_second']:10,.0f} img/s"
                + (
                    f"  epoch {found['epoch_seconds_median'] or 0:.3f} s, with the first ones"
                    f" {found['epoch_seconds_with_host']:.3f} s"
                    f" ({found['epoch_seconds_in_calls']:.3f} in calls, save "
                    f"{found['save_seconds']:.2f})"
                    if "epoch_seconds_with_host" in found
                    else ""
                )
                + (
                    f"  {found['kernels_per_step']:.0f} kernels, busy "
                    f"{1e3 * found['busy_seconds_per_step']:.3f} ms"
                    if "kernels_per_step" in found
                    else ""
                )
                + f"  [call +{1e3 * found['seconds_per_call_beside_steps']:.1f} ms, compile"
                f" {found['compile_seconds']:.0f} s]",
                flush=True,
            )
    print(f"all timed after {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        sys.path.insert(0, os.getcwd())
        worker(json.loads(sys.argv[2]))
    else:
        main(*sys.argv[1:])
