"""verl's worker of actor, rollout and reference, with our loss, sockets of its own, and an export of the policy."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.distributed import initialize_global_process_group_ray
from verl.workers.engine_workers import ActorRolloutRefWorker

from trainers.verl.inside.loss import verl_loss
from trainers.verl.inside.vllm_extension import own_socket
from trainers.verl.launch.job import JOB_FILE, VerlJob
from trainers.verl.launch.pulse import PulseFile


class SelectionWorker(ActorRolloutRefWorker):  # type: ignore[misc]  # verl is untyped
    """The interface of `ActorRolloutRefWorker`, whose documentation applies."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.job = VerlJob.read(Path(os.environ[JOB_FILE]))
        if not self.job.resources.num_gpus:
            initialize_global_process_group_ray(
                backend="cpu:gloo"
            )  # verl would ask for gloo twice, which torch refuses

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[untyped-decorator]
    def init_model(self) -> None:
        """Build the models, then put our loss and socket in the place of verl's."""
        super().init_model()
        self.actor.set_loss_fn(partial(verl_loss, algorithm=self.job.recipe.algorithm))
        self.rollout.zmq_handle = own_socket(self.rollout.zmq_handle)
        if self.rank == 0:
            self.actor.engine.pulse_file = PulseFile(self.job.pulse_file)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[untyped-decorator]
    def export_model(self, folder: str) -> None:
        """Write the policy as an ordinary Hugging Face folder, in the recipe's type; the first worker's task."""
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        recipe, source = self.job.recipe, self.job.model_folder
        remote, dtype = recipe.model.trust_remote_code, getattr(torch, recipe.model.dtype)
        parameters, _ = self.actor.engine.get_per_tensor_param()
        weights = {}
        for name, tensor in parameters:  # each is put together on every worker, for a moment
            if self.rank == 0:
                weights[name] = tensor.detach().to("cpu", dtype)
        if self.rank == 0:
            with torch.device("meta"):
                config = AutoConfig.from_pretrained(source, trust_remote_code=remote)
                model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=remote)
            model.load_state_dict(weights, assign=True, strict=False)
            model.tie_weights()
            unset = [name for name, value in model.named_parameters() if value.is_meta]
            assert not unset, f"the engine gave no weights for {unset}"
            model.save_pretrained(folder)
            AutoTokenizer.from_pretrained(source, trust_remote_code=remote).save_pretrained(folder)
