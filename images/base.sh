#!/bin/sh
# Write the tar of a minimal Debian with the Python of the sandbox image to the file $1, for the architecture $2 (Debian's
# name). Used where no registry answers. DEBIAN_MIRROR names another mirror.
set -eu
umask 022

if ! command -v mmdebstrap >/dev/null; then
    echo "images/base.sh: mmdebstrap is missing; on Debian or Ubuntu: apt-get install mmdebstrap debian-archive-keyring" >&2
    exit 127
fi

# bookworm is the release whose python3 is 3.11, the minor version of python:3.11-slim-bookworm.
exec mmdebstrap \
    --variant=essential \
    --include=python3,libstdc++6 \
    --architectures="$2" \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --format=tar \
    bookworm "$1" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
