"""The models of a run: the policy that is trained, what samples from it, and the frozen reference.

Weights are trained in float32. Under `model.dtype: bfloat16` forward passes run in bfloat16 by autocast, and a bfloat16
copy is sampled, refreshed each step: bfloat16 weights would swallow updates of a thousandth of their size.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from eval.engines.hf import HfSampler, live_digest
from eval.engines.hf_model import load_model, load_tokenizer
from eval.engines.vocabulary import mark_tokens
from trainers.lite.support import check_support
from trainers.recipe import Recipe, Resources


class Policy:
    """The model under training with everything that is derived from it."""

    def __init__(self, folder: Path, recipe: Recipe, resources: Resources) -> None:
        """Load the policy, and the reference where the algorithm has a KL term.

        Raises:
            ModelError: the folder does not hold a usable model.
            EngineError: a GPU is asked for and there is none.
            OrchError: a type of numbers that this trainer does not train in, or more than one GPU.
        """
        check_support(recipe, resources)
        self.device, self.dtype = "cuda" if resources.num_gpus else "cpu", getattr(torch, recipe.model.dtype)
        remote = recipe.model.trust_remote_code
        self.model = load_model(folder, device=self.device, trust_remote_code=remote)
        self.tokenizer = load_tokenizer(folder, trust_remote_code=remote)
        self.reference = self._frozen(folder, remote) if recipe.algorithm.kl_coef > 0 else None
        self.sampled = self.model if self.dtype is torch.float32 else self._frozen(folder, remote)
        for model in (self.model, self.reference, self.sampled):
            if model is not None:
                mark_tokens(model, self.tokenizer)
        self._batch_sequences = resources.sequences_at_once

    @property
    def num_parameters(self) -> int:
        """Trained numbers, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which forward passes of training run."""
        return torch.autocast(self.device, self.dtype, enabled=self.dtype is not torch.float32)

    @torch.no_grad()
    def refresh_sampled(self) -> None:
        """Bring the sampled copy to the present weights; nothing to do where it is the policy itself."""
        if self.sampled is not self.model:
            for copy, trained in zip(self.sampled.parameters(), self.model.parameters(), strict=True):
                copy.copy_(trained)

    def sampler(self) -> HfSampler:
        """Return an evaluation sampler over the present weights."""
        self.refresh_sampled()
        digest = f"{live_digest(self.sampled)}:{live_digest_of_tokenizer(self.tokenizer)}"
        return HfSampler(self.sampled, self.tokenizer, model_digest=digest, batch_sequences=self._batch_sequences)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer as a Hugging Face folder in the recipe's type."""
        self.refresh_sampled()
        self.sampled.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _frozen(self, folder: Path, trust_remote_code: bool) -> Any:
        name = str(self.dtype).removeprefix("torch.")
        model = load_model(folder, device=self.device, dtype=name, trust_remote_code=trust_remote_code)
        return model.requires_grad_(False)


def live_digest_of_tokenizer(tokenizer: Any) -> str:
    """Return a digest of what decides how text becomes tokens: vocabulary and chat template."""
    from hashlib import blake2b

    content = repr((sorted(tokenizer.get_vocab().items()), tokenizer.chat_template))
    return blake2b(content.encode(), digest_size=16).hexdigest()
