#!/usr/bin/env bash
# Install gVisor from Debian or Ubuntu and register it as the runtime `runsc` with this machine's dockerd, which reads
# that anew without a restart. Does nothing where the engine has it. RUNSC_ARGS are options instead of those chosen here.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

CONFIG=${DAEMON_JSON:-/etc/docker/daemon.json}
PIDFILE=${DOCKERD_PIDFILE:-/var/run/docker.pid}

registered() {
    local status=0
    .venv/bin/python scripts/engine_has_runtime.py runsc || status=$?
    case $status in
        0) return 0 ;;
        3) return 1 ;;
        *) exit "$status" ;;
    esac
}

# Sandboxes have no network and connect to one socket of the host. Releases before 2023 have neither systrap, which later
# ones choose by themselves, nor another platform than ptrace that runs everywhere.
arguments() {
    printf '%s\n' --network=none
    "$1" flags 2>&1 | grep -q systrap || printf '%s\n' --platform=ptrace
    if "$1" flags 2>&1 | grep -q -e '-host-uds value'; then
        printf '%s\n' --host-uds=open
    else
        printf '%s\n' --fsgofer-host-uds
    fi
}

registered && exit 0
[ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST is $DOCKER_HOST: register gVisor where that engine runs (docs/runtimes.md), or unset DOCKER_HOST"
[ -r "$PIDFILE" ] || die "no dockerd of this machine has its process id in $PIDFILE: register gVisor with your engine by hand (docs/runtimes.md)"
has runsc || { has apt-get && apt_install runsc; } || die "there is no runsc: install gVisor (https://gvisor.dev/docs/user_guide/install/), then try again"
runsc=$(command -v runsc)
# shellcheck disable=SC2046 # RUNSC_ARGS and our own options are lists of words
as_root "$PWD/.venv/bin/python" scripts/add_runtime.py "$CONFIG" runsc "$runsc" ${RUNSC_ARGS:-$(arguments "$runsc")}
say "Registered $runsc in $CONFIG; dockerd reads it anew, without a restart"
as_root kill -HUP "$(cat "$PIDFILE")"
end=$((SECONDS + 15))
until registered; do
    [ "$SECONDS" -lt "$end" ] || die "dockerd did not take up $CONFIG: see its log, and restart it"
    sleep 0.2
done
