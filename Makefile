# make demo   a zone of three nodes on this machine, two tenants, a tour
# make test   everything that is checked; as root, on a bare Debian 12 too
# make lint   style and types only
# make bpf    compile the datapath, regenerate daemon/abi.py
# make bench  the side-by-side measurements, results in bench/results/
# make clean

VENV := .venv
BIN := $(VENV)/bin
CLANG ?= clang
BPF_INCLUDE = -I/usr/include/$(shell gcc -print-multiarch)
# Unused parameters: the kernel fixes the signatures of callbacks.
BPF_CFLAGS = -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Werror $(BPF_INCLUDE)
BPF_SOURCES := $(wildcard bpf/*.bpf.c bpf/lib/*.h)
APT_FLAGS := -y -qq --no-install-recommends

.PHONY: demo test lint bpf bench clean setup

demo: setup
	$(BIN)/python -m plumctl demo

test: lint
	$(BIN)/python -m pytest -q

lint: setup
	$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	$(BIN)/mypy
	clang-format --dry-run -Werror $(BPF_SOURCES)
	for header in bpf/lib/*.h; do \
		echo "#include \"$$header\"" | $(CLANG) $(BPF_CFLAGS) -Wno-unused-function -I. -x c -fsyntax-only - || exit 1; \
	done

bpf: bpf/plum.bpf.o daemon/abi.py

bench: setup
	$(BIN)/python -m bench.run

setup: .stamps/apt .stamps/venv bpf

# A stamp is written only when its step has succeeded, so an interrupted run goes on where it was.
.stamps/apt: packaging/apt.txt
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install $(APT_FLAGS) $$(cat packaging/apt.txt)
	mkdir -p .stamps && touch $@

.stamps/venv: pyproject.toml .stamps/apt bpf/plum.bpf.o
	/usr/bin/python3 -m venv $(VENV)
	$(BIN)/pip install -q --editable '.[dev]'
	touch $@

bpf/plum.bpf.o: $(BPF_SOURCES) .stamps/apt
	$(CLANG) $(BPF_CFLAGS) -c bpf/plum.bpf.c -o $@

daemon/abi.py: bpf/generate_abi.py bpf/lib/abi.h bpf/lib/drops.h bpf/lib/stages.h bpf/lib/maps.h
	/usr/bin/python3 bpf/generate_abi.py

clean:
	rm -rf $(VENV) .stamps build dist *.egg-info bpf/*.o bench/load/build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
