"""The page of the site with every public name of ``launcher``, by its signature and its docstring.

python .ci/make_reference.py > reference.md       # make docs does so for the site
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

GROUPS = {
    "Training": (
        *("fit", "Estimator", "RLEstimator", "RLToolkit", "RLFramework", "TrainingInput"),
        *("TrainingJob", "TrainingJobAnalytics", "compare_jobs", "replay_job"),
    ),
    "Tuning": ("HyperparameterTuner", "HyperparameterTuningJobAnalytics", "TuningJob"),
    "Processing": (
        *("Processor", "ScriptProcessor", "FrameworkProcessor", "ProcessingInput", "ProcessingOutput"),
        "ProcessingJob",
    ),
    "Models": ("Model", "Transformer", "TransformJob", "Predictor", "DataCaptureConfig"),
    "Session": ("Session", "LocalSession", "get_execution_role", "wait_for_s3_object"),
    "Errors": ("LauncherError", "BadInputError", "UnsupportedOptionError", "JobFailedError", "ModelError"),
}
HEAD = """# Reference

The public names of `launcher`, from their signatures and docstrings. What each argument of the SDK does here:
[options.md](options.md). The commands: [commands.md](commands.md). The names of the SDK's modules:
[moving-over.md](moving-over.md).
"""
_SECTIONS = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Source):(.*)$")
_ROLE = re.compile(r"``([^`]+)``")


def page(launcher: Any) -> str:
    """Return the page for the names of the package; those in no group come last."""
    grouped = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, "Others": tuple(name for name in launcher.__all__ if name not in grouped)}
    parts = [HEAD]
    for title, names in groups.items():
        if names:
            parts.append(f"## {title}\n")
            parts += [_entry(name, getattr(launcher, name)) for name in names]
    return "\n".join(parts)


def _entry(name: str, value: Any) -> str:
    lines = [f"### {name}\n", _signature(name, value), "", _text(value)]
    if inspect.isclass(value):
        for member_name, member in _members(value):
            lines += ["", f"`{member_name}{_arguments(member)}`: {_first_sentence(member)}"]
    return "\n".join(lines).rstrip() + "\n"


def _members(kind: type) -> list[tuple[str, Any]]:
    """Return the public methods and properties of a class, its bases' among them, in the order of their names."""
    members = []
    for name, member in sorted(inspect.getmembers(kind)):
        documented = inspect.getdoc(member)
        own = any(name in vars(base) and base.__module__.startswith("launcher") for base in kind.__mro__)
        if not name.startswith("_") and own and documented and (callable(member) or isinstance(member, property)):
            members.append((name, member))
    return members


def _signature(name: str, value: Any) -> str:
    if inspect.isclass(value) and (issubclass(value, Exception) or value.__init__ is object.__init__):
        return f"```python\n{name}\n```"
    arguments = _parameters(value)
    line = f"{name}({', '.join(arguments)})"
    if len(line) > 100:
        line = f"{name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"
    return f"```python\n{line}\n```"


def _parameters(value: Any) -> list[str]:
    parameters = list(inspect.signature(value).parameters.values())
    texts = []
    for position, parameter in enumerate(parameters):
        before = parameters[position - 1].kind if position else None
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            texts.append("*")
        texts.append(_parameter(parameter))
    return texts


def _parameter(parameter: inspect.Parameter) -> str:
    """Return a parameter as it is written: annotations are texts, and ``str`` would put them into quotes."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    empty = parameter.empty
    annotation = "" if parameter.annotation is empty else f": {parameter.annotation}"
    default = "" if parameter.default is empty else f"{' = ' if annotation else '='}{parameter.default!r}"
    return f"{stars}{parameter.name}{annotation}{default}"


def _arguments(member: Any) -> str:
    if isinstance(member, property):
        return ""
    names = [parameter.name for parameter in inspect.signature(member).parameters.values() if parameter.name != "self"]
    return f"({', '.join(names)})"


def _text(value: Any) -> str:
    """Return a docstring as Markdown: sections become lists."""
    lines, in_section = [], False
    for line in (inspect.getdoc(value) or "").splitlines():
        section = _SECTIONS.match(line)
        if section:
            in_section = True
            lines += ["", f"**{section[1]}**{':' if section[2] else ''}{section[2]}", ""]
        elif in_section and re.match(r"    \S", line):
            entry = re.match(r"    ([\w*., ]+): (.*)", line)
            lines.append(f"- `{entry[1]}`: {entry[2]}" if entry else f"- {line.strip()}")
        else:
            lines.append(f"  {line.strip()}" if in_section and line.strip() else line)
    return _ROLE.sub(r"`\1`", re.sub(r"\n{3,}", "\n\n", "\n".join(lines)))


def _first_sentence(member: Any) -> str:
    text = " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())
    return _ROLE.sub(r"`\1`", text)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import launcher

    print(page(launcher), end="")
