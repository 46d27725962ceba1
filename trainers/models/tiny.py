"""Builds the built-in model: a Qwen2 of a million parameters, taught worked additions until it is half good.

The supervised phase stops by a band of the measured average, not by a step count, so that reinforcement learning
finds something to improve. Deterministic: fixed seeds, a fixed number of threads, deterministic kernels. The folder
is an ordinary Hugging Face model that transformers and vLLM load.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from filelock import FileLock
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from eval.api import Problem, SampleRequest, SamplingSettings
from eval.benchmarks.arithmetic import problems, worked_solution
from eval.engines.hf import HfSampler
from eval.errors import ModelError
from eval.grading import grade_many
from eval.seeds import derive_seed
from eval.templates import render
from trainers.models.tiny_spec import TinySpec

END, USER, ASSISTANT, SYSTEM, PAD = "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
IGNORED = -100
"""Label of a position that is not learned."""
MAX_NEW_TOKENS = 48


def build_once(spec: TinySpec, *, cache_folder: Path, on_progress: Callable[[str], None]) -> Path:
    """Return the folder of a built-in model, building it if the cache does not hold it.

    Safe against concurrent callers and kills: one builds under a lock in a temporary folder that is renamed when whole.

    Raises:
        ModelError: the cache cannot be written, or the average never entered its band.
    """
    folder = cache_folder / f"{spec.name}-{spec.digest[:12]}"
    try:
        cache_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                for left_over in cache_folder.glob(f".{folder.name}-*"):
                    shutil.rmtree(left_over)
                partial = cache_folder / f".{folder.name}-{os.getpid()}"
                partial.mkdir()
                build(spec, partial, on_progress=on_progress)
                partial.rename(folder)
    except OSError as error:
        raise ModelError(
            f"cannot build the model into the cache: {error.strerror}",
            where=str(error.filename or folder),
            fix="make the folder writable, or choose another cache",
        ) from error
    return folder


def build(spec: TinySpec, folder: Path, *, on_progress: Callable[[str], None] = lambda line: None) -> float:
    """Train a built-in model and save it into a folder; returns its average on held-out training problems.

    Raises:
        ModelError: the average jumped over its band or never reached it.
    """
    train = problems("train")
    taught, checked = train[: -spec.check_problems], train[-spec.check_problems :]
    with _fixed_arithmetic(spec.num_threads):
        tokenizer = make_tokenizer(spec)
        model = make_model(spec, tokenizer)
        average, step = 0.0, 0
        for step in _teach(model, tokenizer, taught, spec):
            if step < spec.first_check or step % spec.check_every:
                continue
            average = _average(model, tokenizer, checked, spec)
            on_progress(f"teaching {spec.name}: step {step}, average {average:.0%}, goal {spec.stop_at:.0%}")
            if average >= spec.stop_at:
                break
    low, high = spec.band
    if not low <= average <= high:
        raise ModelError(
            f"the supervised phase of {spec.name} ended at step {step} with an average of {average:.0%}, "
            f"outside {low:.0%} to {high:.0%}",
            fix="this machine's arithmetic differs from where the build was tuned: report it with `orch doctor`",
        )
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return average


def make_tokenizer(spec: TinySpec, *, vocabulary: int = 0) -> Any:
    """Return a byte-level tokenizer without merges: one token a byte, and the chat's special tokens.

    Args:
        spec: gives the longest sequence.
        vocabulary: fill up to so many tokens with ones that no text has, for measurements at a real model's head.
    """
    # The symbols are Qwen2's byte alphabet, because transformers puts Qwen2's own pre-tokenizer around any vocabulary
    # of a model of that type.
    symbols = [*sorted(bytes_to_unicode().values()), PAD, END, SYSTEM, USER, ASSISTANT]
    symbols += [f"<{number}>" for number in range(len(symbols), vocabulary)]
    return Qwen2Tokenizer(
        vocab={symbol: index for index, symbol in enumerate(symbols)},
        merges=[],
        eos_token=END,
        pad_token=PAD,
        unk_token=PAD,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=spec.context,
    )


def make_model(spec: TinySpec, tokenizer: Any) -> Any:
    """Return the untrained model; its vocabulary is exactly the tokenizer's."""
    torch.manual_seed(spec.seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_key_value_heads,
        max_position_embeddings=spec.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
        dtype="float32",
    )
    return Qwen2ForCausalLM(config).to(torch.float32)


def _teach(model: Any, tokenizer: Any, taught: Sequence[Problem], spec: TinySpec) -> Iterator[int]:
    """Run supervised steps on worked solutions; yields the number of steps done."""
    rows = [_worked_tokens(problem, tokenizer) for problem in taught]
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(derive_seed(spec.seed, spec.name, "order"))
    for step in range(1, spec.max_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = spec.learning_rate * min(1.0, step / spec.warmup_steps)
        chosen = torch.randint(len(rows), (spec.batch_sequences,), generator=generator).tolist()
        token_BS, label_BS = _pad([rows[index] for index in chosen], tokenizer.pad_token_id)
        logits_BSV = model(input_ids=token_BS).logits[:, :-1]
        loss = F.cross_entropy(logits_BSV.flatten(0, 1), label_BS[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield step


def _worked_tokens(problem: Problem, tokenizer: Any) -> tuple[tuple[int, ...], list[int]]:
    prompt = render("chat", problem, HfSampler(None, tokenizer, model_digest="", batch_sequences=1))
    return prompt, [*tokenizer(worked_solution(problem))["input_ids"], tokenizer.eos_token_id]


def _pad(rows: Sequence[tuple[tuple[int, ...], list[int]]], pad_token: int) -> tuple[Tensor, Tensor]:
    """Return right-padded tokens, and labels that cover the responses alone."""
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    token_BS = torch.full((len(rows), longest), pad_token)
    label_BS = torch.full((len(rows), longest), IGNORED)
    for row, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        token_BS[row, :end] = torch.tensor([*prompt, *response])
        label_BS[row, len(prompt) : end] = torch.tensor(response)
    return token_BS, label_BS


def _average(model: Any, tokenizer: Any, checked: Sequence[Problem], spec: TinySpec) -> float:
    sampler = HfSampler(model, tokenizer, model_digest="", batch_sequences=1024)
    by_id = {problem.id: problem for problem in checked}
    requests = [
        SampleRequest(
            problem_id=problem.id,
            index=index,
            prompt_tokens=render("chat", problem, sampler),
            seed=derive_seed(spec.seed, spec.name, "check", problem.id, index),
        )
        for problem in checked
        for index in range(spec.check_samples)
    ]
    settings = SamplingSettings(
        num_samples=spec.check_samples, temperature=1.0, max_new_tokens=MAX_NEW_TOKENS, template="chat"
    )
    completions = sampler.sample(requests, settings)
    grades = grade_many((completion.text, by_id[completion.problem_id]) for completion in completions)
    return sum(grade.is_correct for grade in grades) / len(grades)


@contextmanager
def _fixed_arithmetic(num_threads: int) -> Iterator[None]:
    """Make torch deterministic with a fixed number of threads, and put its state back."""
    threads, is_strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    random_state = torch.get_rng_state()
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_strict)
        torch.set_rng_state(random_state)
