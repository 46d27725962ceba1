"""The private Ray of a trial that is larger than a node: a head on the first, an agent on each other.

    scheduler ── Gang in the environment ──▶ supervisor ▶ worker ▶ launch.py ▶ main.py ▶ `ray start --head`
        └─────── python -m trainers.verl.processes.agent on each other node ▶ `ray start --address`

The head's address and the cluster's secret are chosen before anything starts, so that no process has to look for
another. No Ray is imported before the training process does it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from eval.errors import OrchError
from trainers.recipe import Resources
from trainers.verl.launch.job import object_store_bytes, ray_cpus, ray_folder
from trainers.verl.processes.processes import closed_to_others

log = logging.getLogger(__name__)

GANG = "ORCH_VERL_GANG"
"""Environment variable that holds a trial's gang; absent where the trial has one node."""
JOIN_S = 300.0
"""How long the other nodes may take to join."""
_POLL_S = 2.0
_PR_SET_PDEATHSIG = 1
_LAST_WORD_S = 10.0
"""How long Ray may take to notice that the node is gone whose actors just died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """What all nodes of one attempt know."""

    token: str
    """Of the attempt: see `VerlJob.token`."""
    secret: str = field(repr=False)
    """Without it nobody joins the private Ray."""
    host: str
    port: int
    """Where the head listens."""
    num_nodes: int

    @property
    def address(self) -> str:
        """As Ray spells it."""
        return f"{self.host}:{self.port}"

    @staticmethod
    def new(host: str, num_nodes: int) -> Gang:
        """A gang whose head will be on this machine, which others reach as `host`."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        return Gang(token=secrets.token_hex(4), secret=secrets.token_hex(32), host=host, port=port, num_nodes=num_nodes)

    @staticmethod
    def of(environment: Mapping[str, str]) -> Gang | None:
        """The gang that a scheduler put into the environment."""
        return Gang(**json.loads(environment[GANG])) if GANG in environment else None

    def to_text(self) -> str:
        """The value of `GANG`."""
        return json.dumps(asdict(self))


def ray_environment(gang: Gang, inherited: Mapping[str, str], *, num_gpus: int) -> dict[str, str]:
    """Return the environment of a node's Ray: the gang's secret, and nothing of an outer Ray."""
    kept = {name: value for name, value in inherited.items() if not name.startswith("RAY_") and name != GANG}
    if not num_gpus:
        kept.pop("CUDA_VISIBLE_DEVICES", None)  # empty, it would forbid Ray the logical GPU
    return kept | {
        **closed_to_others(gang.secret),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": str(round(JOIN_S)),  # a busy machine takes longer than Ray's half a minute
        "RAY_worker_niceness": "0",
    }


def ray_command(gang: Gang, resources: Resources, *, is_head: bool) -> list[str]:
    """Return the command that runs a node's Ray in the foreground; every port but the head's is Ray's own choice."""
    place = ["--address", gang.address]
    if is_head:
        place = ["--head", "--port", str(gang.port), "--node-ip-address", gang.host, "--include-dashboard", "false"]
        place += ["--temp-dir", str(ray_folder(gang.token))]
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place),
        *("--num-cpus", str(ray_cpus(resources))),
        *("--num-gpus", str(max(1, resources.num_gpus))),
        *("--object-store-memory", str(object_store_bytes(resources))),
        *("--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0"),
        "--disable-usage-stats",
    ]


def is_listening(gang: Gang) -> bool:
    """Whether the head answers."""
    with contextlib.suppress(OSError), socket.create_connection((gang.host, gang.port), timeout=1.0):
        return True
    return False


def start_head(gang: Gang, resources: Resources) -> None:
    """Start the private Ray on this node, and return when it answers; it ends with this process group.

    Raises:
        OrchError: it does not start.
    """
    process = subprocess.Popen(
        ray_command(gang, resources, is_head=True),
        env=ray_environment(gang, os.environ, num_gpus=resources.num_gpus),
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    deadline = time.monotonic() + JOIN_S
    while not is_listening(gang):
        if process.poll() is not None or time.monotonic() > deadline:
            raise OrchError(
                f"the private Ray of the trial does not start at {gang.address}",
                where="cluster.num_nodes",
                fix="read the log above; run the same command again if another process had taken the port",
            )
        time.sleep(0.2)


def die_with_parent() -> None:
    """Let whoever is killed take `ray start` with it, which takes the rest: a node nobody holds counts as lost."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def all_nodes(num_nodes: int, on_lost: Callable[[OrchError], None]) -> Iterator[None]:
    """Wait until the private Ray has all its nodes, and watch them while the block runs.

    Runs in a process that has joined the private Ray.

    Args:
        num_nodes: of the trial; 1 does nothing at all.
        on_lost: called from another thread while the block, perhaps, waits for what the lost node will never send.

    Raises:
        OrchError: a node did not join, or what the block raised is the loss of one.
    """
    if num_nodes == 1:
        yield
        return
    _wait_for(num_nodes)
    watch = _Watch(num_nodes, on_lost)
    try:
        yield
    except OrchError:
        raise
    except Exception as error:
        watch.loss.wait(_LAST_WORD_S)
        if watch.error is not None:
            raise watch.error from error
        raise
    finally:
        watch.is_over.set()


def check_whole(num_nodes: int) -> None:
    """Raise OrchError unless all nodes of the private Ray live."""
    nodes = _nodes()
    lost = [str(node["NodeManagerAddress"]) for node in nodes if not node["Alive"]]
    if lost or len(nodes) < num_nodes:
        raise OrchError(
            f"the node {', '.join(lost)} died, one of the {num_nodes} of the trial",
            where="cluster.num_nodes",
            fix="run the same command again: it goes on from the last checkpoint",
        )


class _Watch:
    """A thread that looks for the loss of a node until told that all is over."""

    def __init__(self, num_nodes: int, on_lost: Callable[[OrchError], None]) -> None:
        self.error: OrchError | None = None
        self.loss, self.is_over = threading.Event(), threading.Event()
        threading.Thread(target=self._look, args=(num_nodes, on_lost), name="node-watch", daemon=True).start()

    def _look(self, num_nodes: int, on_lost: Callable[[OrchError], None]) -> None:
        while not self.is_over.wait(_POLL_S):
            try:
                check_whole(num_nodes)
            except OrchError as error:
                self.error = error
                self.loss.set()
                on_lost(error)
                return


def _wait_for(num_nodes: int) -> None:
    deadline = time.monotonic() + JOIN_S
    while (num_joined := sum(bool(node["Alive"]) for node in _nodes())) < num_nodes:
        if time.monotonic() > deadline:
            raise OrchError(
                f"the node {num_joined + 1} of {num_nodes} is dead: it did not join within {JOIN_S:.0f} s",
                where="cluster.num_nodes",
                fix="look at that machine: it must reach the trial's first node, and have the same environment",
            )
        time.sleep(0.5)
    log.info("%d nodes have joined", num_nodes)


def _nodes() -> list[dict[str, object]]:
    import ray

    found: list[dict[str, object]] = ray.nodes()
    return found
