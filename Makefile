# `make` lists the targets. CI calls the same ones.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# GPU=1 adds CUDA's libraries to the environment; without it they stay, if they are there.
WITH_GPU := $(filter-out 0,$(GPU))
INSTALLED := $(VENV)/.installed $(if $(WITH_GPU),$(VENV)/.installed-gpu)
# NVIDIA's driver, on Linux or in WSL: empty where there is none.
DRIVER := $(wildcard /dev/nvidiactl /dev/dxg)

PYTEST := $(BIN)/python -m pytest
# Of tests, those of which most need neither TensorFlow nor a server.
ROOMS := tests/app tests/client tests/model tests/tools

.DEFAULT_GOAL := help
.PHONY: help run train test check test-gpu bench bench-training bench-gpu lint format docs lock clean
# Two runs of pip at once would share an environment.
.NOTPARALLEL:

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17
	@echo; echo "GPU=1 adds CUDA's libraries (2.8 GB to download): make run GPU=1"

run: $(INSTALLED)  ## set up, train the default model if there is none yet, serve it
	$(BIN)/python -m model.train --only-if-missing
	exec $(BIN)/python -m app

train: $(INSTALLED)  ## train the default model and export it as the next version
	$(BIN)/python -m model.train

test: $(VENV)/.installed-dev $(VENV)/clients/.installed $(INSTALLED)  ## run every test; those for a GPU where there is one
	@# Tests wait for servers half of the time: more processes than the two cores that they need.
	@status=0; \
	$(PYTEST) -n 3 --dist loadfile -m "not alone and not gpu" || status=1; \
	$(PYTEST) -m "alone or gpu" || status=1; \
	exit $$status

check: lint  ## lint, and the tests that need neither TensorFlow nor a server nor long (a minute)
	$(PYTEST) -n 4 --dist loadfile --without-tensorflow -m "not long" $(ROOMS)

test-gpu: $(if $(DRIVER),$(VENV)/.installed-dev $(VENV)/.installed-gpu)  ## run the tests that need a GPU (6 minutes at most)
ifeq ($(DRIVER),)
	@echo "no GPU was tested: this machine has no NVIDIA driver (neither /dev/nvidiactl nor /dev/dxg)"
else
	$(BIN)/python -m tests.gpu
endif

bench: $(VENV)/.installed-dev $(INSTALLED)  ## measure serving beside its peers (wrk needed; 45 minutes; --quick: 3)
	$(BIN)/python -m benchmarks.serving $(BENCH)

bench-training: $(VENV)/.installed-dev $(INSTALLED)  ## measure training beside Keras, and layers on two devices (5 minutes)
	$(BIN)/python -m benchmarks.training

bench-gpu: $(VENV)/.installed-dev $(if $(DRIVER),$(VENV)/.installed-gpu)  ## measure training and serving on a GPU (5 minutes; --quick: 2)
	$(BIN)/python -m benchmarks.gpu $(BENCH)

lint: $(VENV)/.installed-dev  ## check style, types and the import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)  ## write the tables of docs/ that come from the code
	$(BIN)/python -m tools.docs_tables

lock: $(VENV)/.installed-dev  ## write locks/: every dependency of each image with its hashes
	for image in serve-slim serve train gpu; do \
	  $(BIN)/uv pip compile --quiet --generate-hashes --strip-extras --no-header --no-emit-index-url \
	    --python-version 3.11 --output-file locks/$$image.txt requirements-$$image.txt || exit; done

clean:  ## remove the virtual environment and caches, not the models
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Unroll needs Python 3.11 to 3.13; set PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: requirements.txt requirements-serve.txt requirements-serve-slim.txt requirements-train.txt | $(VENV)/.made
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# On top of .installed: what a new requirements.txt brings comes first.
$(VENV)/.installed-gpu: requirements-gpu.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-gpu.txt
	touch $@

$(VENV)/clients/.installed: requirements-clients.txt | $(VENV)/.made
	$(BIN)/python -m venv $(VENV)/clients
	$(VENV)/clients/bin/pip install --quiet --disable-pip-version-check -r requirements-clients.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
