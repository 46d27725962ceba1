"""The exception tree. Everything here is something a user can fix; anything else is a bug and shows a traceback.

OrchError                   exit 2   eval/errors.py
├── SpecError                        an experiment file or override: unknown key, group, type, value
├── PlanError                        a plan that cannot be made or run: empty grid, gang larger than the cluster
├── StoreError                       the runs folder: not writable, disk full, written by a newer orch
├── TrackingError   exit 1           MLflow cannot be reached or refuses; the sweep itself is not affected
├── DataError               eval     a benchmark or training set missing, malformed, or not the declared one
├── ModelError              eval     a model folder missing, incomplete, or unfit
├── EngineError     exit 1  eval     a sampling engine that does not start or stopped answering
│   └── EndpointError       eval     exit 2: an endpoint that does not answer from the start, or lacks the model
├── TrialFailed     exit 1           a trial ended without a result; its log says why
└── SweepIncomplete exit 3           a sweep's own Ray died; run the same command again
"""

from __future__ import annotations

from eval.errors import DataError, EngineError, ModelError, OrchError

__all__ = [
    "DataError",
    "EngineError",
    "ModelError",
    "OrchError",
    "PlanError",
    "SpecError",
    "StoreError",
    "SweepIncomplete",
    "TrackingError",
    "TrialFailed",
]


class SpecError(OrchError):
    """An experiment file or a command-line override does not say something meaningful."""


class PlanError(OrchError):
    """The spec is well-formed but no plan follows from it."""


class StoreError(OrchError):
    """The runs folder cannot be read or written as needed."""


class TrackingError(OrchError):
    """MLflow cannot be reached, or refuses what it is sent."""

    exit_code = 1


class TrialFailed(OrchError):
    """A trial's process ended without a result."""

    exit_code = 1


class SweepIncomplete(OrchError):
    """Some trials of the sweep have no result yet."""

    exit_code = 3
