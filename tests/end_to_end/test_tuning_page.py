"""docs/tuning.md runs as it is written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import launcher

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tuning.md"


@pytest.mark.slow
def test_the_page_on_tuning_runs_as_it_is_written(tmp_path, home, monkeypatch):
    blocks = re.findall(r"```(python|sh)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    environment = {
        **os.environ,
        "LAUNCHER_RUNTIME": "process",
        "LAUNCHER_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    printed = ""
    for language, text in blocks:
        if language == "python":
            name = re.match(r"# (\S+\.py)\n", text).group(1)
            (tmp_path / name).write_text(text)
            if name == "train.py":
                continue
            text = f"python {name}"
        ended = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        printed += ended.stdout
    assert "BestTrainingJob" in printed
    assert launcher.TuningJob("tune-1").status == "Completed"
    assert launcher.TuningJob("tune-2").best_training_job is not None
