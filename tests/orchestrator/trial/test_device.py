import pytest

from orchestrator.trial.device import smallest_gpu

LISTING = "0, GPU-aa, NVIDIA H100 80GB HBM3, 81559\n1, GPU-bb, NVIDIA A100-SXM4-40GB, 40960\n"


def ask(listing):
    return lambda command: listing


def test_the_smallest_visible_gpu_counts_with_the_memory_that_its_driver_reports():
    both = smallest_gpu({}, ask(LISTING))
    assert (both.name, round(both.memory_gb, 2), both.tflops) == ("A100-40", 42.95, 312)
    first = smallest_gpu({"CUDA_VISIBLE_DEVICES": "0"}, ask(LISTING))
    assert (first.name, round(first.memory_gb, 2)) == ("H100", 85.52)
    assert smallest_gpu({"CUDA_VISIBLE_DEVICES": "GPU-bb"}, ask(LISTING)).name == "A100-40"


@pytest.mark.parametrize("listing", [None, "", "No devices were found\n", "0, GPU-aa, NVIDIA H100, [N/A]\n"])
def test_without_a_gpu_or_an_answer_nothing_is_known(listing):
    assert smallest_gpu({}, ask(listing)) is None


def test_a_gpu_that_is_not_listed_keeps_its_own_memory():
    found = smallest_gpu({}, ask("0, GPU-cc, Some Accelerator, 49152\n"))
    assert found.memory_gb == pytest.approx(51.54, abs=0.01)


def test_each_failure_leaves_a_tenth_less_to_plan_for():
    device = smallest_gpu({}, ask(LISTING))
    assert device.with_less(0) == device
    assert device.with_less(2).memory_gb == pytest.approx(0.81 * device.memory_gb)
