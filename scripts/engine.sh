#!/usr/bin/env bash
# See to it that a container engine answers: the one that DOCKER_HOST or the Docker context names, else one on this
# machine, installed from Debian or Ubuntu if need be. DOCKERD_ARGS adds options to a dockerd that is started here, and
# DOCKERD_LOG names its log.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

LOG=${DOCKERD_LOG:-/var/log/rlm-kernel-dockerd.log}

# Ask through the code that the program uses later: contexts, TLS and a missing docker command included.
answers() {
    local status=0
    .venv/bin/python scripts/engine_answers.py || status=$?
    case $status in
        0) return 0 ;;
        3 | 142) return 1 ;; # 142: by SIGALRM
        *) exit "$status" ;;
    esac
}

# Wait at most $1 seconds, and no longer than the process $2 lives, if it is named.
wait_for_answer() {
    local end=$((SECONDS + $1))
    until answers; do
        allow_this_user
        [ "$SECONDS" -lt "$end" ] && [ -d "/proc/${2:-self}" ] || return 1
        printf '    waiting for the engine, %d s left\n' $((end - SECONDS))
        sleep 1
    done
}

refuse_foreign_engine() {
    [ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST is $DOCKER_HOST, and no engine answers there: start it, or unset DOCKER_HOST to use one on this machine"
    [ "$(uname -s)" = Linux ] || die "no container engine answers: start Docker Desktop, Colima or Podman's machine, then try again"
}

# Where an engine of this machine's lets only root and the group docker in, let this user in too, until it starts anew.
allow_this_user() {
    local socket=/var/run/docker.sock user
    { [ -S "$socket" ] && [ ! -w "$socket" ]; } || return 0
    user=$(id -un)
    say "Letting $user use $socket until the engine starts anew; whoever uses it is as good as root (\`sudo usermod -aG docker $user\` makes it lasting, rootless Docker or Podman through DOCKER_HOST avoids it)"
    has setfacl || ! has apt-get || apt_install acl
    as_root setfacl --modify "user:$user:rw" "$socket" || die "$user may not use $socket: see the line above"
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

# True if a dockerd lives, or another one's bridge is there: one that is started with --bridge=none deletes docker0.
bridge_is_in_use() {
    [ "$FOUND_BRIDGE" = yes ] || grep -qx dockerd /proc/[0-9]*/comm 2>/dev/null
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
    start_in_background && return
    # Sessions have no network, so an engine that can't set up its own will do.
    ! bridge_is_in_use && start_in_background --bridge=none --iptables=false --ip6tables=false
}

answers && exit 0
refuse_foreign_engine
allow_this_user
[ -e /sys/class/net/docker0 ] && FOUND_BRIDGE=yes || FOUND_BRIDGE=no
has dockerd || [ -x /usr/sbin/dockerd ] || install_engine
answers || start_engine ||
    die "the engine does not start; its last words are above. Once \`docker version\` shows a server, try again; an engine elsewhere will do too: set DOCKER_HOST"
say "The engine answers"
