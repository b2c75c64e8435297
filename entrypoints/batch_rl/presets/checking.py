"""Checking a job's preset before the job starts, and describing presets for people."""

from pathlib import Path

from batch_rl.errors import PresetError
from batch_rl.presets.reading import (
    choose_preset,
    choose_training_preset,
    fitting_kinds,
    load_preset,
    read_preset,
    shown_path,
)
from batch_rl.presets.schema import (
    ALIASES,
    SCHEMA,
    CollectionPreset,
    EvaluationPreset,
    OnlinePreset,
    TrainingPreset,
    listed,
    sections_of,
)


def check_request(request: object) -> None:
    """Check a job before it starts; see the module's docstring for the request.

    An entry point of the user's own has its own rules, so nothing is checked for it.

    Raises:
        PresetError: the request is malformed, or the job would refuse its preset or hyperparameters.
    """
    if not isinstance(request, dict) or {"folders", "entry_point", "hyperparameters"} - request.keys():
        raise PresetError('the request must be a JSON object with "folders", "entry_point", "hyperparameters".')
    folders, hyperparameters = request["folders"], request["hyperparameters"]
    if not isinstance(folders, list) or not isinstance(hyperparameters, dict):
        raise PresetError('"folders" must be a list and "hyperparameters" an object.')
    program, paths = Path(str(request["entry_point"])).name, [Path(str(folder)) for folder in folders]
    if program == TrainingPreset.entry_point:
        choose_training_preset(hyperparameters, paths)
    for kind in (CollectionPreset, EvaluationPreset):
        if program == kind.entry_point:
            choose_preset(kind, hyperparameters, paths)


def describe_preset(path: Path) -> dict[str, object]:
    """Return a preset's entry points and each of their keys, with value, meaning, range and other names, for people.

    Raises:
        PresetError: the file cannot be read, or is complete for no entry point.
    """
    sections, _ = read_preset(path)
    kinds = fitting_kinds(sections)
    if OnlinePreset in kinds and TrainingPreset in kinds:
        kinds.remove(TrainingPreset)
    if not kinds:
        raise PresetError(
            f"{shown_path(path)}: its sections, {listed(sorted(sections))}, are enough for no entry point."
        )
    aliases = {**ALIASES}
    rows: dict[str, dict[str, object]] = {}
    for kind in kinds:
        preset = load_preset(path, kind)
        aliases |= kind.aliases
        for name, key in SCHEMA.items():
            section, _, leaf = name.rpartition(".")
            if name in rows or name in kind.unread or (section and section not in sections_of(kind)):
                continue
            rows[name] = {
                "key": name,
                "value": getattr(getattr(preset, section) if section else preset, leaf),
                "meaning": key.meaning,
                "allowed": f"in {key.within}" if key.within else " or ".join(key.choices or ()),
            }
    for name, row in rows.items():
        row["other_names"] = [alias for alias, target in aliases.items() if target == name]
    entry_points = listed(dict.fromkeys(kind.entry_point for kind in kinds))
    return {"path": str(path), "entry_point": entry_points, "keys": [rows[name] for name in SCHEMA if name in rows]}
