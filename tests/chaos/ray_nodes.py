"""Three Ray nodes on one machine, a head without cores and two with one each, until standard input closes.

Prints its address and the process ids that tests kill, as one line of JSON.
"""

import json
import sys

from ray._private.node import Node
from ray.cluster_utils import Cluster

_OBJECT_STORE_BYTES = 80 * 2**20


def pid(node: Node, kind: str) -> int:
    return int(node.all_processes[kind][0].process.pid)


def main() -> None:
    common = {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **common})
    nodes = [cluster.add_node(num_cpus=1, **common) for _ in range(2)]
    pids = {"gcs": pid(cluster.head_node, "gcs_server"), "raylets": [pid(node, "raylet") for node in nodes]}
    print(json.dumps({"address": cluster.address, **pids}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
