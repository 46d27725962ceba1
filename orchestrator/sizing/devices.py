"""What one GPU, or one CPU core, can do at best: as data sheets say, or as a node's driver does."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What one GPU, or one CPU core, can do at best."""

    name: str
    memory_gb: float
    tflops: float
    """Dense matrix products in the training dtype, without sparsity, in 10¹² operations a second."""
    bandwidth_gb_s: float
    """Memory bandwidth."""
    num_cpus: int = 16
    """Cores a device that its nodes commonly have."""
    host_memory_gb: float = 200.0
    """Memory a device that its nodes commonly have."""
    has_bfloat16: bool = True
    """Whether its matrix units know the type: from compute capability 8.0 on."""

    def with_less(self, num_failures: int) -> Device:
        """The device with a tenth less to plan for, each time that a trial has run out of its memory."""
        return replace(self, memory_gb=self.memory_gb * 0.9**num_failures)


# Source: NVIDIA's data sheets, dense bf16 (fp16 for V100), SXM where there is one.
GPUS: dict[str, Device] = {
    device.name.lower(): device
    for device in (
        Device(name="B200", memory_gb=180, tflops=2250, bandwidth_gb_s=8000, num_cpus=24, host_memory_gb=250),
        Device(name="H200", memory_gb=141, tflops=989, bandwidth_gb_s=4800, num_cpus=24, host_memory_gb=250),
        Device(name="H100", memory_gb=80, tflops=989, bandwidth_gb_s=3350, num_cpus=24, host_memory_gb=250),
        Device(name="A100-40", memory_gb=40, tflops=312, bandwidth_gb_s=1555, host_memory_gb=120),
        Device(name="A100", memory_gb=80, tflops=312, bandwidth_gb_s=2039),
        Device(name="L40S", memory_gb=48, tflops=362, bandwidth_gb_s=864, host_memory_gb=96),
        Device(
            name="V100",
            memory_gb=32,
            tflops=125,
            bandwidth_gb_s=900,
            num_cpus=10,
            host_memory_gb=60,
            has_bfloat16=False,
        ),
        Device(name="4090", memory_gb=24, tflops=165, bandwidth_gb_s=1008, num_cpus=8, host_memory_gb=64),
    )
}
CPU_CORE = Device(name="cpu", memory_gb=4, tflops=0.05, bandwidth_gb_s=10, num_cpus=1, host_memory_gb=4)
"""One core with 256-bit vectors or wider, float32. What trials without GPUs compute on, on any node."""
