"""One response to one prompt, inside verl's rollout workers: our prompt tokens, and a seed of its own.

verl sends no seed per request and renders chats itself; here a sample is a function of (seed, prompt, index), and its
tokens are those of `eval.templates`, as everywhere else.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput
from verl.utils.profiler import simple_timer

from eval.seeds import derive_seed


class SeededLoop(AgentLoopBase):  # type: ignore[misc]  # verl is untyped
    """Generates once and stops."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Return the response to one row of the prompt file, number `session_id` of its group."""
        extra = row["extra_info"]
        seed = derive_seed(int(extra["seed"]), "rollout", int(extra["index"]), int(row["session_id"]))
        prompt = [int(token) for token in extra["prompt_tokens"]]
        seconds: dict[str, float] = {}
        with simple_timer("generate_sequences", seconds):
            output = await self.server_manager.generate(
                request_id=uuid4().hex, prompt_ids=prompt, sampling_params={**sampling_params, "seed": seed}
            )
        response = output.token_ids[: self.rollout_config.response_length]
        is_complete = len(response) < self.rollout_config.response_length or response[-1] == self.tokenizer.eos_token_id
        return AgentLoopOutput(
            prompt_ids=prompt,
            response_ids=response,
            response_mask=[1] * len(response),
            response_logprobs=output.log_probs and output.log_probs[: len(response)],
            num_turns=2,
            metrics={**seconds, "num_preempted": -1},
            extra_fields={**output.extra_fields, "is_complete": is_complete, "turn_scores": [], "tool_rewards": []},
        )
