"""``launcher push``: an image of the engine in a registry, from which AWS would pull it."""

import io
import subprocess
import tarfile

import pytest

from launcher.errors import ImageError
from launcher.runtimes.image import image_tag
from launcher.runtimes.pushing import push_image
from tests.registry import running_registry


@pytest.fixture
def container(tmp_path, monkeypatch):
    """A bundled image of one file, which takes no base image and a second to build."""
    folder = tmp_path / "container"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY hello /hello\n")
    (folder / "hello").write_text(str(tmp_path))
    monkeypatch.setenv("LAUNCHER_CONTAINER_DIR", str(folder))
    tag = image_tag()
    yield tag
    subprocess.run(["docker", "rmi", "--force", tag], capture_output=True, check=False)


@pytest.mark.docker
def test_the_bundled_image_is_built_and_pushed_by_the_name_of_its_content(container, tmp_path):
    with running_registry() as (registry, address):
        name = push_image(f"{address}/team/launcher-job")
        subprocess.run(["docker", "rmi", name], capture_output=True, check=True)
        assert name == f"{address}/team/launcher-job:{container.rpartition(':')[2]}"
        manifest = registry.manifests[name.removeprefix(f"{address}/")]
        (layer,) = manifest["layers"]
        with tarfile.open(fileobj=io.BytesIO(registry.blobs[layer["digest"]])) as files:
            assert files.extractfile("hello").read().decode() == str(tmp_path)
        with pytest.raises(ImageError, match="no image 'not-here:1'"):
            push_image(f"{address}/team/other", "not-here:1")


@pytest.mark.docker
def test_a_registry_that_does_not_answer_is_named_with_the_engines_words(container):
    with pytest.raises(ImageError, match=r"could not be pushed to 127\.0\.0\.1:1/job:tag:") as caught:
        push_image("127.0.0.1:1/job:tag")
    subprocess.run(["docker", "rmi", "127.0.0.1:1/job:tag"], capture_output=True, check=True)
    assert "docker login 127.0.0.1:1" in caught.value.hint


@pytest.mark.parametrize("target", ["launcher-job", "team/launcher-job", "example.com/", "example.com/UPPER", ""])
def test_a_name_without_a_registry_is_refused(target):
    """The Docker client would send it to a public registry."""
    with pytest.raises(ImageError, match="names no registry"):
        push_image(target)
