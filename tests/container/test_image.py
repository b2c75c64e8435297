"""The image by itself: any user may run it, and nothing of the machine that built it is inside."""

import json
import os
import subprocess
import uuid

import pytest

from tests.container.building import build, copy_container, remove_image

pytestmark = [pytest.mark.docker, pytest.mark.slow]

# As tight as the launcher runs it.
HARDENED = [
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"),
    *("--read-only", "--tmpfs", "/tmp:exec", "--init", "--rm"),
]
LEARN = """
import getpass, os, pathlib
import gymnasium, matplotlib.pyplot, pandas, torch, yaml
layer = torch.nn.Linear(4, 2)
optimizer = torch.optim.Adam(layer.parameters())
layer(torch.ones(1, 4)).sum().backward()
optimizer.step()
torch.save(layer.state_dict(), os.environ["SM_MODEL_DIR"] + "/model.pt")
matplotlib.pyplot.plot([1, 2])
matplotlib.pyplot.savefig(os.environ["SM_OUTPUT_DATA_DIR"] + "/plot.png")
gymnasium.make("CartPole-v1").reset(seed=1)
print(getpass.getuser(), os.getuid(), os.environ["SM_HP_NOTE"])
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    tag = f"launcher-test-image:{uuid.uuid4().hex[:12]}"
    build(copy_container(tmp_path_factory.mktemp("image") / "context"), tag)
    yield tag
    remove_image(tag)


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_a_user_unknown_to_the_image_can_train_in_it(image, tree):
    uid, gid = (12345, 54321) if os.getuid() == 0 else (os.getuid(), os.getgid())
    tree.write("code/train.py", LEARN)
    tree.write_hyperparameters({"note": "two words"})
    if os.getuid() == 0:
        for folder, _, files in os.walk(tree.base):
            for name in (folder, *(os.path.join(folder, file) for file in files)):  # noqa: PTH118
                os.chown(name, uid, gid)
    mount = ["--user", f"{uid}:{gid}", "--volume", f"{tree.base}:/opt/ml"]
    result = docker("run", *HARDENED, *mount, image, "train")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"job {uid} two words" in result.stdout
    for written in ("model/model.pt", "output/data/plot.png"):
        status = (tree.base / written).stat()
        assert (status.st_uid, status.st_gid) == (uid, gid)


def test_without_a_command_it_trains(image):
    result = docker("run", "--rm", "--network", "none", image)
    assert result.returncode == 1
    assert "/opt/ml/code is missing, so there is no train.py to run" in result.stderr


def test_the_tree_can_be_written_by_anybody(image):
    result = docker(
        *("run", "--rm", "--network", "none", "--user", "4242:4242", "--entrypoint", "sh", image),
        *("-c", "mkdir -p /opt/ml/model && touch /opt/ml/model/x && stat -c %a /opt/ml"),
    )
    assert (result.stdout, result.returncode) == ("1777\n", 0), result.stderr


def test_it_is_labelled_and_its_python_files_are_compiled(image):
    config = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]
    assert config["Labels"]["launcher.image.toolkit"] == "1"
    assert config["Entrypoint"] == ["python", "-m", "job_toolkit"]
    listing = docker("run", "--rm", "--network", "none", "--entrypoint", "find", image, "/usr/local/lib/launcher")
    assert "trainer.cpython-311.pyc" in listing.stdout


def test_neither_certificates_nor_wheels_of_the_host_get_into_the_image(tmp_path):
    """A build that cannot come from the cache; the real libraries would only make it slower."""
    marker = f"marker-{uuid.uuid4().hex}"
    context = copy_container(tmp_path / "context")
    (context / "requirements.txt").write_text(f"pyyaml\n# {marker[:20]}\n")
    (context / "wheels" / "note.txt").write_text(marker)
    ca_bundle = tmp_path / "ca.pem"
    own = os.environ.get("LAUNCHER_BUILD_CA")
    certificates = open(own).read() if own else some_certificates()  # noqa: PTH123, SIM115
    ca_bundle.write_text(f"# {marker}\n{certificates}")
    tag = f"launcher-test-image:{marker[-12:]}"
    try:
        build(context, tag, ca_bundle=str(ca_bundle))
        assert marker not in docker("image", "history", "--no-trunc", tag).stdout
        assert not image_holds(tag, marker.encode())
        assert image_holds(tag, b"class JobEnvironment")  # the search itself works
    finally:
        remove_image(tag)


def some_certificates():
    from pip._vendor import certifi

    return certifi.contents()


def image_holds(tag, text):
    """Search all layers, also what a later layer deletes."""
    with subprocess.Popen(["docker", "image", "save", tag], stdout=subprocess.PIPE) as save:
        rest, is_in = b"", False
        while chunk := save.stdout.read(1 << 20):
            is_in = is_in or text in rest + chunk
            rest = chunk[-len(text) :]
    assert save.returncode == 0
    return is_in
