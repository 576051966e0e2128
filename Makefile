# One word per thing to do; `make help` lists them. Paths are relative, so the folder's own path may hold spaces.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env repro test test-fast faults lint benchmarks locks params images sbom clean

COUNT ?= 1000
DEVICE ?= cpu
SBOM ?= sbom
SEED ?= 1
VENV := .venv
# One worker a core, four at the most, as each takes some GB; JOBS=0 runs the tests in one process. A worker takes whole modules,
# whose fixtures (a project that has run, an image) are then made once.
JOBS ?= $(shell cores=$$(nproc); echo $$((cores < 4 ? cores : 4)))
PARALLEL := --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder
LOCK_TOOLS := .cache/lock-tools
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHON
# The words of this call are for its own targets, not for a make that one of them starts (the tests do).
MAKEOVERRIDES :=
# Where it is set, each of the many processes of a run compiles all it imports, which takes longer than the work.
unexport PYTHONDONTWRITEBYTECODE
unexport ARGS BASE BASELINE COUNT DEVICE EXPERIMENT IMAGES JOBS MODEL RUNTIME SBOM SEED SET TASKS UPGRADE

# Hydra overrides from the words given on the command line, if any.
OVERRIDES := $(if $(EXPERIMENT),-S '+experiment=$(EXPERIMENT)') $(if $(MODEL),-S 'model=$(MODEL)') $(if $(BASELINE),-S 'baseline=$(BASELINE)') \
	$(if $(TASKS),-S 'tasks=$(TASKS)') $(if $(RUNTIME),-S 'runtime=$(RUNTIME)') \
	$(if $(filter-out cpu,$(DEVICE)),-S 'device=$(DEVICE)') $(if $(SET),-S '$(SET)')
PIPELINE := $(if $(strip $(OVERRIDES)),dvc exp run $(OVERRIDES),dvc repro)

help: ## Show this list
	@printf 'Targets:\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target what; do \
		printf '  make %-10s %s\n' "$$target" "$$what"; done
	@printf '\nWords to add:\n'
	@printf '  %-25s %s\n' \
		'DEVICE=cuda' 'use the CUDA environment and device (default: cpu)' \
		'MODEL=NAME BASELINE=NAME' 'make repro: candidate and baseline, files of conf/model and conf/baseline' \
		'EXPERIMENT=NAME' 'make repro: a preset of conf/experiment, such as analysis' \
		'TASKS=NAME' 'make repro: a task set of conf/tasks' \
		'RUNTIME=docker' 'make repro: run each stage in its image' \
		"SET='KEY=VALUE'" 'make repro: any one setting more' \
		'IMAGES=cpu' 'make images: only this target' \
		'BASE=IMAGE@sha256:...' 'make images: a base of your own, with Python 3.11 and its venv module' \
		'JOBS=N' 'make test: worker processes (default: one a core, four at the most)' \
		"ARGS='...'" 'further arguments for pytest (make test), dvc (make repro), the engine (make images)' \
		'PYTHON=PATH' 'make env: the Python 3.11 to use' \
		'UPGRADE=1' 'make locks: take the newest versions that pyproject.toml allows'

env: ## Install the locked environment into .venv (nothing to do if it stands)
	@scripts/make-env '$(DEVICE)' $(VENV)

repro: env ## Run the pipeline; say where the report lies, and whether the numbers are the committed ones
	@status=0; $(PIPELINE) $(ARGS) || status=$$?; \
	if [ -f reports/report.html ]; then \
		[ $$status = 0 ] || printf 'The run failed (exit %d); the report may be of an earlier run.\n' $$status; \
		printf 'Report: %s\n' "$$PWD/reports/report.html"; \
	fi; \
	[ $$status = 0 ] || [ ! -f dvc.lock ] || grep -q '^stages:' dvc.lock || \
		printf 'dvc.lock is cut, as by a kill while DVC wrote it: git checkout dvc.lock puts it right.\n'; \
	[ $$status != 0 ] || embrepro confirm || true; \
	exit $$status

test: env ## Run all tests
	@python -m pytest $(PARALLEL) $(ARGS)

test-fast: env ## Run the tests that take seconds
	@python -m pytest $(PARALLEL) -m 'not slow' $(ARGS)

faults: env ## Inject faults and sort what becomes of them (SEED=1 COUNT=1000)
	@PYTHONPATH=src:tests python -m faults --seed '$(SEED)' --count '$(COUNT)' $(ARGS)

lint: env ## Check style, format and types
	@ruff check src tests scripts benchmarks
	@ruff format --check --quiet src tests scripts benchmarks || { ruff format --check src tests scripts benchmarks; exit 1; }
	@mypy

benchmarks: env ## Measure the kit against mteb and the machine, an hour or so; write docs/performance.md
	@for name in search encode_rate scale against_mteb; do python -m benchmarks.$$name; done
	@python -m benchmarks.pages

locks: ## Resolve pyproject.toml into requirements/*.lock
	@python=$$(scripts/make-env --which-python); \
	[ -x $(LOCK_TOOLS)/bin/uv ] || { "$$python" -m venv $(LOCK_TOOLS) && \
		$(LOCK_TOOLS)/bin/pip install -qq --no-deps --require-hashes -r requirements/build.lock; }; \
	PATH="$$PWD/$(LOCK_TOOLS)/bin:$$PATH" python scripts/make_locks.py $(if $(UPGRADE),--upgrade)

params: env ## Write params.yaml from conf/
	@embrepro compose --write

images: ## Build the images embrepro:cpu and embrepro:cuda
	@"$$(scripts/make-env --which-python)" scripts/images.py $(IMAGES) $(if $(BASE),--base '$(BASE)') $(ARGS)

sbom: env ## Write bills of materials of the locks and of the images that are built into SBOM=sbom
	@python scripts/sbom.py '$(SBOM)'

clean: ## Remove .venv and the tools' caches; results and the DVC cache stay
	@rm -rf $(VENV) .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis build src/*.egg-info
	@find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
