# One word a job. Each target sets up what it needs; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS_VENV := .venv-peers
PEERS_STAMP := $(PEERS_VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test check format bench bench-peers bench-dapr clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## create .venv and install the broker, the client and all tools

$(STAMP): setup.cfg pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check,bench,dapr]'
	touch $(STAMP)

run: install ## serve on ws://127.0.0.1:8090/v1, kept in ./actorbus.db
	$(BIN)/actorbus serve

test: install ## run all tests (installs rabbitmq-server and nodejs with apt if they are missing and it may)
	tests/install-rabbitmq.sh
	tests/dapr/install-sdks.sh $(PYTHON)
	$(BIN)/python -m pytest -n 3 --dist loadfile

check: install ## ruff, mypy --strict and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

format: install ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## load test over real sockets; BENCH="--help" shows the options
	$(BIN)/python -m bench $(BENCH)

bench-peers: $(PEERS_STAMP) ## actorbus and its peers side by side; BENCH="--help" shows the options
	bench/peers/install-servers.sh
	$(PEERS_VENV)/bin/python -m bench.peers $(BENCH)

bench-dapr: install ## the Dapr door beside servers that do nothing; BENCH="--help" shows the options
	bench/dapr/install-wrk.sh
	$(BIN)/python -m bench.dapr $(BENCH)

$(PEERS_STAMP): setup.cfg pyproject.toml Makefile bench/peers/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' -r bench/peers/requirements.txt
	touch $(PEERS_STAMP)

clean: ## remove the environment and caches
	rm -rf $(VENV) $(PEERS_VENV) .venv-dapr build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
