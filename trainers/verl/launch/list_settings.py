"""Write `settings.json`: every setting of the installed verl, by its dotted key, with the kind of its default.

    .venv-verl/bin/python -m trainers.verl.launch.list_settings

A plan checks `cluster.verl` against that list, so that it need not import verl; a test of the verl environment makes
the list again and compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("settings.json")
OPEN = "open"
"""The kind of an empty block: what stands in it is passed on to vLLM, transformers or a class of one's own."""
ANY = "any"
"""The kind of a setting whose default is null or a list."""


def list_settings() -> dict[str, str]:
    """Dotted key → kind (`bool`, `int`, `float`, `str`, `any`, `open`), from verl's own configuration tree."""
    import hydra
    from omegaconf import OmegaConf

    with hydra.initialize_config_module("verl.trainer.config", version_base=None):
        config = hydra.compose("ppo_trainer")
    tree = OmegaConf.to_container(config, resolve=False)
    assert isinstance(tree, dict)
    return dict(sorted(_leaves(tree, "")))


def _leaves(tree: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in {**_defaults(tree.get("_target_")), **tree}.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        elif name != "_target_":
            yield key, _kind(value)


def _defaults(target: str | None) -> dict[str, Any]:
    """Plain fields of the dataclass that a block becomes: some stand in no file."""
    if target is None:
        return {}
    from hydra.utils import get_class

    kind = get_class(target)
    plain = (bool, int, float, str, type(None))
    found = fields(kind) if is_dataclass(kind) else ()
    return {one.name: one.default for one in found if isinstance(one.default, plain) and not one.name.startswith("_")}


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return OPEN
    is_reference = isinstance(value, str) and ("${" in value or value == "???")
    if value is None or isinstance(value, list) or is_reference:
        return ANY
    return type(value).__name__


if __name__ == "__main__":
    FILE.write_text(json.dumps(list_settings(), indent=0) + "\n")
    print(FILE)
