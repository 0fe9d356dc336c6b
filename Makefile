# Everything a person does with this project, one target each. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Stamps: what a run needs is installed; and what the tests and checks need beside it.
RUNTIME := $(VENV)/.ready-run
DEV := $(VENV)/.ready-dev
# Extra words for the command, such as: make fit ARGS="trainer.epochs=1 model=mlp"
ARGS ?=
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
# As many tests at a time as there are cores, each with one thread; a file's tests stay together, for what they share.
# In their own order: whole commands first, and at the end files of some seconds, so that no core is idle for long.
# Compiled files are kept whatever the shell says: the tests start hundreds of processes that import the same files.
PYTEST := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup fit quick test test-all torture check fmt bench screenshots wheel clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup: $(DEV) ## Make .venv and install everything: trainer, the tests, the checks; the tested versions

$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	@touch $@

$(DEV): $(RUNTIME)
	$(INSTALL) '.[dev]'
	@touch $@

fit: $(RUNTIME) ## Train the CNN on Fashion-MNIST; ends with its test accuracy and where to look
	$(BIN)/trainer fit model=cnn data=fashion_mnist $(ARGS)
	@echo
	@echo "For the commands above: source $(BIN)/activate"

quick: $(DEV) ## Run the tests of units, under a minute: the loop while editing
	$(PYTEST) -m "not slow and not process and not long" $(ARGS)

test: $(DEV) ## Run the tests (a few minutes)
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(DEV) ## Run all tests, the slow ones too
	$(PYTEST) $(ARGS)

torture: $(DEV) ## Run every planned fault: kills, full disks, damaged and hostile files; prints a table
	$(PYTEST) --faults $(ARGS)

check: $(DEV) ## Look for faults: format, lint, types. Never writes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fmt: $(DEV) ## Format and fix what can be fixed. Writes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV) ## Compare the speed with Lightning, Accelerate, Keras, JAX and plain loops, side by side
	$(INSTALL) '.[dev,bench]'
	$(BIN)/python -m benchmarks $(ARGS)

screenshots: $(DEV) ## Train, open every tab of TensorBoard in Chromium, and keep pictures of them
	$(BIN)/python docs/screenshots.py $(ARGS)

wheel: $(DEV) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove what was built and cached; never runs/ or data/
	rm -rf $(VENV) dist build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
