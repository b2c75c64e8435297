"""Which image of this machine runs in the place of one of AWS's."""

import os

import pytest

import launcher
from launcher import errors
from launcher.runtimes.image import extended_tag
from launcher.runtimes.images import image_note, is_bundled, is_of_aws, local_image, shipped_lines
from tests.shell import run_launcher

ACCOUNT = "763104351884.dkr.ecr.us-east-1.amazonaws.com"


def images(*arguments):
    """Run a command of ``launcher images`` in the test's home."""
    return run_launcher("images", *arguments, cwd="/", LAUNCHER_HOME=os.environ["LAUNCHER_HOME"])


@pytest.mark.parametrize(
    ("image", "runs"),
    [
        (None, ""),
        ("my-image:1", "my-image:1"),
        ("registry.example:5000/pytorch-training:1", "registry.example:5000/pytorch-training:1"),
        (f"{ACCOUNT}/pytorch-training:2.3-cpu-py311", ""),
        ("462105765813.dkr.ecr.us-east-1.amazonaws.com/sagemaker-rl-coach-container:coach-1.0.0-tf-cpu-py3", ""),
        ("1234567890.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch-training:1", None),
        ("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1", "bundled + scikit-learn"),
        (f"{ACCOUNT}/djl-inference:1", f"{ACCOUNT}/djl-inference:1"),
        ("public.ecr.aws/sagemaker/sagemaker-distribution:latest-cpu", ""),
    ],
)
def test_the_table_says_what_runs(home, image, runs):
    assert local_image(image) == (image if runs is None else runs)


def test_lines_of_ones_own_go_first_and_count_for_any_image(home):
    assert images("set", "pytorch-training:2.3*", "bundled + einops torchmetrics==1.*").returncode == 0
    assert images("set", "my-image", "other:2").returncode == 0
    assert local_image(f"{ACCOUNT}/pytorch-training:2.3-cpu") == "bundled + einops torchmetrics==1.*"
    assert local_image(f"{ACCOUNT}/pytorch-training:2.4-cpu") == ""
    assert local_image("my-image:1") == "other:2"
    table = images("ls").stdout
    assert table.index("my-image") < table.index("sagemaker-rl-*")
    assert images("ls", "my-image:7").stdout == "other:2\n"
    assert images("rm", "my-image").returncode == 0
    assert local_image("my-image:1") == "my-image:1"
    refused = images("rm", "my-image")
    assert (refused.returncode, "there is no line of yours" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("key", "image", "told"),
    [
        ("a b", "bundled", "no name of an image"),
        ("mine", "x y", "no image"),
        ("mine", "", "no image"),
        ("mine", "bundled + --index-url=http://x", "no package"),
    ],
)
def test_a_line_that_cannot_be_is_refused(home, key, image, told):
    refused = images("set", "--", key, image)
    assert (refused.returncode, told in refused.stderr) == (2, True)
    assert not (home / "images.toml").exists()


def test_a_damaged_table_is_named(home):
    home.mkdir()
    (home / "images.toml").write_text("what = [")
    with pytest.raises(errors.ImageError, match=r"images\.toml cannot be read"):
        local_image("any")


def test_every_shipped_line_stands_for_the_bundled_image(home):
    for key in shipped_lines():
        assert is_bundled(local_image(f"{ACCOUNT}/{key.replace('*', 'x')}:1"))


def test_what_runs_in_place_is_said_and_the_request_stays_what_it_was(store, make_source):
    image = f"{ACCOUNT}/pytorch-training:2.3-cpu-py311"
    estimator = launcher.Estimator(
        image, entry_point="train.py", source_dir=make_source("print('done')"), runtime="process"
    )
    estimator.fit(logs=False)
    job = estimator.latest_training_job
    assert job.describe()["AlgorithmSpecification"]["TrainingImage"] == image
    assert f"the image {image} stands for: bundled" in store.load(job.name).warnings
    assert image_note("my-image") == ""


def test_packages_make_an_image_of_their_own():
    assert extended_tag("launcher-job:1", ["b", "a"]) == extended_tag("launcher-job:1", ["a", "b"])
    assert extended_tag("launcher-job:1", ["a"]) != extended_tag("launcher-job:2", ["a"])


@pytest.mark.docker
def test_an_image_of_aws_that_has_no_counterpart_is_refused_with_the_line_to_add(home, make_source):
    """Nothing is pulled from AWS: the engine would ask the real one."""
    estimator = launcher.Estimator(
        f"{ACCOUNT}/djl-inference:1", entry_point="train.py", source_dir=make_source(""), runtime="docker"
    )
    with pytest.raises(errors.ImageError) as caught:
        estimator.fit()
    assert "nothing is pulled from AWS" in str(caught.value)
    assert "launcher images set djl-inference bundled" in str(caught.value)
    assert is_of_aws(f"{ACCOUNT}/djl-inference:1")


@pytest.mark.docker
@pytest.mark.slow
def test_a_counterpart_with_packages_is_built_when_it_is_first_needed(home, make_source):
    images("set", "with-six", "bundled + six")
    script = "import importlib.metadata, torch\nprint('six', importlib.metadata.version('six'))"
    estimator = launcher.Estimator(
        "with-six:1", entry_point="train.py", source_dir=make_source(script), runtime="docker"
    )
    estimator.fit(logs=False)
    assert "six 1." in estimator.latest_training_job.logs()
