# Every target makes what it needs: on a fresh machine, Python 3.11 or newer and make are enough.
#   make test ARGS="-k lame_duck"      some of the tests
#   make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
ARGS ?=

PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.made-from-pyproject

.DEFAULT_GOAL := help
.PHONY: help venv test coverage demo images bench hostile lint format clean

help:
	@echo "make test      the tests"
	@echo "make demo      a service under load gets SIGTERM, beside the same under plain uvicorn"
	@echo "make images    the Dockerfiles, stopped in the middle of a request: which shells keep SIGTERM"
	@echo "make bench     the figures, measured side by side"
	@echo "make hostile   everything that keeps a service from ending, beside the same under plain uvicorn"
	@echo "make lint      ruff, its formatter, mypy, import-linter"
	@echo "make coverage  the tests, and the gate on branch coverage"
	@echo "make format    put imports and layout in order"
	@echo "make clean     remove all that these make"

venv: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); expected Python 3.11 or newer: make PYTHON=python3.13 …" >&2; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install -qq --editable ".[dev]"
	@touch $@

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n $(JOBS) $(ARGS)

coverage: $(STAMP)
	$(VENV)/bin/python -m coverage erase
	$(VENV)/bin/python -m coverage run -m pytest -n $(JOBS) $(ARGS)
	$(VENV)/bin/python -m coverage combine -q
	$(VENV)/bin/python -m coverage report

demo: $(STAMP)
	@$(VENV)/bin/python -m demo $(ARGS)

images: $(STAMP)
	@$(VENV)/bin/python -m demo.images $(ARGS)

bench: $(STAMP)
	@$(VENV)/bin/python -m benchmarks $(ARGS)

hostile: $(STAMP)
	@$(VENV)/bin/python -m hostile $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

format: $(STAMP)
	$(VENV)/bin/ruff check --fix --select I .
	$(VENV)/bin/ruff format .

clean:
	rm -rf .venv .venv-* build dist .coverage .coverage.* \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
