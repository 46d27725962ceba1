"""Loaded by every Python process of a test that has this folder on PYTHONPATH: hurts a verl trial from within.

ORCH_TEST_REWARD_RAISES=1 lets verl's reward function raise; ORCH_TEST_MAIN=FILE takes the place of
`trainers.verl.inside.main`. Modules are changed when somebody imports them, as a start must stay light for
all others.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location


class _Poison(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "trainers.verl.inside.reward":
            return None
        spec = PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.compute_score = _raise

        spec.loader.exec_module = exec_module
        return spec


class _Stand(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        return (
            spec_from_file_location(name, os.environ["ORCH_TEST_MAIN"]) if name == "trainers.verl.inside.main" else None
        )


def _raise(*arguments, **options):
    raise ZeroDivisionError("the reward function divides by zero")


if os.environ.get("ORCH_TEST_REWARD_RAISES"):
    sys.meta_path.insert(0, _Poison())
if os.environ.get("ORCH_TEST_MAIN"):
    sys.meta_path.insert(0, _Stand())
