# make run    the app            make test      the tests, a real Chromium included
# make lint   ruff               make test-all  the longest tests, too
# make bench  the speed benchmarks
# Each makes .venv if there is none and installs what is missing; a second call starts in seconds.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Tiny models on few cores: OpenMP threads fight each other and lose.
export OMP_NUM_THREADS ?= 1

# In the order of the files: a file of few and long tests that came last would leave one worker idle.
TESTING := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-all lint format bench screenshots

run: $(VENV)/.installed
	@$(BIN)/python app.py

test: $(VENV)/.installed-dev $(VENV)/.chromium
	@$(BIN)/python -m pytest $(TESTING)

test-all: $(VENV)/.installed-dev $(VENV)/.chromium
	@$(BIN)/python -m pytest $(TESTING) -m ''

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(VENV)/.installed
	@for each in sampler sidebyside talk; do $(BIN)/python -m evaluation.speed $$each || exit 1; done

screenshots: $(VENV)/.installed-dev $(VENV)/.chromium
	@$(BIN)/python -m tests.browser.screenshots

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing; install it (Debian: apt-get install python3-venv)."; exit 1; }

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo "Installing what the app needs (some minutes the first time) ..."
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt | $(BIN)/python
	@echo "Installing what the app and its tests need (some minutes the first time) ..."
	@$(PIP) -r requirements-dev.txt
	@touch $(VENV)/.installed $@

$(VENV)/.chromium: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.browser.chromium
	@touch $@
