# `make run`: set up and run the main job.  `make test`: set up and pass the tests.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed
TOOLS   = $(VENV)/.tools
PIP     = -m pip install --quiet --disable-pip-version-check
# A worker takes the next test when it has none left: files differ too much to be dealt out.
PYTEST  = -m pytest -n 2 --dist worksteal -q --durations=10
# Of a grid of combinations, slow tests run every SAMPLEth; above 1 also none of those marked by_hand.
SAMPLE ?= 1

# PyTorch for `make bridges`; a CPU build is smaller: make bridges TORCH=torch==2.13.0+cpu
TORCH  ?= torch

.PHONY: run test slow faults long oldest newest bridges docs notebooks wheel benchmark lint types
.PHONY: format clean
run: $(STAMP)
	$(BIN)/python -m experiments.run --dataset=digits

test: $(STAMP)
	$(BIN)/python $(PYTEST)

slow: $(STAMP)
	$(BIN)/python $(PYTEST) -m slow --sample=$(SAMPLE)

# Real processes are killed at random moments; AIWAE_FAULT_KILLS says how often.
faults: $(STAMP)
	AIWAE_FAULT_KILLS=$${AIWAE_FAULT_KILLS:-20} $(BIN)/python -m pytest -n 2 tests/faults -m slow -q --durations=10

# Trainings of hours, results/long/queue.toml, one after the other on one core; Ctrl-C saves, and the
# same command continues. Nothing should be timed beside it.
long: $(STAMP)
	$(BIN)/python -m experiments.long $(if $(AIWAE_DATA_DIR),--data_dir=$(AIWAE_DATA_DIR))

# The tests with the lower bounds of setup.py, to the version, and with the newest of everything.
oldest:
	$(PYTHON) -m venv --clear .oldest
	$(PYTHON) .ci/lowest.py > .oldest/lowest.txt
	.oldest/bin/python $(PIP) -c .oldest/lowest.txt -e '.[run,test]'
	.oldest/bin/python $(PYTEST)

newest:
	$(PYTHON) -m venv --clear .newest
	.newest/bin/python $(PIP) --upgrade --upgrade-strategy eager -e '.[run,test]'
	.newest/bin/python $(PYTEST)

# The bridges against the other sides' own numbers, in an environment of its own with what they
# need; what does not install is said, and its tests are skipped.
bridges:
	$(PYTHON) -m venv .bridges
	.bridges/bin/python $(PIP) -e '.[run,test]'
	for package in '$(TORCH)' dm-haiku; do \
	  .bridges/bin/python $(PIP) "$$package" || echo "$$package does not install here"; \
	done
	for bridge in blackjax torch pythae scvi; do \
	  .bridges/bin/python $(PIP) -e ".[$$bridge]" || echo "what $$bridge needs does not install here"; \
	done
	.bridges/bin/python -m pytest tests/bridges tests/test_numpyro.py -m 'slow or not slow' -q --durations=10

docs: $(TOOLS)
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Executes docs/notebooks, about ten minutes on two cores, and keeps their outputs for `make docs`,
# which executes nothing. Some of them: make notebooks NOTEBOOKS='sure table'
notebooks: $(STAMP)
	$(BIN)/python $(PIP) -e '.[notebooks]'
	$(BIN)/python docs/notebooks/execute.py $(NOTEBOOKS)

# The library as an sdist, and the wheel that is made of that, looked at as an index would; then the
# wheel installed with what it says it needs into an empty environment, and used away from the checkout.
wheel: $(TOOLS)
	rm -rf dist .wheel && $(BIN)/python -m build -o dist . > /dev/null
	$(BIN)/twine check --strict dist/* && $(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/cffconvert --validate -i CITATION.cff
	$(BIN)/hadolint Dockerfile
	$(PYTHON) -m venv .wheel
	.wheel/bin/python $(PIP) --no-compile dist/*.whl
	cd .wheel && bin/python ../examples/own_density.py && bin/python ../tests/away.py without
	.wheel/bin/python $(PIP) --no-compile "$$(ls dist/*.whl)[run]"
	cd .wheel && bin/python ../tests/away.py with
	rm -rf .wheel

# Whether the benchmark runs; its times are of no use beside other work.
benchmark: $(STAMP)
	$(BIN)/python -m experiments.benchmark --quick

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# What a type checker says to those who call the library, and of the rooms that pyproject.toml names.
types: $(TOOLS)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "aiwae_jax needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -e '.[run,test]'
	@touch $(STAMP)

# One installation, whichever of its users come first or at once.
$(TOOLS): $(STAMP)
	$(BIN)/python $(PIP) -e '.[docs,dev]'
	@touch $(TOOLS)

clean:
	rm -rf $(VENV) docs/_build build dist .wheel .oldest .newest .bridges .pytest_cache .ruff_cache .mypy_cache *.egg-info
