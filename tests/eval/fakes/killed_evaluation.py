"""Runs one evaluation twice, undisturbed and killed at given points; a script: a kill must take a whole process.

    python killed_evaluation.py ENGINE DTYPE MODEL BENCHMARK FOLDER POINT…

Each attempt is a fork of this process, which has imported everything and computed nothing. In FOLDER/killed it kills
itself with SIGKILL as soon as it has stored POINT samples more; after every other kill some bytes are torn off the
file. The last attempt ends by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from random import Random

from eval import runner
from eval.api import Sampler, SamplingSettings
from eval.engines import hf, open_endpoint, open_sampler
from eval.progress import EvalProgress
from eval.samples import FILE

SETTINGS = SamplingSettings(num_samples=24, temperature=1.0, max_new_tokens=8, template="plain")
LONGEST_TEAR = 400


def opened(engine: str, dtype: str, model: str) -> Sampler:
    if engine == "openai":
        return open_endpoint("small", base_url=model)
    return open_sampler("hf", Path(model), dtype=dtype, num_workers=2 if engine == "gang" else 1)


def attempt(engine: str, dtype: str, model: str, benchmark: str, folder: Path, point: int | None) -> None:
    def on_progress(progress: EvalProgress) -> None:
        if point is not None and progress.num_done >= progress.num_reused + point:
            os.kill(os.getpid(), signal.SIGKILL)

    with contextlib.closing(opened(engine, dtype, model)) as sampler:
        runner.evaluate(benchmark, sampler, SETTINGS, folder=folder, data_folder=None, on_progress=on_progress)


def main(engine: str, dtype: str, model: str, benchmark: str, folder: Path, points: list[int]) -> None:
    assert hf is not None, "imported before the forks, with torch and transformers"
    runner.PROGRESS_INTERVAL_S = 1e-9
    dice = Random(len(points))
    for number, point in enumerate([None, *points, None]):
        part = folder / ("killed" if number else "undisturbed") / "e"  # siblings would share their samples
        child = os.fork()
        if child == 0:
            attempt(engine, dtype, model, benchmark, part, point)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == (0 if point is None else -signal.SIGKILL), f"attempt {number} ended with {status}"
        if point is not None and number % 2:
            file = part / FILE
            os.truncate(file, max(0, file.stat().st_size - dice.randrange(1, LONGEST_TEAR)))


if __name__ == "__main__":
    main(*sys.argv[1:5], Path(sys.argv[5]), [int(point) for point in sys.argv[6:]])
