"""Notebooks of the examples, run as Jupyter runs them: each cell by a real kernel, in the notebook's folder."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

from tests.clients.environments import client_python

EXAMPLES = Path(__file__).parents[2] / "examples"


def python_with_sdk(folder: Path) -> str:
    """Return a Python that has version 2 of the SDK, as its list names it, before everything that this one has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    packages = [_packages(client_python("sagemaker-2")), sysconfig.get_path("purelib")]
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in packages)
    Path(_packages(str(python)), "notebook.pth").write_text(lines)
    return str(python)


def _packages(python: str) -> str:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def run_notebook(
    notebook: nbformat.NotebookNode, folder: Path, *, python: str = sys.executable, working: Path = EXAMPLES
) -> list[str]:
    """Run a notebook by processes, in a home of its own; return what each code cell shows, as text.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    kernels = folder / "kernels" / "story"
    kernels.mkdir(parents=True)
    command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "story", "language": "python"}))
    manager = AsyncKernelManager(
        kernel_name="story",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels.parent)], ensure_native_kernel=False),
        connection_file=str(folder / "connection.json"),
    )
    variables = {"LAUNCHER_HOME": str(folder / "home"), "LAUNCHER_RUNTIME": "process", "OMP_NUM_THREADS": "1"}
    variables |= {"IPYTHONDIR": str(folder / "ipython"), "MPLCONFIGDIR": str(folder / "matplotlib")}
    client = NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(working)}})
    client.execute(env={**os.environ, **variables})
    return [_shown(cell) for cell in notebook.cells if cell.cell_type == "code"]


def _shown(cell: nbformat.NotebookNode) -> str:
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(texts)
