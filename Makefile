# Every command of this project. `make` alone lists them. Needs Python 3.11 or newer and make; a C compiler and
# Go are found on this machine or taken from wheels by what needs them.
PYTHON ?= python3
ARGS ?=
RUN := .venv/bin
CRD := deploy/crds/mignodes.yaml

.DEFAULT_GOAL := help
.PHONY: help setup demo test check check-lint check-types check-imports check-generated check-files bench crd \
	requirements clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: ## Make .venv from the pinned, hashed requirements (instant when it is up to date)
	@$(PYTHON) tools/make_environment.py

demo: setup ## Watch slices being cut: a real control plane, simulated GPUs (ARGS="--once --output json")
	@$(RUN)/python -m cdmo_harness.demo $(ARGS)

test: setup ## Run the tests (ARGS="-k fence", ARGS="-m 'not cluster'")
	@$(RUN)/python -m pytest $(ARGS)

check: check-lint check-types check-imports check-generated check-files ## Everything CI asks besides the tests

check-lint: setup ## Style and formatting (ruff)
	@$(RUN)/ruff check --quiet .
	@$(RUN)/ruff format --quiet --check --diff .

check-types: setup ## Types (mypy --strict)
	@$(RUN)/mypy --no-error-summary
	@$(RUN)/mypy --no-error-summary --strict tools

check-imports: setup ## The layers and owners of .importlinter
	@$(RUN)/lint-imports --no-logo

check-generated: setup ## Generated files are what their sources make
	@$(RUN)/python -m cdmo.api.schema --check $(CRD)
	@$(RUN)/python tools/generate_protobuf.py --check
	@$(RUN)/python tools/generate_cards.py --check

check-files: setup ## File sizes, the changelog's version, nothing of one machine in any file
	@$(RUN)/python -m tools.check_file_size
	@$(RUN)/python -m tools.check_changelog
	@$(RUN)/python -m tools.check_portable

bench: setup ## Run the benchmarks against their recorded bounds
	@$(RUN)/python -m pytest benchmarks $(ARGS)

crd: setup ## Write again what is generated: the CRD, the gRPC modules and the card tables
	@$(RUN)/python -m cdmo.api.schema --write $(CRD)
	@$(RUN)/python tools/generate_protobuf.py
	@$(RUN)/python tools/generate_cards.py

requirements: ## Pin the dependencies again (ARGS=--upgrade for newer ones); needs a package registry
	@$(PYTHON) tools/pin_requirements.py $(ARGS)

clean: ## Remove .venv, build results and caches of this folder
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
