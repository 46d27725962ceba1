"""Experiment files to plain dictionaries through Hydra's compose API: groups are folders of YAML found by path.

The experiment's own folder comes first, the experiments that come with orch after it. Hydra takes tens of
milliseconds a composition, so a combination of group choices is composed once, and where the files chosen are plain
(they pull in no others) each choice is composed once instead of each combination, choices of different groups together.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrator.config.fields import GROUPS, unknown_name
from orchestrator.config.lines import place_in
from orchestrator.config.packaged import PACKAGED
from orchestrator.errors import SpecError

_PULLS_IN_OTHERS = re.compile(r"^(defaults\s*:|#\s*@package)", re.MULTILINE)

Config = dict[str, Any]


class Composer:
    """Composes one experiment file with different group choices."""

    def __init__(self, file: Path) -> None:
        """Compose the experiment as it stands.

        Raises:
            SpecError: no such file, not YAML, or a group or choice that does not exist.
        """
        check_file(file)
        self.file = file
        self._folders = [folder for folder in (file.resolve().parent, PACKAGED) if folder.is_dir()]
        self._cache: dict[tuple[tuple[str, str], ...], Config] = {}
        with_hydra = self._run_hydra([])
        self._default_choices: dict[str, str] = {
            group: choice for group, choice in with_hydra.pop("hydra")["runtime"]["choices"].items() if group in GROUPS
        }
        self._cache[()] = with_hydra

    def choices(self, group: str) -> list[str]:
        """Names of the files of a group."""
        found = {
            path.relative_to(folder / group).with_suffix("").as_posix()
            for folder in self._folders
            for path in (folder / group).rglob("*.yaml")
        }
        return sorted(found)

    def choice(self, group: str, chosen: Mapping[str, str]) -> str | None:
        """The file of a group that is in force under some choices."""
        return chosen.get(group) or self._default_choices.get(group)

    def file_of(self, group: str, choice: str) -> Path | None:
        """Where the file of a choice lies."""
        places = [folder / group / f"{choice}.yaml" for folder in self._folders]
        return next((place for place in places if place.is_file()), None)

    def check_choice(self, group: str, choice: Any, *, where: str) -> None:
        """Raise Misfit if a group has no such file."""
        known = self.choices(group)
        if choice not in known:
            raise unknown_name(group, str(choice), known, where=where)

    def compose(self, chosen: Mapping[str, str]) -> Config:
        """The experiment under some group choices, not to be changed: interpolations are left as they are.

        Raises:
            SpecError: what Hydra refuses.
        """
        chosen = {group: choice for group, choice in chosen.items() if choice != self._default_choices.get(group)}
        key = tuple(sorted(chosen.items()))
        if key not in self._cache:
            is_plain = all(self._is_plain(group, choice) for group, choice in chosen.items())
            self._cache[key] = self._by_section(chosen) if len(chosen) > 1 and is_plain else self._together(chosen)
        return self._cache[key]

    def compose_ahead(self, choices: Mapping[str, Sequence[str]]) -> None:
        """Compose plain choices to come: in one run of Hydra the first of every group, in the next the second."""
        defaults = self._default_choices
        to_come = [
            [(group, name) for name in names if name != defaults.get(group) and self._is_plain(group, name)]
            for group, names in choices.items()
        ]
        for row in zip_longest(*to_come):
            together = dict(choice for choice in row if choice is not None)
            composed = self._together(together)
            for group, name in together.items():
                self._cache[((group, name),)] = {**self._cache[()], group: composed[group]}

    def _by_section(self, chosen: Mapping[str, str]) -> Config:
        sections = {group: self.compose({group: choice})[group] for group, choice in chosen.items()}
        return {**self._cache[()], **sections}

    def _together(self, chosen: Mapping[str, str]) -> Config:
        overrides = [
            f"{'' if group in self._default_choices else '+'}{group}={choice}" for group, choice in chosen.items()
        ]
        config = self._run_hydra(overrides)
        del config["hydra"]
        return config

    def _is_plain(self, group: str, choice: str) -> bool:
        """Whether neither the file nor the one it replaces reaches beyond its own section."""
        names = [choice, *([self._default_choices[group]] if group in self._default_choices else [])]
        files = [self.file_of(group, name) for name in names]
        return all(file is not None and not _PULLS_IN_OTHERS.search(file.read_text()) for file in files)

    def _run_hydra(self, overrides: Sequence[str]) -> Config:
        search = [f'"file://{folder}"' for folder in self._folders[1:] if folder != self._folders[0]]
        arguments = [*overrides, *([f"hydra.searchpath=[{','.join(search)}]"] if search else [])]
        GlobalHydra.instance().clear()
        try:
            with warnings.catch_warnings(), initialize_config_dir(config_dir=str(self._folders[0]), version_base="1.3"):
                # Without `_self_` the file's own keys win over its defaults, which is what everybody means.
                warnings.filterwarnings("ignore", message=".*Defaults list is missing `_self_`")
                composed = compose(self.file.stem, overrides=arguments, return_hydra_config=True)
            choices = dict(composed.hydra.runtime.choices)
            OmegaConf.set_struct(composed, False)
            del composed["hydra"]
            plain = OmegaConf.to_container(composed, resolve=False)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            raise self._explain(error) from error
        assert isinstance(plain, dict)
        return {**{str(key): value for key, value in plain.items()}, "hydra": {"runtime": {"choices": choices}}}

    def _explain(self, error: Exception) -> SpecError:
        """What Hydra or YAML says, in our words, with the file and line where one is known."""
        for cause in _chain(error):
            if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark is not None:
                return _not_yaml(cause)
            if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
                return self._missing(cause)
        if "must be a DictConfig" in str(error):
            return SpecError(
                "the experiment file is a list or a text, not a block of keys",
                where=str(self.file),
                fix="begin with `defaults:` and a list of `- group: choice`",
            )
        first_lines = [str(cause).strip().splitlines()[0] for cause in _chain(error) if str(cause).strip()]
        return SpecError(
            f"the experiment cannot be composed: {first_lines[-1] if first_lines else type(error).__name__}",
            where=str(self.file),
            fix="check `defaults:` and the interpolations of the file and of the groups it names",
        )

    def _missing(self, error: MissingConfigException) -> SpecError:
        group, _, choice = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
        if not group:
            siblings = sorted(path.stem for folder in self._folders for path in folder.glob("*.yaml"))
            misfit = unknown_name("experiment", choice, siblings, where="defaults")
        elif group not in GROUPS:
            misfit = unknown_name("group", group, list(GROUPS), where="defaults")
        else:
            misfit = unknown_name(group, choice, self.choices(group), where=f"defaults: {group}")
        return SpecError(misfit.what, where=place_in(self.file, ["defaults"], misfit.where), fix=misfit.fix)


def check_file(file: Path) -> None:
    """Raise SpecError, with the nearest names, if there is no such experiment file."""
    if file.is_file() and file.suffix == ".yaml":
        return
    folder = file.parent if file.parent.is_dir() else PACKAGED
    stems = {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.is_file()}
    close = get_close_matches(file.stem, list(stems), n=1)
    guess = f"did you mean {stems[close[0]]}? " if close else ""
    what = "an experiment file ends in .yaml" if file.is_file() else f"there is no experiment file {file}"
    listed = f"in {folder}: {', '.join(stems)}" if stems else f"there are no experiment files in {folder}"
    raise SpecError(what, where=str(file), fix=f"{guess}{listed}")


def resolve(config: Config) -> Config:
    """The configuration with its interpolations (`${recipe.steps}`) replaced.

    Raises:
        OmegaConfBaseException: an interpolation to nothing.
    """
    resolved = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _not_yaml(error: yaml.MarkedYAMLError) -> SpecError:
    mark = error.problem_mark
    assert mark is not None
    problem = (error.problem or "it does not parse").splitlines()[0]
    return SpecError(
        f"not valid YAML: {problem}",
        where=f"{mark.name}:{mark.line + 1}",
        fix="correct that line: indent with spaces, close brackets and quotes, name each key once",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
