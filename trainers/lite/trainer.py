"""GRPO and DAPO on one device, from the prompts to the exported policy. Reads like the algorithm; parts have files.

    sample   trainers/lite/rollout.py     prompts → responses → rewards → advantages
    score    trainers/lite/score.py       log-probs under the sampling policy, and what selection ranks by
    update   trainers/lite/update.py      mini-batches, token selection, clipped objective, AdamW

A run continues from its newest checkpoint; on CPU it then gives the very bytes of an uninterrupted run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from eval.benchmarks.registry import load
from eval.engines.decoding import Decoding
from eval.engines.hf import HfSampler
from eval.engines.hf_model import end_tokens
from eval.errors import OrchError
from trainers.api import Phase, TrainJob, TrainResult
from trainers.checkpoints import export_final
from trainers.identity import fingerprint
from trainers.learning_rate import learning_rate
from trainers.lite.checkpoint import State, load_newest, save_checkpoint
from trainers.lite.optimizer import make_optimizer, set_learning_rate
from trainers.lite.policy import Policy
from trainers.lite.rollout import RolloutSource, collect_rollouts
from trainers.lite.run_state import peak_memory_mb, random_state, restore_random_state
from trainers.lite.score import score_rollouts
from trainers.lite.update import update_policy
from trainers.metrics_log import MetricsLog
from trainers.phase_clock import PhaseClock
from trainers.prompts import PromptOrder
from trainers.recipe import Resources
from trainers.rollouts import Rollouts, rollout_metrics

log = logging.getLogger(__name__)


class LiteTrainer:
    """The embedded trainer."""

    def train(self, job: TrainJob) -> TrainResult:
        """Train until `recipe.steps` steps are done, or until asked to stop.

        Raises:
            OrchError: the model, the data or the device do not fit the recipe, memory ran out, a loss was not
                finite, or checkpoints cannot be written.
        """
        with _torch_set_up(job.resources):
            try:
                return _Run(job).train()
            except torch.OutOfMemoryError as error:
                raise OrchError(
                    f"the device is out of memory: {str(error).splitlines()[0]}",
                    where=f"model {job.model_folder}",
                    fix="lower cluster.micro_batch_sequences or set model.gradient_checkpointing: true (training), or "
                    "lower cluster.sample_batch_sequences (sampling)",
                ) from error


class _StopAsked(Exception):
    """Unwinds a step that was asked to stop before the weights changed."""


class _Run:
    """One attempt: the models, where the data order stands, and the steps done."""

    def __init__(self, job: TrainJob) -> None:
        self.job, self.recipe = job, job.recipe
        self.clock = PhaseClock()
        self.step, self.position, self.metrics = 0, 0, dict[str, Any]()
        self.saved_step = 0
        with self._phase("prepare"):
            torch.manual_seed(job.seed)
            self.policy = Policy(job.model_folder, job.recipe, job.resources)
            self.optimizer = make_optimizer(self.policy.model.parameters(), job.recipe)
            self.source = self._rollout_source()
            self._resume()

    def train(self) -> TrainResult:
        with MetricsLog(self.job.attempt_folder / "metrics.jsonl", last_step=self.step) as metrics_log:
            try:
                self._evaluate_if_due()
                while self.step < self.recipe.steps:
                    self._train_step(self.step + 1)
                    metrics_log.append(self.metrics)
                    self.job.on_step(self.metrics)
                    self._checkpoint_if_due()
                    self._evaluate_if_due()
            except _StopAsked:
                self._checkpoint()
                return self._result(is_finished=False)
        with self._phase("checkpoint"):
            export_final(self.job.checkpoint_folder, self.policy.save)
        return self._result(is_finished=True)

    def _train_step(self, step: int) -> None:
        """Sample, score, update: Algorithm 1 of GRPO (arXiv 2402.03300), one iteration of its inner loop."""
        with self._stoppable("sample"):
            self.policy.refresh_sampled()
            rollouts = collect_rollouts(self.source, self.recipe, position=self.position)
        rate = learning_rate(self.recipe, step)
        set_learning_rate(self.optimizer, rate)
        metrics = self._learn(rollouts, step) if len(rollouts.batch) else {}
        self.step, self.position = step, rollouts.position
        self.metrics = {
            "step": step,
            **rollout_metrics(rollouts, self.recipe),
            "optimizer/learning_rate": rate,
            **metrics,
            **self._costs(rollouts),
        }

    def _learn(self, rollouts: Rollouts, step: int) -> dict[str, float]:
        policy, cut = self.policy, self.job.resources.sequences_per_pass
        with self._stoppable("score"), policy.autocast():
            batch = rollouts.batch.to(policy.device)
            batch = score_rollouts(policy.model, policy.reference, batch, self.recipe, micro_batch_sequences=cut)
        with self._stoppable("update"), policy.autocast():
            metrics = update_policy(
                policy.model,
                self.optimizer,
                batch,
                self.recipe,
                step=step,
                seed=self.job.seed,
                micro_batch_sequences=cut,
            )
        self._check_finite(metrics, step)
        return metrics

    def _rollout_source(self) -> RolloutSource:
        data, tokenizer = self.recipe.data, self.policy.tokenizer
        encoder = HfSampler(self.policy.sampled, tokenizer, model_digest="", batch_sequences=1)
        problems = load(data.name, data_folder=self.job.data_folder, limit=data.limit).problems
        return RolloutSource(
            prompts=PromptOrder(
                problems,
                template=data.template,
                encoder=encoder,
                max_tokens=data.max_prompt_tokens,
                seed=self.job.seed,
            ),
            model=self.policy.sampled,
            decoding=Decoding(
                max_new_tokens=data.max_response_tokens,
                temperature=self.recipe.temperature,
                top_p=self.recipe.top_p,
                end_tokens=end_tokens(self.policy.model, tokenizer),
                pad_token=tokenizer.pad_token_id,
                batch_sequences=self.job.resources.sequences_at_once,
                # A bfloat16 copy says otherwise of its tokens than the policy that is trained: that is scored anew.
                has_statistics=self.policy.sampled is self.policy.model,
            ),
            decode=encoder.decode,
            seed=self.job.seed,
        )

    def _resume(self) -> None:
        """Take up the newest checkpoint that reads, if there is one of this recipe and seed.

        Raises:
            OrchError: it belongs to another recipe or seed.
        """
        state = load_newest(self.job.checkpoint_folder)
        if state is None:
            return
        if state["fingerprint"] != fingerprint(self.recipe, self.job.seed):
            raise OrchError(
                "the checkpoint belongs to another recipe or seed",
                where=str(self.job.checkpoint_folder),
                fix="delete the folder to train from the start",
            )
        self.policy.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        restore_random_state(state["random"])
        self.step, self.position, self.metrics = state["step"], state["position"], state["metrics"]
        self.saved_step = self.step
        log.info("resumed after step %d of %d", self.step, self.recipe.steps)

    def _state(self) -> State:
        return {
            "fingerprint": fingerprint(self.recipe, self.job.seed),
            "step": self.step,
            "position": self.position,
            "metrics": self.metrics,
            "model": self.policy.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(),
        }

    def _checkpoint_if_due(self) -> None:
        if self.step % self.job.resources.steps_per_checkpoint == 0 or self.step == self.recipe.steps:
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.step == self.saved_step:
            return
        with self._phase("checkpoint"):
            save_checkpoint(self.job.checkpoint_folder, self.step, self._state(), self.job.resources)
        self.saved_step = self.step

    def _evaluate_if_due(self) -> None:
        every = self.job.evaluate_every
        if self.job.evaluate is None or every is None or self.step % every or not 0 < self.step < self.recipe.steps:
            return
        # An evaluation may be stopped by an exception of its own: the steps so far must not be lost with it.
        self._checkpoint()
        with self._phase("evaluate"):
            self.job.evaluate(self.step, self.policy.sampler())

    def _check_finite(self, metrics: dict[str, float], step: int) -> None:
        """Raise OrchError for a loss or gradient that is not a number: before it is written to a checkpoint."""
        wrong = [name for name in ("loss", "gradient/norm") if not math.isfinite(metrics.get(name, 0.0))]
        if wrong:
            raise OrchError(
                f"{' and '.join(wrong)} of step {step} is not finite; the weights since the last checkpoint are lost",
                where=str(self.job.attempt_folder),
                fix="lower recipe.learning_rate, set recipe.max_grad_norm, or train in float32",
            )

    def _costs(self, rollouts: Rollouts) -> dict[str, float]:
        seconds = self.clock.take_step()
        num_tokens = sum(len(sample.tokens) for sample in rollouts.samples)
        return {
            **{f"time/{name}_s": value for name, value in seconds.items()},
            "time/step_s": sum(seconds.get(name, 0.0) for name in ("sample", "score", "update")),
            "sampling/tokens_per_s": num_tokens / seconds["sample"],
            "memory/peak_mb": peak_memory_mb(self.policy.device),
        }

    def _result(self, *, is_finished: bool) -> TrainResult:
        return TrainResult(
            is_finished=is_finished,
            step=self.step,
            model_folder=self.job.checkpoint_folder / "final",
            metrics={name: value for name, value in self.metrics.items() if isinstance(value, int | float)},
            phase_seconds=dict(self.clock.total),
            peak_memory_mb=peak_memory_mb(self.policy.device),
            num_parameters=self.policy.num_parameters,
        )

    @contextmanager
    def _phase(self, name: Phase) -> Iterator[None]:
        self.job.on_phase(name, self.step)
        with self.clock.phase(name):
            yield

    @contextmanager
    def _stoppable(self, name: Phase) -> Iterator[None]:
        """Run a phase, unless the trial is to stop: between phases the weights are those of the last whole step."""
        if self.job.should_stop():
            raise _StopAsked
        with self._phase(name):
            yield


@contextmanager
def _torch_set_up(resources: Resources) -> Iterator[None]:
    """Fix what decides the order of sums on CPU, and put torch back as it was."""
    threads, is_strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # a property of the module
    torch.set_num_threads(resources.num_cpus)
    if not resources.num_gpus:
        torch.use_deterministic_algorithms(True)
        # Strict mode would also fill every new tensor with NaN: a debugging aid that costs a twentieth of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_strict)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
