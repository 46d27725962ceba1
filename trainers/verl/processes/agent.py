"""What a trial runs on each of its nodes but the first: `python -m trainers.verl.processes.agent NUM_GPUS NUM_CPUS`.

It joins this node to the trial's private Ray when the head answers. Like the keeper of the first node it is the
subreaper of all that it starts, and ends it when its standard input closes: the kernel closes that whenever, and
however, the parent ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time

from trainers.recipe import Resources
from trainers.verl.launch.job import ray_folder
from trainers.verl.processes.nodes import Gang, die_with_parent, is_listening, ray_command, ray_environment
from trainers.verl.processes.processes import adopt_orphans, end_descendants

_POLL_S = 0.5
_PATIENCE_S = 10.0
"""How long the end of the head may lag behind that of the agent."""


def main(resources: Resources) -> int:
    """Hold the node in the private Ray; 0 when the parent ended it, 1 when Ray itself did."""
    gang = Gang.of(os.environ)
    assert gang is not None, "the scheduler puts the gang into the environment"
    adopt_orphans()
    is_over = threading.Event()
    threading.Thread(target=_read_to_end, args=(is_over,), name="parent-watch", daemon=True).start()
    while not is_listening(gang):
        if is_over.wait(_POLL_S):
            return 0
    process = subprocess.Popen(
        ray_command(gang, resources, is_head=False),
        env=ray_environment(gang, os.environ, num_gpus=resources.num_gpus),
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        while not is_over.wait(_POLL_S):
            if process.poll() is not None:
                return 1
        return 0
    finally:
        end_descendants()
        _delete_files(gang)


def _delete_files(gang: Gang) -> None:
    """Delete Ray's files, but not under a head that still runs: on one machine the folder is its own too."""
    deadline = time.monotonic() + _PATIENCE_S
    while is_listening(gang):
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_S)
    shutil.rmtree(ray_folder(gang.token), ignore_errors=True)


def _read_to_end(is_over: threading.Event) -> None:
    os.read(sys.stdin.fileno(), 1)  # unbuffered: nothing may hold a lock when the interpreter ends
    is_over.set()


if __name__ == "__main__":
    sys.exit(main(Resources(num_gpus=int(sys.argv[1]), num_cpus=int(sys.argv[2]))))
