"""Recipe and resources → the overrides of verl's configuration. Pure: no file, clock or process.

What verl only passes through (objective, selection, advantages, schedule of the learning rate) is done by our own
code inside its processes: the values given here are those that decide what verl loads and computes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from trainers.recipe import Recipe
from trainers.verl.launch.job import VerlJob, object_store_bytes, ray_cpus
from trainers.verl.launch.settings import own_settings
from trainers.verl.launch.support import check_support, is_corrected, num_workers
from trainers.verl.processes.processes import environment

PACKED_ATTENTION: Final = "orch_packed"
"""The name under which `trainers/verl/inside/attention.py` is known to transformers."""
AGENT_LOOPS: Final = Path(__file__).with_name("agent_loops.yaml")

BY_OUR_CODE: Final = frozenset(
    {
        "algorithm.name",
        "algorithm.clip_low",
        "algorithm.clip_high",
        "algorithm.dual_clip",
        "algorithm.loss_mean",
        "algorithm.advantage_std",
        "algorithm.overlong_buffer",
        "algorithm.overlong_factor",
        "algorithm.rollout_is_threshold",
        "algorithm.rollout_is_lower",
        "algorithm.rollout_is_batch_normalize",
        "algorithm.rollout_rs_threshold",
        "algorithm.rollout_rs_lower",
        "recipe.lr_schedule",
        "recipe.lr_warmup_steps",
        "data.name",
        "data.template",
        "data.limit",
        "model.revision",
    }
)
"""Fields that no override carries: the trainer, the loss and the prompt file apply them; so with all of `selection`."""


def overrides(job: VerlJob) -> tuple[str, ...]:
    """Return the Hydra overrides of one attempt, in a fixed order.

    Raises:
        OrchError: verl cannot honour the recipe; see `trainers.verl.launch.support`.
    """
    check_support(job.recipe, job.resources)
    parts = (
        _algorithm(job),
        _data(job),
        _model(job),
        _actor(job),
        _rollout(job),
        _packed(job),
        _offload(job),
        _trainer(job),
        _ray(job),
    )
    ours = {key: value for part in parts for key, value in part.items()}
    return tuple(f"{key}={_spelled(value)}" for key, value in {**ours, **own_settings(job.resources.verl)}.items())


def micro_batch(job: VerlJob) -> int:
    """Sequences of one pass: the largest count within the resources that divides a GPU's share of a mini-batch."""
    share = _share(job)
    return next(count for count in range(min(share, job.resources.sequences_per_pass), 0, -1) if share % count == 0)


def num_devices(job: VerlJob) -> int:
    """Workers of the trial: the GPUs of all its nodes, or one a node on a CPU."""
    return num_workers(job.resources)


def helpers(job: VerlJob) -> int:
    """Processes that pass responses on, and as many that grade them: each response takes one some 12 ms of a core.

    One of each on a CPU: there they are forks, whose Ray draws the same "random" ids in each, so that two of them give
    one vLLM server two tasks of one name, which ends it.
    """
    return max(1, min(8, job.resources.num_cpus // 4)) if job.resources.num_gpus else 1


def has_checkpointing(job: VerlJob) -> bool:
    """Whether layers are made again in the backward pass."""
    is_asked = job.recipe.model.gradient_checkpointing
    return job.resources.num_gpus > 0 if is_asked is None else is_asked


def _algorithm(job: VerlJob) -> dict[str, Any]:
    algorithm = job.recipe.algorithm
    rounds = algorithm.max_sampling_rounds if algorithm.dynamic_sampling else 1
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.use_kl_in_reward": False,
        "trainer.v1.sampler.custom_sampler.path": "pkg://trainers.verl.inside.rounds",
        "trainer.v1.sampler.custom_sampler.name": "RoundsBuffer",
        "+trainer.v1.sampler.sampler_kwargs.max_rounds": rounds,
        "actor_rollout_ref.actor.use_kl_loss": algorithm.kl_coef > 0,
        "actor_rollout_ref.actor.kl_loss_coef": algorithm.kl_coef,
        "actor_rollout_ref.actor.entropy_coeff": algorithm.entropy_coef,
    }


def _data(job: VerlJob) -> dict[str, Any]:
    recipe = job.recipe
    return {
        "data.train_files": job.data_file,
        "data.val_files": job.data_file,
        "data.val_max_samples": 1,
        "data.shuffle": False,
        "data.seed": job.seed % 2**31,
        "data.train_batch_size": recipe.prompts_per_step,
        "data.gen_batch_size": 1,
        "data.max_prompt_length": recipe.data.max_prompt_tokens,
        "data.max_response_length": recipe.data.max_response_tokens,
        "data.filter_overlong_prompts": False,
        "data.dataloader_num_workers": 0,
        "data.trust_remote_code": recipe.model.trust_remote_code,
    }


def _model(job: VerlJob) -> dict[str, Any]:
    return {
        "actor_rollout_ref.model.path": job.model_folder,
        "actor_rollout_ref.model.trust_remote_code": job.recipe.model.trust_remote_code,
        "actor_rollout_ref.model.external_lib": "trainers.verl.inside.engine",
        "actor_rollout_ref.model.use_remove_padding": job.resources.tokens_per_pass is not None,
        "actor_rollout_ref.model.enable_gradient_checkpointing": has_checkpointing(job),
        "+actor_rollout_ref.model.override_config.attn_implementation": _attention(job),
    }


def _attention(job: VerlJob) -> str:
    return "sdpa" if job.resources.tokens_per_pass is None else PACKED_ATTENTION


def _actor(job: VerlJob) -> dict[str, Any]:
    recipe, actor = job.recipe, "actor_rollout_ref.actor"
    optimizer, fsdp = f"{actor}.optim", f"{actor}.fsdp_config"
    return {
        f"{actor}.strategy": "fsdp2",
        f"{actor}.ppo_mini_batch_size": recipe.mini_batch_prompts,
        f"{actor}.ppo_epochs": 1 if recipe.is_rescored else recipe.ppo_epochs,  # then each update is a call
        f"{actor}.ppo_micro_batch_size_per_gpu": micro_batch(job),
        f"{actor}.use_dynamic_bsz": job.resources.tokens_per_pass is not None,
        f"{actor}.shuffle": False,
        f"{actor}.use_torch_compile": False,
        f"{optimizer}.lr": recipe.learning_rate,
        f"{optimizer}.lr_scheduler_type": "constant",
        f"{optimizer}.lr_warmup_steps": 0,
        f"{optimizer}.weight_decay": recipe.weight_decay,
        f"{optimizer}.betas": f"[{recipe.adam_beta1},{recipe.adam_beta2}]",
        f"{optimizer}.clip_grad": "inf" if recipe.max_grad_norm is None else recipe.max_grad_norm,
        f"{fsdp}.use_torch_compile": False,
        f"{fsdp}.dtype": "float32",
        f"+{fsdp}.mixed_precision.param_dtype": _short(recipe),
        f"+{fsdp}.mixed_precision.reduce_dtype": "fp32",
        f"+{fsdp}.mixed_precision.buffer_dtype": "fp32",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": micro_batch(job),
        "actor_rollout_ref.ref.fsdp_config.dtype": "float32",
        "+actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype": _short(recipe),
        "actor_rollout_ref.ref.fsdp_config.use_torch_compile": False,
    }


def _rollout(job: VerlJob) -> dict[str, Any]:
    recipe, rollout = job.recipe, "actor_rollout_ref.rollout"
    context = recipe.data.max_prompt_tokens + recipe.data.max_response_tokens
    shared = {
        f"{rollout}.name": "vllm",
        f"{rollout}.n": recipe.group_size,
        f"{rollout}.temperature": recipe.temperature,
        f"{rollout}.top_p": recipe.top_p,
        f"{rollout}.dtype": recipe.model.dtype,
        f"{rollout}.calculate_log_probs": is_corrected(recipe),
        f"{rollout}.tensor_model_parallel_size": job.resources.tensor_parallel or 1,
        f"{rollout}.max_model_len": context,
        f"{rollout}.max_num_seqs": job.resources.sequences_at_once,
        f"{rollout}.max_num_batched_tokens": max(2048, context),
        f"{rollout}.log_prob_micro_batch_size_per_gpu": micro_batch(job),
        f"{rollout}.log_prob_use_dynamic_bsz": job.resources.tokens_per_pass is not None,
        f"{rollout}.agent.num_workers": helpers(job),
        f"{rollout}.agent.agent_loop_config_path": AGENT_LOOPS,
        f"{rollout}.agent.default_agent_loop": "orch",
        "reward.num_workers": helpers(job),
        "reward.custom_reward_function.path": "pkg://trainers.verl.inside.reward",
        "reward.custom_reward_function.name": "compute_score",
    }
    extension = "OwnSocketExtension" if job.resources.num_gpus else "CpuWorkerExtension"
    shared[f"+{rollout}.engine_kwargs.vllm.worker_extension_cls"] = f"trainers.verl.inside.vllm_extension.{extension}"
    if job.resources.num_gpus:
        return shared | {f"{rollout}.gpu_memory_utilization": job.resources.gpu_memory_share or 0.5}
    return shared | {
        f"{rollout}.enforce_eager": True,
        f"{rollout}.enable_chunked_prefill": False,  # a seeded request whose prompt is read in pieces ends the engine
        f"{rollout}.free_cache_engine": False,
        f"+{rollout}.enable_sleep_mode": False,
        f"{rollout}.checkpoint_engine.update_weights_bucket_megabytes": 16,
    }


def _packed(job: VerlJob) -> dict[str, Any]:
    """Passes by tokens instead of the fixed batch sizes above."""
    budget = job.resources.tokens_per_pass
    if budget is None:
        return {}
    return {
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": budget,
        "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu": budget,
        "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu": budget,
        "actor_rollout_ref.ref.log_prob_use_dynamic_bsz": True,
    }


def _offload(job: VerlJob) -> dict[str, Any]:
    """What leaves the GPU, and when. The reference is in host memory anyway: verl fetches its layers one by one."""
    offload, fsdp = job.resources.offload, "actor_rollout_ref.actor.fsdp_config"
    if not job.resources.num_gpus or offload is None:
        return {}
    return {
        f"{fsdp}.param_offload": offload == "sampling",
        f"{fsdp}.optimizer_offload": offload == "sampling",
        f"{fsdp}.offload_policy": offload == "always",
    }


def _trainer(job: VerlJob) -> dict[str, Any]:
    resume = {"trainer.resume_mode": "disable"}
    if job.resume_from is not None:
        resume = {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": str(job.resume_from)}
    return {
        "trainer.logger": '["console"]',
        "trainer.project_name": "orch",
        "trainer.experiment_name": job.token,
        "trainer.device": "cuda" if job.resources.num_gpus else "cpu",
        "trainer.n_gpus_per_node": max(1, job.resources.num_gpus),
        "trainer.nnodes": job.resources.num_nodes,
        "trainer.total_training_steps": job.recipe.steps,
        "trainer.total_epochs": job.recipe.steps,
        "trainer.val_before_train": False,
        "trainer.test_freq": -1,
        "trainer.save_freq": job.resources.steps_per_checkpoint,
        "trainer.default_local_dir": job.checkpoint_folder,
        **resume,
        "+orch_job": job.file,
    }


def _ray(job: VerlJob) -> dict[str, Any]:
    init = "ray_kwargs.ray_init"
    storage = {"transfer_queue.backend.SimpleStorage.num_data_storage_units": 1}
    if job.ray_address is not None:
        variables = environment(job, {})  # on other nodes nobody else would set them
        return {
            f"+{init}.address": job.ray_address,
            **{f"+{init}.runtime_env.env_vars.{name}": f"'{value}'" for name, value in variables.items()},
            **storage,
        }
    return {
        f"+{init}.address": "local",
        f"{init}.num_cpus": ray_cpus(job.resources),
        f"+{init}.num_gpus": max(1, job.resources.num_gpus),
        f"+{init}.include_dashboard": False,
        f"+{init}._temp_dir": job.temporary_folder,
        f"+{init}.object_store_memory": object_store_bytes(job.resources),
        **storage,
    }


def _share(job: VerlJob) -> int:
    return job.recipe.mini_batch_prompts * job.recipe.group_size // num_devices(job)


def _short(recipe: Recipe) -> str:
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[recipe.model.dtype]


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
