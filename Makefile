# make VENV=path uses another virtual environment.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench fuzz docs clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Rank sentences and write down speech with real models, save one, load it again
	$(RUN)/python examples/demo.py

test: $(VENV)/.dev ## Run all tests
	$(RUN)/python -m pytest -n 2

lint: $(VENV)/.dev ## Check style and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check hezar_like examples benchmarks
	$(RUN)/mypy

format: $(VENV)/.dev ## Format the code
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format hezar_like examples benchmarks

bench: $(VENV)/.dev ## Measure against the peers, short form
	$(RUN)/python benchmarks/imports.py
	$(RUN)/python benchmarks/embedding.py
	$(RUN)/python benchmarks/encoders.py --quick
	$(RUN)/python benchmarks/memory.py --quick
	$(RUN)/python benchmarks/data_store.py --quick
	$(RUN)/python benchmarks/loading.py
	$(RUN)/python benchmarks/generation.py --quick
	$(RUN)/python benchmarks/speech.py --quick

fuzz: $(VENV)/.dev ## Damage 100,000 files, and see what happens
	$(RUN)/python tests/fuzzing/run.py --count 100000

docs: $(VENV)/.dev ## Build the documentation into site/
	$(RUN)/mkdocs build --strict

clean: ## Remove what these commands made
	rm -rf $(VENV) build dist site demo-model *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# An extra is installed anew when what it needs has changed.
$(VENV)/.%: $(VENV)/bin/python pyproject.toml constraints.txt
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	touch $@
