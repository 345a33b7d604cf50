#!/usr/bin/env bash
# See to it that a container engine answers: the one that DOCKER_HOST or the Docker context names, else one on this
# machine, installed from Debian or Ubuntu if need be. DOCKERD_ARGS adds options to a dockerd that is started here.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

LOG=/var/log/rlm-kernel-dockerd.log

# Ask through the code that the program uses later: contexts, TLS and a missing docker command included.
answers() {
    local status=0
    timeout 30 .venv/bin/python scripts/engine_answers.py || status=$?
    case $status in
        0) return 0 ;;
        3 | 124) return 1 ;;
        *) exit "$status" ;;
    esac
}

# Wait at most $1 seconds, and no longer than the process $2 lives, if it is named.
wait_for_answer() {
    local end=$((SECONDS + $1))
    until answers; do
        refuse_without_permission
        [ "$SECONDS" -lt "$end" ] && [ -d "/proc/${2:-self}" ] || return 1
        printf '    waiting for the engine, %d s left\n' $((end - SECONDS))
        sleep 1
    done
}

refuse_foreign_engine() {
    [ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST is $DOCKER_HOST, and no engine answers there: start it, or unset DOCKER_HOST to use one on this machine"
    [ "$(uname -s)" = Linux ] || die "no container engine answers: start Docker Desktop, Colima or Podman's machine, then try again"
}

refuse_without_permission() {
    local socket=/var/run/docker.sock
    if [ -S "$socket" ] && [ ! -w "$socket" ]; then
        die "an engine is here, but $(id -un) may not use $socket: run \`sudo usermod -aG docker $(id -un)\`, log in again, and repeat this (members of that group are as good as root); or use rootless Docker or Podman through DOCKER_HOST"
    fi
}

install_engine() {
    local packages=(docker.io ca-certificates iptables mmdebstrap debian-archive-keyring uidmap)
    # With AppArmor in the kernel, the engine can't start a container without its parser.
    [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" != Y ] || packages+=(apparmor)
    has apt-get || die "no container engine answers and this is not Debian or Ubuntu: install Docker or Podman (https://docs.docker.com/engine/install/), start it, then try again"
    apt_install "${packages[@]}"
}

# Start dockerd apart from this terminal, with the options given, and wait until it answers.
start_in_background() {
    local pid
    say "Starting dockerd in the background, log in $LOG"
    # shellcheck disable=SC2016,SC2086 # the inner shell expands $0 and $@; DOCKERD_ARGS is a list of words
    pid=$(as_root sh -c 'setsid dockerd "$@" >"$0" 2>&1 </dev/null & echo $!' "$LOG" "$@" ${DOCKERD_ARGS:-})
    wait_for_answer 60 "$pid" && return
    as_root tail -n 20 "$LOG" >&2
    return 1
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        say "Starting the engine with systemd"
        as_root systemctl start docker && wait_for_answer 60 && return
        as_root journalctl --no-pager -u docker -n 20 >&2 || true
        return 1
    fi
    if [ -x /etc/init.d/docker ] && [ -z "${DOCKERD_ARGS:-}" ]; then
        say "Starting the engine with its init script"
        as_root service docker start && wait_for_answer 20 && return
    fi
    # Sessions have no network, so an engine that can't set up its own will do.
    start_in_background || start_in_background --bridge=none --iptables=false --ip6tables=false
}

answers && exit 0
refuse_foreign_engine
refuse_without_permission
has dockerd || [ -x /usr/sbin/dockerd ] || install_engine
answers || start_engine || {
    refuse_without_permission
    die "the engine does not start; its last words are above. Once \`docker version\` shows a server, try again; an engine elsewhere will do too: set DOCKER_HOST"
}
say "The engine answers"
