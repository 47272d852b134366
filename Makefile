# make search   make .venv, install, run the whole search, end with best.yaml
# make test     make .venv, install, run every test that needs no GPU and no Docker engine
# make lint     ruff (lint and format) and mypy --strict
# make audit    known flaws of the pinned versions (asks PyPI's advisory database)
# make check    lint and test, what .ci/run runs
#
# uv is used where it is on the PATH; python -m venv and pip otherwise.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)
# Options of `nkat-search run`, for example: make search ARGS="--data-dir ~/images"
ARGS   ?=
# Options of pytest, for example: make test TESTS="tests/unit -k gate"
# One test after another, in one process: make test TESTS="-n 0"
TESTS  ?=

ifdef UV
AUDIT     = $(UV) tool run pip-audit
MAKE_VENV = $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
INSTALL   = $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt
else
AUDIT     = $(VENV)/audit/bin/pip-audit
MAKE_VENV = $(PYTHON) -m venv $(VENV)
INSTALL   = $(BIN)/python -m pip install --quiet --constraint constraints.txt
endif

.PHONY: search test lint format audit check clean

search: $(VENV)/.installed
	$(BIN)/nkat-search run $(ARGS)

# The tests start hundreds of processes: they keep compiled modules, even where containers
# turn that off.  One test after the other goes to whichever process is free (tests/conftest.py).
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist load --maxschedchunk 1 \
	  -m "not gpu and not compose and not browser and not slurm" $(TESTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Strict: a version that could not be asked about is a failure, not a pass.
audit:
ifndef UV
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit
endif
	$(AUDIT) --strict --no-deps --disable-pip --requirement constraints.txt

check: lint test

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (torch with CUDA: about 5 GB, minutes on a slow line)"
	$(MAKE_VENV)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
