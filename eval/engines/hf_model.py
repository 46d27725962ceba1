"""Loads a Hugging Face folder into a model and a tokenizer on one device; failures become ModelError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from eval.engines.attention import IMPLEMENTATION
from eval.errors import EngineError, ModelError
from eval.model_folder import check_folder, check_weights


def load_model(folder: Path, *, device: str = "cpu", dtype: str = "float32", trust_remote_code: bool = False) -> Any:
    """Return the causal language model of a folder, in evaluation mode.

    Args:
        folder: a Hugging Face folder.
        device: `cpu` or `cuda`.
        dtype: `float32`, `bfloat16` or `float16`.
        trust_remote_code: run model code that the folder brings along.

    Raises:
        ModelError: the folder is incomplete, or not a causal language model that transformers knows.
        EngineError: the device does not exist.
    """
    check_folder(folder)
    check_weights(folder)
    check_device(device)
    transformers.utils.logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"transformers cannot load the model: {error}",
            where=str(folder),
            fix="check that the folder is whole and holds a causal language model",
        ) from error
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(IMPLEMENTATION)
    return model.to(device).eval()


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer of a folder, with a padding token.

    Raises:
        ModelError: the folder holds no tokenizer, or one without an end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"transformers cannot load the tokenizer: {error}",
            where=str(folder),
            fix="save the tokenizer into the model folder",
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end-of-sequence token", where=str(folder), fix="set its eos_token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def check_vocabulary(tokenizer: Any, num_embeddings: int | None, *, where: Path) -> None:
    """Refuse a tokenizer of another model: one that knows tokens for which the model has no embedding.

    A model may have more embeddings than tokens, as many round them up. Tokens that were added and are never used do
    not count; one that would pad is replaced by the end token, which padding hides as well.

    Args:
        tokenizer: of the same folder.
        num_embeddings: rows of the model's embedding; None where they are not known.
        where: the folder.

    Raises:
        ModelError: the vocabularies do not fit.
    """
    if num_embeddings is None:
        return
    if tokenizer.vocab_size > num_embeddings or tokenizer.eos_token_id >= num_embeddings:
        raise ModelError(
            f"the tokenizer is of another vocabulary: it knows {max(tokenizer.vocab_size, len(tokenizer)):,} tokens, "
            f"the model {num_embeddings:,}",
            where=str(where),
            fix="put the model's own tokenizer files into the folder",
        )
    if tokenizer.pad_token_id >= num_embeddings:
        tokenizer.pad_token_id = tokenizer.eos_token_id


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return every token that ends a response: the generation config's and the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = configured if isinstance(configured, list) else [configured]
    return tuple(sorted({int(token) for token in (*listed, tokenizer.eos_token_id) if token is not None}))


def check_device(device: str) -> None:
    """Raise EngineError if the device is a GPU and there is none."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EngineError(
            "a GPU is asked for, but torch sees none",
            where="cluster.num_gpus",
            fix="set cluster.num_gpus=0, or install a torch build for this GPU",
        )


def raw_bytes(tensor: Tensor) -> bytes:
    """Return the tensor's elements as bytes, whatever its type and device."""
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
