import pytest


def test_serving_takes_no_arguments(tree):
    result = tree.run("serve", "--port=1")
    assert result.returncode == 2
    assert "serve takes no arguments" in result.stderr


def test_an_unknown_command_is_named_with_those_there_are(tree):
    result = tree.run("trian")
    assert result.returncode == 2
    assert "'trian'; the commands are: train, evaluate, collect, serve" in result.stderr


def test_arguments_after_the_command_are_refused(tree):
    result = tree.run("train", "--epochs=3")
    assert result.returncode == 2
    assert "hyperparameters" in result.stderr


@pytest.mark.parametrize("option", ["-h", "--help", "help"])
def test_help_shows_the_commands_and_the_tree(option, tree):
    result = tree.run(option)
    assert result.returncode == 0
    assert "evaluate" in result.stdout
    assert "input/config/" in result.stdout


def test_a_tree_that_cannot_be_written_fails_the_job_with_the_reason(tree):
    tree.write("code/train.py", "")
    tree.write("model", "a file where a folder must be")
    result = tree.run("train")
    assert result.returncode == 1
    assert "cannot write below" in tree.failure
