# Everything a person does with this project, one target each. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Extra words for the command, such as: make fit ARGS="trainer.epochs=1 model=mlp"
ARGS ?=
# As many tests at a time as there are cores, each with one thread; a file's tests stay together, for what they share.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup fit test test-all torture check fmt bench screenshots wheel clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup: $(READY) ## Make .venv and install trainer with the tested versions

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

fit: $(READY) ## Train the CNN on Fashion-MNIST; ends with its test accuracy and where to look
	$(BIN)/trainer fit model=cnn data=fashion_mnist $(ARGS)

test: $(READY) ## Run the tests (a few minutes)
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(READY) ## Run all tests, the slow ones too
	$(PYTEST) $(ARGS)

torture: $(READY) ## Run every planned fault: kills, full disks, damaged and hostile files; prints a table
	$(PYTEST) --faults $(ARGS)

check: $(READY) ## Look for faults: format, lint, types. Never writes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fmt: $(READY) ## Format and fix what can be fixed. Writes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Compare the speed with Lightning, Accelerate, Keras, JAX and plain loops, side by side
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks $(ARGS)

screenshots: $(READY) ## Train, open every tab of TensorBoard in Chromium, and keep pictures of them
	$(BIN)/python docs/screenshots.py $(ARGS)

wheel: $(READY) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove what was built and cached; never runs/ or data/
	rm -rf $(VENV) dist build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
