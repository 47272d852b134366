# make search   make .venv, install, run the whole search, end with best.yaml
# make test     make .venv, install, run every test that needs no GPU and no Docker engine
# make lint     ruff (lint and format) and mypy --strict
# make audit    known flaws of the pinned versions (asks PyPI's advisory database)
# make sbom     what is installed in .venv, as a CycloneDX list with licences: sbom.cdx.json
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
LIST      = $(UV) tool run --from cyclonedx-bom cyclonedx-py
MAKE_VENV = $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
INSTALL   = $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt
else
AUDIT     = $(VENV)/audit/bin/pip-audit
LIST      = $(VENV)/audit/bin/cyclonedx-py
MAKE_VENV = $(PYTHON) -m venv $(VENV)
INSTALL   = $(BIN)/python -m pip install --quiet --constraint constraints.txt
endif

.PHONY: search test lint format audit sbom check clean

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

# The tools of `audit` and `sbom`, in an environment of their own; uv runs them from its cache.
$(VENV)/audit/.installed:
ifndef UV
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit cyclonedx-bom
endif
	@mkdir -p $(@D)
	@touch $@

# Strict: a version that could not be asked about is a failure, not a pass.  pip-audit says "Found"
# when it has findings; any other failure means that it did not get its answers.
audit: $(VENV)/audit/.installed
	@log=$(VENV)/audit/pip-audit.log; \
	if $(AUDIT) --strict --no-deps --disable-pip --requirement constraints.txt >$$log 2>&1; then \
	  tail -n 1 $$log; \
	elif grep -q '^Found ' $$log; then \
	  cat $$log; exit 1; \
	else \
	  echo "make audit: nothing was checked, PyPI's advisory database gave no answer ($$(tail -n 1 $$log | cut -c 1-200)); run it where that can be reached" >&2; exit 2; \
	fi

sbom: $(VENV)/.installed $(VENV)/audit/.installed
	$(LIST) environment --pyproject pyproject.toml --output-reproducible --output-file sbom.cdx.json $(BIN)/python

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
