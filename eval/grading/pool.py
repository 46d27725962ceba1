"""Killable workers for undecided answers: a hang, a memory bomb or a crash costs one verdict, never the caller.

Each worker is a child process behind a thread of its own; the threads share one queue. A worker that does not answer
in time is killed and replaced. Nothing here uses signals of the calling process, so it works in threads and in Ray
actors; nothing is forked, so it works beside CUDA. Children end with their parent: they read their stdin to its end.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import select
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from eval.grading.worker import HARD_LIMIT_S

START_LIMIT_S = 60.0
"""Importing sympy on a busy machine takes seconds; longer than this is a broken installation."""
IDLE_LIMIT_S = 60.0
"""A worker without work ends, and is started again when there is some."""
TASKS_PER_WORKER = 2_000
"""sympy's caches grow: a worker is replaced after this many questions."""
CACHE_SIZE = 100_000

_ROOT = Path(__file__).resolve().parents[2]
_START = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from eval.grading.worker import main; main(sys.argv[1])"
_SYMBOLIC = "eval.grading.symbolic"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the slow path says about a pair."""

    is_correct: bool
    status: Literal["ok", "undecided", "timeout", "crash"]
    """`undecided` where math_verify could not tell either."""
    elapsed_ms: float
    """Time of the judging alone, without the queue."""


@dataclass(frozen=True, slots=True)
class _Task:
    answer: str
    gold: str
    result: Future[Verdict]


class WorkerPool:
    """Workers started on demand, up to a number, sharing one queue."""

    def __init__(self, num_workers: int, *, judge: str = _SYMBOLIC) -> None:
        """Prepare a pool; no process is started before the first question.

        Args:
            num_workers: processes at most.
            judge: the module whose `judge(answer, gold)` they call.
        """
        self._judge = judge
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_workers = num_workers
        self._threads: list[threading.Thread] = []
        self._num_free = 0
        self._cache: OrderedDict[tuple[str, str], Verdict] = OrderedDict()
        self._workers: set[_Worker] = set()
        self.process_id = os.getpid()

    def submit(self, answer: str, gold: str) -> Future[Verdict]:
        """Ask for the verdict on a pair; the future never raises."""
        result: Future[Verdict] = Future()
        with self._lock:
            cached = self._cache.get((answer, gold))
            if cached is None:
                self._tasks.put(_Task(answer, gold, result))
                if self._tasks.qsize() > self._num_free and len(self._threads) < self._num_workers:
                    self._start_thread()
        if cached is not None:
            result.set_result(cached)
        return result

    def check_many(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Return the verdicts on (answer, gold) pairs, in order."""
        futures = [self.submit(answer, gold) for answer, gold in pairs]
        return [future.result() for future in futures]

    def worker_process_ids(self) -> list[int]:
        """Return the process ids of the workers that run now."""
        with self._lock:
            return [worker.process_id for worker in self._workers if worker.process_id is not None]

    def close(self) -> None:
        """Kill the workers and end the threads; unanswered questions become crashes."""
        with self._lock:
            threads, workers = list(self._threads), list(self._workers)
        for _ in threads:
            self._tasks.put(None)
        for worker in workers:
            worker.kill()
        for thread in threads:
            thread.join(timeout=5)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name="grading-worker", daemon=True)
        self._threads.append(thread)
        self._num_free += 1
        thread.start()

    def _serve(self) -> None:
        worker = _Worker(self._judge)
        with self._lock:
            self._workers.add(worker)
        while True:
            try:
                task = self._tasks.get(timeout=IDLE_LIMIT_S)
            except queue.Empty:
                worker.kill()
                task = self._tasks.get()
            if task is None:
                break
            with self._lock:
                self._num_free -= 1
            verdict = worker.ask(task.answer, task.gold)
            with self._lock:
                self._num_free += 1
                self._remember(task, verdict)
            task.result.set_result(verdict)
        worker.kill()
        with self._lock:
            self._workers.discard(worker)
            self._threads.remove(threading.current_thread())

    def _remember(self, task: _Task, verdict: Verdict) -> None:
        self._cache[task.answer, task.gold] = verdict
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)


class _Worker:
    """One child process, started at need and replaced when it fails or has worked enough."""

    def __init__(self, judge: str) -> None:
        self._judge = judge
        self._process: subprocess.Popen[bytes] | None = None
        self._num_tasks = 0

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def ask(self, answer: str, gold: str) -> Verdict:
        started = perf_counter()
        question = json.dumps({"answer": answer, "gold": gold}).encode() + b"\n"
        if self._num_tasks >= TASKS_PER_WORKER:
            self.kill()
        try:
            process = self._started()
            assert process.stdin is not None
            process.stdin.write(question)
            process.stdin.flush()
            self._num_tasks += 1
            reply = self._read(process, HARD_LIMIT_S)
        except TimeoutError:
            self.kill()
            return Verdict(False, "timeout", (perf_counter() - started) * 1e3)
        except (OSError, ValueError):
            self.kill()
            return Verdict(False, "crash", (perf_counter() - started) * 1e3)
        return Verdict(reply["is_correct"], reply["status"], reply["elapsed_ms"])

    def kill(self) -> None:
        process, self._process = self._process, None
        self._num_tasks = 0
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, self._judge],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
            self._read(self._process, START_LIMIT_S)
        return self._process

    def _read(self, process: subprocess.Popen[bytes], limit_s: float) -> dict[str, Any]:
        """Return the child's next line as JSON.

        Raises:
            TimeoutError: silence for `limit_s`.
            OSError: the child died.
        """
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], limit_s)
        if not ready:
            raise TimeoutError
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise OSError("the grading worker died")
        reply: dict[str, Any] = json.loads(line)
        return reply


_shared: dict[str, WorkerPool] = {}
_shared_lock = threading.Lock()


def shared_pool(judge: str = _SYMBOLIC) -> WorkerPool:
    """Return this process's pool of a judge; a process that was forked gets its own."""
    with _shared_lock:
        pool = _shared.get(judge)
        if pool is None or pool.process_id != os.getpid():
            pool = _shared[judge] = WorkerPool(num_workers=default_num_workers(), judge=judge)
            atexit.register(pool.close)
        return pool


def default_num_workers() -> int:
    """Two at least, so that one hanging answer does not hold up the rest; eight at most."""
    return max(2, min(8, len(os.sched_getaffinity(0)) // 2))
