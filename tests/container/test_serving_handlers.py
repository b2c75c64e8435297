"""The functions of a user's ``inference.py``, one by one or all, and where they are looked for."""

import json

import pytest

from model_server.errors import HandlerError, ServingError
from model_server.handlers import Handlers
from model_server.programs import find_program
from model_server.settings import read_settings
from tests.container.asking import ask, code_application

DOUBLE = "def model_fn(folder): return lambda inputs: inputs * 2\n"


def test_a_model_fn_alone_is_enough_for_a_model_that_can_be_called(tree):
    tree.write("model/factor", "3")
    code = """
import pathlib
def model_fn(model_dir):
    factor = float((pathlib.Path(model_dir) / "factor").read_text())
    return lambda inputs: inputs * factor
"""
    assert ask(code_application(tree, code), b"[[1, 2]]").json() == [[3.0, 6.0]]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("", [2, 4]),
        ("def input_fn(request_body, content_type): return [len(request_body), content_type]\n", None),
        ("def predict_fn(input_object, model): return (model(input_object) + 1).tolist()\n", [3, 5]),
        ("def output_fn(prediction, accept): return '{\"sum\": %d}' % prediction.sum()\n", {"sum": 6}),
        ("def transform_fn(model, body, content_type, accept): return body + ' ', accept\n", [1, 2]),
    ],
)
def test_each_function_can_be_overridden_by_itself(own, expected, tree):
    code = DOUBLE + own
    if expected is None:
        expected = [6, "application/json"] * 2
    assert ask(code_application(tree, code), b"[1, 2]").json() == expected


def test_input_fn_gets_text_of_text_types_and_bytes_of_others(tree):
    code = """
def model_fn(folder): return None
def input_fn(body, content_type): return f"{type(body).__name__} {content_type}"
def predict_fn(inputs, model): return inputs
"""
    application = code_application(tree, code)
    assert ask(application, b"1,2", content_type="text/csv").json() == "str text/csv"
    assert ask(application, b"\x89PNG", content_type="image/png").json() == "bytes image/png"
    assert ask(application, b"", content_type="").json() == "str application/json"


def test_output_fn_may_name_another_content_type_and_gets_any_accept(tree):
    code = DOUBLE + "def output_fn(prediction, accept): return f'<b>{accept}</b>', 'text/html'\n"
    reply = ask(code_application(tree, code), b"[1]", accept="text/html")
    assert (reply.body, reply.headers["content-type"]) == (b"<b>text/html</b>", "text/html")


def test_a_function_may_take_the_context_of_the_request(tree):
    code = DOUBLE + (
        "def output_fn(prediction, accept, context):\n"
        "    context.set_response_header(0, 'X-Amzn-SageMaker-Custom-Attributes', 'seen')\n"
        "    return context.get_request_header(0, 'X-Amzn-SageMaker-Inference-Id')\n"
    )
    reply = ask(code_application(tree, code), b"[1]", x_amzn_sagemaker_inference_id="abc")
    assert (reply.body, reply.headers["x-amzn-sagemaker-custom-attributes"]) == (b"abc", "seen")


def test_an_answer_made_of_parts_is_streamed(tree):
    code = DOUBLE + "def output_fn(prediction, accept): return (f'part {i}\\n' for i in range(3)), 'text/plain'\n"
    reply = ask(code_application(tree, code), b"[1]")
    assert reply.body == b"part 0\npart 1\npart 2\n"
    assert "content-length" not in reply.headers


@pytest.mark.parametrize("name", ["input_fn", "predict_fn", "output_fn"])
def test_an_exception_in_a_function_is_500_with_its_last_line_and_the_log_has_the_traceback(name, tree, capsys):
    code = DOUBLE + f"def {name}(one, two):\n    raise KeyError('propensity')\n"
    reply = ask(code_application(tree, code), b"[1]")
    assert (reply.status, reply.json()) == (500, {"error": f"{name} raised KeyError: 'propensity'"})
    log = capsys.readouterr().err
    assert "inference.py" in log
    assert "raise KeyError('propensity')" in log
    assert log.splitlines()[-1] == f"serve: 500 POST /invocations: {name} raised KeyError: 'propensity'"


def test_an_exception_in_the_model_is_500_too(tree):
    reply = ask(code_application(tree, "def model_fn(folder): return lambda inputs: 1 / 0\n"), b"[1]")
    assert (reply.status, reply.json()) == (500, {"error": "the model raised ZeroDivisionError: division by zero"})


def test_an_exception_may_say_which_status_it_means(tree):
    code = DOUBLE + (
        "class Unsupported(Exception):\n    status_code = 415\n"
        "def input_fn(body, content_type): raise Unsupported('only parquet')\n"
    )
    assert ask(code_application(tree, code), b"[1]").status == 415


def test_one_request_that_fails_leaves_the_next_one_alone(tree):
    application = code_application(tree, DOUBLE + "def predict_fn(inputs, model): return 1 / inputs.item()\n")
    assert ask(application, b"[0]").status == 500
    assert ask(application, b"[4]").json() == 0.25


def settings_of(tree, **variables):
    return read_settings(variables), variables


def test_code_is_found_in_the_model_first_in_its_code_folder_then_in_the_source(tree, tmp_path):
    settings, environment = settings_of(tree)
    assert find_program(settings, environment) is None
    source = tree.write("code/inference.py", "")
    assert find_program(settings, environment) == source
    root = tree.write("model/inference.py", "")
    assert find_program(settings, environment) == root
    code = tree.write("model/code/inference.py", "")
    assert find_program(settings, environment) == code
    (tmp_path / "submitted").mkdir()
    (tmp_path / "submitted" / "inference.py").write_text("")
    for place in (str(tmp_path / "submitted"), f"file://{tmp_path}/submitted"):
        environment = {"SAGEMAKER_SUBMIT_DIRECTORY": place}
        assert find_program(settings, environment) == tmp_path / "submitted" / "inference.py"
    assert find_program(settings, {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/sourcedir.tar.gz"}) == code


@pytest.mark.parametrize("named", ["serving.py", "serving"])
def test_a_variable_names_another_file(named, tree):
    settings, environment = settings_of(tree, SAGEMAKER_PROGRAM=named)
    with pytest.raises(ServingError, match=r"serving.py is in none of: .*model/code, .*model, .*code"):
        find_program(settings, environment)
    program = tree.write("model/serving.py", "")
    assert find_program(settings, environment) == program


def test_code_can_import_the_modules_beside_it(tree):
    tree.write("model/code/helper_of_this_test.py", "def shift(inputs): return inputs + 1")
    code = "import helper_of_this_test\ndef model_fn(folder): return helper_of_this_test.shift\n"
    assert ask(code_application(tree, code), b"[1]").json() == [2]


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        ("import no_such_module", HandlerError, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def model_fn(:", HandlerError, "SyntaxError"),
        ("def model_fn(): pass", ServingError, "model_fn must take 1 arguments, or 2"),
        ("def predict_fn(a, b, c, d): pass", ServingError, "predict_fn must take 2 arguments"),
        ("model_fn = 3", ServingError, "model_fn is no function"),
        ("def transform_fn(m, b, c, a): pass\ndef input_fn(b, c): pass", ServingError, "Keep either"),
    ],
)
def test_code_that_cannot_be_used_is_refused_with_the_reason(code, error, reason, tree):
    with pytest.raises(error, match=reason.replace("(", r"\(")):
        code_application(tree, code)


def test_a_model_that_cannot_be_loaded_is_refused_with_the_reason(tree):
    with pytest.raises(HandlerError, match="model_fn raised ValueError: no weights"):
        code_application(tree, "def model_fn(folder): raise ValueError('no weights')")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "holds nothing: neither model.json"),
        ({"weights.bin": "x"}, "holds weights.bin: neither model.json"),
        ({"model.json": "{"}, "does not describe a model of train.py"),
        ({"model.json": json.dumps({"format": "torchscript", "file": "model.pt"})}, "does not describe a model"),
        (
            {
                "model.json": json.dumps(
                    {
                        "files": {"torchscript": "model.pt"},
                        "input": {"shape": ["batch", 4]},
                        "output": {"shape": ["batch", 2]},
                    }
                )
            },
            "names model.pt, which is not in the folder",
        ),
        (
            {
                "model.json": json.dumps(
                    {
                        "files": {"coreml": "model.ml"},
                        "input": {"shape": ["batch", 4]},
                        "output": {"shape": ["batch", 2]},
                    }
                )
            },
            "lists coreml; this server runs: torchscript, torch_export, onnx",
        ),
    ],
)
def test_a_folder_without_a_model_is_refused_with_what_is_in_it(files, reason, tree):
    (tree.base / "model").mkdir()
    for name, content in files.items():
        tree.write(f"model/{name}", content)
    with pytest.raises(ServingError, match=reason):
        Handlers(read_settings({}), None).load()
