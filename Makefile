# Each command sets .venv up first, once; `make help` lists them.

## PYTHON=python3        the Python that .venv is made from, 3.11 or newer
PYTHON ?= python3
## PIP_ARGS=             more for pip at set-up, such as --extra-index-url with the address of PyTorch's CPU builds
PIP_ARGS ?=
## DATA=phrasebook       what to learn from: phrasebook, a FOLDER of parallel text, or hub:NAME
DATA = phrasebook
## PAIR=en-de            source and target language
PAIR = en-de
## PROFILE=auto          how large the models and how long the training: ci, cpu, gpu, or auto
PROFILE = auto
## SEED=0                of everything random
SEED = 0
## OUT=build/distill     where the models and the report go
OUT = build/distill
## JOBS=2                tests at a time
JOBS = 2
## ARGS=                 more for the command itself, as in: make distill ARGS=--resume
ARGS =

.DEFAULT_GOAL := help
.PHONY: help .venv course distill lab notebooks test test-all lint format bench clean

help: ## show this list
	@echo "Commands:"
	@awk -F ':.*## ' '/^[a-z.][a-z-]*:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	@echo "Variables and their defaults, as in: make distill PROFILE=ci SEED=1"
	@sed -n 's/^## /  /p' Makefile

.venv: .venv/.ready ## set up the environment (every other command does it for you)

# The stamp is written last: without it a set-up was never finished, and starts again from nothing.
.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "kdlab needs Python 3.11 or newer, but PYTHON=$(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
	  echo "Name another one, as in: make .venv PYTHON=python3.12"; exit 1; } >&2
	@if [ -e $@ ]; then rm $@; else $(PYTHON) -m venv --clear .venv; fi
	.venv/bin/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable ".[course,grade,test]"
	@touch $@

# The other runtimes that exports are tested with come with the first `make test`: `make distill` starts without them.
.venv/.deploy: .venv/.ready
	.venv/bin/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable ".[deploy]"
	@touch $@

course: .venv ## run the whole course and make pages of it, build/course/index.html: PROFILE ARGS
	.venv/bin/kdlab notebooks run --profile $(PROFILE) $(ARGS)

distill: .venv ## train a teacher, distil a student from it, compare: DATA PAIR PROFILE SEED OUT ARGS
	.venv/bin/kdlab distill --data "$(DATA)" --pair $(PAIR) --profile $(PROFILE) --seed $(SEED) --out "$(OUT)" $(ARGS)

lab: .venv ## open the course in JupyterLab: ARGS
	.venv/bin/jupyter lab course --LabApp.default_url=/lab/tree/00_welcome/00_welcome.ipynb $(ARGS)

notebooks: .venv ## make the course's notebooks from their scripts: ARGS
	.venv/bin/kdlab notebooks build $(ARGS)

test: lint .venv/.deploy ## lint, types, doctests and all tests but the slow ones: JOBS ARGS
	.venv/bin/pytest -n $(JOBS) -m "not slow" $(ARGS)

test-all: lint .venv/.deploy ## the same with the slow tests: JOBS ARGS
	.venv/bin/pytest -n $(JOBS) $(ARGS)

lint: .venv ## check format, lint and types only
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format: .venv ## rewrite the code in the project's format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/.deploy ## measure again what the README claims, into results/: ARGS
	.venv/bin/python -m tests.bench $(ARGS)

clean: ## remove build/ and the caches; .venv stays
	rm -rf build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
