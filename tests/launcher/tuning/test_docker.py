"""A tuning job whose training jobs are containers."""

import pytest
from launcher.tuner import HyperparameterTuner, IntegerParameter

import launcher


@pytest.mark.docker
def test_training_jobs_run_as_containers(make_source):
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source("import os\nprint('score=' + os.environ['SM_HP_RATE'])"),
        metric_definitions=[{"Name": "score", "Regex": "score=([0-9]+)"}],
        runtime="docker",
    )
    ranges = {"rate": IntegerParameter(1, 9)}
    tuner = HyperparameterTuner(
        estimator, "score", ranges, strategy="Random", max_jobs=2, max_parallel_jobs=2, random_seed=3
    )
    tuner.fit()
    table = tuner.analytics().dataframe()
    assert list(table["TrainingJobStatus"]) == ["Completed", "Completed"]
    assert list(table["FinalObjectiveValue"]) == list(table["rate"])
