"""The examples of docs/data.md run as they stand and print what the page shows."""

import re
from pathlib import Path

from batch_rl.data.tables import check_frame
from batch_rl.formats.npz import write_npz

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    assert len(examples) == 6
    for example in examples:
        exec(compile(example, "docs/data.md", "exec"), names)
    printed = capsys.readouterr().out
    shown = re.search(r"^```\n(log\.csv: .*?)^```", PAGE, re.M | re.S).group(1)
    assert printed.startswith(shown)
    assert len(names["steps"]) == len(names["df"]) - 500
    assert len(names["returns"]) == len(names["df"])
    assert "500 episodes; no column 'terminated'" in printed
    write_npz(tmp_path / "kept.npz", names["episodes"])


def test_every_column_that_the_page_names_is_known():
    """A table with all columns but the alternatives, and a map or a list where the page says so."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "action": ["b"],
            "action_probability": [0.25],
            "mdp_id": ["one"],
            "reward": [1.0],
            "state_features": [{"x": 1.0, "y": 2.0}],
            "sequence_number": [5],
            "terminated": [0],
            "truncated": [1],
            "next_state_feature_0": [3.0],
            "next_state_feature_1": [4.0],
            "cumulative_rewards": [1.0],
            "possible_actions": [["a", "b"]],
        }
    )
    report, episodes = check_frame(table)
    assert not report.problems
    assert (episodes.actions.tolist(), episodes.propensities.tolist()) == ([1], [0.25])
    assert (episodes.observations.tolist(), episodes.final_observations.tolist()) == ([[1.0, 2.0]], [[3.0, 4.0]])
