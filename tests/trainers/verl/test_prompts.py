import json

import pandas as pd

from eval.benchmarks.registry import load
from eval.engines.hf import HfSampler
from trainers.api import TrainJob
from trainers.models.tiny import make_model, make_tokenizer
from trainers.models.tiny_spec import ARITHMETIC_TINY
from trainers.prompts import PromptOrder
from trainers.recipe import Resources
from trainers.verl.inside.reward import compute_score, problem_json, read_problem
from trainers.verl.launch.prompts import write_prompts


def a_job(folder, recipe, seed=3):
    tokenizer = make_tokenizer(ARITHMETIC_TINY)
    make_model(ARITHMETIC_TINY, tokenizer).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return TrainJob(
        recipe=recipe,
        seed=seed,
        resources=Resources(),
        model_folder=folder / "model",
        checkpoint_folder=folder / "checkpoints",
        attempt_folder=folder,
    )


def test_the_prompts_are_those_of_lite_in_its_order(tmp_path, make_recipe):
    recipe = make_recipe(algorithm={"dynamic_sampling": True, "max_sampling_rounds": 2}, steps=2)
    assert write_prompts(a_job(tmp_path, recipe), tmp_path / "prompts.parquet") == 2 * 8 * 2
    rows = pd.read_parquet(tmp_path / "prompts.parquet")
    encoder = HfSampler(None, make_tokenizer(ARITHMETIC_TINY), model_digest="", batch_sequences=1)
    problems = load("arithmetic_train", data_folder=None).problems
    order = PromptOrder(problems, template="chat", encoder=encoder, max_tokens=32, seed=3)
    expected, _ = order.take(0, 32)
    assert [extra["index"] for extra in rows.extra_info] == [prompt.position for prompt in expected]
    assert [tuple(extra["prompt_tokens"]) for extra in rows.extra_info] == [prompt.tokens for prompt in expected]
    assert [read_problem(cell["ground_truth"]) for cell in rows.reward_model] == [p.problem for p in expected]


def test_the_reward_is_the_verdict_of_evaluation():
    problem = load("arithmetic_train", data_folder=None).problems[0]
    cell = problem_json(problem)
    right, wrong = f"so \\boxed{{{problem.answer}}}", "so \\boxed{-1}"
    assert compute_score("orch", right, cell) == {"score": 1.0, "acc": 1.0, "has_answer": 1.0}
    assert compute_score("orch", wrong, cell) == {"score": 0.0, "acc": 0.0, "has_answer": 1.0}
    assert compute_score("orch", "no box", cell) == {"score": 0.0, "acc": 0.0, "has_answer": 0.0}
    assert json.loads(cell)["choices"] == []
