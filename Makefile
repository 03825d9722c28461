# The two commands: make demo, make test. Both make their own virtual environment first; a second call reuses it.
PYTHON ?= python3.11
VENV ?= .venv
# The address of a wheel index for another torch build (CPU only, another CUDA): see the selector on https://pytorch.org/get-started
TORCH_INDEX ?=
# A folder of MineRL recordings (or videos) to pretrain on instead of the voxel world's frames.
RECORDINGS ?=
DEMO ?= runs/demo$(if $(RECORDINGS),-recordings)
export RECORDINGS DEMO
BIN := $(VENV)/bin

.PHONY: setup minerl check demo test test-extended lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@echo "compiling the voxel world once"
	$(BIN)/python -c 'import envs.voxel.env'
	touch $@

# The Python side of minerl 0.4.4, for its environments' client and to compare with its loader; Java and Minecraft stay out.
minerl: setup
	READTHEDOCS=1 $(BIN)/python -m pip install --quiet --no-deps --requirement requirements-minerl.txt
	$(BIN)/python -W ignore -c 'import minerl.data; print("minerl 0.4.4 is installed")'

# Another interpreter that has minerl, for `make check`.
MINERL_PYTHON ?=

check: setup
	@$(BIN)/python check_setup.py $(if $(MINERL_PYTHON),--python "$(MINERL_PYTHON)") $(if $(RECORDINGS),--recordings "$$RECORDINGS")

demo: setup
	$(BIN)/python demo.py --run "$$DEMO" $(if $(RECORDINGS),--recordings "$$RECORDINGS")

# as many processes as there are cores; tests that start Ray share one of them
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

# Tests that start Ray several times: whole commands that are stopped, killed and given again.
test-extended: setup
	$(BIN)/python -m pytest -m extended

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
