from dataclasses import replace
from pathlib import Path

import pytest
from lab import Lab

from orchestrator.config.packaged import PACKAGED, described, find_twin
from orchestrator.config.spec import load_sweep
from orchestrator.errors import PlanError
from orchestrator.sweep.gpus import check_gpus, count_gpus


@pytest.mark.parametrize(
    ("devices", "visible", "expected"),
    [
        ([], None, 0),
        (["null", "nvidiactl", "nvidia-uvm"], None, 0),
        (["nvidia0", "nvidia1", "nvidiactl"], None, 2),
        (["nvidia0", "nvidia1"], "1", 1),
        (["nvidia0", "nvidia1"], "", 0),
        (["nvidia0", "nvidia1"], "-1", 0),
        (["nvidia0", "nvidia1"], "0,-1,1", 1),
        (["nvidia0"], "MIG-a,MIG-b,MIG-c", 3),
        (["kfd"], None, None),
        (["dxg"], None, None),
        (["kfd", "nvidia0"], None, 1),
    ],
)
def test_gpus_are_counted_by_their_devices(
    tmp_path: Path, devices: list[str], visible: str | None, expected: int | None
) -> None:
    (tmp_path / "dev").mkdir()
    for name in devices:
        (tmp_path / "dev" / name).touch()
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert count_gpus(environment, root=tmp_path) == expected


def test_only_a_trial_that_asks_for_more_than_is_here_is_refused(lab: Lab) -> None:
    planned = lab.planned(0)
    hungry = replace(planned, resources=replace(planned.resources, num_gpus=2))
    smoke = PACKAGED / "smoke.yaml"
    check_gpus([planned], 0, file=smoke, tables=())
    check_gpus([hungry], 2, file=smoke, tables=())
    check_gpus([hungry], None, file=smoke, tables=())
    with pytest.raises(PlanError, match="asks for 2 GPUs, and this machine has 1; nothing was fetched") as refused:
        check_gpus([planned, hungry], 1, file=smoke, tables=())
    assert "orch sweep experiments/smoke.yaml runs on a CPU" in refused.value.fix


def test_every_experiment_for_gpus_has_a_twin_for_cpus() -> None:
    """That a twin has the arms of what it stands for is held by `tests/dashboards/test_papers_experiments.py`."""
    for_gpus = [one for one in described(PACKAGED) if one.groups.get("cluster") in ("gpu", "node8")]
    twins = {one.name: find_twin(one.file, one.tables) for one in for_gpus}
    assert len(twins) > 30
    assert [name for name, twin in twins.items() if twin is None or not twin.stem.endswith("_tiny")] == []
    assert twins["ratio_ablation"] == PACKAGED / "gmts_table4_tiny.yaml"
    points = load_sweep(PACKAGED / "gmts_table4_tiny.yaml").points
    assert {(point.resources.num_gpus, point.recipe.trainer) for point in points} == {(0, "lite")}
    flagship = load_sweep(PACKAGED / "ratio_ablation.yaml").points
    assert {repr(point.axes) for point in flagship} == {repr(point.axes) for point in points}


def test_a_twin_of_the_users_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "# Mine.\ndefaults: [{cluster: local}]\npublished: {tables: [gmts_table4, gmts_table1]}\n"
    )
    assert find_twin(tmp_path / "big.yaml", ["gmts_table4", "gmts_table1"]) == tmp_path / "mine.yaml"
    assert find_twin(tmp_path / "big.yaml", ["no_table"]) is None
    assert find_twin(tmp_path / "big.yaml", []) is None
