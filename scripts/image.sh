#!/usr/bin/env bash
# Build the sandbox image if its inputs have changed. Where no registry answers, that takes mmdebstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

NO_BASE=23 # the exit status of rlm-kernel for ImageMissing

status=0
.venv/bin/rlm-kernel image build || status=$?
if [ "$status" -eq "$NO_BASE" ] && ! has mmdebstrap && has apt-get; then
    apt_install mmdebstrap debian-archive-keyring uidmap
    exec .venv/bin/rlm-kernel image build
fi
exit "$status"
