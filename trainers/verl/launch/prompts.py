"""The prompt file of a verl trial: rows in the order in which lite would draw them, so that verl only has to read."""

from __future__ import annotations

from pathlib import Path

from eval.benchmarks.registry import load
from eval.engines.hf import HfSampler
from eval.engines.hf_model import load_tokenizer
from trainers.api import TrainJob
from trainers.prompts import Prompt, PromptOrder
from trainers.verl.inside.reward import problem_json


def write_prompts(job: TrainJob, file: Path) -> int:
    """Write every prompt that the run can draw, and return their number.

    Raises:
        DataError: the training set is missing, or no prompt is short enough.
        ModelError: the model has no tokenizer.
    """
    import pandas as pd

    recipe = job.recipe
    tokenizer = load_tokenizer(job.model_folder, trust_remote_code=recipe.model.trust_remote_code)
    order = PromptOrder(
        load(recipe.data.name, data_folder=job.data_folder, limit=recipe.data.limit).problems,
        template=recipe.data.template,
        encoder=HfSampler(None, tokenizer, model_digest="", batch_sequences=1),
        max_tokens=recipe.data.max_prompt_tokens,
        seed=job.seed,
    )
    rounds = recipe.algorithm.max_sampling_rounds if recipe.algorithm.dynamic_sampling else 1
    prompts, _ = order.take(0, recipe.steps * recipe.prompts_per_step * rounds)
    pd.DataFrame([_row(prompt, job.seed) for prompt in prompts]).to_parquet(file)
    return len(prompts)


def _row(prompt: Prompt, seed: int) -> dict[str, object]:
    return {
        "data_source": "orch",
        "prompt": [{"role": "user", "content": prompt.problem.question}],
        "reward_model": {"style": "rule", "ground_truth": problem_json(prompt.problem)},
        "extra_info": {"index": prompt.position, "seed": seed, "prompt_tokens": list(prompt.tokens)},
    }
