# `make demo` and `make test` do everything from a bare machine; run again, they find everything done.
SHELL := bash
BIN := .venv/bin
PYTEST_ARGS ?=

# The steps of one set-up follow each other, whatever -j says.
.NOTPARALLEL:

.PHONY: help setup venv engine image gvisor runtimes local-model demo test check soak bench format lock clean

help:  ## Show the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: setup  ## Set up what is missing, then answer a question about a long text in a sandbox, without any key
	$(BIN)/rlm-kernel demo

test: setup runtimes check  ## Set up what is missing, then run the check

setup: local-model image  ## Make the virtual environment, the engine, the sandbox image and the local model ready

venv:
	@scripts/venv.sh

engine: venv  ## See to it that a container engine answers, installing Docker if need be
	@scripts/engine.sh

image: engine  ## Build the sandbox image if its inputs have changed
	@scripts/image.sh

gvisor: engine  ## Install gVisor and register it with this machine's Docker engine, for --oci-runtime runsc
	@scripts/gvisor.sh

runtimes: engine  ## Install the other runtimes that tests can use: gVisor, Podman; and an sshd
	@scripts/runtimes.sh

local-model: venv
	@scripts/local-model.sh

check: venv  ## Check format, lint, types, layers and tests; PYTEST_ARGS goes to pytest
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_ARGS)

soak: setup  ## Run the long tests and show what they measured
	$(BIN)/pytest -m soak -rP $(PYTEST_ARGS)

bench: setup  ## Measure speed, each against its baseline in the same run
	$(BIN)/python -m benchmarks

format: venv  ## Format the code and apply the lint's safe repairs
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: venv  ## Write the lock files anew with the newest allowed versions
	@scripts/lock.sh

clean:  ## Remove what set-up and checks made here; the engine stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
