#!/usr/bin/env bash
# Install what the tests of other runtimes and of engines behind ssh need: gVisor, Podman and an sshd. Where that can't
# be, those tests are skipped and say so.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# Debian starts a server as it is installed; this one is for tests alone, which run it themselves.
install_sshd() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        apt_install openssh-server
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    apt_install openssh-server
    [ ! -d /run/systemd/system ] || as_root systemctl disable --quiet ssh.service ssh.socket || true
}

if ! has apt-get || { [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; }; then
    say "Tests of gVisor, Podman and ssh are skipped where they are not installed: that takes apt-get, as root or with sudo"
    exit 0
fi
has podman || apt_install podman uidmap slirp4netns
[ -x /usr/sbin/sshd ] || install_sshd
[ -n "${DOCKER_HOST:-}" ] || scripts/gvisor.sh
