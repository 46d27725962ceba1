"""`cluster.verl`: settings of verl itself, checked against its own configuration tree and passed through. Light.

What a key of orch decides is refused with that key's name. Of the rest only what cannot change a trial's numbers, but
by rounding, passes: these settings are no part of its identity. `list_settings.py` makes the list of all keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Final

from eval.errors import OrchError
from trainers.recipe.resources import Resources, Setting

FILE: Final = Path(__file__).with_name("settings.json")
_ACTOR, _REF = "actor_rollout_ref.actor", "actor_rollout_ref.ref"
_MODEL, _ROLLOUT = "actor_rollout_ref.model", "actor_rollout_ref.rollout"
_VLLM: Final = f"{_ROLLOUT}.engine_kwargs.vllm"
_SPEED_OF_FSDP = ("forward_prefetch", "reshard_after_forward", "fsdp_size", "use_no_sync_for_gradient_accumulation")

PASSED: Final = (
    *(f"{engine}.fsdp_config.{name}" for engine in (_ACTOR, _REF) for name in _SPEED_OF_FSDP),
    *(f"{engine}.fsdp_config.use_torch_compile" for engine in (_ACTOR, _REF)),
    *(f"{engine}.profiler" for engine in (_ACTOR, _REF, _ROLLOUT)),
    *(f"{engine}.use_torch_compile" for engine in (_ACTOR, _REF)),
    f"{_ACTOR}.checkpoint.async_save",
    f"{_MODEL}.enable_activation_offload",
    f"{_MODEL}.override_config.attn_implementation",
    f"{_MODEL}.tiled_mlp",
    f"{_MODEL}.use_shm",
    f"{_ROLLOUT}.agent.num_workers",
    f"{_ROLLOUT}.checkpoint_engine",
    f"{_ROLLOUT}.cudagraph_capture_sizes",
    f"{_ROLLOUT}.disable_log_stats",
    f"{_ROLLOUT}.enable_chunked_prefill",
    f"{_ROLLOUT}.enable_prefix_caching",
    f"{_ROLLOUT}.enable_sleep_mode",
    f"{_ROLLOUT}.enforce_eager",
    f"{_ROLLOUT}.free_cache_engine",
    f"{_ROLLOUT}.layered_summon",
    f"{_ROLLOUT}.load_format",
    f"{_ROLLOUT}.max_num_batched_tokens",
    f"{_ROLLOUT}.multi_stage_wake_up",
    f"{_ROLLOUT}.prometheus",
    f"{_ROLLOUT}.scheduling_policy",
    f"{_ROLLOUT}.trace",
    _VLLM,
    "actor_rollout_ref.nccl_timeout",
    "data.dataloader_num_workers",
    "global_profiler",
    "ray_kwargs.ray_init.num_cpus",
    "ray_kwargs.timeline_json_file",
    "reward.num_workers",
    "trainer.balance_batch",
    "trainer.ray_wait_register_center_timeout",
    "trainer.rollout_data_dir",
    "transfer_queue",
)
"""Keys, and blocks with all below them, that cannot change numbers but by rounding."""
NUMBERS_OF_VLLM: Final = frozenset(
    {
        "dtype",
        "hf_config_path",
        "hf_overrides",
        "hf_token",
        "kv_cache_dtype",
        "logits_processors",
        "max_logprobs",
        "model",
        "override_generation_config",
        "quantization",
        "revision",
        "seed",
        "speculative_config",
        "tokenizer",
        "trust_remote_code",
        "worker_extension_cls",
    }
)
"""vLLM's own arguments that change numbers, or what code runs."""
RUN_CODE: Final = ("custom_backend_module", "finish_hook_cmd")
"""Last parts of keys that name a module to import or a command to run."""
OURS: Final[Mapping[str, str]] = {
    "algorithm": "algorithm",
    "data.max_prompt_length": "data.max_prompt_tokens",
    "data.max_response_length": "data.max_response_tokens",
    "data.seed": "seeds",
    "data.train_batch_size": "recipe.prompts_per_step",
    "data.train_files": "data.name",
    "data.trust_remote_code": "model.trust_remote_code",
    f"{_ACTOR}.clip_ratio": "algorithm.clip_low and algorithm.clip_high",
    f"{_ACTOR}.clip_ratio_c": "algorithm.dual_clip",
    f"{_ACTOR}.clip_ratio_high": "algorithm.clip_high",
    f"{_ACTOR}.clip_ratio_low": "algorithm.clip_low",
    f"{_ACTOR}.entropy_coeff": "algorithm.entropy_coef",
    f"{_ACTOR}.fsdp_config.dtype": "model.dtype",
    f"{_ACTOR}.fsdp_config.offload_policy": "cluster.offload",
    f"{_ACTOR}.fsdp_config.optimizer_offload": "cluster.offload",
    f"{_ACTOR}.fsdp_config.param_offload": "cluster.offload",
    f"{_ACTOR}.grad_clip": "recipe.max_grad_norm",
    f"{_ACTOR}.kl_loss_coef": "algorithm.kl_coef",
    f"{_ACTOR}.loss_agg_mode": "algorithm.loss_mean",
    f"{_ACTOR}.optim.betas": "recipe.adam_beta1 and recipe.adam_beta2",
    f"{_ACTOR}.optim.clip_grad": "recipe.max_grad_norm",
    f"{_ACTOR}.optim.lr": "recipe.learning_rate",
    f"{_ACTOR}.optim.lr_scheduler_type": "recipe.lr_schedule",
    f"{_ACTOR}.optim.lr_warmup_steps": "recipe.lr_warmup_steps",
    f"{_ACTOR}.optim.weight_decay": "recipe.weight_decay",
    f"{_ACTOR}.ppo_epochs": "recipe.ppo_epochs",
    f"{_ACTOR}.ppo_max_token_len_per_gpu": "cluster.tokens_per_pass",
    f"{_ACTOR}.ppo_micro_batch_size_per_gpu": "cluster.micro_batch_sequences",
    f"{_ACTOR}.ppo_mini_batch_size": "recipe.mini_batch_prompts",
    f"{_ACTOR}.use_dynamic_bsz": "cluster.tokens_per_pass",
    f"{_ACTOR}.use_kl_loss": "algorithm.kl_coef",
    f"{_MODEL}.enable_gradient_checkpointing": "model.gradient_checkpointing",
    f"{_MODEL}.path": "model.path",
    f"{_MODEL}.trust_remote_code": "model.trust_remote_code",
    f"{_MODEL}.use_remove_padding": "cluster.tokens_per_pass",
    f"{_ROLLOUT}.dtype": "model.dtype",
    f"{_ROLLOUT}.gpu_memory_utilization": "cluster.gpu_memory_share",
    f"{_ROLLOUT}.log_prob_max_token_len_per_gpu": "cluster.tokens_per_pass",
    f"{_ROLLOUT}.max_num_seqs": "cluster.sample_batch_sequences",
    f"{_ROLLOUT}.n": "recipe.group_size",
    f"{_ROLLOUT}.seed": "seeds",
    f"{_ROLLOUT}.temperature": "recipe.temperature",
    f"{_ROLLOUT}.tensor_model_parallel_size": "cluster.tensor_parallel",
    f"{_ROLLOUT}.top_p": "recipe.top_p",
    "trainer.max_actor_ckpt_to_keep": "cluster.keep_checkpoints",
    "trainer.n_gpus_per_node": "cluster.num_gpus",
    "trainer.nnodes": "cluster.num_nodes",
    "trainer.save_freq": "cluster.checkpoint_every",
    "trainer.test_freq": "eval.every_steps",
    "trainer.total_epochs": "recipe.steps",
    "trainer.total_training_steps": "recipe.steps",
}
"""Key of verl, or a block of keys → the key of an experiment that stands for it."""
_KINDS: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}


@cache
def known_settings() -> Mapping[str, str]:
    """Dotted key → kind of its default: the list that `list_settings.py` wrote."""
    found: dict[str, str] = json.loads(FILE.read_text())
    return found


def check_settings(resources: Resources) -> None:
    """Raise OrchError for a setting that verl does not know, that has a key of orch, or that may change numbers."""
    for key, value in resources.verl:
        _check_setting(key, value)


def own_settings(pairs: tuple[tuple[str, Setting], ...]) -> dict[str, Setting]:
    """Key as Hydra's overrides write it → value; `++` sets what is there, and adds where a block is left open."""
    return {f"++{key}": "null" if value is None else value for key, value in pairs}


def _check_setting(key: str, value: Setting) -> None:
    where = f"cluster.verl.{key}"
    kind = _kind(key)
    if kind is None:
        close = get_close_matches(key, known_settings(), n=1, cutoff=0.5)
        guess = f"did you mean {close[0]}? " if close else ""
        raise OrchError(
            f"verl has no setting {key}",
            where=where,
            fix=f"{guess}write the whole key, as in {_ROLLOUT}.enforce_eager",
        )
    ours = next((name for block, name in OURS.items() if _is_within(key, block)), None)
    if ours is not None:
        raise OrchError(f"{key} is decided by {ours}", where=where, fix=f"write {ours} instead")
    argument = key.removeprefix(f"{_VLLM}.").split(".")[0]  # of vLLM, where the key is one
    is_passed = any(_is_within(key, block) for block in PASSED) and not key.endswith(RUN_CODE)
    if not is_passed or (_is_within(key, _VLLM) and argument in NUMBERS_OF_VLLM):
        raise OrchError(
            f"{key} may change a trial's numbers, or is decided by orch's own code",
            where=where,
            fix="leave it out: settings of verl are no part of a trial's identity, so only those pass that change "
            "rounding at most (docs/verl.md)",
        )
    is_number_for_a_switch = kind in ("int", "float") and isinstance(value, bool)
    if kind in _KINDS and (not isinstance(value, _KINDS[kind]) or is_number_for_a_switch):
        raise OrchError(f"{key} is {value!r}", where=where, fix=f"it must be of type {kind}, as verl's default is")


def _kind(key: str) -> str | None:
    """What verl's tree says of a key; `any` below a block that it leaves open, None for what it does not have."""
    known = known_settings()
    if key in known:
        return None if known[key] == "open" else known[key]
    parts = key.split(".")
    blocks = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
    return "any" if any(known.get(block) == "open" for block in blocks) else None


def _is_within(key: str, block: str) -> bool:
    return key == block or key.startswith(f"{block}.")
