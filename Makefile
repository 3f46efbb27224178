# Two commands to know: `make demo` and `make test`. Both need only Python >= 3.11 and a C++ compiler.
#
# PyPI's torch for Linux is the CUDA build, of several GB. PyTorch's own index has a small CPU build:
#     PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROMPT ?= a red mushroom
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The package is installed as users install it, not in place, so that what is tested is what is shipped, including the
# compiled kernel and the weights. Changing any source file installs it again (the kernel's build is kept).
SOURCES := pyproject.toml constraints/cpu.txt $(wildcard README.md CMakeLists.txt) \
           $(shell find src -type f -not -path '*/__pycache__/*' -not -name '*.so' -not -name '.*')
INSTALL = @echo "Installing into $(VENV): a minute or two the first time." && \
          $(BIN)/python -m pip install --quiet -c constraints/cpu.txt

.PHONY: help demo test test-slow peers sanitize lint format type weights bench clean
help:  ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/installed  ## Make "a red mushroom" (or PROMPT="a blue car") in demo/.
	$(BIN)/dreamsplat generate "$(PROMPT)" --out demo --overwrite
	@echo "Open demo/preview.png and the turntable; demo/asset.ply opens in any Gaussian splat viewer."

# The tests of a file stay together, on one core: they share models and runs.
test: $(VENV)/installed-dev  ## Run the test suite on all cores; needs no network and no GPU.
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_FLAGS)

test-slow: $(VENV)/installed-dev  ## Run the tests marked slow.
	$(BIN)/python -m pytest -m slow -n auto --dist loadfile $(PYTEST_FLAGS)

peers:  ## Install the Node programs that file formats are tested against (Node >= 20).
	npm ci --prefix tools/peers --no-audit --no-fund

# The stress program is compiled by itself: Python and torch do not run under sanitizers.
SANITIZE := -std=c++17 -O1 -g -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-sanitize-recover=all -pthread
sanitize:  ## Run the rasteriser under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.
	@mkdir -p build
	$(CXX) $(SANITIZE) -fsanitize=address,undefined,float-cast-overflow tests/rasteriser_stress.cpp -o build/stress-address
	build/stress-address 150
	$(CXX) $(SANITIZE) -fsanitize=thread tests/rasteriser_stress.cpp -o build/stress-thread
	build/stress-thread 150

lint: $(VENV)/installed-dev  ## Check style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed-dev  ## Fix style and formatting where that can be automated.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(VENV)/installed-dev  ## Check types (pyright runs on Node, and downloads it where there is none).
	$(BIN)/pyright --pythonpath $(BIN)/python

weights: $(VENV)/installed-dev  ## Train both bundled models, or continue their training.
	$(BIN)/dreamsplat train-world volume
	$(BIN)/dreamsplat train-world image

bench: $(VENV)/installed-dev  ## Measure quality and speed.
	$(BIN)/python benchmarks/quality.py

clean:  ## Remove the virtual environment and the build.
	rm -rf $(VENV) build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(BIN)/python
	$(INSTALL) ".[video,mesh]"
	@touch $@

$(VENV)/installed-dev: $(SOURCES) | $(BIN)/python
	$(INSTALL) ".[dev]"
	@touch $(VENV)/installed $@
