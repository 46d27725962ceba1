import pytest

from orchestrator.errors import PlanError
from orchestrator.forecast.cluster import Cluster, parse_cluster
from orchestrator.sweep.nodes import Node, ResourceRequest, check_fits, request_of
from trainers.recipe import Resources


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("8xH100", "1 node of 8 × H100 80 GB, 192 CPUs, 2000 GB"),
        ("8xh100x2", "2 nodes of 8 × H100 80 GB, 192 CPUs, 2000 GB"),
        ("4xA100-40x3", "3 nodes of 4 × A100-40 40 GB, 64 CPUs, 480 GB"),
        ("8xA100:cpus=64:memory=512", "1 node of 8 × A100 80 GB, 64 CPUs, 512 GB"),
        (
            "8xH100x2+4xH100",
            "2 nodes of 8 × H100 80 GB, 192 CPUs, 2000 GB + 1 node of 4 × H100 80 GB, 96 CPUs, 1000 GB",
        ),
        ("2xcpu", "1 node of 2 CPUs, 8 GB"),
    ],
)
def test_a_cluster_is_read_as_written(text: str, shown: str) -> None:
    assert str(parse_cluster(text)) == shown


def test_nodes_join_and_gpus_add_up() -> None:
    cluster = parse_cluster("8xH100x2+4xH100+16xcpu")
    assert [node.num_gpus for node in cluster.nodes] == [8, 8, 4, 0]
    assert cluster.num_gpus == 20


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("H100", "'H100' is no cluster", "as in 8xH100x2"),
        ("8xH100x0", "'8xH100x0' has 0 nodes of 8 devices", "as in 8xH100x2"),
        ("0xH100", "'0xH100' has 1 nodes of 0 devices", "as in 8xH100x2"),
        ("8xH10", "unknown device 'h10'", "did you mean H100?"),
        ("8xH100+8xA100", "'8xH100+8xA100' has two kinds of GPU", "plan each kind by itself"),
        ("8xH100:disk=3", "'disk=3' says nothing about a node", ":cpus=NUMBER"),
        ("8xH100:cpus=1.2.3", "'cpus=1.2.3' says nothing about a node", ":cpus=NUMBER"),
    ],
)
def test_what_is_no_cluster_is_refused_with_the_mend(text: str, what: str, fix: str) -> None:
    with pytest.raises(PlanError) as refused:
        parse_cluster(text)
    assert refused.value.what == what
    assert refused.value.where == "--cluster"
    assert fix in refused.value.fix


def test_a_trial_without_gpus_computes_on_cores_wherever_it_runs() -> None:
    cluster: Cluster = parse_cluster("8xH100")
    assert cluster.device(Resources(num_gpus=1)).name == "H100"
    assert cluster.device(Resources(num_cpus=2)).name == "cpu"


def test_a_gang_that_never_fits_is_refused_and_one_that_fits_is_not() -> None:
    nodes = parse_cluster("8xH100x2+4xH100").nodes
    check_fits(nodes, request_of(Resources(num_gpus=8, num_nodes=2, num_cpus=192)), name="a", fix="m")
    with pytest.raises(PlanError) as refused:
        check_fits(nodes, ResourceRequest(num_gpus=8, num_cpus=1, num_nodes=3), name="trial x", fix="lower them")
    assert refused.value.what == "trial x asks for 3 nodes of 8 GPU 1 CPU, and 2 have that"
    with pytest.raises(PlanError, match="and no node has that"):
        check_fits(nodes, ResourceRequest(num_gpus=16), name="trial x", fix="lower them")


def test_a_node_holds_what_is_no_larger_in_anything() -> None:
    node = Node(num_gpus=2, num_cpus=4, memory_gb=8)
    assert node.holds(ResourceRequest(num_gpus=2, num_cpus=4, memory_gb=8))
    assert not node.holds(ResourceRequest(num_gpus=1, num_cpus=5))
    assert not node.holds(ResourceRequest(num_gpus=1, memory_gb=9))
