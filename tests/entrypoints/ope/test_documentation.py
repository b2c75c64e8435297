"""The examples of docs/batch-rl.md run, one after the other, without a warning."""

import re
import warnings
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "batch-rl.md"


def test_the_examples_of_the_page_run():
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(examples) >= 6
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for example in examples:
            exec(compile(example, str(PAGE), "exec"), names)
