# Two commands matter to a newcomer: make scan MEDIA=clip.mp4, and make test.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# The first that runs: version managers leave commands that only say that there is no such Python.
PYTHON ?= $(shell for one in python3.11 python3.12 python3.13 python3.14 python3; do \
	if $$one -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$one; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
# A file name may hold spaces and dollars: it is taken as it was typed and reaches the recipe through the environment.
override MEDIA := $(value MEDIA)
export MEDIA

.PHONY: help scan test test-pythons test-slow test-gpu lint format serve docs gallery bench clean

help:
	@echo 'make scan MEDIA=clip.mp4   scan a picture, video or folder'
	@echo 'make serve                 the web page on http://127.0.0.1:8000'
	@echo 'make test                  install everything the tests need and run them'
	@echo 'make lint                  ruff, mypy, import-linter'
	@echo 'make bench-smoke           whether speed is still of its order, by ratios'

$(VENV)/.made:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Faceproof needs Python 3.11 or newer; set PYTHON=/path/to/python3'; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { echo 'On Debian: apt-get install python3-venv'; rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@touch $@

# The light core: no torch.
$(VENV)/.core: pyproject.toml | $(VENV)/.made
	@echo 'Installing the light core into $(VENV) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e .
	@touch $@

$(VENV)/.serve: pyproject.toml | $(VENV)/.made
	@echo 'Installing the web page and service into $(VENV) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[serve]'
	@touch $@ $(VENV)/.core

# facenet-pytorch is the tests' oracle; its own pins exclude every current torch, so it comes without them.
$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	@echo 'Installing everything the tests need into $(VENV) (about 6 GB, a few minutes) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps facenet-pytorch==2.6.0
	@touch $@ $(VENV)/.core $(VENV)/.serve

scan: $(VENV)/.core
	@test -n "$$MEDIA" || { echo 'Say what to scan: make scan MEDIA=clip.mp4'; exit 2; }
	@mkdir -p out
	@$(BIN)/faceproof scan --json "out/$$(basename -- "$$MEDIA").json" -- "$$MEDIA"

serve: $(VENV)/.serve
	@$(BIN)/faceproof serve

test: $(VENV)/.dev
	@scripts/test-services.sh && PYTHON=$(BIN)/python scripts/test-servers.sh
	@$(BIN)/python -m pytest -m 'not slow and not gpu' -n 2 --dist loadgroup

test-pythons: $(VENV)/.made
	@PYTHON=$(BIN)/python scripts/test-pythons.sh

test-slow: $(VENV)/.dev
	@scripts/test-services.sh && PYTHON=$(BIN)/python scripts/test-servers.sh
	@$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.dev
	@$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Writes docs/speed.md: about an hour on an idle machine, 8 minutes with QUICK=1. VIDEO=clip.mp4 measures on that 1080p clip.
bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.scale $(if $(QUICK),--quick)
	@$(BIN)/python -m benchmarks.sampling --made 8 $(if $(QUICK),--clips 6 --every 5) $(SAMPLES)
	@$(BIN)/python -m benchmarks.speed $(if $(QUICK),--quick,--int8) $(if $(VIDEO),--video "$(VIDEO)")
	@$(BIN)/python -m benchmarks

bench-smoke: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.smoke

docs: $(VENV)/.dev
	@$(BIN)/mkdocs build --strict

# Needs chromium, chromedriver and poppler's pdftoppm.
gallery: $(VENV)/.dev
	@$(BIN)/python -m tests.evidence.make_gallery

clean:
	rm -rf $(VENV) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
