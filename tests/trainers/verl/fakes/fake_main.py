"""In the place of `trainers.verl.inside.main`: steps, checkpoints and an end as ORCH_TEST_FATE says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trainers.checkpoints import prune
from trainers.verl.launch.checkpoint import seal
from trainers.verl.launch.job import VerlJob
from trainers.verl.launch.pulse import Pulse, PulseFile

if __name__ == "__main__":
    job, fate = VerlJob.read(Path(sys.argv[1])), os.environ["ORCH_TEST_FATE"]
    done = int(job.resume_from.name.rpartition("_")[2]) if job.resume_from else 0
    engine = subprocess.Popen(["sleep", "600"], start_new_session=True)
    if fate == "slow start":
        time.sleep(600)
    with (job.attempt_folder / "metrics.jsonl").open("a") as log:
        for step in range(done + 1, job.recipe.steps + 1):
            log.write(json.dumps({"step": step, "reward/mean": 0.5, "time/update_s": 0.25}) + "\n")
            log.flush()
            folder = job.checkpoint_folder / f"global_step_{step}"
            folder.mkdir()
            (folder / "data.pt").write_text(str(step))
            seal(folder, fingerprint=os.environ["ORCH_TEST_FINGERPRINT"], reward=0.5)
            prune(job.checkpoint_folder, job.resources, newest=step)
            if fate == "killed" and step == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if fate == "stands still" and step == 2:
                PulseFile(job.pulse_file).beat(Pulse(doing="send weights"))
                os.kill(os.getpid(), signal.SIGSTOP)
            if Path(fate).is_file() and step == 2:
                sys.exit(print(Path(fate).read_text(), file=sys.stderr) or 1)
            if fate == "stopped":
                while not job.stop_file.exists():
                    time.sleep(0.05)
                sys.exit(0)
    (job.checkpoint_folder / "final").mkdir()
