# Needs Python 3.11+ and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MEMBERS := core $(addprefix plugins/sources/,mongodb mysql postgres sqlite) \
	$(addprefix plugins/sinks/,azure filesystem gcs s3)
DISTRIBUTIONS := $(MEMBERS) .
EDITABLE := $(foreach member,$(MEMBERS),-e ./$(member)) -e .
MANIFESTS := pyproject.toml $(MEMBERS:%=%/pyproject.toml)
# Tests start hundreds of interpreters, each of which would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo check static quick test coverage soak bench format constraints build clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with everything pinned by constraints.txt
	@:

$(READY): constraints.txt $(MANIFESTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Penstock needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || true)." >&2; \
		echo "Name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/pip || { echo "Making $(VENV) ..."; $(PYTHON) -m venv $(VENV); } || { \
		rm -rf $(VENV); echo "On Debian and Ubuntu 'apt-get install python3-venv' adds what is missing." >&2; exit 1; }
	@echo "Installing the pinned packages into $(VENV) ..."
	@$(BIN)/pip --disable-pip-version-check install -qq --no-deps --require-hashes -r constraints.txt
	@$(BIN)/pip --disable-pip-version-check install -qq --no-deps --no-build-isolation $(EDITABLE)
	@# As pip does with what it installs: where Python may not write its caches, every command would compile all modules.
	@$(BIN)/python -m compileall -q benchmarks $(MEMBERS:%=%/src)
	@$(BIN)/pip --disable-pip-version-check check >$(VENV)/pip-check || { cat $(VENV)/pip-check >&2; exit 1; }
	@touch $@

demo: $(READY) ## Back up and restore a sample database here and now
	@$(BIN)/penstock demo

check: $(READY) ## Static gates and the quick tests, without servers and without the whole command
	@# Side by side: mypy keeps one processor busy, for as long as a quarter of the tests takes.
	@$(MAKE) --no-print-directory -j2 static quick

quick: $(READY)
	$(BIN)/pytest -q -n logical --dist loadscope --no-loadscope-reorder --ignore=tests/integration -m "not server and not slow and not soak"

static: $(READY) ## Lint, formatting, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY) ## Install test servers where possible, then every gate and every test but the long runs
	sh tests/install-servers
	@$(MAKE) --no-print-directory static
	$(BIN)/pytest -q -n auto --dist loadscope --no-loadscope-reorder -m "not soak"

coverage: $(READY) ## The tests of `make test` once more, slower, to see which branches none of them takes
	sh tests/install-servers
	$(BIN)/pytest -q -n auto --dist loadscope --no-loadscope-reorder -m "not soak" --cov --cov-report=term --cov-report=html

soak: export PENSTOCK_SOAK ?= 1
soak: $(READY) ## The long runs: an hour; PENSTOCK_SOAK=4 makes them four times as long
	sh tests/install-servers
	$(BIN)/pytest -q -n auto --dist loadscope --no-loadscope-reorder -m "soak or hypothesis" -o timeout=3600 --durations=20

bench: $(READY) ## Compare with restic, borg and a shell pipeline (see benchmarks/README.md)
	$(BIN)/python -m benchmarks.nights
	$(BIN)/python -m benchmarks.compare

format: $(READY) ## Format the code and apply safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

constraints: $(READY) ## Pin all dependencies again (UPGRADE=1 takes the newest)
	@$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-package penstock \
		$(foreach member,azure core filesystem gcs mongodb mysql postgres s3 sqlite,--no-emit-package penstock-$(member)) \
		--all-extras --group dev $(if $(UPGRADE),--upgrade) pyproject.toml -o constraints.txt
	@! grep -nE '://|@ ' constraints.txt || { echo "constraints.txt must not hold addresses." >&2; exit 1; }

build: $(READY) ## Build the wheels of all distributions into dist/
	@rm -rf dist
	@for distribution in $(DISTRIBUTIONS); do \
		$(BIN)/python -m build --quiet --no-isolation --wheel --outdir dist $$distribution || exit 1; done

clean: ## Remove the environment, builds and caches (.servers stays)
	rm -rf $(VENV) dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find core plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +
