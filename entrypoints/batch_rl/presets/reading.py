"""Reading presets: YAML files, with hyperparameters that override single values."""

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from batch_rl.errors import PresetError
from batch_rl.presets import reagent as reagent_preset
from batch_rl.presets.schema import (
    ALIASES,
    ALL_KINDS,
    PRESET_NAMES,
    SCHEMA,
    SECTIONS,
    TEXT,
    Columns,
    Key,
    OnlinePreset,
    Preset,
    TrainingPreset,
    Value,
    checked_value,
    item_types,
    keys_of,
    listed,
    sections_of,
    shorten,
)

MAX_PRESET_BYTES = 1_000_000
MAX_DEPTH = 8

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
)


def scalar(text: str) -> Value:
    """Read unquoted text by YAML 1.2's core rules: ``1e-4`` is a number, ``yes`` and ``1:30`` are text."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text) and len(text) < 1000:
        return int(text)
    if _FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


class _PlainLoader(yaml.SafeLoader):
    """Builds nodes, never objects: no tags, no aliases, no deep nesting."""

    yaml_implicit_resolvers: dict[typing.Any, typing.Any] = {}  # noqa: RUF012 - as in the base class; see ``scalar``
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases (& and *) are not allowed; write the value out"
        elif getattr(event, "tag", None):
            problem = f"the tag {shorten(str(event.tag))} is not allowed; presets hold plain values only"
        elif self.depth >= MAX_DEPTH:
            problem = "nested too deeply; a preset has sections, and keys in them"
        if problem:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(path: Path) -> yaml.Node:
    """Return the root node of a file, or raise PresetError with the line of the trouble."""
    shown = shown_path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PRESET_BYTES + 1)
    except OSError as error:
        raise PresetError(f"{shown}: cannot be read ({error.strerror}).") from error
    if len(content) > MAX_PRESET_BYTES:
        raise PresetError(f"{shown}: larger than 1 MB, so it is not a preset.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PresetError(f"{shown}, line {line}: not UTF-8 text; save the file as UTF-8.") from error
    try:
        loader = _PlainLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line_number = mark.line + 1 if mark else 1
        lines = text.splitlines()
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        if "'\\t'" in problem or (line_number <= len(lines) and re.match(r" *\t", lines[line_number - 1])):
            problem = "a tab; YAML is indented with spaces"
        raise PresetError(f"{shown}, line {line_number}: {problem}.") from error
    except yaml.YAMLError as error:
        raise PresetError(f"{shown}: not YAML text ({shorten(str(error))}).") from error
    if node is None:
        raise PresetError(f"{shown}: the file is empty; a preset holds sections such as 'environment:'.")
    return node


def _entries(node: yaml.Node, shown: str, prefix: str = "") -> Iterable[tuple[str, int, yaml.Node]]:
    """Yield (dotted key, line, value node) of a mapping; refuse keys that are lists, or given twice."""
    if not isinstance(node, yaml.MappingNode):
        noun = f"'{prefix[:-1]}'" if prefix else "a preset"
        raise PresetError(f"{shown}, line {node.start_mark.line + 1}: {noun} must be a mapping ('key: value' lines).")
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise PresetError(f"{shown}, line {line}: a key must be a plain word.")
        name = prefix + key_node.value
        if name in seen:
            raise PresetError(f"{shown}, line {line}: key '{shorten(name)}' again; first given on line {seen[name]}.")
        seen[name] = line
        yield name, line, value_node


def _plain(node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return scalar(node.value) if node.style is None else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    return {str(key.value): _plain(value) for key, value in node.value}


def _is_reagents(root: yaml.Node) -> bool:
    return isinstance(root, yaml.MappingNode) and any(key.value == reagent_preset.MARK for key, _ in root.value)


def _leaves(node: yaml.Node, shown: str, prefix: str = "") -> dict[str, tuple[int, object]]:
    """Return (line, value) by dotted key of everything in a mapping that is no mapping, or an empty one."""
    leaves: dict[str, tuple[int, object]] = {}
    for name, line, value in _entries(node, shown, prefix):
        if isinstance(value, yaml.MappingNode) and value.value:
            leaves |= _leaves(value, shown, f"{name}.")
        else:
            leaves[name] = (line, _plain(value))
    return leaves


def preset_notes(hyperparameters: Mapping[str, object], folders: Sequence[Path]) -> list[str]:
    """Return what the log of a job should say about its preset: which keys of another program's have no effect.

    Raises:
        PresetError: as ``choose_preset``.
    """
    path = _named_preset(hyperparameters, folders)
    root = _compose(path)
    if not _is_reagents(root):
        return []
    shown = shown_path(path)
    return [f"{path.name}: {note}" for note in reagent_preset.translate(_leaves(root, shown), shown).notes]


def read_preset(path: Path) -> tuple[set[str], dict[str, Value]]:
    """Return the sections that a file has and its values by dotted key, all checked."""
    shown = shown_path(path)
    sections: set[str] = set()
    values: dict[str, Value] = {}

    def take(name: str, line: int, node: yaml.Node) -> None:
        if name not in SCHEMA:
            raise PresetError(f"{shown}, line {line}: unknown key '{shorten(name)}'{_did_you_mean(name, _words())}")
        try:
            values[name] = checked_value(_plain(node), SCHEMA[name])
        except ValueError as error:
            raise PresetError(f"{shown}, line {line}: '{name}' is {error}.") from error

    root = _compose(path)
    if _is_reagents(root):
        translation = reagent_preset.translate(_leaves(root, shown), shown)
        for name, (source, value) in translation.values.items():
            try:
                values[name] = checked_value(value, SCHEMA[name])
            except ValueError as error:
                raise PresetError(f"{source} is {error}.") from error
        return translation.sections, values
    for name, line, node in _entries(root, shown):
        if name not in SECTIONS:
            take(name, line, node)
            continue
        sections.add(name)
        for entry in _entries(node, shown, f"{name}."):
            take(*entry)
    return sections, values


PresetKind = typing.TypeVar("PresetKind", bound=Preset)


def load_preset(path: Path, kind: type[PresetKind], overrides: Mapping[str, object] | None = None) -> PresetKind:
    """Read the preset at ``path`` for the entry point that ``kind`` belongs to.

    Args:
        path: a YAML file, UTF-8, at most 1 MB.
        kind: CollectionPreset, TrainingPreset, OnlinePreset or EvaluationPreset.
        overrides: hyperparameters by dotted key (``agent.learning_rate``) or by a name in ``ALIASES``; values
            as in YAML, or as text that is read like unquoted YAML.
    Raises:
        PresetError: the file cannot be read, a key is unknown, a value is wrong, or a section is missing.
    """
    shown = shown_path(path)
    sections, values = read_preset(path)
    wanted = sections_of(kind)
    if missing := [name for name in wanted if name not in sections]:
        raise PresetError(
            f"{shown}: {kind.entry_point} needs section{'s' if len(missing) > 1 else ''} "
            f"{listed(missing)}, which this preset lacks{_written_for(sections)}."
        )
    if unread := sorted(kind.unread & values.keys()):
        raise PresetError(f"{shown}: {listed(unread)} cannot be set where a policy learns online; leave it out.")
    aliases = {**ALIASES, **kind.aliases}
    given: dict[str, str] = {}
    for name, raw in (overrides or {}).items():
        key_name = aliases.get(name, name)
        if key_name not in SCHEMA:
            candidates = [*_words(), *aliases, *PRESET_NAMES]
            raise PresetError(f"unknown hyperparameter '{shorten(name)}'{_did_you_mean(name, candidates)}")
        section = key_name.rpartition(".")[0]
        if section and section not in wanted:
            raise PresetError(
                f"hyperparameter '{name}': {kind.entry_point} reads no section '{section}'; leave it out."
            )
        if key_name in kind.unread:
            raise PresetError(f"hyperparameter '{name}' cannot be set where a policy learns online; leave it out.")
        key = SCHEMA[key_name]
        try:
            value = checked_value(_from_text(raw, key), key)
        except ValueError as error:
            raise PresetError(f"hyperparameter '{name}' is {error}.") from error
        if key_name in given and values[key_name] != value:
            raise PresetError(f"hyperparameters '{given[key_name]}' and '{name}' set '{key_name}' differently.")
        given[key_name] = name
        values[key_name] = value
    built = {}
    for name, section_type in wanted.items():
        arguments = {key: values[f"{name}.{key}"] for key in keys_of(section_type) if f"{name}.{key}" in values}
        for required in dataclasses.fields(section_type):
            if required.default is dataclasses.MISSING and required.name not in arguments:
                raise PresetError(f"{shown}: section '{name}' lacks the key '{name}.{required.name}'.")
        built[name] = section_type(**arguments)
    if "seed" in values:
        built["seed"] = values["seed"]
    return kind(**built)


MAX_NAME_BYTES = 250  # on every common file system, with the ending


def find_preset(name: object, folders: Sequence[Path]) -> Path:
    """Return the file of a preset, from the first folder that has it; ``.yaml`` or ``.yml`` may be named or left out.

    Raises:
        PresetError: not a plain name, or in none of the folders; the message lists the nearest names.
    """
    if not isinstance(name, str) or not name or name != Path(name).name or name.startswith("."):
        raise PresetError(f"a preset is chosen by its name, such as 'preset-cartpole-ddqnbcq'; got {name!r}.")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise PresetError(f"no file has a name as long as that of the preset {name[:60]!r}...")
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    endings = (Path(name).suffix,) if stem != name else (".yaml", ".yml")
    for folder in folders:
        for ending in endings:
            if (folder / f"{stem}{ending}").is_file():
                return folder / f"{stem}{ending}"
    candidates = sorted(
        {
            path.stem
            for folder in folders
            if folder.is_dir()
            for path in folder.iterdir()
            if path.suffix in (".yaml", ".yml")
        }
    )
    looked_in = ", ".join(str(folder) for folder in folders)
    hint = _did_you_mean(stem, candidates)
    if hint == "." and candidates:
        hint = f"; known: {listed(candidates)}."
    raise PresetError(f"no preset {name!r} in {looked_in}{hint}")


def preset_folders(entry_point: Path) -> list[Path]:
    """Return where presets may lie: ``presets`` in the source folder, beside it, or in a checkout."""
    source = entry_point.resolve().parent
    return [source / "presets", source, source.parent / "presets"]


def choose_preset(kind: type[PresetKind], hyperparameters: Mapping[str, object], folders: Sequence[Path]) -> PresetKind:
    """Find and load the preset that a job's hyperparameters name, with their overrides.

    Raises:
        PresetError: no preset is named, or two are, or the named one cannot be loaded.
    """
    return load_preset(_named_preset(hyperparameters, folders), kind, _overrides(hyperparameters))


def choose_training_preset(
    hyperparameters: Mapping[str, object], folders: Sequence[Path]
) -> TrainingPreset | OnlinePreset:
    """Find and load a preset of ``train.py``: for logged data, or for an environment where it has a section ``online``.

    Raises:
        PresetError: as ``choose_preset``.
    """
    path = _named_preset(hyperparameters, folders)
    kind: type[TrainingPreset | OnlinePreset] = OnlinePreset if "online" in read_preset(path)[0] else TrainingPreset
    return load_preset(path, kind, _overrides(hyperparameters))


def preset_name(hyperparameters: Mapping[str, object]) -> str:
    """Return the name of the preset that a job's hyperparameters name; empty where they name none."""
    names = [str(hyperparameters[key]) for key in PRESET_NAMES if key in hyperparameters]
    return names[0].removesuffix(".yaml").removesuffix(".yml") if names else ""


def _named_preset(hyperparameters: Mapping[str, object], folders: Sequence[Path]) -> Path:
    names = [hyperparameters[key] for key in PRESET_NAMES if key in hyperparameters]
    if not names:
        raise PresetError("no preset is chosen; set the hyperparameter 'preset', such as preset-cartpole-ddqnbcq.")
    if names[0] != names[-1]:
        raise PresetError("hyperparameters 'preset' and 'RLCOACH_PRESET' name different presets; set one.")
    return find_preset(names[0], folders)


def _overrides(hyperparameters: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in hyperparameters.items() if key not in PRESET_NAMES}


def _from_text(raw: object, key: Key) -> object:
    """Hyperparameters may arrive as text, and a flag as 0 or 1."""
    if raw == "null" and type(None) in typing.get_args(key.type):
        return None
    if isinstance(raw, str) and key.type == Columns | None:
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    if isinstance(raw, str) and key.type == tuple[str, ...]:
        return [item for text in raw.strip().removeprefix("[").removesuffix("]").split(",") if (item := text.strip())]
    if isinstance(raw, str) and key.type not in TEXT:
        if item_types(key.type) and (raw.strip() not in ("", "null") or type(None) not in typing.get_args(key.type)):
            return [scalar(item.strip()) for item in raw.strip().removeprefix("[").removesuffix("]").split(",")]
        raw = scalar(raw)
    if key.type is bool and type(raw) is int and raw in (0, 1):
        return bool(raw)
    return raw


def _words() -> list[str]:
    return [*SECTIONS, *SCHEMA]


def _did_you_mean(name: str, words: Iterable[str]) -> str:
    candidates = list(words)
    nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if not nearest:  # a right key without its section, or in another one
        nearest = [word for word in candidates if word.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f"; did you mean '{nearest[0]}'?" if nearest else "."


def _written_for(sections: set[str]) -> str:
    fitting = [kind.entry_point for kind in fitting_kinds(sections)]
    return f" (it is written for {listed(fitting)})" if fitting else ""


def fitting_kinds(sections: set[str]) -> list[type[Preset]]:
    """Return what a file with these sections is complete for."""
    return [kind for kind in ALL_KINDS if set(sections_of(kind)) <= sections]


def shown_path(path: Path) -> str:
    """Return a path as messages have it: below the working folder by its name alone."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
