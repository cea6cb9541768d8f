PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check

PAGES = README.md docs/evidence/README.md
MODULES = $(patsubst beta_darts_jax/%.py,beta_darts_jax.%,$(wildcard beta_darts_jax/[a-z]*.py))

.PHONY: search test lint api benchmark study reproduce evidence clean

search: .venv/installed  ## installs, then a whole search on digits: under two minutes on two cores
	.venv/bin/python -m beta_darts_jax.main --config configs/digits.py

test: .venv/installed-dev
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

benchmark: .venv/installed-benchmark  ## our step beside PyTorch's: some twenty minutes on two cores
	.venv/bin/python benchmarks/compare.py

study: .venv/installed-dev  ## runs STUDY of configs/studies, or goes on with it, and writes docs/evidence/STUDY
	.venv/bin/python -m beta_darts_jax.study configs/studies/$(or $(STUDY),smoke).py --pages $(PAGES)

reproduce: .venv/installed-dev $(if $(shell command -v nvidia-smi),.venv/installed-cuda)  ## the official protocol, for a GPU
	for study in reproduce_cifar10 reproduce_cifar100; do \
	  .venv/bin/python -m beta_darts_jax.study configs/studies/$$study.py --pages $(PAGES) || exit; done

api: .venv/installed-dev  ## pages of every module, from the docstrings, in build/api
	.venv/bin/pdoc --docformat google --output-directory build/api beta_darts_jax $(filter-out %.interop,$(MODULES))  # the package lists interop itself

evidence: .venv/installed-dev  ## all tables and figures anew, from the runs kept in docs/evidence
	for study in $(patsubst docs/evidence/%/runs,%,$(wildcard docs/evidence/*/runs)); do \
	  .venv/bin/python -m beta_darts_jax.study configs/studies/$$study.py --tables-only --pages $(PAGES) || exit; done

clean:
	rm -rf .venv build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements.txt pyproject.toml
	$(PIP) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	touch $@

.venv/installed-cuda: .venv/installed
	$(PIP) --editable '.[cuda]'
	touch $@

.venv/installed-benchmark: .venv/installed
	$(PIP) --editable '.[benchmark]'
	touch $@
