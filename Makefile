# On Debian 12, as root. Every target sets up what it needs: Debian packages, .venv, bpffs,
# compiled programs. All of it may be interrupted and run again.
PYTHON := /usr/bin/python3
PY := .venv/bin/python
READY := .venv/plum-ready
BPF_SOURCES := $(wildcard bpf/*.bpf.c bpf/lib/*.h) bpf/compile.py bpf/generate_abi.py

.NOTPARALLEL:
.PHONY: help demo test lint bpf deb bench clean test-clean packages test-packages bpffs
help:
	@echo "make demo        a zone of three nodes on this machine, and what it can do"
	@echo "make test        lint and all tests"
	@echo "make lint        ruff, mypy, clang-format, each BPF header by itself"
	@echo "make bpf         compile the BPF programs, generate daemon/abi.py"
	@echo "make bench       measure against other ways to do it (ARGS=--quick)"
	@echo "make deb         the Debian package, in build/deb/"
	@echo "make test-clean  make test and make demo on a bare Debian 12"
	@echo "make clean       remove what these made, the sandbox first"

demo: packages $(READY) bpf bpffs
	PATH="$(CURDIR)/.venv/bin:$$PATH" bash examples/demo.sh

test: lint bpffs
	CI=true $(PY) -m pytest -q $(ARGS)

lint: test-packages $(READY) bpf
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	clang-format --dry-run -Werror bpf/*.bpf.c bpf/lib/*.h
	$(PY) bpf/compile.py --headers

bpf: packages
	$(PYTHON) bpf/compile.py
	$(PYTHON) bpf/generate_abi.py

deb: packages $(READY)
	packaging/deb/build.sh $(PY) build/deb

bench: test-packages $(READY) bpf bpffs
	$(MAKE) -C bench/load
	$(PY) -m bench.run $(ARGS)

test-clean: test-packages
	bash tests/clean-machine/run.sh $(ARGS)

packages:
	@packaging/install-debian.sh run

test-packages:
	@packaging/install-debian.sh test

# A .venv without the mark was interrupted: it is made anew.
$(READY): pyproject.toml setup.py | packages
	[ -e $@ ] || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet --editable '.[dev]'
	touch $@

bpffs: packages
	@mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf

clean:
	[ ! -e $(READY) ] || .venv/bin/plumctl sandbox down
	rm -rf .venv build dist *.egg-info bpf/*.o .mypy_cache .pytest_cache .ruff_cache .hypothesis
	[ ! -e bench/load/Makefile ] || $(MAKE) -C bench/load clean
	find . -name __pycache__ -prune -exec rm -rf {} +
