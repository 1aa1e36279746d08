# `make` lists the targets. CI calls the same ones.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run train test bench bench-training lint format lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

run: $(VENV)/.installed  ## set up, train the default model if there is none yet, serve it
	$(BIN)/python -m model.train --only-if-missing
	exec $(BIN)/python -m app

train: $(VENV)/.installed  ## train the default model and export it as the next version
	$(BIN)/python -m model.train

test: $(VENV)/.installed-dev $(VENV)/clients/.installed  ## run every test
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-dev  ## measure serving beside its peers (wrk needed; 40 minutes; --quick: 3)
	$(BIN)/python -m benchmarks.serving $(BENCH)

bench-training: $(VENV)/.installed-dev  ## measure training beside Keras, and layers on two devices (5 minutes)
	$(BIN)/python -m benchmarks.training

lint: $(VENV)/.installed-dev  ## check style, types and the import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.installed-dev  ## write requirements.lock: every dependency with its hashes
	$(BIN)/uv pip compile --quiet --generate-hashes --strip-extras --python-version 3.11 \
	  --output-file requirements.lock requirements.txt

clean:  ## remove the virtual environment and caches, not the models
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Unroll needs Python 3.11 to 3.13; set PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: requirements.txt requirements-serve.txt requirements-train.txt | $(VENV)/.made
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/clients/.installed: requirements-clients.txt | $(VENV)/.made
	$(BIN)/python -m venv $(VENV)/clients
	$(VENV)/clients/bin/pip install --quiet --disable-pip-version-check -r requirements-clients.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
