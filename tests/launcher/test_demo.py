"""What the demo prints of the estimates."""

import dataclasses
import io
from pathlib import Path

import pandas as pd
from rich.console import Console

from launcher.cli import demo, ope
from launcher.errors import RuntimeUnavailableError


def printed(show, *arguments):
    text = io.StringIO()
    show(Console(file=text, width=100), *arguments)
    return text.getvalue()


def result(judgement, not_judged=""):
    nothing = dict.fromkeys(("collecting", "training", "evaluation", "playing"))
    numbers = {"random_reward": 21.0, "learned_reward": 200.0, "episodes": 100}
    return demo.DemoResult(**nothing, **numbers, estimates=pd.DataFrame(), judgement=judgement, not_judged=not_judged)


def estimate(name, value, lower, upper, uncut=None):
    return {"estimator": name, "value": value, "lower": lower, "upper": upper, "level": 0.95, "uncut": uncut}


def test_the_estimate_to_trust_comes_first_and_a_cut_value_says_so():
    judgement = {
        "episodes": 75,
        "bounds": [1.0, 100.0],
        "behavior": {"value": 20.6, "lower": 18.0, "upper": 23.8},
        "policies": [
            {
                "policy": "softmax(Q / 2)",
                "estimates": [estimate("FQE", 61.9, 51.6, 72.3), estimate("WDR", 100.0, 58.9, 100.0, uncut=117.1)],
            }
        ],
    }
    text = printed(demo._print_judgement, result(judgement))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows == [
        ["learned", "FQE", "61.9", "51.6 to 72.3", "the estimate to trust"],
        ["learned", "WDR", "100.0 (cut; it says 117.1)", "58.9 to 100.0", "rests on few episodes"],
        ["random", "mean of the log", "20.6", "18.0 to 23.8", "what there is to beat"],
    ]
    assert "from 1 to 100 is possible" in text


def test_the_truth_stands_beside_the_interval_and_says_whether_it_holds():
    judgement = {"policies": [{"estimates": [estimate("FQE", 61.9, 51.6, 72.3)]}]}
    truth = {"policy": "softmax(Q / 2)", "discounted_mean": 63.4, "discounted_mean_interval": [61.0, 65.8],
             "episodes": 100}  # fmt: skip
    played = dataclasses.replace(result(judgement), truth=truth)
    text = " ".join(printed(demo._print_truth, played).split())
    assert "softmax(Q / 2), played without a limit, earns 63.4 (61.0 to 65.8), discounted, by 100 episodes" in text
    assert "FQE said 61.9 from the log alone; its interval, 51.6 to 72.3, holds the truth" in text
    beyond = dataclasses.replace(played, truth=truth | {"discounted_mean": 80.0})
    assert "does not hold the truth" in " ".join(printed(demo._print_truth, beyond).split())
    judgement["policies"][0]["estimates"][0]["lower"] = None
    assert "FQE said 61.9 from the log alone, and no interval" in printed(demo._print_truth, played)
    assert printed(demo._print_truth, result(None, "torch is not installed")) == ""


def test_coachs_column_is_marked_where_no_policy_can_earn_it():
    epochs = pd.DataFrame(
        {"Epoch": [1, 2], "Weighted Importance Sampling": [19.8, 36.5], "Sequential Doubly Robust": [99.9, 138.2]}
    )
    text = printed(demo._print_epochs, epochs)
    assert "138.20*" in text
    assert "99.90 " in text
    assert "* more than the 100 that a policy can earn" in " ".join(text.split())
    assert "*" not in printed(demo._print_epochs, epochs[:1])


def test_a_machine_without_the_libraries_is_told_so_and_the_demo_goes_on(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeUnavailableError("torch is not installed", "Install it.")

    monkeypatch.setattr(ope, "judge_policies", refuse)
    judgement, why = demo._judge(Path("log"), Path("checkpoint"), 0)
    assert judgement is None
    assert "torch is not installed" in printed(demo._print_judgement, result(judgement, why))
