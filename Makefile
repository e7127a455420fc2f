# On Debian 12, as root. Every target sets up what it needs: Debian packages, .venv, bpffs,
# compiled programs. All of it may be interrupted and run again.
PYTHON := /usr/bin/python3
PY := .venv/bin/python
READY := .venv/plum-ready
BPF_SOURCES := $(wildcard bpf/*.bpf.c bpf/lib/*.h) bpf/compile.py bpf/generate_abi.py

.NOTPARALLEL:
.PHONY: help demo test lint bpf deb test-deb bench bench-scale faults clean test-clean packages \
	test-packages bpffs
help:
	@echo "make demo        a zone of three nodes on this machine, and what it can do"
	@echo "make test        lint and all tests"
	@echo "make lint        ruff, mypy, clang-format, each BPF header by itself"
	@echo "make bpf         compile the BPF programs, generate daemon/abi.py"
	@echo "make bench       measure against other ways to do it (ARGS=--quick)"
	@echo "make bench-scale a thousand simulated nodes on one store, in ten minutes (ARGS=--quick)"
	@echo "make faults      kill, pause, cut off and starve a zone for a while (ARGS='--faults 200')"
	@echo "make deb         the Debian package, in build/deb/"
	@echo "make test-deb    build it and try it on an emulated Debian 12 (minutes)"
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

test-deb: deb test-packages bpf
	PLUM_DEB=$$(ls -t $(CURDIR)/build/deb/*.deb | head -n 1) $(PY) -m pytest -q tests/packaging $(ARGS)

bench: test-packages $(READY) bpf bpffs
	$(MAKE) -C bench/load
	$(PY) -m bench.run $(ARGS)

bench-scale: test-packages $(READY) bpf
	$(PY) -m bench.scale $(ARGS)

faults: test-packages $(READY) bpf bpffs
	$(PY) -m tests.faults $(ARGS)

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
