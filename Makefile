# The first call makes .venv and installs into it; nothing is installed anywhere else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4

export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := true
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-fast test-dev check format docs build bench bench-quick clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## Fetch 300 URLs from a built-in site into fetched/
	@$(BIN)/fetcher demo

test: $(VENV)/.dev ## Run all tests, offline; ARGS="-k naming" picks some
	@$(PYTEST) $(ARGS)

test-fast: $(VENV)/.dev ## Run all tests but those that take seconds
	@$(PYTEST) -m "not slow" $(ARGS)

test-dev: $(VENV)/.dev ## Run the quick tests in Python's development mode
	@$(BIN)/python -X dev -m pytest -n auto --maxprocesses 4 -q -m "not slow" $(ARGS)

check: $(VENV)/.dev ## Check format, lint and types
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy

format: $(VENV)/.dev ## Format the code and mend what the linter can
	@$(BIN)/ruff check --fix --quiet; $(BIN)/ruff format

docs: $(VENV)/.dev ## Bring README's tables and the man page up to date with the code
	@$(BIN)/python -m docs.tables
	@$(BIN)/python -m docs.man

build: $(VENV)/.dev ## Build wheel and sdist into dist/
	@$(BIN)/python -c 'import hatchling' 2>/dev/null || $(PIP) install hatchling
	@rm -rf dist
	@$(BIN)/python -m hatchling build

bench: $(VENV)/.dev ## Measure against curl, aria2 and wget2 (12 minutes, needs nginx); writes bench/RESULTS.md
	@$(BIN)/python -m bench $(ARGS)

bench-quick: $(VENV)/.dev ## The same in under a minute, smaller, printed only
	@$(BIN)/python -m bench --quick $(ARGS)

clean: ## Remove .venv, dist/ and all caches
	@rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find bench fetcher tests -name __pycache__ -prune -exec rm -rf {} +

# --- the environment: .run is what the command needs, .dev is that and the tools

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is not Python 3.11 or later; name one that is: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make a virtual environment (Debian: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: UV_GROUP := --no-dev
$(VENV)/.run: REQUIREMENTS := true
$(VENV)/.dev: UV_GROUP := --group dev
$(VENV)/.dev: REQUIREMENTS := $(BIN)/python -c \
	'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")'

# uv ends with 1 when uv.lock does not fit pyproject.toml: that is for a person to see. Else pip may do better.
$(VENV)/.run $(VENV)/.dev: pyproject.toml $(wildcard uv.lock) | $(BIN)/pip
	@echo "installing into $(VENV)" >&2
	@[ -x $(BIN)/uv ] || $(PIP) install uv || true
	@$(BIN)/uv sync --locked --inexact --quiet $(UV_GROUP); status=$$?; \
	if [ $$status -eq 1 ]; then exit 1; fi; \
	if [ $$status -ne 0 ]; then \
		echo "uv failed; installing with pip, which does not know the versions of uv.lock" >&2; \
		$(REQUIREMENTS) | $(PIP) install -e . -r /dev/stdin || exit 1; \
	fi
	@[ $(@F) = .run ] || touch $(VENV)/.run
	@touch $@
