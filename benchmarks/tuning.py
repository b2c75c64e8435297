"""Tuning jobs: what a training job of one costs, and how many epochs Hyperband and Bayesian need for Random's best.

python benchmarks/tuning.py overhead            100 training jobs of a tiny script, as processes
python benchmarks/tuning.py epochs --seeds 20   strategies on a made-up learning curve, by simulated epochs
python benchmarks/tuning.py cartpole LOG        strategies on training from a log of CartPole, as processes; with
                                                --warm from a warm pool
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from launcher.jobs.tuning_spec import Objective, ParameterRange, Trial, TuningDefinition, TuningJobSpec
from launcher.tuning.sampling import choose_values
from launcher.tuning.stopping import reason_to_stop

_EPOCHS = 27
_STRATEGIES = ("Random", "Hyperband")
_KEEP_ALIVE_SECONDS = 600
_RANGES = (
    ParameterRange("rate", "Continuous", "Logarithmic", "Auto", 1e-5, 1e-1),
    ParameterRange("layers", "Integer", "Linear", "Auto", 1, 5),
    ParameterRange("kind", "Categorical", values=("a", "b", "c")),
)


def learning_curve(values: dict[str, float | str], epoch: int, noise: random.Random) -> float:
    """Return a made-up score: better values reach a higher plateau, and a higher rate reaches it earlier."""
    decades = math.log10(float(values["rate"])) + 3
    plateau = 1 - 0.15 * decades**2 - 0.03 * abs(float(values["layers"]) - 3) - 0.05 * (values["kind"] != "b")
    pace = 1 - math.exp(-epoch / (5 - min(2.0, max(-2.0, decades))))
    return plateau * pace + noise.gauss(0, 0.01)


def simulate(spec: TuningJobSpec) -> tuple[list[float], int]:
    """Run a tuning job without any process; return its final objectives and how many epochs it took in all."""
    trials: list[Trial] = []
    histories: dict[int, list[float]] = {}
    epochs = 0
    while len(trials) < spec.max_jobs or any(not trial.ended for trial in trials):
        running = [trial for trial in trials if not trial.ended]
        while len(running) < spec.max_parallel_jobs and len(trials) < spec.max_jobs:
            place, values = choose_values(spec, trials)
            trial = Trial(len(trials) + 1, f"job-{len(trials) + 1}", place, values)
            trials.append(trial)
            running.append(trial)
            histories[trial.number] = []
        for trial in running:
            history = histories[trial.number]
            noise = random.Random(f"{spec.seed}:{trial.number}:{len(history)}")
            history.append(learning_curve(trial.values, len(history) + 1, noise))
            epochs += 1
            stopped = reason_to_stop(spec, trial, trials, histories)
            if stopped or len(history) == _EPOCHS:
                trial.status, trial.objective = ("Stopped" if stopped else "Completed"), history[-1]
    return [trial.objective or 0.0 for trial in trials], epochs


def compare_epochs(seeds: int, jobs: int) -> None:
    """Print every run: the best objective and the epochs of each strategy with the same number of training jobs."""
    print(f"{jobs} training jobs, 4 at once, {_EPOCHS} epochs each unless stopped; best objective (epochs)")
    rows: dict[str, list[tuple[float, int]]] = {}
    for seed in range(seeds):
        cells = []
        for name, strategy, stops in (
            ("Random", "Random", False),
            ("Random, median rule", "Random", True),
            ("Hyperband", "Hyperband", False),
            ("Bayesian", "Bayesian", False),
        ):
            definition = TuningDefinition("", Objective("score", "Maximize"), _RANGES, {})
            spec = TuningJobSpec(
                *("tune", strategy, (definition,), jobs, 4, "process"),
                seed=seed,
                early_stopping=stops,
                max_resource=_EPOCHS if strategy == "Hyperband" else 0,
            )
            objectives, epochs = simulate(spec)
            rows.setdefault(name, []).append((max(objectives), epochs))
            cells.append(f"{name} {max(objectives):.4f} ({epochs})")
        print(f"seed {seed}: {'; '.join(cells)}")
    random_epochs = statistics.mean(epochs for _, epochs in rows["Random"])
    for name, runs in rows.items():
        difference = [best - reference for (best, _), (reference, _) in zip(runs, rows["Random"], strict=True)]
        print(
            f"{name}: mean best {statistics.mean(best for best, _ in runs):.4f}, "
            f"{statistics.mean(epochs for _, epochs in runs) / random_epochs:.0%} of Random's epochs, "
            f"best less Random's best {statistics.mean(difference):+.4f} "
            f"({min(difference):+.4f} to {max(difference):+.4f})"
        )


def measure_overhead(jobs: int, parallel: Sequence[int]) -> None:
    """Time tuning jobs of a script that prints a value and ends, and plain jobs of it, one after the other."""
    from launcher.tuner import ContinuousParameter, HyperparameterTuner

    from launcher import Estimator

    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAUNCHER_HOME"] = f"{folder}/home"
        script = Path(folder, "train.py")
        script.write_text("import os\nprint(f\"score={os.environ['SM_HP_RATE']}\")\n", encoding="utf-8")
        estimator = Estimator(
            entry_point=str(script),
            runtime="process",
            hyperparameters={"rate": 0.5},
            metric_definitions=[{"Name": "score", "Regex": "score=([-0-9.e]+)"}],
        )

        def plain() -> None:
            for _ in range(jobs // 5):
                estimator.submit().wait(logs="None")

        _report("plain jobs", jobs // 5, plain)
        for strategy in ("Random", "Bayesian"):
            for count in parallel:
                tuner = HyperparameterTuner(
                    *(estimator, "score", {"rate": ContinuousParameter(0, 1)}),
                    strategy=strategy,
                    max_jobs=jobs,
                    max_parallel_jobs=count,
                    random_seed=0,
                )
                job = tuner.submit()
                _report(f"{strategy}, {count} at once", jobs, partial(job.wait, logs=False))


def _report(title: str, jobs: int, run: Callable[[], object]) -> None:
    """Print how long jobs took, and how much processor time this process, which drives them, used itself."""
    start, own = time.monotonic(), time.process_time()
    run()
    seconds, own = time.monotonic() - start, time.process_time() - own
    print(
        f"{title}: {jobs} jobs in {seconds:.1f} s, {1000 * seconds / jobs:.0f} ms each, "
        f"of them {1000 * own / jobs:.0f} ms of the driver's processor time"
    )


def tune_cartpole(
    log: Path, jobs: int, parallel: int, seeds: int, epochs: int, *, strategies: Sequence[str], warm: bool
) -> None:
    """Tune learning from a log by its own estimate of each policy; print every run."""
    from launcher.tuner import (
        ContinuousParameter,
        HyperbandStrategyConfig,
        HyperparameterTuner,
        IntegerParameter,
        StrategyConfig,
    )

    from launcher.sdk.bundled import bundled_estimator, bundled_inputs

    for seed in range(seeds):
        for strategy in strategies:
            values = {"training.epochs": epochs, "seed": seed, "training.save_model": False, "agent.members": 1}
            estimator = bundled_estimator(
                "preset-cartpole-dqn-offline", "train.py", values, runtime="process",
                keep_alive_period_in_seconds=_KEEP_ALIVE_SECONDS if warm else None,
            )  # fmt: skip
            tuner = HyperparameterTuner(
                *(estimator, "sequential-doubly-robust"),
                {
                    "agent.learning_rate": ContinuousParameter(1e-5, 1e-1, "Logarithmic"),
                    "agent.batch_size": IntegerParameter(32, 256, "Logarithmic"),
                },
                strategy=strategy,
                max_jobs=jobs,
                max_parallel_jobs=parallel,
                random_seed=seed,
                strategy_config=StrategyConfig(HyperbandStrategyConfig(epochs, 1)) if strategy == "Hyperband" else None,
            )
            job = tuner.submit(bundled_inputs("train.py", str(log)))
            start = time.monotonic()
            job.wait(logs=False)
            best = job.describe()["BestTrainingJob"]
            used = sum(trial["epochs"] for trial in json.loads((job.path / "job.json").read_text())["trials"])
            value = best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
            print(
                f"seed {seed}, {strategy}: {jobs} jobs in {time.monotonic() - start:.1f} s, {used} epochs, "
                f"best {value:.2f} by {best['TunedHyperParameters']}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("overhead", "epochs", "cartpole"))
    parser.add_argument("log", nargs="?", type=Path)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--parallel", type=int, action="append")
    parser.add_argument("--epochs", type=int, default=_EPOCHS)
    parser.add_argument("--strategy", action="append", choices=_STRATEGIES, help="of the trainings (both)")
    parser.add_argument("--warm", action="store_true", help="let the training jobs start from a warm pool")
    options = parser.parse_args()
    if options.part == "overhead":
        measure_overhead(options.jobs, options.parallel or (1, 2, 4))
    elif options.part == "epochs":
        compare_epochs(options.seeds, options.jobs)
    elif options.log is None:
        parser.error("cartpole needs a log, such as cartpole_dataset.csv")
    else:
        parallel = (options.parallel or [2])[0]
        tune_cartpole(
            options.log.resolve(), options.jobs, parallel, options.seeds, options.epochs,
            strategies=options.strategy or _STRATEGIES, warm=options.warm,
        )  # fmt: skip


if __name__ == "__main__":
    main()
