"""The README's commands that hand one job to the next, read from the page and run one after the other."""

import re
import shlex
from pathlib import Path

import pytest

from tests.shell import run_launcher

README = Path(__file__).parents[2] / "README.md"
SMALL = {  # the same commands with less work
    "collect.py": ["-p", "collection.num_envs=4"],
    "train.py": ["-p", "agent.members=1"],
    "evaluate.py": ["-p", "evaluation.episodes=1"],
}


@pytest.mark.slow
def test_each_command_of_the_readme_takes_what_the_last_one_left(tmp_path, home):
    lines = re.findall(r"^launcher (fit (?:\w+\.py )?--preset .*?)(?: +#.*)?$", README.read_text(), re.MULTILINE)
    commands = [shlex.split(line.replace("training.epochs=80", "training.epochs=1")) for line in lines]
    programs = [command[1] if command[1].endswith(".py") else "train.py" for command in commands]
    assert programs == ["collect.py", "train.py", "evaluate.py"]
    said = []
    for command, program in zip(commands, programs, strict=True):
        answer = run_launcher(*command, *SMALL[program], cwd=tmp_path, LAUNCHER_RUNTIME="process")
        assert answer.returncode == 0, answer.stderr
        said.append(answer.stdout)
    assert "/opt/ml/output/data/cartpole_dataset.csv is output/cartpole_dataset.csv in /" in said[0]
    assert re.search(r"Next job: launcher fit --preset PRESET -i train=preset-cartpole-random-", said[0])
    assert re.search(r"Next job: launcher fit evaluate.py --preset PRESET -i checkpoint=preset-cartpole-ddqn", said[1])
    assert "Total reward=" in said[2]
    assert not list(tmp_path.glob("*.csv")), "nothing was unpacked by hand"
