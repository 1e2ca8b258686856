# `make demo` and `make test` do all set-up: a virtual environment in .venv and everything in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    raw videos to a trained model and timelines to look at (5 minutes, offline)"
	@echo "make test    all tests that need no GPU, no real data and little time"
	@echo "make lint    ruff, ruff format, mypy --strict"
	@echo "make clean   remove what demo and the tools left behind; the environment stays"

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(READY)
	$(BIN)/vidmamba demo --out demo

test: $(READY)
	@# a file's tests stay together: they share what is slow to make; a process a core, a thread each
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow" --durations=10

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf demo runs features predictions build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
