"""An experiment file and its groups composed by Hydra into plain values: once per combination of group choices.

Groups (`algorithm/grpo.yaml`) are looked for beside the experiment file, then in orch's own `experiments/`, so a
user's folder needs only what it changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import SpecError
from orchestrator.schema import GROUPS, PLAIN_KEYS, Misfit, check_keys, unknown_name

OWN_FOLDER = Path(__file__).parents[1] / "experiments"
Values = dict[str, Any]


class Composer:
    """Composes one experiment file under varying group choices; each combination is composed once."""

    def __init__(self, file: Path) -> None:
        """Read the file's defaults list.

        Raises:
            SpecError: the file is missing or is no YAML, or its defaults name something that is not there.
        """
        self.file = file
        self.folders = [file.parent.resolve(), *([OWN_FOLDER] if OWN_FOLDER.is_dir() else [])]
        self._text = _read(file)
        self.defaults = self._defaults()
        self._composed: dict[tuple[tuple[str, str], ...], Values] = {}

    def values(self, choices: Mapping[str, str]) -> Values:
        """The composed plain values with these group choices instead of the file's; a copy of its own.

        Raises:
            Misfit: an unknown choice, group or key.
        """
        for group, choice in choices.items():
            self.check_choice(group, choice)
        key = tuple(sorted(choices.items()))
        if key not in self._composed:
            self._composed[key] = self._compose(choices)
        return copy.deepcopy(self._composed[key])

    def check_choice(self, group: str, choice: object) -> None:
        """Raise Misfit unless `choice` is a file of the group."""
        known = self.choices(group)
        if choice not in known:
            raise unknown_name(group, str(choice), known, where=group)

    def choices(self, group: str) -> list[str]:
        """Names of a group's files."""
        return sorted({path.stem for folder in self.folders for path in (folder / group).glob("*.yaml")})

    def _defaults(self) -> dict[str, str]:
        listed = self._text.get("defaults") or []
        if not isinstance(listed, list):
            raise Misfit("defaults is no list", where="defaults", mend="write `defaults: [{algorithm: grpo}, …]`")
        chosen: dict[str, str] = {}
        for entry in listed:
            if entry == "_self_":
                continue
            if not isinstance(entry, Mapping) or len(entry) != 1:
                raise Misfit(f"defaults has {entry!r}", where="defaults", mend="write each entry as `- group: choice`")
            ((group, choice),) = entry.items()
            if group not in GROUPS:
                raise unknown_name("group", str(group), list(GROUPS), where="defaults")
            self.check_choice(group, choice)
            chosen[group] = choice
        return chosen

    def _compose(self, choices: Mapping[str, str]) -> Values:
        from hydra import compose, initialize_config_dir
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        overrides = [f"{'' if group in self.defaults else '+'}{group}={choice}" for group, choice in choices.items()]
        search = ",".join(f"file://{folder}" for folder in self.folders[1:])
        try:
            with initialize_config_dir(config_dir=str(self.folders[0]), version_base="1.3", job_name="orch"):
                config = compose(self.file.stem, overrides=[*overrides, f"hydra.searchpath=[{search}]"])
            composed = OmegaConf.to_container(config, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise SpecError(str(error).splitlines()[0], where=str(self.file), mend="see the Hydra defaults list") from error
        except yaml.YAMLError as error:
            raise _syntax_error(error, self.file) from error
        assert isinstance(composed, dict), "an experiment file is a mapping"
        values = {str(key): value for key, value in composed.items()}
        _check(values)
        return values


def set_key(values: Values, key: str, value: Any) -> None:
    """Set a dotted key in plain values."""
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = value


def _check(values: Values) -> None:
    known = [*GROUPS, *PLAIN_KEYS, "defaults"]
    for key in values:
        if key not in known:
            raise unknown_name("key", key, known, where=key)
    for group in GROUPS:
        if group in values:
            check_keys(group, values[group])


def _read(file: Path) -> Values:
    if not file.is_file():
        raise _missing(file)
    try:
        text = yaml.load(file.read_text(encoding="utf-8"), Loader=_Strict)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        raise _syntax_error(error, file) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the experiment file does not read: {error}", where=str(file)) from error
    if not isinstance(text, dict):
        raise SpecError("the experiment file holds no keys", where=str(file), mend="see experiments/smoke.yaml")
    return text


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice in one block, of which YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """As the parent, after looking for a doubled key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _missing(file: Path) -> SpecError:
    near: Iterable[Path] = file.parent.glob("*.yaml") if file.parent.is_dir() else ()
    names = {path.name: str(path) for path in [*near, *OWN_FOLDER.glob("*.yaml")]}
    close = get_close_matches(file.name, names, n=1, cutoff=0.5) or get_close_matches(f"{file.name}.yaml", names, n=1)
    guess = f"did you mean {names[close[0]]}? " if close else ""
    return SpecError("no such experiment file", where=str(file), mend=f"{guess}there are: {', '.join(sorted(names)) or 'none'}")


def _syntax_error(error: yaml.YAMLError, file: Path) -> SpecError:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    source = Path(mark.name) if mark is not None and Path(mark.name).is_file() else file
    return SpecError(f"bad YAML: {problem}", where=f"{source}{line}", mend="correct that line")
