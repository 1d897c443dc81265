# `make demo` and `make test` need Python 3.11 or newer and pip's index, nothing else: each makes .venv where it is
# missing and installs the versions of constraints.txt. The stamp lets the second run start at once.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	"$$p" -c 'import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)

# e.g. make demo DEMO_ARGS="--model vit";  make test PYTEST_ARGS="-k plan"
DEMO_ARGS ?=
PYTEST_ARGS ?=
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8

ifdef SECATEURS_DATA
export SECATEURS_DATA
endif

.PHONY: help install demo test slow lint format clean

help:
	@echo "make demo   prune a real network, measure it, print the table"
	@echo "make test   the tests, without the slow ones"
	@echo "make slow   the slow tests alone"
	@echo "make lint   ruff and mypy"
	@echo "make format let ruff rewrite the files"
	@echo "make clean  remove .venv and the caches"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
		if [ -z "$(PYTHON)" ]; then echo "secateurs needs Python 3.11 or newer with venv: install it, or make PYTHON=/path/to/python" >&2; exit 2; fi; \
		echo "making $(VENV) with $(PYTHON)"; "$(PYTHON)" -m venv $(VENV); fi
	@echo "installing from constraints.txt"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[all]"
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/secateurs demo $(DEMO_ARGS)

test: $(STAMP)
	$(PYTEST) $(PYTEST_ARGS)

slow: $(STAMP)
	$(PYTEST) -m slow $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
