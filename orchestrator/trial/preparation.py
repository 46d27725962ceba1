"""What comes before training: inputs on this node, and the way in which a trial is cut to fit it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from orchestrator.config.shape import shape_of
from orchestrator.plan.trial import PlannedTrial
from orchestrator.sizing.devices import CPU_CORE
from orchestrator.sizing.fit import filled, fit
from orchestrator.store.inputs import SeenInputs
from orchestrator.store.record import Hardware, RunRecord
from orchestrator.trial.device import smallest_gpu
from orchestrator.trial.inputs import Progress, input_of_model, inputs_of, make_ready
from orchestrator.trial.retry import num_memory_failures, resources_that_fit
from trainers.recipe import Resources


def ready_inputs(
    planned: PlannedTrial,
    seen: SeenInputs,
    *,
    data_folder: Path | None,
    cache_folder: Path,
    say: Callable[[str], None],
) -> Path:
    """Make sure that sets and model are on this node and as the runs folder first saw them; the model's folder."""
    ready = partial(
        make_ready, seen=seen, data_folder=data_folder, cache_folder=cache_folder, progress=Progress(on_line=say)
    )
    for one in inputs_of([planned]):
        if one.model is None:
            ready(one)
    return ready(input_of_model(planned.trial.model))


def fitted_resources(planned: PlannedTrial, record: RunRecord, model_folder: Path, hardware: Hardware) -> Resources:
    """The plan's resources with what it leaves open chosen from the model, this node's GPUs and earlier failures."""
    wanted, shape = planned.resources, shape_of(replace(planned.trial.model, path=str(model_folder)), None)
    device, fitted = smallest_gpu(os.environ), filled(wanted)
    if shape is not None and (device is not None or not wanted.num_gpus):
        share = wanted.num_gpus / max(1, len(hardware.gpus))
        device = (device or CPU_CORE).with_less(num_memory_failures(wanted, record))
        fitted = fit(planned.trial.recipe, wanted, shape, device, host_gb=hardware.memory_gb * share).resources
    return resources_that_fit(fitted, record)
