"""Loaded by every Python process of a test that has this folder on PYTHONPATH: lets verl's reward function raise.

ORCH_TEST_REWARD_RAISES=1 arms it. The module is patched when somebody imports it, as it must stay light for all others.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder


class _Poison(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "trainers.verl.reward":
            return None
        spec = PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.compute_score = _raise

        spec.loader.exec_module = exec_module
        return spec


def _raise(*arguments, **options):
    raise ZeroDivisionError("the reward function divides by zero")


if os.environ.get("ORCH_TEST_REWARD_RAISES"):
    sys.meta_path.insert(0, _Poison())
