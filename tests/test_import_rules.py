"""Who may import whom: the three sides meet in the /opt/ml tree, a few variables and the exit code, not in imports."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIDES = {
    "container/job_toolkit": {"job_toolkit"},
    "container/model_server": {"model_server", "job_toolkit", "numpy", "uvicorn", "torch", "onnxruntime"},
    "entrypoints/batch_rl": {
        *("batch_rl", "numpy", "torch", "gymnasium", "pandas", "yaml", "matplotlib", "pyarrow"),
        *("onnx", "onnxscript", "minari", "h5py", "pyspark", "PIL", "pygame"),  # extras, loaded where they are used
    },
    "entrypoints": {"job_toolkit", "batch_rl", "train_online", "train_offline"},
    "launcher/proxy/shim": {"launcher_exec_shim", "sagemaker"},  # in programs of others, whose SDK it is
    "launcher": {
        "launcher",
        "boto3",
        "botocore",
        "cryptography",
        "docker",
        "isal",
        "markupsafe",
        "moto",
        "numpy",
        "optuna",  # an extra, loaded where it is used
        "pandas",
        "requests",
        "rich",
        "typer",
        "yaml",
    },
}
# The launcher's layers: a room uses itself and the rows above its own.
LAYERS = [
    {"aws_domains", "errors", "s3_server"},
    {"aws_names", "paths", "secrets", "trees"},
    {"settings", "terminal"},
    {"jobs"},
    {"storage", "runtimes"},
    {"requests"},
    {"channels"},
    {"running"},
    {"serving", "comparing", "exports", "elsewhere"},
    {"transform", "endpoints"},
    {"processing_jobs"},
    {"tuning", "batch_queues"},
    {"console"},
    {"remote"},
    {"aws", "sdk"},
    {"proxy"},
    {"cli", "aliases"},
    {"__main__"},
]
# The layers of batch_rl, in the same way.
LIBRARY_LAYERS = [
    {"errors", "files"},
    {"presets", "data"},
    {"formats"},
    {"networks", "reagent"},
    {"ope", "acting"},
    {"learning"},
    {"reporting", "judging"},
]
ONLY_IN = {
    "cryptography": {"launcher/aws_names/authority.py"},
    "docker": {str(path.relative_to(ROOT)) for path in (ROOT / "launcher/runtimes/docker_engine").glob("*.py")},
    "markupsafe": {
        f"launcher/console/{name}.py" for name in ("html", "frame", "charts", "notebook", "pages", "places", "routing")
    },
    "boto3": {"launcher/storage/s3.py", "launcher/storage/boto_session.py"},
    "botocore": {
        *("launcher/storage/s3.py", "launcher/storage/boto_session.py"),
        *("launcher/s3_server/moto_bridge.py", "launcher/aws/moto_services.py"),
    },
    "moto": {"launcher/s3_server/moto_bridge.py", "launcher/aws/moto_services.py"},
    "optuna": {"launcher/tuning/sampling.py"},
    "numpy": {
        "launcher/s3_server/checksums.py",
        # Where they are used: a program that sends no arrays loads no numpy.
        *("launcher/sdk/serializers.py", "launcher/sdk/deserializers.py", "launcher/endpoints/payloads.py"),
    },
}


def python_files(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "_data" not in path.parts)


def imports(path):
    """Yield the dotted names of all imports of a file, those inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def cases():
    for side in SIDES:
        for path in python_files(side):
            owner = max((side for side in SIDES if path.is_relative_to(ROOT / side)), key=len)
            if owner == side:
                yield pytest.param(side, path, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize(("side", "path"), list(cases()))
def test_a_file_imports_only_what_its_side_may_use(side, path):
    allowed = SIDES[side] | set(sys.stdlib_module_names)
    assert {name.split(".")[0] for name in imports(path)} <= allowed


@pytest.mark.parametrize(("package", "files"), ONLY_IN.items())
def test_some_packages_are_known_to_one_module_alone(package, files):
    users = {
        str(path.relative_to(ROOT))
        for path in python_files("launcher")
        if package in {name.split(".")[0] for name in imports(path)}
    }
    assert users <= files


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in python_files("launcher")])
def test_the_launchers_layers_use_only_those_above(path):
    own = path.relative_to(ROOT / "launcher").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    own_layer = next(number for number, names in enumerate(LAYERS) if own in names)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "launcher" or parts == ["launcher", "__version__"]:
            continue
        used = parts[1]
        layer = next(number for number, names in enumerate(LAYERS) if used in names)
        assert used == own or layer < own_layer, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in python_files("launcher/s3_server")])
def test_the_s3_server_is_a_product_of_its_own(path):
    used = {name for name in imports(path) if name.split(".")[0] == "launcher"}
    assert {name for name in used if not f"{name}.".startswith("launcher.s3_server.")} == set()


def test_the_s3_server_and_the_launcher_mean_the_same_account():
    from launcher import settings
    from launcher.s3_server import access, documents

    assert (documents.REGION, documents.ACCOUNT_ID) == (settings.REGION, settings.ACCOUNT_ID)
    assert access.ANY_KEY.variables == settings.LOCAL_CREDENTIALS


LIBRARY = ROOT / "entrypoints/batch_rl"


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(LIBRARY))) for p in python_files(LIBRARY)])
def test_the_librarys_layers_use_only_those_above(path):
    """Imports inside functions count as well, so no circle can hide there."""
    own = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    own_layer = next(number for number, names in enumerate(LIBRARY_LAYERS) if own in names)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "batch_rl":
            layer = next(number for number, names in enumerate(LIBRARY_LAYERS) if parts[1] in names)
            assert parts[1] == own or layer < own_layer, f"{path.name} imports {name}"


@pytest.mark.parametrize("package", ["launcher", "entrypoints/batch_rl"])
def test_no_modules_import_one_another_in_a_circle(package):
    """Imports inside functions count as well, so no circle can hide there."""
    parent = (ROOT / package).parent
    paths = {
        ".".join(path.relative_to(parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in python_files(package)
        if path != ROOT / "launcher/__init__.py"  # the public names, loaded on demand
    }
    uses = {
        module: {name if name in paths else name.rpartition(".")[0] for name in imports(path)} & paths.keys() - {module}
        for module, path in paths.items()
    }
    TopologicalSorter(uses).prepare()


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in python_files("container/model_server")])
def test_the_model_server_loads_what_computes_only_where_a_model_is_loaded(path):
    """torch takes a second, and a model of a user's own may need none of it."""
    heavy = {"torch", "onnxruntime"}
    tree = ast.parse(path.read_text())
    at_import = {
        alias.name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
    }
    assert not heavy & at_import
    assert path.name == "policy.py" or not heavy & {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize(
    "name",
    [
        "runtimes/supervisor.py",
        "runtimes/start_supervisor.py",
        "runtimes/networks.py",
        "runtimes/fork_server.py",
        "runtimes/warm_server.py",
        "runtimes/entering.py",
        "runtimes/slurm_node.py",
        "runtimes/slurm_container.py",
        "channels/feeder.py",
    ],
)
def test_what_runs_beside_a_job_needs_no_package(name):
    path = ROOT / "launcher" / name
    assert {name.split(".")[0] for name in imports(path)} <= set(sys.stdlib_module_names)


def test_import_launcher_defines_names_and_loads_nothing_heavy():
    script = "import sys, launcher; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {
        "docker",
        "boto3",
        "botocore",
        "moto",
        "sqlite3",
        "torch",
        "pandas",
        "numpy",
        "rich",
        "typer",
        "yaml",
        "isal",
        "requests",
    }
    assert not heavy & set(loaded.stdout.split())


def test_every_public_name_can_be_had():
    import launcher

    assert {name for name in launcher.__all__ if getattr(launcher, name) is None} == set()


def test_following_a_process_job_loads_no_docker_client(tmp_path):
    """The fast path of a job pays only for what it uses."""
    script = (
        "import sys, launcher\n"
        f"launcher.Estimator(entry_point={str(tmp_path / 'train.py')!r}, runtime='process').fit(logs=False)\n"
        "print(*sorted(sys.modules))"
    )
    (tmp_path / "train.py").write_text("pass")
    environment = {**os.environ, "LAUNCHER_HOME": str(tmp_path / "home")}
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    heavy = {"docker", "torch", "pandas", "numpy", "rich", "typer", "boto3", "botocore", "moto", "sqlite3"}
    assert not heavy & set(loaded.stdout.split())
