# Every target works on a bare machine that has Python 3.11 or newer and make:
# it builds .venv first, with exactly what the lock names, and does nothing twice.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Without cached bytecode every process compiles torch and transformers anew: ten seconds each.
unexport PYTHONDONTWRITEBYTECODE
# uv trusts what the machine trusts, as pip does: a company's own certificate authority included.
export UV_SYSTEM_CERTS := 1
ONLY   ?=
TESTS  ?= tests
CLUSTER_TESTS ?= tests/chart tests/cluster
# How a lock is written: hashes, no addresses of an index, every platform and Python from 3.11.
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header
# Of the images; empty ones leave what is said in images/*.Containerfile. Not taken from the environment, where
# such names mean other things.
REGISTRY := localhost
BASE     :=
PACKAGES :=
BUILDER  :=
# The chart carries its own copy: a chart is packed from its folder alone.
CRDS   := crds charts/rerank-operator/files/crds

.DEFAULT_GOAL := help
.PHONY: help install run smoke test test-cluster cluster cluster-down lint format generate lock bench images images-load clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 20

install: $(READY) ## Build .venv from the lock

run: $(READY) ## Serve the quickstart's model behind the gateway until Ctrl-C
	@$(BIN)/rerank up examples/quickstart.yaml --try examples/panda.json

smoke: $(READY) ## Start the same, rank the example once, exit 0 or 1
	@$(BIN)/python tests/smoke.py

test: $(READY) ## Run every test that needs no cluster (TESTS=path narrows it)
	@$(BIN)/python -m pytest $(TESTS) --ignore tests/cluster

test-cluster: cluster images-load ## Run the tests in a real Kubernetes (CLUSTER_TESTS=path narrows it)
	@$(BIN)/python -m pytest $(CLUSTER_TESTS) --timeout 1800 --durations 15

cluster: $(READY) ## Start a real one-node Kubernetes for the tests (root, Go; built once)
	@$(BIN)/python -m tests.cluster.onenode up

cluster-down: $(READY) ## End it; nothing of it stays
	@$(BIN)/python -m tests.cluster.onenode down

lint: $(READY) ## Check format, style, types, layers and that generated files are fresh
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@for folder in $(CRDS); do $(BIN)/rerank crds --check $$folder || exit 1; done

format: $(READY) ## Format the code and apply the safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

generate: $(READY) ## Write crds/, and the chart's copy, from the API types
	@for folder in $(CRDS); do $(BIN)/rerank crds --output $$folder || exit 1; done

lock: $(BIN)/uv ## Choose new versions of the dependencies
	@mkdir -p locks
	@$(COMPILE) --all-extras pyproject.toml -o locks/all.txt
	@grep -A400 '^uv==' locks/all.txt | awk 'NR>1 && /^[a-z]/ {exit} {print}' > locks/uv.txt
	@$(COMPILE) --extra server pyproject.toml -c locks/all.txt -o locks/server.txt
	@$(COMPILE) --extra operator --extra gateway pyproject.toml -c locks/all.txt -o locks/control.txt
	@$(COMPILE) bench/peers/sentence-transformers.in -c locks/all.txt -o bench/peers/sentence-transformers.txt
	@$(COMPILE) bench/peers/infinity.in -o bench/peers/infinity.txt

bench: $(READY) ## Measure against the peers in one run (ONLY=server, gateway or faults)
	@$(BIN)/python -m bench $(ONLY)

images: ## Build the two images (REGISTRY=, BASE=, PACKAGES=, BUILDER=: docs/images.md)
	@$(PYTHON) -m images build --registry "$(REGISTRY)" --base "$(BASE)" --packages="$(PACKAGES)" --builder "$(BUILDER)"

images-load: ## Build the test images, load what changed of them into the test cluster
	@$(PYTHON) -m images load

clean: ## Remove what the targets above made
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv: locks/uv.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed, and %s is %d.%d: say which one to use with make PYTHON=..." % (sys.executable, *v[:2]))'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r locks/uv.txt
	@touch $@

$(READY): $(BIN)/uv locks/all.txt pyproject.toml
	@echo "Installing into $(VENV) (about 3 GB of packages, once)"
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes locks/all.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
