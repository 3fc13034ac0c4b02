# make demo | test | check | bench: each sets up what it needs. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A process for each core; tests of one file share what they have trained. A crashed process ends the run, which would
# otherwise wait for ever.
SPREAD := -n auto --dist loadfile --max-worker-restart 0

.PHONY: demo test test-all check docs release audit mutate bench torture simulate lock clean

demo: $(READY) ## a verdict table from real trainings on bundled data
	$(BIN)/guardclash run studies/digits.toml
	$(BIN)/guardclash report studies/digits.toml -o runs/digits.html

test: $(READY) ## the fast tests
	$(BIN)/python -m pytest -q $(SPREAD)

test-all: $(READY) ## the slow ones too
	$(BIN)/python -m pytest -q $(SPREAD) -m "not gpu"

check: $(READY) ## format, lint, types, and that the numbers in the docs are those of the records
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/python tools/printed.py

docs: $(READY) ## the documentation site, in site/; built offline, and any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

release: ## builds dist/, tries the wheel on each Python at hand, says what is left for a person; some minutes
	$(PYTHON) tools/release.py

audit: ## known faults of the packages in constraints.txt; needs the network, so it is no part of check
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt # strict: unknown is no pass

mutate: $(READY) ## mistakes that tests must notice; make mutate MUTANTS="--limit 50" plants any others too
	$(BIN)/python tools/mutate.py $(or $(MUTANTS),--named)

bench: $(READY) ## side-by-side timings against other libraries
	$(BIN)/python benchmarks/dpsgd_step.py
	$(BIN)/python benchmarks/adversarial_step.py
	$(BIN)/python benchmarks/marking.py
	$(BIN)/python benchmarks/dataset_inference.py
	$(BIN)/python benchmarks/adaptive_replicates.py
	$(BIN)/python benchmarks/large_study.py

torture: $(READY) ## kills, full disks, flipped bits, runs at once and mechanisms that do their worst; about ten minutes
	$(BIN)/python tools/torture.py

simulate: $(READY) ## how often verdicts are wrong, by simulation: record, figure and tables of docs/trust.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/verdict_errors.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)

lock: ## writes constraints.txt from the newest versions that fit pyproject.toml
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet -e ".[dev]"
	{ echo "# Exact versions that make uses; written by 'make lock'."; \
	  $(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.txt
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-audit .pytest_cache .mypy_cache .ruff_cache .hypothesis
