"""verl's synchronous trainer with our advantages, selection and weights: the driver of a verl trial.

verl samples, scores, and updates; between these passes a step is ours (`trainers.verl.inside.step`), on the responses
of the whole batch, whatever the number of workers and micro-batches.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import ray
import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.workers.utils.padding import response_from_nested

from eval.errors import OrchError
from trainers.batch import RolloutBatch
from trainers.checkpoints import export_final, leave_policy, prune
from trainers.identity import fingerprint
from trainers.learning_rate import learning_rate
from trainers.methods import METHODS
from trainers.metrics_log import MetricsLog
from trainers.rollouts import Rollouts, Sample, make_batch, rollout_metrics
from trainers.step import plan_step
from trainers.verl.inside.engine import DISTANCE, LEARNING_RATE, LEAVE_ONE_OUT, SCORES
from trainers.verl.inside.loss import ADVANTAGE, POLICY_WEIGHT, REGULARISER_WEIGHT, SUMS
from trainers.verl.inside.rounds import RoundsBuffer
from trainers.verl.inside.step import (
    corrected,
    dispatch_order,
    dispatched_part,
    weigh,
    weigh_again,
    with_scores,
)
from trainers.verl.inside.worker import SelectionWorker
from trainers.verl.launch.checkpoint import seal
from trainers.verl.launch.job import VerlJob
from trainers.verl.launch.overrides import num_devices
from trainers.verl.launch.pulse import Pulse, PulseFile
from trainers.verl.launch.support import is_corrected, sequences_together

log = logging.getLogger(__name__)


class StopAsked(Exception):
    """Unwinds the training loop after a checkpoint, on request."""


class SelectionTrainer(PPOTrainerSync):  # type: ignore[misc]  # verl is untyped
    """The interface of `PPOTrainerSync`, whose documentation applies; what is overridden is verl's own step."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.job = VerlJob.read(Path(config.orch_job))
        self.recipe = self.job.recipe
        assert isinstance(self.replay_buffer, RoundsBuffer)
        self.pulse_file = PulseFile(self.job.pulse_file)
        self.replay_buffer.report_to(self.pulse_file, group_size=self.recipe.group_size)
        self.sealed: Future[None] = Future()
        """Whether the last checkpoint counts as whole by now."""
        self.sealed.set_result(None)

    def fit(self, agent_loop_manager: Any) -> None:
        """Train what is missing, and export the policy."""
        done = self.global_steps
        with (
            MetricsLog(self.job.attempt_folder / "metrics.jsonl", last_step=done) as self.metrics_log,
            ThreadPoolExecutor(1, thread_name_prefix="seal") as self.sealer,
        ):
            if done < self.recipe.steps:
                super().fit(agent_loop_manager)
            self.sealed.result()
        self._export()

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> KVBatchMeta:
        """Sample, score and update once, then put the step's metrics on disk: before any checkpoint of it."""
        started = perf_counter()
        self.ours: dict[str, float] = {}
        batch = super().step(metrics, timing_raw)
        scoring_s = sum(timing_raw.get(name, 0.0) for name in ("old_log_prob", "ref", "adv"))
        rollouts = self._rollouts()
        num_tokens = sum(len(sample.tokens) for sample in rollouts.samples)
        sample_s = perf_counter() - started - scoring_s - timing_raw.get("update_actor", 0.0)
        row: dict[str, Any] = {
            "step": self.global_steps,
            **rollout_metrics(rollouts, self.recipe),
            "optimizer/learning_rate": learning_rate(self.recipe, self.global_steps),
            **self.ours,
            "time/sample_s": sample_s,
            "time/score_s": scoring_s,
            "time/update_s": timing_raw.get("update_actor", 0.0),
            "time/select_s": self.selecting_s,
            "time/step_s": perf_counter() - started,
            "sampling/tokens_per_s": num_tokens / sample_s,
        }
        self.metrics_log.append(row)
        self.reward = float(row["reward/mean"])
        return batch

    def on_step_end(self) -> None:
        """Send the new weights to vLLM; end here if asked to."""
        self.pulse_file.beat(Pulse(doing="send weights"))
        super().on_step_end()
        every = self.job.evaluate_every
        if every is not None and self.global_steps % every == 0 and self.global_steps < self.recipe.steps:
            leave_policy(self.job.checkpoint_folder, self.global_steps, self._write_model)
        if self.job.stop_file.exists() and self.global_steps < self.recipe.steps:
            if self.global_steps % self.config.trainer.save_freq:
                self._save_checkpoint()
            raise StopAsked

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        roles: dict[Any, Any] = self.role_worker_mapping
        roles.update(dict.fromkeys(roles, ray.remote(SelectionWorker)))

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], **options: Any) -> KVBatchMeta:
        """Pad the batch as verl does, then put its rows in the order that keeps groups whole and mini-batches ours.

        verl balances workers over the whole batch, which mixes mini-batches and scatters the responses to a prompt:
        a deviation from the group's mean would be taken over the part that one worker has, without any error.
        """
        batch = super()._balance_batch(batch, metrics, **options)
        # First to training order, padding last, as verl has reordered both; then to that in which it gives out shares.
        place = {key: index for index, key in enumerate(self._keys())}
        batch.reorder(sorted(range(len(batch.keys)), key=lambda row: place.get(batch.keys[row], len(place))))
        rows = self.recipe.mini_batch_prompts * self.recipe.group_size
        batch.reorder(
            dispatch_order(
                [tag["seq_len"] for tag in batch.tags],
                mini_batch_rows=rows,
                num_workers=num_devices(self.job),
                together=sequences_together(self.recipe),
            )
        )
        return batch

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch.extra_info |= self._scores_asked()
        super()._compute_old_log_prob(batch, metrics)
        return _anew(batch)

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        super()._compute_ref_log_prob(batch, metrics)
        return _anew(batch)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """Shape rewards, take advantages, select tokens and weigh them: all that stands between the passes."""
        self.batch = make_batch(
            [[sample for _, sample in group] for group in self.replay_buffer.kept],
            self.recipe,
            pad_token=self.tokenizer.pad_token_id,
        )
        fields: dict[str, Any] = {}
        began = perf_counter()
        if len(self.batch):
            self.scored, corrections = corrected(self._scored(batch), self.recipe)
            self.ours |= corrections
            self.plan = plan_step(self.scored, self.recipe, step=self.global_steps, seed=self.job.seed)
            weighed = weigh(self.scored, self.plan)
            self.ours |= weighed.metrics
            fields = {POLICY_WEIGHT: weighed.policy_BT, REGULARISER_WEIGHT: weighed.regulariser_BT}
        self.selecting_s = perf_counter() - began
        advantage_BT = self.batch.advantage_B[:, None] * self.batch.response_mask_BT
        fields = {"advantages": advantage_BT, "returns": advantage_BT, ADVANTAGE: advantage_BT} | fields
        self._put(batch, fields)
        return _anew(batch)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        if not self.replay_buffer.kept:
            log.warning("step %d: no group has a signal, no update", self.global_steps)
            return batch
        batch.extra_info[LEARNING_RATE] = learning_rate(self.recipe, self.global_steps)
        if self.recipe.is_rescored:
            self._update_one_by_one(batch, metrics)
        else:
            super()._update_actor(batch, metrics)
        self.ours |= self._update_metrics(metrics)
        is_scaled = self.recipe.model.dtype == "float16"  # its scaler skips an update whose gradient overflows
        finite = ("loss",) if is_scaled else ("loss", "gradient/norm")
        wrong = [name for name in finite if not math.isfinite(self.ours[name])]
        if wrong:
            raise OrchError(
                f"{' and '.join(wrong)} of step {self.global_steps} is not finite",
                where=str(self.job.attempt_folder),
                fix="lower recipe.learning_rate, set recipe.max_grad_norm, or train in float32",
            )
        return batch

    def _update_one_by_one(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> None:
        """Make each update of the step in a call of its own, selected for by the policy as the last one left it."""
        rows = self.recipe.mini_batch_prompts * self.recipe.group_size
        labels = [label for _ in range(self.recipe.ppo_epochs) for label in range(len(batch.keys) // rows)]
        found: list[dict[str, Any]] = []
        for number, label in enumerate(labels):
            part = _part(
                batch,
                dispatched_part(len(batch.keys), mini_batch_rows=rows, num_workers=num_devices(self.job), label=label),
            )
            if number:
                began = perf_counter()
                self._choose_again(batch if self.plan.is_batch_wide else part, part, label)
                self.selecting_s += perf_counter() - began
            found.append({})
            super()._update_actor(part, found[-1])
        metrics |= {name: sum(one[name] for one in found) / len(found) for name in found[0]}

    def _choose_again(self, scored: KVBatchMeta, part: KVBatchMeta, label: int) -> None:
        """Score by the present policy, and weigh the tokens of one mini-batch anew.

        Args:
            scored: the rows whose tokens compete: the batch, or the mini-batch.
            part: the rows of the mini-batch, whose weights are replaced in verl's queue.
            label: of the mini-batch.
        """
        asked = _anew(scored)
        asked.extra_info |= self._scores_asked() | {"calculate_entropy": True, "compute_loss": False}
        self.actor_rollout_wg.compute_log_prob(asked)
        # `scored` is in verl's order and has padding; the scores are read by key, in training order.
        rows_C = self.plan.rows_competing(label)
        now = self._read(
            [self._keys()[row] for row in rows_C.tolist()],
            scored.partition_id,
            response={},
            whole={"log_probs": "old_logp_BT", "entropy": "entropy_BT"} | self._whole_sequences(),
            batch=self.batch.take(rows_C),
        )
        weights = weigh_again(self.scored, now.scores, self.plan, label=label)
        self._put(part, {POLICY_WEIGHT: weights.policy_BT, REGULARISER_WEIGHT: weights.regulariser_BT})

    def _save_checkpoint(self) -> None:
        self.pulse_file.beat(Pulse(doing="checkpoint"))
        self.sealed.result()
        super()._save_checkpoint()
        # Hashing a large one takes minutes: beside the training. The one before stays until this one is sealed.
        self.sealed = self.sealer.submit(self._seal, self.global_steps, self.reward)

    def _seal(self, step: int, reward: float) -> None:
        checkpoints = self.job.checkpoint_folder
        mark = fingerprint(self.recipe, self.job.seed)
        seal(checkpoints / f"global_step_{step}", fingerprint=mark, reward=reward)
        prune(checkpoints, self.job.resources, newest=step)

    def _scored(self, batch: KVBatchMeta) -> RolloutBatch:
        """Return the batch with the scores of its tokens, from verl's passes over it."""
        response = {"old_log_probs": "old_logp_BT", "entropy": "entropy_BT"}
        if self.use_reference_policy:
            response["ref_log_prob"] = "ref_logp_BT"
        if is_corrected(self.recipe):
            response["rollout_log_probs"] = "rollout_logp_BT"
        return self._read(self._keys(), batch.partition_id, response, self._whole_sequences(), self.batch)

    def _whole_sequences(self) -> dict[str, str]:
        """Fields that the engine leaves in verl's layout, prompts included, and their names with us."""
        names = {"sum_pi_squared": "purity_BT"}
        if METHODS[self.recipe.selection.method].distance is not None:
            names["orch_deviation"] = "deviation_BT"
        return names

    def _read(
        self, keys: list[str], partition: str, response: dict[str, str], whole: dict[str, str], batch: RolloutBatch
    ) -> RolloutBatch:
        """Return the batch, whose responses have these keys, with fields of verl's queue under our names."""
        data = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=["response_mask", *response, *whole])
        mask = data["response_mask"]
        scores = {ours: data[theirs].unbind() for theirs, ours in response.items()}
        scores |= {ours: response_from_nested(data[theirs], mask).unbind() for theirs, ours in whole.items()}
        return with_scores(batch, scores)

    def _scores_asked(self) -> dict[str, Any]:
        """Return what goes to the engine with a batch, so that it takes the scores that the method ranks by."""
        selection = self.recipe.selection
        distance = METHODS[selection.method].distance
        return {SCORES: True, DISTANCE: distance or "", LEAVE_ONE_OUT: bool(selection.leave_one_out)}

    def _put(self, batch: KVBatchMeta, fields: dict[str, Any]) -> None:
        """Give verl values (B, T) of our responses, and 0 for the rows that pad its batch."""
        place = {key: row for row, key in enumerate(self._keys())}
        lengths = self.batch.response_length_B.tolist()
        num_padding = {key: tag["response_len"] for key, tag in zip(batch.keys, batch.tags, strict=True)}

        def row(values_BT: Any, key: str) -> torch.Tensor:
            if key not in place:
                return torch.zeros(num_padding[key])
            found: torch.Tensor = values_BT[place[key], : lengths[place[key]]].float()
            return found

        nested = {
            name: torch.nested.as_nested_tensor([row(values, key) for key in batch.keys], layout=torch.jagged)
            for name, values in fields.items()
        }
        tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(nested, batch_size=len(batch.keys))
        )

    def _update_metrics(self, metrics: dict[str, Any]) -> dict[str, float]:
        sums = {name: float(metrics[f"actor/orch/{name}"]) for name in SUMS}
        count = max(sums["count"], 1.0)
        updates = len(self.batch) / (self.recipe.mini_batch_prompts * self.recipe.group_size)
        found = {
            "loss": float(metrics["actor/loss"]),
            "gradient/norm": float(metrics["actor/grad_norm"]),
            "policy/ratio_mean": sums["ratio"] / count,
            "policy/clip_fraction": sums["clipped"] / count,
            "policy/approx_kl": sums["old_kl"] / count,
            "update/count": float(math.ceil(updates) * self.recipe.ppo_epochs),
            "update/head_share": 1.0,
            "update/position_share": 1.0,
            "memory/peak_mb": float(metrics["actor/perf/max_memory_allocated_gb"]) * 2**10,
        }
        if self.recipe.algorithm.kl_coef > 0:
            found["policy/ref_kl"] = sums["kl"] / max(sums["regularised"], 1e-12)
        return found

    def _rollouts(self) -> Rollouts:
        buffer = self.replay_buffer
        samples: list[Sample] = [sample for group in buffer.drawn for _, sample in group]
        return Rollouts(
            batch=self.batch,
            samples=samples,
            num_rounds=buffer.num_rounds,
            num_groups_kept=len(buffer.kept),
            position=max(sample.prompt.position for sample in samples) + 1,
        )

    def _keys(self) -> list[str]:
        """Keys of the responses that are learned from, in training order."""
        return [key for group in self.replay_buffer.kept for key, _ in group]

    def _export(self) -> None:
        export_final(self.job.checkpoint_folder, self._write_model)

    def _write_model(self, folder: Path) -> None:
        self.actor_rollout_wg.export_model(str(folder))


def _part(batch: KVBatchMeta, places: list[int]) -> KVBatchMeta:
    """Return some rows of a batch, with the batch's own settings."""
    return KVBatchMeta(
        partition_id=batch.partition_id,
        keys=[batch.keys[place] for place in places],
        tags=[batch.tags[place] for place in places],
        extra_info=dict(batch.extra_info),
    )


def _anew(batch: KVBatchMeta) -> KVBatchMeta:
    """Return the batch without its list of fields and without settings of earlier passes.

    verl remembers which fields a batch had when it was made, and workers would not read what was added since.
    """
    return KVBatchMeta(
        partition_id=batch.partition_id,
        keys=batch.keys,
        tags=batch.tags,
        extra_info={"temperature": batch.extra_info["temperature"]},
    )
