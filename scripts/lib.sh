# shellcheck shell=bash
# Functions for the other scripts; sourced, not run.

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# sudo asks on the terminal itself, so what matters is whether there was one when the script began.
[ -t 0 ] && TERMINAL=yes || TERMINAL=no

# Run a command as root: directly, through sudo, or not at all. Without a terminal sudo may not ask for a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif ! has sudo; then
        die "this needs root: run it as root, or install sudo: $*"
    elif [ "$TERMINAL" = yes ]; then
        sudo "$@"
    else
        sudo -n true 2>/dev/null || die "this needs root, and sudo asks for a password: run it yourself: $*"
        sudo -n "$@" </dev/null
    fi
}

has() { command -v "$1" >/dev/null; }

# Install Debian packages, after saying which, and without ever asking a question. Stale package lists may do, so a
# mirror that fails ends nothing by itself.
apt_install() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -q)
    say "Installing with apt: $*"
    as_root "${apt[@]}" update </dev/null || true
    as_root "${apt[@]}" -y --no-install-recommends install "$@" </dev/null || die "apt could not install $*; its words are above"
}

# Print a number for the contents of the given files, with what every system has.
digest() { cat "$@" | cksum | cut -d' ' -f1; }
