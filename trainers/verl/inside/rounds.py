"""Generation rounds inside verl: what is drawn, which groups are kept, and what is told of them.

verl's own group filter refills without a bound, so that a policy without a signal would sample for ever; this buffer
draws as lite does: rounds of just enough prompts, at most `max_rounds`, and the batch may stay short.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from trainers.prompts import Prompt
from trainers.rollouts import Sample, group_has_signal, num_to_draw
from trainers.verl.inside.columns import column
from trainers.verl.inside.reward import read_problem
from trainers.verl.launch.pulse import Pulse, PulseFile

_FIELDS = ["prompts", "responses", "rm_scores", "extra_fields", "extra_info", "reward_model", "session_id"]
POLL_S = 0.1
"""verl polls every two seconds, which is longer than a small step."""

Group = list[tuple[str, Sample]]
"""The responses to one prompt, each with its key in the queue."""


class ResponseFailed(Exception):
    """A response was not sampled, or not graded; verl's rollout worker has printed why."""


class RoundsBuffer(ReplayBuffer):  # type: ignore[misc]  # verl is untyped
    """verl's replay buffer, asked for one training batch at a time."""

    def __init__(self, *, sampler_kwargs: Any, **options: Any) -> None:
        super().__init__(**options, sampler_kwargs=sampler_kwargs, poll_interval=POLL_S)
        self.max_rounds = int(sampler_kwargs["max_rounds"])
        self.drawn: list[Group] = []
        """Everything of the present step, in the order of the prompts within a round."""
        self.kept: list[Group] = []
        """The groups of the batch."""
        self.num_rounds = 0
        self._tags: dict[str, dict[str, Any]] = {}
        """Of every response of the step: verl's own view of the queue holds one round only."""
        self._num_wanted = 0
        """Responses of the present round."""
        self._pulse_file: PulseFile | None = None
        self._group_size = 1

    def report_to(self, pulse_file: PulseFile, *, group_size: int) -> None:
        """Tell from now on how many responses are there, each time that the queue is looked at."""
        self._pulse_file, self._group_size = pulse_file, group_size

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict[str, Any]]:
        """Return one training batch of at most `batch_size` groups; the first round has been asked for already."""
        self.drawn, self.kept, self.num_rounds, self._tags = [], [], 0, {}
        num_asked = batch_size
        while True:
            self._num_wanted = num_asked * self._group_size
            round_, _ = super().sample(global_steps, partition_id, num_asked)
            self._tags |= dict(zip(round_.keys, round_.tags, strict=True))
            groups = read_groups(round_)
            self.drawn += groups
            self.kept += [
                group for group in groups if self.max_rounds == 1 or group_has_signal([sample for _, sample in group])
            ]
            self.num_rounds += 1
            if len(self.kept) >= batch_size or self.num_rounds == self.max_rounds:
                break
            num_asked = num_to_draw(batch_size, len(self.kept), len(self.drawn))
            self.refill_fn(num_asked)
        self.kept = self.kept[:batch_size]
        # verl needs a batch even where nothing can be learned; the trainer then makes no update.
        return self._batch_of(self.kept or self.drawn[:1], partition_id), {}

    def _sync_metadata_from_transfer_queue(self) -> None:
        """Look into the queue; verl would train on what is left of a group whose other responses failed.

        Raises:
            ResponseFailed: for the first failed prompt that is seen.
        """
        super()._sync_metadata_from_transfer_queue()
        num_failed = sum(len(keys) for keys in self.failure_keys.values())
        if num_failed:
            raise ResponseFailed(f"responses to {num_failed} prompts could not be sampled or graded")
        if self._pulse_file is not None:
            there = min(sum(len(keys) for keys in self.partitions.values()), self._num_wanted)
            self._pulse_file.beat(Pulse(doing="sample", done=there, total=self._num_wanted, unit="responses"))

    def _batch_of(self, groups: list[Group], partition_id: str) -> KVBatchMeta:
        keys = [key for group in groups for key, _ in group]
        dropped = {key for group in self.drawn for key, _ in group} - set(keys)
        if dropped:
            tq.kv_clear(keys=sorted(dropped), partition_id=partition_id)
        return KVBatchMeta(partition_id=partition_id, keys=keys, tags=[self._tags[key] for key in keys])


def read_groups(batch: KVBatchMeta) -> list[Group]:
    """Return the responses of a batch by prompt, in the order of the data and of their index."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=_FIELDS)
    columns = {name: column(data[name]) for name in _FIELDS}
    found = [
        (key, _sample({name: column[row] for name, column in columns.items()})) for row, key in enumerate(batch.keys)
    ]
    found.sort(key=lambda pair: (pair[1].prompt.position, pair[1].index))
    return [list(group) for _, group in groupby(found, key=lambda pair: pair[1].prompt.position)]


def _sample(row: dict[str, Any]) -> Sample:
    tokens = [int(token) for token in row["responses"]]
    extra, earned = row["extra_info"], row["extra_fields"]["reward_extra_info"]
    return Sample(
        prompt=Prompt(
            position=int(extra["index"]),
            problem=read_problem(row["reward_model"]["ground_truth"]),
            tokens=tuple(int(token) for token in row["prompts"]),
        ),
        index=int(row["session_id"]),
        tokens=tokens,
        is_complete=row["extra_fields"].get("is_complete", True),
        reward=float(earned["acc"]),
        has_answer=bool(earned["has_answer"]),
    )
