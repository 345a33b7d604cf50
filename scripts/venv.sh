#!/usr/bin/env bash
# Make .venv with the locked dependencies and this project in it. Does nothing when it is up to date.
# PYTHON names the Python to use; it has to be 3.11 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local python
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if has "$python" && usable "$python"; then
            printf '%s\n' "$python"
            return
        fi
    done
    return 1
}

stamp=".venv/installed-$(digest pyproject.toml requirements/dev.lock)"
if [ -e "$stamp" ] && .venv/bin/python -c 'import rlm_kernel' 2>/dev/null; then
    exit 0
fi

python=$(find_python) || {
    [ -z "${PYTHON:-}" ] || die "$PYTHON is not a Python 3.11 or newer with the modules venv and ensurepip"
    has apt-get || die "there is no Python 3.11 or newer with the module venv: install one, or name it with PYTHON=/path/to/python3"
    apt_install python3 python3-venv
    python=$(find_python) || die "this system's python3 is older than 3.11: install a newer one and name it with PYTHON=/path/to/python3"
}

say "Installing $(grep -c == requirements/dev.lock) locked packages into .venv with $("$python" --version)"
rm -f .venv/installed-*
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --disable-pip-version-check --only-binary :all: --require-hashes --requirement requirements/dev.lock
.venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
touch "$stamp"
