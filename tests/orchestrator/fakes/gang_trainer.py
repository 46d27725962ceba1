"""A trainer that does nothing with its nodes but to see that they are there: what surrounds verl on several nodes."""

import json
import os
import time

from fake_trainer import FakeTrainer

from trainers.api import TrainJob, TrainResult
from trainers.verl.processes.nodes import Gang, all_nodes, ray_environment, start_head


class GangTrainer(FakeTrainer):
    def train(self, job: TrainJob) -> TrainResult:
        gang = Gang.of(os.environ)
        assert gang is not None
        os.environ.update(ray_environment(gang, os.environ, num_gpus=0))
        start_head(gang, job.resources)
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        ray.init(address=gang.address, log_to_driver=False)

        def end(error: Exception) -> None:
            (job.attempt_folder / "lost.txt").write_text(str(error))
            ray.shutdown()

        with all_nodes(gang.num_nodes, on_lost=end):
            where = ray.remote(lambda: ray.get_runtime_context().get_node_id())
            hold = ray.util.placement_group([{"GPU": 1}] * gang.num_nodes, strategy="STRICT_SPREAD")
            ray.get(hold.ready(), timeout=60)
            places = [PlacementGroupSchedulingStrategy(hold, index) for index in range(gang.num_nodes)]
            tasks = [where.options(num_cpus=0, num_gpus=1, scheduling_strategy=place).remote() for place in places]
            found = {"token": gang.token, "nodes": sorted(ray.get(tasks, timeout=60))}
            (job.checkpoint_folder).mkdir(parents=True, exist_ok=True)
            (job.checkpoint_folder / "nodes.json").write_text(json.dumps(found))
            while (job.checkpoint_folder.parents[2] / "hold").exists():
                time.sleep(0.2)
                ray.get(where.remote())
        ray.shutdown()
        return super().train(job)
