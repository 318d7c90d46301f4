# make demo         run the whole pipeline on synthetic playlists, in a few minutes
# make test         run the quick tests, on all cores
# make test-slow    run the tests marked `slow` or `server`: fuzzing, killed processes, benchmarks, Qdrant servers
# make test-all     run both
# make lint         check format, lint, types, proto, generated code and deployment files
# make format       apply the formatter and the safe fixes of the linter
# make generate     generate the gRPC code from the proto
# make pictures     take the pictures of the documentation again, with Chromium
# make lock         write the locked requirements
# make install-dev  create .venv with all dependencies (`make install`: those of the application)
# make clean        remove .venv, .nextsong and caches
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
GENERATED := recommender_pb2.py recommender_pb2.pyi recommender_pb2_grpc.py recommender.openapi.json
PROTOC := $(BIN)/python -m grpc_tools.protoc -Iproto
OPENAPI := $(BIN)/python -m service.http.openapi $(VENV)/recommender.descriptors

.PHONY: demo test test-slow test-all lint format generate pictures lock install install-dev clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.runtime
	$(BIN)/nextsong demo

# Two workers per core, because tests wait for child processes and files about half of the time. A
# worker that runs out of tests takes tests from another one.
WORKERS := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

test: $(VENV)/.dev
	$(PYTEST) -m "not slow and not server"

test-slow: $(VENV)/.dev
	$(PYTEST) -m "slow or server"

test-all: $(VENV)/.dev
	$(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/buf lint
	@if base=$$(git rev-parse --verify --quiet origin/main || git rev-parse --verify --quiet main); then \
		rm -rf $(VENV)/proto-of-main && mkdir -p $(VENV)/proto-of-main && \
		git archive "$$base" proto buf.yaml | tar -x -C $(VENV)/proto-of-main && \
		$(BIN)/buf breaking --against $(VENV)/proto-of-main; \
	else echo "proto not checked for breaking changes: there is no branch main"; fi
	@mkdir -p $(VENV)/generated && $(PROTOC) --python_out=$(VENV)/generated --pyi_out=$(VENV)/generated \
		--grpc_python_out=$(VENV)/generated --descriptor_set_out=$(VENV)/recommender.descriptors \
		--include_source_info nextsong/v1/recommender.proto
	@$(OPENAPI) $(VENV)/generated/nextsong/v1/recommender.openapi.json
	@for file in $(GENERATED); do \
		cmp $(VENV)/generated/nextsong/v1/$$file proto/nextsong/v1/$$file || \
		{ echo "$$file is out of date: run 'make generate'"; exit 1; }; done
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/service.yaml deploy/kubernetes/ingest.yaml
	@$(BIN)/python -m json.tool deploy/grafana/dashboards/nextsong.json >/dev/null
	@if command -v promtool >/dev/null; then promtool check config deploy/prometheus/prometheus.yml; \
		else echo "deploy/prometheus not checked: promtool is missing"; fi
	@compose=; docker compose version >/dev/null 2>&1 && compose="docker compose" || \
		{ command -v docker-compose >/dev/null && compose=docker-compose; }; \
		if [ -n "$$compose" ]; then \
		$$compose --profile observability --profile evaluation --profile cluster config -q; \
		else echo "docker-compose.yml checked by its schema only: docker compose is missing"; fi
	@if command -v helm >/dev/null && helm show chart qdrant/qdrant >/dev/null 2>&1; then \
		helm template qdrant qdrant/qdrant --values deploy/kubernetes/qdrant-values.yaml >/dev/null; \
		else echo "deploy/kubernetes/qdrant-values.yaml not checked: helm or the chart of Qdrant is missing"; fi

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/.dev
	$(PROTOC) --python_out=proto --pyi_out=proto --grpc_python_out=proto \
		--descriptor_set_out=$(VENV)/recommender.descriptors --include_source_info nextsong/v1/recommender.proto
	$(OPENAPI) proto/nextsong/v1/recommender.openapi.json

pictures: $(VENV)/.dev
	$(BIN)/python -m tests.support.pictures

# Locked requirements have names, versions and hashes, but no index address.
lock: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --extra http --extra tracing --group build pyproject.toml -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --extra all --group dev -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt

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
