# Every target makes the environment it needs; `make demo` and `make test` are all a newcomer types.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.made
# A program of its own: it holds back the cryptography that we run with.
SSLYZE := $(VENV)/sslyze

.PHONY: venv demo test bench hostile sim hunt torture fuzz lint types wheel-check check model clean

venv: $(STAMP)

# A plain `pip install -e .` hides the twistd plugin of a flat layout; the compat mode does not.
$(STAMP): setup.cfg pyproject.toml .ci/sslyze.txt
	$(PYTHON) -c 'import sys; sys.exit("timeproto needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --config-settings editable_mode=compat -e '.[dev]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --config-settings editable_mode=compat -e '.[fast]' \
	    || echo "timeproto[fast] cannot be had here: signatures are checked one by one"
	test -x $(SSLYZE)/bin/python || $(PYTHON) -m venv $(SSLYZE)
	$(SSLYZE)/bin/python -m pip install --quiet --disable-pip-version-check -r .ci/sslyze.txt
	touch $(STAMP)

demo: venv
	$(VENV)/bin/timeproto demo

# Two at a time: most of them need one processor, and one machine with two takes half as long.
JOBS ?= 2
test: venv
	$(VENV)/bin/python -m twisted.trial -j $(JOBS) tests

# Each bench for a few seconds: fails if a payment is lost, the nodes disagree, or a ratio has gone badly wrong.
bench: venv
	$(VENV)/bin/timeproto bench quick

# What a hostile crowd costs 2,000 honest wallets and the payments beside them: some minutes, on a quiet machine.
hostile: venv
	$(VENV)/bin/timeproto bench hostile

# Everything that docs/performance.md shows, measured anew: an hour or so, on a machine that does nothing else. RATES are
# loads to be shown beside the highest; QUERY_RATE is what goes on while coins are asked for.
FIGURES := docs/figures
SIZES ?= 4,7,13
RATES ?= 50,250,400
QUERY_RATE ?= 250
measured = $(VENV)/bin/timeproto bench $(1) --json $(FIGURES)/$(firstword $(1)).json --plot $(FIGURES)/$(firstword $(1)).svg
figures: venv
	$(call measured,finality --masternodes $(SIZES) --rate $(RATES) --search)
	$(call measured,notify --repeat 5)
	$(call measured,query --rate $(QUERY_RATE) --seconds 30)
	$(call measured,hostile)
	$(call measured,store)
	$(call measured,codec)
	$(call measured,step)
	$(call measured,scale)
	$(VENV)/bin/timeproto sim --wan --plot $(FIGURES)/wan.svg
	$(VENV)/bin/timeproto bench page

# A short hunt for a seed in which a promise breaks.
sim: venv
	$(VENV)/bin/timeproto sim --masternodes 4 --seeds 150
	$(VENV)/bin/timeproto sim --masternodes 7 --seeds 50

# The long one: an hour or more. It also fails if one of the rare situations never came up.
hunt: venv
	$(VENV)/bin/timeproto sim --masternodes 4 --seeds 10000 --first-seed 1000
	$(VENV)/bin/timeproto sim --masternodes 7 --seeds 10000 --first-seed 1000
	$(VENV)/bin/timeproto sim --masternodes 16 --seeds 200 --first-seed 1000

# 200 wallets dropped and resumed at random during 5,000 payments, while their node is killed; and a minute of payments
# while up to two of seven masternodes are killed every three seconds. Some minutes.
torture: venv
	$(VENV)/bin/python -m twisted.trial tests.test_processes.torture

# What the suite throws at the codec, the frames, the handlers of every message and the web port, fifty times as much.
fuzz: venv
	TIMEPROTO_FUZZ=50 $(VENV)/bin/python -m twisted.trial tests.test_fuzz tests.test_wire.test_codec \
	    tests.test_web.test_channel.Fuzz tests.test_web.test_bridge.Fuzz

lint: venv
	$(VENV)/bin/ruff check .

types: venv
	$(VENV)/bin/mypy timeproto

# Installs the built wheel into an environment of its own and asks twistd for our plugin, far from the checkout.
wheel-check: venv
	VENV=$(VENV) sh .ci/wheel-check

check: lint types test wheel-check

# Every state of voting, abort and verdict for four masternodes: docs/safety.md. Needs Debian's spin and a C compiler.
model:
	docs/model/run

clean:
	rm -rf $(VENV) build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis
