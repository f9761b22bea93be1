# Each target does its own set-up: a virtual environment in .venv, versions from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# --no-compile: most modules of torch and transformers are never imported, and the others are compiled at the first import
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.PHONY: demo test test-slow check base docs bench clean

demo: .venv/.train
	$(BIN)/emotune train starter --out runs/starter --overwrite
	$(BIN)/emotune evaluate runs/starter --split test
	$(BIN)/emotune predict -m runs/starter \
		"you absolute legend, that saved me hours, thank you!" \
		"I can't believe he's gone. The house is so quiet now." \
		"wait, so the tickets were never booked?? what are we even doing" \
		"The library closes at eight on weekdays."
	@echo
	@echo "The model is in runs/starter/model, its scores and pictures are in runs/starter/eval/test/report.html."
	@echo "Next, with the virtual environment active (source .venv/bin/activate):"
	@echo "  emotune predict \"your own text\""
	@echo "  emotune recipes                               the recipes to train"
	@echo "  emotune fetch goemotions                      GoEmotions, for: emotune train goemotions"
	@echo "  emotune train starter --data YOUR.csv         your own labelled texts"

test: .venv/.dev
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 8 --dist loadfile

test-slow: .venv/.dev
	$(BIN)/python -m pytest -m slow

check: .venv/.dev
	$(BIN)/ruff check src tests benchmarks scripts notebooks
	$(BIN)/ruff format --check src tests benchmarks scripts notebooks
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_floors.py
	$(BIN)/python scripts/check_starter.py

# the sdist, a wheel of it, and the install of the wheel without extras, in an environment of its own
base: .venv/.dev
	$(BIN)/python scripts/check_base_install.py

# the documentation site, in site/
docs: .venv/.docs
	$(BIN)/python scripts/build_site.py

# make bench DATA=folder-with-GoEmotions
bench: .venv/.dev
	$(BIN)/python benchmarks/train_throughput.py --data "$(DATA)"
	$(BIN)/python benchmarks/quality.py goemotions --data "$(DATA)" --seeds 3

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "emotune needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.train: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[all]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[all,dev]'
	@touch .venv/.train $@

.venv/.docs: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[docs]'
	@touch $@

clean:
	rm -rf .venv .site site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
