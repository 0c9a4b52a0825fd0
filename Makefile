# make demo   set up .venv beside this file and generate demo.mp4 with the model the package ships
# make test   the same environment with the development tools: lint, types, tests
# make clean  remove the environment

VENV := .venv
BIN := $(VENV)/bin
CHECKED := avgen tests recipes
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/avgen generate --prompt 'a young woman with long red hair says "the train leaves at 7:30"' --seed 1 -o demo.mp4 --overwrite
	@echo "watch it: $(CURDIR)/demo.mp4"

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The stamps follow pyproject.toml: while it does not change, nothing is installed again.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The first Python >= 3.11 that runs and can make environments; a version manager's shim may be on the path and do neither.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3 python3.14; do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "environment: $$python -m venv $(VENV)"; exec $$python -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "make: no Python >= 3.11 with its venv module on the path; install one, or name it: make PYTHON=/path/to/python" >&2; exit 1

clean:
	rm -rf $(VENV)
