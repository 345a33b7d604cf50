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
    status=0
    .venv/bin/rlm-kernel image build || status=$?
fi
# mmdebstrap needs user namespaces, or root; some systems and most containers keep users from making them.
if [ "$status" -eq "$NO_BASE" ] && [ "$(id -u)" -ne 0 ] && ! unshare --user --map-root-user --mount true 2>/dev/null; then
    say "Building the image as root, as $(id -un) can't make user namespaces"
    status=0
    as_root env PYTHONDONTWRITEBYTECODE=1 DOCKER_HOST="${DOCKER_HOST:-}" .venv/bin/rlm-kernel image build || status=$?
fi
exit "$status"
