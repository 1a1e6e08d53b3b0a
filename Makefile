# `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
PY ?= 3.12
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
.DEFAULT_GOAL := help
.PHONY: help demo test lint wheel ci same-code gpu-check wheelhouse clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	touch $@

demo: .venv/ready ## train the paper's 12 nets on scikit-learn's digits, and show their errors
	$(BIN)/python src/run.py -m 'model=glob(*)' data=digits budget=quick budget.epochs=10 model.width=0.125 model.batch_norm=true runs=runs/demo
	$(BIN)/python analysis/make_report.py --runs runs/demo --out runs/demo/report.html
	@echo
	@echo "These are the paper's 12 nets at an eighth of their width, with batch normalisation, 10 epochs of 16 images a step"
	@echo "on digits: a look at the tool, not at the paper. The same command again trains nothing. Next:"
	@echo "  $(BIN)/python src/run.py --help"
	@echo "  $(BIN)/python src/run.py -m 'model=glob(*)' data=cifar10 data.download=true    (wants a GPU)"

lint: .venv/ready ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## every check that CI runs
	$(BIN)/python -m pytest -n 4 --dist worksteal

wheel: ## build dist/strive-*.whl: the plug-in and the command, for other projects
	rm -rf build dist
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf build
	@ls dist

ci: ## what CI runs: system packages by apt, then `make test`
	$(SUDO) apt-get update -q
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends git g++ python3-dev python3-venv slurmctld slurmd slurm-client munge slurmdbd mariadb-server chromium texlive-latex-base texlive-latex-recommended texlive-science poppler-utils
	$(MAKE) test

same-code: .venv/ready ## train at the commits of src/strive/code/same_code.json again: the same weights? minutes
	$(BIN)/python tools/same_code.py

gpu-check: ## check and time training on a GPU in 3 minutes; needs no network and no data set: docs/gpu.md
	PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(or $(wildcard $(BIN)/python),$(PYTHON)) bench/gpu_check.py

wheelhouse: .venv/ready ## collect what a machine without network needs besides torch, for Python PY=3.12: docs/gpu.md
	$(BIN)/python tools/wheelhouse.py --python $(PY)

clean: ## remove the virtual environment and what tools left behind
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache src/*.egg-info
