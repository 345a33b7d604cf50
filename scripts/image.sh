#!/usr/bin/env bash
# Build the sandbox image if its inputs have changed. Where no registry answers, that takes mmdebstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

.venv/bin/rlm-kernel image build && exit 0
status=$?
if command -v mmdebstrap >/dev/null || ! command -v apt-get >/dev/null; then
    exit "$status"
fi
apt_install mmdebstrap debian-archive-keyring uidmap
exec .venv/bin/rlm-kernel image build
