"""What pyproject.toml cannot say: `experiments/`, at the top of the repository, is installed inside `orchestrator`.

A wheel holds it as `orchestrator/experiments`; a top-level package of that name would meet the user's own folder.
"""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["orchestrator*", "trainers*", "eval*", "dashboards*"]),
        "orchestrator.experiments",
    ],
    package_dir={"orchestrator.experiments": "experiments"},
)
