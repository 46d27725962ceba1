"""Drives a kept plan to its end in a process that tests may kill: `python drive.py RUNS EXPERIMENT SCHEDULER`."""

import os
import sys
from pathlib import Path

from orchestrator.store.store import Store
from orchestrator.sweep.backends import open_scheduler
from orchestrator.sweep.driver import SweepSettings, run_sweep
from orchestrator.trial.stop import StopSignal, stop_file, stop_on_signals

if __name__ == "__main__":
    store, experiment, scheduler = Store(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
    stop = StopSignal(stop_file(store.root, experiment))
    with stop_on_signals(stop):
        outcome = run_sweep(
            store.plans.read(experiment),
            store,
            settings=SweepSettings(
                cache_folder=store.root / "models",
                data_folder=None,
                argv=("orch", "sweep", "test.yaml"),
                python_path=os.environ["PYTHONPATH"],
            ),
            open_scheduler=lambda: open_scheduler(scheduler, address=None),  # type: ignore[arg-type]
            stop=stop,
            on_event=lambda line: print("event:", line, flush=True),
        )
    sys.exit(outcome.exit_code)
