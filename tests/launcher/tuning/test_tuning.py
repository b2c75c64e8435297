"""A tuning job from its submission to its end: its training jobs, their results, and what it says of them."""

import itertools
import time

import botocore.session
import pytest
from botocore.validate import ParamValidator

from launcher.errors import BadInputError, JobExistsError, TuningJobNotFoundError
from launcher.jobs.tuning_record import TuningRecord
from launcher.requests.describe import describe_record
from launcher.requests.tuning import describe_tuning
from launcher.running.accepting import submit
from launcher.running.driving import drive
from launcher.tuning.service import describe, list_training_jobs
from launcher.tuning.submission import plan_tuning

ARN = "arn:aws:sagemaker:us-east-1:000000000000:hyper-parameter-tuning-job/tune-1"
SLOW = "import time\nprint('score=1', flush=True)\ntime.sleep(60)"
EPOCHS = """
import os, time
for epoch in range(1, 28):
    print(f"score={float(os.environ['SM_HP_RATE']) * epoch}", flush=True)
    time.sleep(0.1)
"""


def grid(*values):
    return {"CategoricalParameterRanges": [{"Name": "rate", "Values": [str(value) for value in values]}]}


def test_training_jobs_wait_for_one_another_where_the_machine_is_full(tuning, monkeypatch):
    """Three may run by the tuning job, and one on the machine: the tuning job itself takes no place."""
    monkeypatch.setenv("LAUNCHER_JOBS_AT_ONCE", "1")
    record = tuning.run(jobs=3, parallel=3)
    assert record.status == "Completed"
    jobs = sorted((tuning.jobs.load(trial.job) for trial in record.trials), key=lambda job: job.created)
    assert [job.status for job in jobs] == ["Completed"] * 3
    assert all(before.ended <= after.started for before, after in itertools.pairwise(jobs))


def test_each_training_job_is_a_real_one_with_values_within_the_ranges(tuning):
    record = tuning.run(jobs=3)
    assert record.status == "Completed"
    assert [trial.status for trial in record.trials] == ["Completed"] * 3
    for trial in record.trials:
        rate = trial.values["rate"]
        assert -10 <= rate <= 10
        assert trial.objective == pytest.approx(-((rate - 3) ** 2) + 1)
        child = describe_record(tuning.jobs.load(trial.job))
        assert child["TuningJobArn"] == ARN
        assert child["HyperParameters"]["rate"] == repr(rate)
        assert child["HyperParameters"]["_tuning_objective_metric"] == "score"
    assert len({trial.values["rate"] for trial in record.trials}) == 3
    assert [trial.job[:10] for trial in record.trials] == ["tune-1-001", "tune-1-002", "tune-1-003"]
    assert all(len(trial.job) == len("tune-1-001-abcdef12") for trial in record.trials)


def test_the_answer_to_describe_names_counters_and_the_best_job(tuning):
    """By hand: -(rate - 3)^2 + 1 is highest at 2.5 among 0, 2.5 and 9: 0.75."""
    tuning.run(strategy="Grid", jobs=None, parallel=2, ranges=grid(0, 2.5, 9))
    answer = describe(tuning.store, "tune-1")
    assert answer["HyperParameterTuningJobStatus"] == "Completed"
    assert answer["HyperParameterTuningJobArn"] == ARN
    assert answer["TrainingJobStatusCounters"] == {
        **{"Completed": 3, "InProgress": 0, "RetryableError": 0, "NonRetryableError": 0, "Stopped": 0}
    }
    assert answer["ObjectiveStatusCounters"] == {"Succeeded": 3, "Pending": 0, "Failed": 0}
    best = answer["BestTrainingJob"]
    assert best["TunedHyperParameters"] == {"rate": "2.5"}
    assert best["FinalHyperParameterTuningJobObjectiveMetric"] == {
        **{"Type": "Maximize", "MetricName": "score", "Value": 0.75}
    }
    assert "OverallBestTrainingJob" not in answer
    assert answer["HyperParameterTuningEndTime"] >= answer["CreationTime"]
    model = botocore.session.get_session().get_service_model("sagemaker")
    output = model.operation_model("DescribeHyperParameterTuningJob").output_shape
    assert ParamValidator().validate(answer, output).generate_report() == ""
    jobs = list_training_jobs(tuning.store, "tune-1")
    assert [job["TunedHyperParameters"]["rate"] for job in jobs] == ["0", "2.5", "9"]


def test_less_is_better_where_the_objective_is_minimized(tuning):
    tuning.run(strategy="Grid", jobs=None, objective="Minimize", ranges=grid(0, 2.5, 9))
    assert describe(tuning.store, "tune-1")["BestTrainingJob"]["TunedHyperParameters"] == {"rate": "9"}


def test_no_more_jobs_run_at_once_than_were_allowed(tuning):
    tuning.set_script("import time, os\nprint('score=1')\ntime.sleep(0.5)")
    tuning.run(jobs=6, parallel=3)
    spans = []
    for name in tuning.jobs.names():
        moves = describe_record(tuning.jobs.load(name))["SecondaryStatusTransitions"]
        spans.append((moves[0]["StartTime"], moves[-1]["EndTime"]))
    at_once = [sum(start <= moment < end for start, end in spans) for moment, _ in spans]
    assert max(at_once) == 3


def test_a_job_that_fails_is_no_result_and_does_not_end_the_tuning(tuning):
    tuning.set_script("import os\nprint('score=1')\nassert float(os.environ['SM_HP_RATE']) > 0, 'below 0'")
    record = tuning.run(strategy="Grid", jobs=None, ranges=grid(-1, 1))
    assert record.status == "Completed"
    assert [trial.status for trial in record.trials] == ["Failed", "Completed"]
    assert "below 0" in record.trials[0].failure
    answer = describe(tuning.store, "tune-1")
    assert answer["TrainingJobStatusCounters"]["NonRetryableError"] == 1
    assert answer["ObjectiveStatusCounters"] == {"Succeeded": 1, "Pending": 0, "Failed": 1}
    assert answer["BestTrainingJob"]["TunedHyperParameters"] == {"rate": "1"}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit(1)", "No training job succeeded after 5 attempts."),
        ("print('nothing')", "No objective metrics found after running 5 training jobs."),
    ],
)
def test_a_tuning_job_without_a_result_fails_after_five(tuning, script, reason):
    tuning.set_script(script)
    record = tuning.run(jobs=20)
    assert (record.status, len(record.trials)) == ("Failed", 5)
    assert record.failure_reason.startswith(reason)


def test_a_stop_stops_every_training_job(tuning):
    tuning.set_script(SLOW)
    tuning.submit(jobs=4, parallel=2)
    tuning.store.folder("tune-1").request_stop()
    record = drive(tuning.store, "tune-1", runtime=tuning.runtime)
    assert (record.status, record.trials) == ("Stopped", [])


def test_a_stop_of_a_running_tuning_job_keeps_the_results_so_far(tuning, in_thread):
    tuning.set_script(SLOW)
    tuning.submit(jobs=4, parallel=2)
    driving = in_thread(lambda: drive(tuning.store, "tune-1", runtime=tuning.runtime))
    tuning.await_metrics(2)
    tuning.store.folder("tune-1").request_stop()
    record = driving.result(30)
    assert record.status == "Stopped"
    assert [trial.status for trial in record.trials] == ["Stopped", "Stopped"]
    assert [trial.objective for trial in record.trials] == [1.0, 1.0]


def test_a_training_job_that_somebody_stops_is_replaced_by_the_next(tuning, in_thread):
    tuning.set_script(
        "import os, time\nprint('score=1', flush=True)\ntime.sleep(60 * (os.environ['SM_HP_RATE'] == '1'))"
    )
    tuning.submit(strategy="Grid", jobs=None, ranges=grid(1, 2))
    driving = in_thread(lambda: drive(tuning.store, "tune-1", runtime=tuning.runtime))
    tuning.await_metrics(1)
    tuning.jobs.folder(tuning.store.load("tune-1").trials[0].job).request_stop()
    record = driving.result(30)
    assert record.status == "Completed"
    assert [trial.status for trial in record.trials] == ["Stopped", "Completed"]


def test_a_target_ends_the_tuning_job(tuning):
    criteria = {"TuningJobCompletionCriteria": {"TargetObjectiveMetricValue": 0.5}}
    record = tuning.run(strategy="Grid", jobs=None, ranges=grid(0, 3, 9), config=criteria)
    assert (record.status, record.completed_by) == ("Completed", "TargetObjectiveMetricValue")
    assert len(record.trials) == 2


def test_results_that_do_not_improve_end_the_tuning_job(tuning):
    criteria = {
        "TuningJobCompletionCriteria": {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}
    }
    record = tuning.run(strategy="Grid", jobs=None, ranges=grid(2, 3, 7, 8, 9, 10), config=criteria)
    assert (record.completed_by, len(record.trials)) == ("BestObjectiveNotImproving", 5)
    details = describe(tuning.store, "tune-1")["TuningJobCompletionDetails"]
    assert details == {"NumberOfTrainingJobsObjectiveNotImproving": 3}


def test_the_time_of_a_tuning_job_is_limited(tuning):
    """The model's least is 120 seconds, so the record is told that it began long ago."""
    tuning.set_script(SLOW)
    tuning.submit(jobs=2, limits={"MaxRuntimeInSeconds": 120})
    record = tuning.store.load("tune-1")
    record.started = time.time() - 119
    record.marks["started"] = {"wall": record.started}
    tuning.store.save("tune-1", record)
    record = drive(tuning.store, "tune-1", runtime=tuning.runtime)
    assert (record.status, record.completed_by) == ("Completed", "MaxRuntimeInSeconds")
    assert [trial.status for trial in record.trials] == ["Stopped"]


def test_the_median_rule_stops_what_falls_behind(tuning):
    """Four jobs go on to 27 epochs; the last one is worse at every epoch, so it is stopped."""
    tuning.set_script(EPOCHS.replace("0.1", "0.1 * (float(os.environ['SM_HP_RATE']) < 0)"))
    record = tuning.run(
        strategy="Grid", jobs=None, ranges=grid(4, 3, 2, 1, -1), config={"TrainingJobEarlyStoppingType": "Auto"}
    )
    assert [trial.status for trial in record.trials] == ["Completed"] * 4 + ["Stopped"]
    assert record.trials[-1].stopping.startswith("early stopping: worse than the median of 4")
    assert record.trials[-1].epochs < 27
    answer = describe(tuning.store, "tune-1")
    assert answer["TrainingJobStatusCounters"]["Stopped"] == 1
    assert answer["ObjectiveStatusCounters"]["Succeeded"] == 5


def test_hyperband_gives_the_epochs_to_the_best(tuning):
    tuning.set_script(EPOCHS)
    record = tuning.run(
        strategy="Hyperband",
        jobs=8,
        parallel=4,
        config={"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 27}}},
    )
    stopped = [trial for trial in record.trials if trial.stopping]
    assert record.status == "Completed"
    assert stopped
    assert all(trial.status == "Stopped" and trial.epochs < 27 for trial in stopped)
    assert any(trial.status == "Completed" and trial.epochs == 27 for trial in record.trials)


def test_a_warm_start_takes_the_results_of_parents_into_account(tuning):
    tuning.run("parent-1", strategy="Grid", jobs=None, ranges=grid(3, 9))
    warm = {
        "WarmStartConfig": {
            "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent-1"}],
            "WarmStartType": "IdenticalDataAndAlgorithm",
        }
    }
    record = tuning.run("child-1", strategy="Bayesian", jobs=1, ranges=grid(0, 3, 9), **warm)
    answer = describe(tuning.store, "child-1")
    overall = answer["OverallBestTrainingJob"]
    assert overall["TuningJobName"] == ("parent-1" if record.trials[0].values["rate"] != "3" else "child-1")
    assert overall["TunedHyperParameters"] == {"rate": "3"}
    with pytest.raises(BadInputError, match="has another objective"):
        tuning.submit("child-2", strategy="Bayesian", objective="Minimize", **warm)
    warm["WarmStartConfig"]["ParentHyperParameterTuningJobs"][0]["HyperParameterTuningJobName"] = "nobody"
    with pytest.raises(TuningJobNotFoundError, match="can't find a tuning job with the name nobody"):
        tuning.submit("child-3", strategy="Bayesian", **warm)


def test_several_definitions_take_turns(tuning):
    request = tuning.request(jobs=4)
    config, definition = request["HyperParameterTuningJobConfig"], request.pop("TrainingJobDefinition")
    objective, ranges = config.pop("HyperParameterTuningJobObjective"), config.pop("ParameterRanges")
    layers = {"IntegerParameterRanges": [{"Name": "layers", "MinValue": "1", "MaxValue": "4"}]}
    request["TrainingJobDefinitions"] = [
        {**definition, "DefinitionName": "by-rate", "TuningObjective": objective, "HyperParameterRanges": ranges},
        {**definition, "DefinitionName": "by-layers", "TuningObjective": objective, "HyperParameterRanges": layers},
    ]
    from launcher.tuning.submission import submit_tuning

    submit_tuning(request, tuning.home, tuning.runtime)
    record = drive(tuning.store, "tune-1", runtime=tuning.runtime)
    assert [sorted(trial.values) for trial in record.trials] == [["rate"], ["layers"], ["rate"], ["layers"]]
    names = [job["TrainingJobDefinitionName"] for job in list_training_jobs(tuning.store, "tune-1")]
    assert names == ["by-rate", "by-layers"] * 2
    assert record.trials[1].objective == -9 + record.trials[1].values["layers"]


def test_bad_input_leaves_nothing_behind(tuning):
    tuning.archive.unlink()
    with pytest.raises(BadInputError, match=r"the source of job 'tune-1-000-0'"):
        tuning.submit()
    assert not tuning.store.path.exists()
    assert not tuning.jobs.path.exists()


def test_a_name_is_used_once(tuning):
    tuning.run(jobs=1)
    with pytest.raises(JobExistsError, match="tune-1"):
        tuning.submit(jobs=1)


def test_a_plan_says_what_would_run_and_writes_nothing(tuning):
    text = str(plan_tuning(tuning.request(jobs=7, parallel=2), tuning.home, tuning.runtime))
    assert "range      rate: -10.0 to 10.0, Linear" in text
    assert "jobs       7, 2 at once" in text
    assert not tuning.store.path.exists()


def test_a_job_of_another_owner_is_never_taken_for_an_own_one(tuning):
    """The name of a training job could be used already."""
    tuning.submit(jobs=1)
    record = tuning.store.load("tune-1")
    first = drive_name(record)
    own = tuning.definition()
    document = {
        "TrainingJobName": first,
        "HyperParameters": own.pop("StaticHyperParameters"),
        **own,
    }
    submit(document, tuning.jobs, tuning.runtime)
    record = drive(tuning.store, "tune-1", runtime=tuning.runtime)
    assert (record.status, record.trials[0].status) == ("Failed", "Failed")
    assert "another training job is named" in record.trials[0].failure


def drive_name(record):
    """Return the name that the first training job will have."""
    import hashlib

    digest = hashlib.sha256(f"tune-1:{record.created}:1".encode()).hexdigest()[:8]
    return f"tune-1-001-{digest}"


def test_a_record_of_another_version_is_read(tuning):
    record = tuning.run(jobs=1)
    values = record.to_dict()
    assert TuningRecord.from_dict(values).trials == record.trials
    values["novelty"] = 1
    values["trials"][0]["novelty"] = 1
    del values["completed_by"]
    again = TuningRecord.from_dict(values)
    assert again.trials == record.trials
    assert again.to_dict()["novelty"] == 1
    assert describe_tuning(again, {})["TrainingJobStatusCounters"]["Completed"] == 1
