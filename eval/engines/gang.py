"""Several engines as one: a process for each device, all pulling from one queue of batches.

    parent: batches ──▶ queue ──more?──▶ worker 0 (device 0): its own engine ──completions──▶ parent
                              ──more?──▶ worker 1 (device 1): …

A worker that is quick asks more often, so no device idles while another has a backlog. Workers are spawned, not forked
(CUDA), and end when their pipe does: with this process, or when the gang is closed.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection, wait
from typing import Any

from eval.api import Batch, Completion, RenamedSampler, Sampler, SampleRequest, SamplingSettings, StreamSampler
from eval.engines.stream import one_by_one
from eval.errors import EngineError, OrchError

LARGEST_SHARE = 64
"""Requests handed to a worker with a queue at once: enough to hide a round trip, few enough to share out the end."""
STOP_LIMIT_S = 20.0
"""Time for a worker to end by itself before it is killed."""


@dataclass(frozen=True, slots=True)
class _Ready:
    name: str
    model_digest: str
    former_digest: str | None
    keeps_batches: bool


@dataclass(frozen=True, slots=True)
class _More:
    """A worker has room."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A worker has answered all that it was given, and was told that there is no more."""


@dataclass(frozen=True, slots=True)
class _Failed:
    error: OrchError


def open_gang(
    opener: Callable[[], Sampler], *, num_workers: int, gpus: Sequence[str] = (), gpus_each: int = 1
) -> GangSampler:
    """Start the workers, each on devices of its own, and wait until their engines are up.

    Args:
        opener: opens one engine; picklable.
        num_workers: processes.
        gpus: names for CUDA_VISIBLE_DEVICES; none on a CPU, whose cores are divided.
        gpus_each: how many of them one engine takes.

    Raises:
        EngineError: more workers than GPUs, or one does not start.
        OrchError: what opening an engine raised.
    """
    if gpus and num_workers * gpus_each > len(gpus):
        wanted = f"{num_workers} workers" + (f" of {gpus_each} GPUs each" if gpus_each > 1 else "")
        raise EngineError(f"{wanted}, but {len(gpus)} GPUs: {', '.join(gpus)}", fix="ask for fewer")
    threads = str(max(1, len(os.sched_getaffinity(0)) // num_workers))
    environments = [
        {"CUDA_VISIBLE_DEVICES": ",".join(gpus[rank * gpus_each : (rank + 1) * gpus_each])}
        if gpus
        else {"OMP_NUM_THREADS": threads}
        for rank in range(num_workers)
    ]
    workers = [
        _Worker(opener, environment, rank, has_children=gpus_each > 1) for rank, environment in enumerate(environments)
    ]
    return GangSampler(workers)


class GangSampler:
    """A `StreamSampler` over several processes."""

    def __init__(self, workers: Sequence[_Worker]) -> None:
        """Wait for the workers' engines."""
        self._workers = {worker.connection: worker for worker in workers}
        try:
            ready = [worker.receive() for worker in workers]
        except BaseException:
            self.close()
            raise
        self._name: str = f"{ready[0].name} × {len(workers)}"
        self._digest: str = ready[0].model_digest
        self._former_digest: str | None = ready[0].former_digest
        self._keeps_batches: bool = ready[0].keeps_batches

    @property
    def name(self) -> str:
        """Engine, version, and how many there are."""
        return self._name

    @property
    def model_digest(self) -> str:
        """Content digest of the weights and tokenizer."""
        return self._digest

    @property
    def former_digest(self) -> str | None:
        """What earlier versions called the same weights, where that differs."""
        return self._former_digest

    @property
    def keeps_batches(self) -> bool:
        """Whether each worker decodes a batch by itself."""
        return self._keeps_batches

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Prompt tokens of a chat; the first worker's tokenizer knows."""
        return self._ask("encode", list(messages))

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Prompt tokens of a raw text."""
        return self._ask("encode_text", text)

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        """Yield completions as they finish: of one worker where it keeps batches, else of all."""
        whole = [Batch(requests=tuple(requests), settings=settings)]
        return self.sample_stream(whole if self._keeps_batches else one_by_one(requests, settings))

    def sample_stream(self, batches: Iterable[Batch]) -> Iterator[Completion]:
        """Yield completions as they finish; leaving early ends the workers.

        Raises:
            EngineError: a worker died; what came before has been yielded.
            OrchError: what a worker's engine raised.
        """
        waiting, busy = deque(batches), set(self._workers)
        for worker in self._workers.values():
            worker.send("sample_stream")
        try:
            while busy:
                for connection in busy.intersection(wait(list(busy))):
                    message = self._workers[connection].receive()
                    if isinstance(message, _More):
                        self._workers[connection].send(self._share(waiting))
                    elif isinstance(message, _Done):
                        busy.discard(connection)
                    else:
                        yield message
        finally:
            if busy:
                self.close()

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers.values():
            worker.end()

    def _share(self, waiting: deque[Batch]) -> list[Batch]:
        """Take what a worker gets next: a batch, or requests, less and less of them so that all finish together."""
        fair = math.ceil(len(waiting) / (2 * len(self._workers)))
        return [waiting.popleft() for _ in range(min(1 if self._keeps_batches else LARGEST_SHARE, fair))]

    def _ask(self, method: str, argument: object) -> tuple[int, ...]:
        worker = next(iter(self._workers.values()))
        worker.send(method, argument)
        tokens: tuple[int, ...] = worker.receive()
        return tokens


class _Worker:
    """The parent's end of one process."""

    def __init__(
        self, opener: Callable[[], Sampler], environment: dict[str, str], rank: int, *, has_children: bool = False
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, opener, environment), name=f"sampler-{rank}")
        # A daemon may have no children, which a model over several GPUs needs; the pipe's end ends such a worker.
        self._process.daemon = not has_children
        self._process.start()
        theirs.close()

    def send(self, *message: object) -> None:
        with contextlib.suppress(OSError):  # a dead worker is reported when it is heard
            self.connection.send(message)

    def receive(self) -> Any:
        try:
            message = self.connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(STOP_LIMIT_S)
            raise EngineError(
                f"the engine process {self._process.name} died with status {self._process.exitcode}",
                fix="its messages stand above; run the same command again: samples already drawn are kept",
            ) from error
        if isinstance(message, _Failed):
            raise message.error
        return message

    def end(self) -> None:
        self.connection.close()
        self._process.join(STOP_LIMIT_S if self._process.exitcode is None else 0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(connection: Connection, opener: Callable[[], Sampler], environment: dict[str, str]) -> None:
    """The process: opens an engine and answers calls until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    os.environ.update(environment)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            with contextlib.closing(opener()) as sampler:
                former = sampler.former_digest if isinstance(sampler, RenamedSampler) else None
                connection.send(_Ready(sampler.name, sampler.model_digest, former, sampler.keeps_batches))
                while True:
                    method, *arguments = connection.recv()
                    if method == "sample_stream":
                        _sample(sampler, connection)
                    else:
                        connection.send(getattr(sampler, method)(*arguments))
        except OrchError as error:
            connection.send(_Failed(error))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception:
            connection.send(_Failed(EngineError(f"an engine process failed:\n{traceback.format_exc()}")))


def _sample(sampler: Sampler, connection: Connection) -> None:
    shares = _shares(connection)
    if isinstance(sampler, StreamSampler):
        for completion in sampler.sample_stream(chain.from_iterable(shares)):
            connection.send(completion)
    else:
        for batch in chain.from_iterable(shares):
            for completion in sampler.sample(batch.requests, batch.settings):
                connection.send(completion)
    connection.send(_Done())


def _shares(connection: Connection) -> Iterator[list[Batch]]:
    """Ask the parent for batches until there are no more."""
    while True:
        connection.send(_More())
        (share,) = connection.recv()
        if not share:
            return
        yield share
