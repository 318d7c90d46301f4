# make demo   the whole road on invented playlists, in a few minutes
# make test   the tests
# make lint   format, lint, types, proto and generated code
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
GENERATED := recommender_pb2.py recommender_pb2.pyi recommender_pb2_grpc.py
PROTOC := $(BIN)/python -m grpc_tools.protoc -Iproto

.PHONY: demo test lint format generate lock install install-dev clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.runtime
	$(BIN)/nextsong demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/buf lint
	@mkdir -p $(VENV)/generated && $(PROTOC) --python_out=$(VENV)/generated --pyi_out=$(VENV)/generated \
		--grpc_python_out=$(VENV)/generated nextsong/v1/recommender.proto
	@for file in $(GENERATED); do \
		cmp $(VENV)/generated/nextsong/v1/$$file proto/nextsong/v1/$$file || \
		{ echo "$$file is out of date: run 'make generate'"; exit 1; }; done

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/.dev
	$(PROTOC) --python_out=proto --pyi_out=proto --grpc_python_out=proto nextsong/v1/recommender.proto

# Writes the locked requirements anew: names, versions and hashes, and no index address.
lock: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --group build pyproject.toml -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --group dev -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt

install: $(VENV)/.runtime
install-dev: $(VENV)/.dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nextsong needs Python 3.11 or later; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/runtime.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .nextsong .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
