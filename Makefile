# make demo    a talking clip in outputs/demo.mp4, from nothing but Python 3.11 or newer
# make app     the page, on http://127.0.0.1:7860
# make full    adds the avatar engine's packages (several gigabytes)
# make test    every test            make check   format, lint, types and every test
# make types   the types alone, by mypy
# make bench   the benchmarks        make clean   takes away all that the others made
# make load    twenty visitors at once, and two hundred clips        make faults  every fault that a test makes
# make hostile every hostile file and text, each in a process with limits of time and memory: what came of it
# make locked  the draft and the page from files whose hashes are those of locks/draft.txt; before make app or demo
# make lock    writes locks/ anew from constraints.txt and the package index
# make audit   vulnerabilities known of the packages, by pip-audit; says so where nobody can be asked
# make licences  the licence of every package the program runs with; fails where one is the GPL's
# make sbom    outputs/sbom.json: what a release is made of (CycloneDX)
#
# PYTHON=/path/to/python3.12 picks the interpreter. Packages go to .venv, at the versions of constraints.txt.

VENV := .venv
PY := $(VENV)/bin/python
# Modules are compiled when they are first imported, and kept: compiling all that is installed takes a third of the time.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(PY) -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
PYTHON ?=
PYTEST_FLAGS ?=

TOOLS := $(VENV)/tools
LOCK := $(TOOLS)/bin/uv pip compile --quiet --no-config -c constraints.txt --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock"

DEMO_PORTRAIT := examples/portraits/woman_facing_camera.jpg
DEMO_VOICE := examples/voices/english_calm_8s.wav
DEMO_SEED := 7

.DEFAULT_GOAL := help
.PHONY: help demo app full test types check format bench load faults hostile locked lock audit licences sbom clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/draft.installed
	@mkdir -p outputs
	@started=$$(date +%s) && \
	$(PY) -m pipeline render $(DEMO_PORTRAIT) $(DEMO_VOICE) --seed $(DEMO_SEED) -o outputs/demo.mp4 && \
	echo "" && \
	echo "The clip:   $(CURDIR)/outputs/demo.mp4" && \
	echo "Installing: $$(cat $(VENV)/draft.installed) s (once)" && \
	echo "Rendering:  $$(( $$(date +%s) - started )) s"

app: $(VENV)/draft.installed
	$(PY) app.py

full: $(VENV)/full.installed

# A file's tests in one process, as they share models, and all that ask the same page; those that wait longest come
# first; two processes more than cores, up to four, as much of the time is spent waiting for browsers and the like.
test: $(VENV)/test.compiled
	$(PY) -m tests.browser.find
	@command -v espeak-ng >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -q && apt-get install -y -q --no-install-recommends espeak-ng; } || \
		echo "The program espeak-ng is not here: tests of the voices that need it are skipped."
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $$($(PY) -c "import os; print(min(os.cpu_count() + 2, 4))") --dist loadgroup --no-loadscope-reorder $(PYTEST_FLAGS)

check: $(VENV)/test.installed
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(MAKE) --jobs=2 types test

types: $(VENV)/test.installed
	$(PY) -m mypy

format: $(VENV)/test.installed
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(VENV)/test.installed
	$(PY) -m tests.benchmarks

hostile: $(VENV)/test.installed
	OMP_NUM_THREADS=1 $(PY) -m tests.hostile.run

load: $(VENV)/test.installed
	OMP_NUM_THREADS=1 $(PY) -m tests.load.run

faults: $(VENV)/test.installed
	OMP_NUM_THREADS=1 $(PY) -m tests.faults.run

locked: | $(PY)
	@echo "Installing the draft engine and the page into $(VENV), every file checked by its hash: 1.1 GB."
	@started=$$(date +%s) && $(INSTALL) --require-hashes --force-reinstall --only-binary :all: -r locks/draft.txt && \
	echo $$(( $$(date +%s) - started )) > $(VENV)/draft.installed

lock: $(VENV)/tools.installed
	$(LOCK) requirements-draft.txt -o locks/draft.txt
	$(LOCK) requirements-tools.txt -o locks/tools.txt

audit: $(VENV)/tools.installed
	$(TOOLS)/bin/python -m tests.supply.audit constraints.txt locks/draft.txt locks/tools.txt

licences: $(VENV)/draft.installed
	$(PY) -m tests.supply.licences

# Of an environment that holds nothing else: .venv also has what the tests need.
sbom: $(VENV)/tools.installed
	@mkdir -p outputs
	$(MAKE) locked VENV=$(VENV)/locked
	$(TOOLS)/bin/cyclonedx-py environment $(VENV)/locked/bin/python --pyproject tests/supply/sbom.toml \
		--output-reproducible --validate -o outputs/sbom.json

clean:
	rm -rf $(VENV) outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis .gradio
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp holds the seconds its installation took and stands inside .venv, so that it goes when .venv goes.

$(VENV)/draft.installed: requirements-draft.txt constraints.txt | $(PY)
	@echo "Installing the draft engine and the page into $(VENV): 1.1 GB, a few minutes, once."
	@started=$$(date +%s) && $(INSTALL) -r requirements-draft.txt && echo $$(( $$(date +%s) - started )) > $@

$(VENV)/test.installed: $(VENV)/full.installed requirements-test.txt
	@echo "Installing what the tests need."
	@started=$$(date +%s) && $(INSTALL) -r requirements-test.txt && echo $$(( $$(date +%s) - started )) > $@

# One test in one process, which takes all of them in: what is not compiled yet, modules by Python and loops of librosa
# by numba, each of several processes that begin at once would compile for itself.
$(VENV)/test.compiled: $(VENV)/test.installed
	@echo "Compiling what the tests import, once."
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 0 -k test_every_frame_is_cut_from_one_chunk && touch $@

$(VENV)/full.installed: $(VENV)/draft.installed requirements.txt
	@echo "Installing the avatar engine's packages: several gigabytes, once."
	@started=$$(date +%s) && $(INSTALL) -r requirements.txt && echo $$(( $$(date +%s) - started )) > $@

$(VENV)/tools.installed: locks/tools.txt | $(PY)
	@echo "Installing the release's tools into $(TOOLS)."
	@$(PY) -m venv $(TOOLS) && \
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --require-hashes \
		--only-binary :all: -r locks/tools.txt && touch $@

# A name on the PATH may be a shim that leads nowhere: an interpreter counts once it has said that it is new enough.
$(PY):
	@for python in $(PYTHON) $(if $(PYTHON),,python3 python3.13 python3.12 python3.11 python3.14 python); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			"$$python" -m venv $(VENV) && exit 0; \
			rm -rf $(VENV); \
			echo "$$python cannot make a virtual environment. On Debian or Ubuntu: apt install python3-venv"; \
			exit 1; \
		fi; \
	done; \
	echo "Python 3.11 or newer is needed$(if $(PYTHON), and $(PYTHON) is not,; none was found). Install it from"; \
	echo "https://www.python.org/downloads/ or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; \
	exit 1
