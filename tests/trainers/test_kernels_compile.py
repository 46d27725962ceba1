"""Triton's own compiler makes machine code of each kernel for a GPU that is not there."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
POINTER, NUMBER = "*fp32", "i32"
OTHER_TYPES = {"row_stride": "i64", "token": "*i64", "start": "*i64", "inverse_temperature": "fp32", "softcap": "fp32"}
POINTERS = (
    "product", "chosen", "values", "lse", "carry", "out", "entropy", "logp_gradient", "entropy_gradient", "bias",
)  # fmt: skip
PLAIN = {"HAS_BIAS": False, "HAS_CAP": False}
CASES = {
    "statistics_kernel": PLAIN | {"WITH_SHAPE": True, "BLOCK": 4096},
    "distance_kernel": PLAIN | {"KIND": "js", "LEAVE_ONE_OUT": False, "UNROLL": 4, "BLOCK": 512},
    "gradient_kernel": PLAIN | {"HAS_ENTROPY": True, "BLOCK": 2048},
    "combine_kernel": {"WITH_SHAPE": True, "BLOCK": 64},
}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton, of the extra dev on Linux")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_compiles_for_a_gpu(name, capability):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    code = f"import test_kernels_compile as t; print(t.compiled_bytes({name!r}, {capability}))"
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


def compiled_bytes(name: str, capability: int) -> int:
    """Size of a kernel's machine code; in a process without the interpreter."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from trainers.head import kernels

    kernel, constants = getattr(kernels, name), CASES[name]
    types = dict.fromkeys(POINTERS, POINTER) | OTHER_TYPES | dict.fromkeys(constants, "constexpr")
    signature = {argument: types.get(argument, NUMBER) for argument in kernel.arg_names}
    values = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
    made = triton.compile(ASTSource(kernel, signature, values), target=GPUTarget("cuda", capability, 32))
    return len(made.asm["cubin"])
