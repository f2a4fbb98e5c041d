# A few lines over pip: `pip install .` is all that the package itself needs.
PYTHON ?= python3
VENV ?= .venv
CLANG_FORMAT ?= clang-format-19
WORKERS ?= 2
BIN := $(VENV)/bin
SOURCES := $(shell find native kernels python CMakeLists.txt pyproject.toml README.md \
	-name '*.so' -o -name '__pycache__' -prune -o -type f -print)

.PHONY: demo test lint check-kernels kernels-all emulate-kernels simulate requests soak clean

demo: $(VENV)/.installed
	$(BIN)/rocmforge generate "Once upon a time"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell $$(git ls-files)
	$(BIN)/validate-pyproject pyproject.toml
	$(CLANG_FORMAT) --dry-run --Werror $$(git ls-files '*.cpp' '*.hpp' '*.hip')

# What the compiler makes of the GPU kernels; needs clang-19, llvm-19 and lld-19, no GPU.
check-kernels:
	$(PYTHON) tools/check_kernels.py

# The long runs, which CI does not do. Figures go to benchmarks/results.
RUN := $(shell date -u +%Y%m%d-%H%M%S)

simulate: $(VENV)/.installed-test
	$(BIN)/python tools/simulate.py --seeds $(or $(SEEDS),20000) --turns $(or $(TURNS),1000) \
		--json benchmarks/results/simulation-$(RUN).json

# Requests made from the OpenAPI document, streams that are left and SIGTERM at any moment, against
# servers of their own.
requests: $(VENV)/.installed-test
	ROCMFORGE_OPENAPI_EXAMPLES=$(or $(EXAMPLES),1000) $(BIN)/python -m pytest tests/server/test_openapi.py
	ROCMFORGE_ABORTED_STREAMS=$(or $(STREAMS),10000) $(BIN)/python -m pytest tests/server/test_aborted_streams.py
	ROCMFORGE_SIGTERM_POINTS=$(or $(POINTS),200) $(BIN)/python -m pytest tests/server/test_sigterm.py

soak: $(VENV)/.installed-test
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),30) \
		--json benchmarks/results/soak-$(RUN).json

# The same for all targets that the compiler knows. Some minutes.
kernels-all:
	$(PYTHON) tools/check_kernels.py all

# The kernels' tests as AMD machine code on this CPU; needs what check-kernels does, and in TINYGRAD a
# checkout of tinygrad's repository (tools/amd_emulator/machine.py names the commit). Some minutes.
emulate-kernels: $(VENV)/.installed-test
	$(BIN)/python tools/emulate_kernels.py

# The wheel is built once; the targets below install it with what each of them needs.
dist/.built: $(SOURCES) $(VENV)/.pip
	rm -rf dist
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .
	touch $@

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.installed: dist/.built
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	$(BIN)/python -m pip install --quiet dist/*.whl
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet "$$(echo dist/*.whl)[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist
