PYTHON ?= python3
PIP_ARGS ?=          # as --extra-index-url https://download.pytorch.org/whl/cpu
STAMP := .venv/.stamp
BIN := .venv/bin

# threads that wait shall sleep soon; see promptplus.cli.main
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 3000
endif

.DEFAULT_GOAL := help
.PHONY: help demo studio check test test-slow docs compatibility files bench pocket pocket-report hooks clean

help: ## show this list
	@sed -nE 's/^([a-z.-]+):[^#]*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev,lora,heic]'
	touch $@

.venv: $(STAMP) ## install the package and its tools into .venv (all other targets do so first)

demo: $(STAMP) ## show the main features on the pocket model: runs/demo/index.html; OUT=folder for another place
	$(BIN)/promptplus demo $(if $(OUT),--out $(OUT))

studio: $(STAMP) ## open the studio in a browser: try prompts by layers, learn, mix, edit
	$(BIN)/promptplus studio

check: $(STAMP) ## run the linter, the formatter, the type checker and the tests of the source tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest -q tests/test_house.py

# two workers with one thread each: most tests are too small to use two threads
test: check ## run check, then all fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal -m "not slow" --deselect tests/test_house.py

test-slow: $(STAMP) ## run the slow tests
	$(BIN)/pytest -q -n 2 --dist loadfile -m slow

docs: $(STAMP) ## write docs/settings.md from the settings classes
	$(BIN)/python -m promptplus.training.settings_help

compatibility: $(STAMP) ## run the tests of what works together with P+, and write docs/compatibility.md
	PROMPTPLUS_COMPATIBILITY=docs/compatibility.md OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 tests/compatibility

files: $(STAMP) ## run the tests of other tools' files, and write the table of docs/files.md
	PROMPTPLUS_FILES=docs/files.md OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not slow" tests/formats --deselect tests/formats/test_files_page.py

bench: $(STAMP) ## print the quick benchmarks
	$(BIN)/python -m benchmarks

pocket: $(STAMP) ## train the bundled pocket model anew (hours)
	$(BIN)/python -m pocket_training

pocket-report: $(STAMP) ## measure the pocket model
	$(BIN)/python -m pocket_training report

hooks: $(STAMP) ## install git hooks that run check before each commit
	$(BIN)/pre-commit install

clean: ## remove .venv, dist and caches
	rm -rf .venv dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
