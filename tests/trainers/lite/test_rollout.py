from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from eval.api import Problem
from eval.benchmarks.arithmetic import problems
from eval.engines.decoding import Decoding
from eval.engines.hf import open_hf_sampler
from trainers.lite.rollout import RolloutSource, collect_rollouts
from trainers.prompts import Prompt, PromptOrder
from trainers.recipe import Recipe
from trainers.rollouts import Sample, make_batch, rollout_metrics

RecipeOf = Callable[..., Recipe]
DYNAMIC = {"name": "dapo", "loss_mean": "token", "dynamic_sampling": True}


def prompt(position: int) -> Prompt:
    problem = Problem(id=str(position), question="1+1=?", answer="2", kind="integer")
    return Prompt(position=position, problem=problem, tokens=(1, 2, 3)[: 1 + position % 3])


def sample(position: int, index: int, reward: float, tokens: Sequence[int] = (5, 6), **changes: object) -> Sample:
    values: dict[str, object] = {"is_complete": True, "has_answer": True} | changes
    return Sample(prompt=prompt(position), index=index, tokens=list(tokens), reward=reward, **values)  # type: ignore[arg-type]


@dataclass
class ScriptedSource:
    """Stands for `RolloutSource`: the reward of every response is looked up by the prompt's position."""

    rewards: dict[int, list[float]]
    asked: list[list[int]] = field(default_factory=list)
    decoding = Decoding(max_new_tokens=8, temperature=1.0, end_tokens=(9,), pad_token=0, batch_sequences=4)

    @property
    def prompts(self) -> ScriptedSource:
        return self

    def take(self, position: int, count: int) -> tuple[list[Prompt], int]:
        self.asked.append(list(range(position, position + count)))
        return [prompt(place) for place in self.asked[-1]], position + count

    def sample(self, prompts: Sequence[Prompt], group_size: int) -> list[Sample]:
        default = [0.0] * group_size
        return [
            sample(one.position, index, reward)
            for one in prompts
            for index, reward in enumerate(self.rewards.get(one.position, default))
        ]


MIXED = [1.0, 0.0, 0.0, 1.0]


def test_a_batch_lays_prompt_and_response_side_by_side_with_its_advantages(recipe_of: RecipeOf) -> None:
    groups = [
        [sample(4, 0, 1.0, (5, 6, 9)), sample(4, 1, 0.0, (7, 9)), sample(4, 2, 0.0, (8,)), sample(4, 3, 0.0, (9,))],
        [sample(2, index, 1.0, (9,)) for index in range(4)],
    ]
    batch = make_batch(groups, recipe_of(), pad_token=0)
    assert batch.tokens_BS.tolist()[:4] == [[1, 2, 5, 6, 9], [1, 2, 7, 9, 0], [1, 2, 8, 0, 0], [1, 2, 9, 0, 0]]
    assert batch.tokens_BS.tolist()[4] == [1, 2, 3, 9, 0]
    assert batch.prompt_length_B.tolist() == [2, 2, 2, 2, 3, 3, 3, 3]
    assert batch.response_length_B.tolist() == [3, 2, 1, 1, 1, 1, 1, 1]
    assert batch.group_B.tolist() == [4, 4, 4, 4, 2, 2, 2, 2]
    assert batch.uid_B.tolist() == [16, 17, 18, 19, 8, 9, 10, 11]
    assert batch.advantage_B.tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5, 0, 0, 0, 0], abs=1e-5)


def test_the_length_penalty_is_added_to_the_reward_before_advantages(recipe_of: RecipeOf) -> None:
    recipe = recipe_of(
        algorithm={"overlong_buffer": 4, "overlong_factor": 0.5}, data={"max_response_tokens": 8}, group_size=2
    )
    batch = make_batch([[sample(0, 0, 1.0, [5] * 8), sample(0, 1, 1.0, [5] * 6)]], recipe, pad_token=0)
    assert batch.reward_B.tolist() == pytest.approx([0.5, 0.75])
    assert batch.advantage_B.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-4)


def test_without_dynamic_sampling_one_round_is_all_there_is(recipe_of: RecipeOf) -> None:
    source = ScriptedSource({5: MIXED})
    found = collect_rollouts(source, recipe_of(), position=5)  # type: ignore[arg-type]
    assert source.asked == [[5, 6]]
    assert (found.num_rounds, found.num_groups_kept, found.position, len(found.batch)) == (1, 2, 7, 8)


def test_dynamic_sampling_refills_groups_without_a_signal(recipe_of: RecipeOf) -> None:
    source = ScriptedSource({1: MIXED, 3: MIXED, 4: MIXED})
    found = collect_rollouts(source, recipe_of(algorithm=DYNAMIC), position=0)  # type: ignore[arg-type]
    # Round one keeps one of two, so round two asks for one missing at a share of a half.
    assert source.asked == [[0, 1], [2, 3]]
    assert found.batch.group_B.unique().tolist() == [1, 3]
    assert (found.num_rounds, found.num_groups_kept, found.position) == (2, 2, 4)
    metrics = rollout_metrics(found, recipe_of(algorithm=DYNAMIC))
    assert metrics["sampling/groups_drawn"] == 4
    assert metrics["sampling/groups_missing"] == 0
    assert metrics["reward/mean"] == 0.25
    assert metrics["reward/groups_all_wrong"] == 0.5


def test_dynamic_sampling_is_bounded_and_says_what_is_missing(recipe_of: RecipeOf) -> None:
    recipe = recipe_of(algorithm=DYNAMIC | {"max_sampling_rounds": 3})
    source = ScriptedSource({4: MIXED})
    found = collect_rollouts(source, recipe, position=0)  # type: ignore[arg-type]
    assert source.asked == [[0, 1], [2, 3], [4, 5]]
    assert found.batch.group_B.unique().tolist() == [4]
    assert rollout_metrics(found, recipe)["sampling/groups_missing"] == 1
    nothing = collect_rollouts(ScriptedSource({}), recipe, position=0)  # type: ignore[arg-type]
    assert len(nothing.batch) == 0
    assert rollout_metrics(nothing, recipe)["sampling/groups_missing"] == 2


def test_groups_beyond_the_batch_are_dropped_but_counted(recipe_of: RecipeOf) -> None:
    source = ScriptedSource({0: MIXED, 2: MIXED, 3: MIXED})
    found = collect_rollouts(source, recipe_of(algorithm=DYNAMIC), position=0)  # type: ignore[arg-type]
    assert found.batch.group_B.unique().tolist() == [0, 2]
    assert len(found.samples) == 16


def test_a_selection_before_the_filter_sees_the_dropped_groups(recipe_of: RecipeOf) -> None:
    selection = {"method": "ets", "ratio": 0.5, "order": "before_filter"}
    source = ScriptedSource({1: MIXED, 2: MIXED})
    found = collect_rollouts(source, recipe_of(algorithm=DYNAMIC, selection=selection), position=0)  # type: ignore[arg-type]
    assert found.batch.group_B.unique().tolist() == [0, 1, 2]
    assert found.num_groups_kept == 2
    assert found.batch.is_trained_B is not None
    assert found.batch.is_trained_B.tolist() == [False] * 4 + [True] * 8
    assert found.batch.advantage_B[found.batch.group_B == 0].tolist() == [0.0] * 4


@pytest.fixture
def source_of(small_model: Path) -> Iterator[Callable[..., RolloutSource]]:
    sampler = open_hf_sampler(small_model, dtype="float64")  # no processor rounds so that another token is drawn

    def make(*, seed: int = 0, batch_sequences: int = 64) -> RolloutSource:
        return RolloutSource(
            prompts=PromptOrder(problems("train"), template="chat", encoder=sampler, max_tokens=32, seed=seed),
            model=sampler._model,
            decoding=Decoding(
                max_new_tokens=32,
                temperature=1.0,
                end_tokens=(sampler._tokenizer.eos_token_id,),
                pad_token=sampler._tokenizer.pad_token_id,
                batch_sequences=batch_sequences,
            ),
            decode=sampler.decode,
            seed=seed,
        )

    yield make
    sampler.close()


def test_real_rollouts_are_graded_and_end_in_the_end_token(
    recipe_of: RecipeOf, source_of: Callable[..., RolloutSource]
) -> None:
    recipe = recipe_of(prompts_per_step=3)
    source = source_of()
    found = collect_rollouts(source, recipe, position=0)
    assert len(found.batch) == 12
    assert len({tuple(one.tokens) for one in found.samples}) > 6, "samples of one prompt must differ"
    for row, one in enumerate(found.samples):
        start = int(found.batch.prompt_length_B[row])
        end = start + int(found.batch.response_length_B[row])
        assert found.batch.tokens_BS[row, start:end].tolist() == one.tokens
        assert one.is_complete == (one.tokens[-1] == source.decoding.end_tokens[0])
        text = source.decode(one.tokens)
        assert one.has_answer == ("\\boxed{" in text and "}" in text.split("\\boxed{")[-1])
        assert one.reward == float(
            one.has_answer and text.split("\\boxed{")[-1].split("}")[0] == one.prompt.problem.answer
        )


def test_rollouts_follow_the_seed_and_not_the_batch(
    recipe_of: RecipeOf, source_of: Callable[..., RolloutSource]
) -> None:
    recipe = recipe_of(prompts_per_step=3)
    first = collect_rollouts(source_of(), recipe, position=0).batch
    assert torch.equal(
        first.tokens_BS, collect_rollouts(source_of(batch_sequences=5), recipe, position=0).batch.tokens_BS
    )
    other = collect_rollouts(source_of(seed=1), recipe, position=0).batch
    assert first.tokens_BS.tolist() != other.tokens_BS.tolist()
