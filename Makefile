PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check

define in_versions
	test -d .venv-uv || $(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-uv/bin/uv venv --quiet --clear --seed --python $(2) $(1)
	VIRTUAL_ENV=$(1) .venv-uv/bin/uv pip install --quiet --resolution $(3) --editable '.[dev]'
	$(1)/bin/python -m pytest $(PARALLEL) -m ''
endef

PAGES = README.md docs/evidence/README.md
PARALLEL = --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: search test test-all test-extras test-newest test-lowest lint docs benchmark study reproduce evidence clean

search: .venv/installed  ## installs the package, then runs a whole search on digits: one to two minutes for each part
	.venv/bin/python -m beta_darts_jax.main --config configs/digits.py

test: .venv/installed-dev  ## the quick tests: about four and a half minutes on two free cores
	.venv/bin/python -m pytest $(PARALLEL)

test-all: test  ## the quick tests, then the slow ones: about twenty minutes on two free cores
	.venv/bin/python -m pytest $(PARALLEL) -m full

test-extras:  ## the tests of exports and loggers, with PyTorch, ONNX, TensorBoard, W&B and MLflow in .venv-extras
	test -d .venv-extras || $(PYTHON) -m venv .venv-extras
	.venv-extras/bin/python -m pip install --quiet --editable '.[dev,onnx,tensorboard,wandb,mlflow]'
	REQUIRE_EXTRAS=1 .venv-extras/bin/python -m pytest $(PARALLEL) -m '' tests/retrain/test_export.py tests/report

test-newest:  ## all tests with the newest versions that requirements.txt allows, on Python 3.12
	$(call in_versions,.venv-newest,3.12,highest)

test-lowest:  ## all tests with the lowest versions that requirements.txt allows, on Python 3.11
	$(call in_versions,.venv-lowest,3.11,lowest-direct)

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

benchmark: .venv/installed-benchmark  ## times our step, PyTorch's and each method: about forty minutes on two cores
	.venv/bin/python benchmarks/compare.py
	.venv/bin/python benchmarks/methods.py

study: .venv/installed-dev  ## runs the study STUDY, or continues it, and writes docs/evidence/STUDY
	.venv/bin/python -m studies.run $(or $(STUDY),smoke) --pages $(PAGES)

reproduce: .venv/installed-dev $(if $(shell command -v nvidia-smi),.venv/installed-cuda)  ## the official protocol, for a GPU
	for study in reproduce_cifar10 reproduce_cifar100; do \
	  .venv/bin/python -m studies.run $$study --pages $(PAGES) || exit; done

docs: .venv/installed-dev  ## writes the site to build/docs and checks its links: half a minute
	mkdir -p build/pages
	ln -sfn $(addprefix $(CURDIR)/,README.md CONTRIBUTING.md CHANGELOG.md Dockerfile docs benchmarks configs studies notebooks) build/pages
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build

evidence: .venv/installed-dev  ## rebuilds all tables and figures from the runs kept in docs/evidence
	for study in $(patsubst docs/evidence/%/runs,%,$(wildcard docs/evidence/*/runs)); do \
	  .venv/bin/python -m studies.run $$study --tables-only --pages $(PAGES) || exit; done

clean:
	rm -rf .venv .venv-* build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements.txt pyproject.toml
	$(PIP) --editable '.[report]'
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
