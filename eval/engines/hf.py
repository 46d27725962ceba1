"""The embedded engine: Hugging Face transformers in this process, on CPU or one GPU.

`HfSampler` also wraps a live model during training, so that a checkpoint and its policy are sampled the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import transformers

from eval.api import Completion, SampleRequest, SamplingSettings
from eval.engines.decoding import Decoding, Response, generate
from eval.engines.hf_model import check_vocabulary, end_tokens, load_model, load_tokenizer, raw_bytes
from eval.engines.prompts import encode_chat, encode_text
from eval.engines.vocabulary import mark_tokens
from eval.model_folder import folder_digests

__all__ = ["Decoding", "HfSampler", "Response", "generate", "live_digest", "open_hf_sampler"]


def open_hf_sampler(
    model_folder: Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_sequences: int = 256,
    trust_remote_code: bool = False,
) -> HfSampler:
    """Load a folder into a sampler.

    Raises:
        ModelError: the folder does not hold a usable model and tokenizer.
        EngineError: the device does not exist.
    """
    model = load_model(model_folder, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(model_folder, trust_remote_code=trust_remote_code)
    check_vocabulary(tokenizer, model.get_input_embeddings().num_embeddings, where=model_folder)
    mark_tokens(model, tokenizer)
    # The type of the weights changes samples, so it is part of what the sample store's key stands for.
    digests = folder_digests(model_folder)
    return HfSampler(
        model,
        tokenizer,
        model_digest=f"{digests.digest}:{dtype}",
        former_digest=f"{digests.former}:{dtype}",
        batch_sequences=batch_sequences,
    )


def live_digest(model: Any) -> str:
    """Return a digest of a model's present weights; reads every byte of them."""
    digest = hashlib.blake2b(digest_size=32)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


class HfSampler:
    """A `Sampler` over a transformers model and its tokenizer."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        model_digest: str,
        batch_sequences: int,
        former_digest: str | None = None,
    ) -> None:
        """Wrap what is loaded already; the model is used as it stands at each call.

        Args:
            model: a causal language model on its device.
            tokenizer: its tokenizer, with a padding token.
            model_digest: what identifies weights and tokenizer.
            batch_sequences: rows decoded at once.
            former_digest: what earlier versions called the same.
        """
        self._former_digest = former_digest if former_digest != model_digest else None
        self._model, self._tokenizer, self._digest = model, tokenizer, model_digest
        self._batch_sequences = batch_sequences

    @property
    def name(self) -> str:
        """Engine and version."""
        return f"hf {transformers.__version__}"

    @property
    def model_digest(self) -> str:
        """Content digest given at opening."""
        return self._digest

    @property
    def former_digest(self) -> str | None:
        """What earlier versions called the same weights, where that differs."""
        return self._former_digest

    @property
    def keeps_batches(self) -> bool:
        """Yes: a call decodes its own requests, in passes of `batch_sequences`."""
        return True

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Return the tokens of a chat with the generation prompt appended; ModelError without a chat template."""
        return encode_chat(self._tokenizer, messages)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a raw prompt."""
        return encode_text(self._tokenizer, text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of a response, without special tokens."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[Completion]:
        """Yield completions as they finish.

        Raises:
            ModelError: a prompt and its response do not fit the model's context.
        """
        prompts = [request.prompt_tokens for request in requests]
        seeds = [request.seed for request in requests]
        for response in generate(self._model, prompts, seeds=seeds, decoding=self._decoding(settings)):
            yield self._completion(requests[response.row], response, settings.stop)

    def close(self) -> None:
        """Drop the model, so that its memory can be used again."""
        self._model = None

    def _decoding(self, settings: SamplingSettings) -> Decoding:
        def holds_stop(tokens: list[int]) -> bool:
            return any(stop in self.decode(tokens) for stop in settings.stop)

        return Decoding(
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            end_tokens=end_tokens(self._model, self._tokenizer),
            pad_token=self._tokenizer.pad_token_id,
            batch_sequences=self._batch_sequences,
            is_finished=holds_stop if settings.stop else None,
        )

    def _completion(self, request: SampleRequest, response: Response, stop: tuple[str, ...]) -> Completion:
        text = self.decode(response.tokens)
        cut = min((place for place in map(text.find, stop) if place >= 0), default=len(text))
        return Completion(
            problem_id=request.problem_id,
            index=request.index,
            text=text[:cut],
            num_tokens=len(response.tokens),
            finish_reason="stop" if response.is_complete else "length",
        )
