# Every command of this project. `make` alone lists them. Needs Python 3.11 or newer and make; a C compiler and
# Go are found on this machine or taken from wheels by what needs them.
PYTHON ?= python3
ARGS ?=
INPUTS ?= 100000
MINUTES ?= 5
SEED ?= 1
RUN := .venv/bin
CRD := deploy/crds/mignodes.yaml
CHART := charts/clearml-dynamic-mig-operator

.DEFAULT_GOAL := help
.PHONY: help setup demo test e2e chaos fuzz check check-lint check-types check-imports check-generated check-chart \
	check-files chart docs image bench bench-real crd requirements clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: ## Make .venv from the pinned, hashed requirements (instant when it is up to date)
	@$(PYTHON) tools/make_environment.py

demo: setup ## Watch slices being cut: a real control plane, simulated GPUs (ARGS="--once --output json")
	@$(RUN)/python -m cdmo_harness.demo $(ARGS)

test: setup ## Run the tests (ARGS="-k fence", ARGS="-m 'not cluster'")
	@$(RUN)/python -m pytest $(ARGS)

e2e: setup ## The end-to-end tests on a real kubelet; Linux, root (ARGS="--kubernetes=1.34.4", docs/end-to-end.md)
	@$(RUN)/python -m pytest tests/real_node tests/end_to_end --node=real $(ARGS)

chaos: setup ## Faults without end while pods come and go (SEED=1 MINUTES=5, ARGS="--pods 10000", docs/chaos.md)
	@$(RUN)/python -m cdmo_harness.chaos --seed $(SEED) --minutes $(MINUTES) $(ARGS)

fuzz: setup ## Hostile input for every reader (INPUTS=100000 SEED=1, ARGS="--only plan,spec")
	@$(RUN)/python -m tests.fuzz --inputs $(INPUTS) --seed $(SEED) $(ARGS)

check: check-lint check-types check-imports check-generated check-chart check-files ## Everything CI asks besides the tests

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
	@$(RUN)/python -m tools.generate_cards --check
	@$(RUN)/python -m tools.generate_access --check
	@$(RUN)/python -m tools.generate_gpu_operator --check
	@$(RUN)/python -m tools.generate_reference --check

check-chart: setup ## The Helm chart: generated files, helm lint --strict, rendered once
	@$(RUN)/python -m tools.generate_chart --check
	@$(RUN)/python -m tests.chart.helm lint --strict --quiet --namespace cdmo $(CHART)
	@$(RUN)/python -m tests.chart.helm template cdmo $(CHART) --namespace cdmo >/dev/null

check-files: setup ## File sizes, the changelog's version, nothing of one machine in any file
	@$(RUN)/python -m tools.check_file_size
	@$(RUN)/python -m tools.check_changelog
	@$(RUN)/python -m tools.check_portable

chart: check-chart ## Check the Helm chart and render it with every value changed (ARGS="-k refused")
	@$(RUN)/python -m pytest tests/chart $(ARGS)

docs: setup ## Make the documentation site in build/docs/site; a dead link is an error
	@$(RUN)/python -m tools.build_docs

image: setup ## Build the container image; Debian 12, root, buildah (ARGS="--output build/image", docs/image.md)
	@$(RUN)/python -m cdmo_harness.images $(ARGS)

bench: setup ## Run the benchmarks against their recorded bounds
	@$(RUN)/python -m pytest benchmarks $(ARGS)

bench-real: setup ## Benchmarks on a real kubelet; Linux, root (ARGS="-k load", see benchmarks/README.md)
	@$(RUN)/python -m pytest benchmarks/real_kubelet $(ARGS)

crd: setup ## Write again what is generated: the CRD, gRPC modules, card tables, table of rights, chart, reference
	@$(RUN)/python -m cdmo.api.schema --write $(CRD)
	@$(RUN)/python tools/generate_protobuf.py
	@$(RUN)/python -m tools.generate_cards --write
	@$(RUN)/python -m tools.generate_access --write
	@$(RUN)/python -m tools.generate_chart --write
	@$(RUN)/python -m tools.generate_protocol --write
	@$(RUN)/python -m tools.generate_gpu_operator --write
	@$(RUN)/python -m tools.generate_reference --write

requirements: ## Pin the dependencies again (ARGS=--upgrade for newer ones); needs a package registry
	@$(PYTHON) tools/pin_requirements.py $(ARGS)

clean: ## Remove .venv, build results and caches of this folder
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
