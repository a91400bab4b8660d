# make demo   set up, then the main job: runs/demo/index.html
# make test   set up, then ruff, pyright, the import directions, pytest

PYTHON ?= python3
PIP_ARGS ?=          # as --extra-index-url https://download.pytorch.org/whl/cpu
STAMP := .venv/.stamp
BIN := .venv/bin

.PHONY: demo test test-slow check bench pocket pocket-report clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev,lora,heic]'
	touch $@

.venv: $(STAMP)

demo: $(STAMP)
	$(BIN)/promptplus demo $(if $(OUT),--out $(OUT))

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest -q tests/test_house.py

test: check
	$(BIN)/pytest -q -m "not slow"

test-slow: $(STAMP)
	$(BIN)/pytest -q -m slow

bench: $(STAMP)
	$(BIN)/python -m benchmarks

pocket: $(STAMP)
	$(BIN)/python -m pocket_training

pocket-report: $(STAMP)
	$(BIN)/python -m pocket_training report

clean:
	rm -rf .venv dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
