"""Images that serve by SageMaker's contract and know nothing of this project; each is built when it is first asked for.

``plain_app()`` is the standard library's HTTP server on the base image: its build needs no network.
``inference_toolkit()`` is AWS's sagemaker-inference with its Java server: its build needs a package index, and minutes.
"""

import hashlib
import json
import subprocess
from pathlib import Path

from tests.container.building import base_image, build

FOLDER = Path(__file__).parent


def plain_app() -> str:
    """Return the name of the image; see ``plain_app/serve`` for what it answers."""
    return _built(FOLDER / "plain_app")


def inference_toolkit() -> str:
    """Return the name of the image; it runs ``code/inference.py`` of the model."""
    return _built(FOLDER / "inference_toolkit")


def _built(context: Path) -> str:
    """Build an image under a name that changes with its content, unless the engine has it."""
    digest = hashlib.sha256(base_image().encode())
    for path in sorted(context.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(context).as_posix().encode() + b"\0" + path.read_bytes())
    tag = f"launcher-test-{context.name.replace('_', '-')}:{digest.hexdigest()[:12]}"
    there = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, text=True, check=False)
    if there.returncode != 0 or not json.loads(there.stdout):
        build(context, tag)
    return tag
