# Sourced by the scripts beside it: where things are, and how to become the server's user.
# shellcheck shell=bash disable=SC2034
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
deps=$root/.deps
target=${CARGO_TARGET_DIR:-$root/target}
PG=${PG:-16}

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }
am_root() { [ "$(id -u)" = 0 ]; }

case $PG in
    16 | 18) ;;
    *) die "PG=$PG is not in the embedded package; it has 16 and 18" ;;
esac

# Where HOME is not the home that Rust was installed under, its own launcher needs to be told.
toolchain=$(dirname "$(command -v cargo || echo /usr/bin/cargo)")/../..
if [ -z "${RUSTUP_HOME:-}" ] && [ ! -d "${HOME:-/nonexistent}/.rustup" ] && [ -d "$toolchain/.rustup" ]; then
    RUSTUP_HOME=$(cd "$toolchain/.rustup" && pwd -P)
    export RUSTUP_HOME
fi

# One environment for every build, so that no command rebuilds what another one built.
export LIBTORCH=$deps/torch
export PGRX_HOME=$deps/pgrx
export CPATH=$deps/include
export PATH=$deps/cargo/bin:$PATH
export CARGO_BUILD_JOBS=${JOBS:-$(nproc)}
export CARGO_TERM_PROGRESS_WHEN=${CARGO_TERM_PROGRESS_WHEN:-never}
# The linker keeps pgrx's schema section by itself (binutils 2.36 and later). The workaround sets
# compiler flags for `cargo pgrx` alone, and everything would be compiled twice.
export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1

# A server never runs as root: root becomes this user for everything that a server does.
user=$(id -un)
if am_root; then user=${RUN_AS:-nobody}; fi

as_server() {
    if am_root; then
        (cd / && exec setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups \
            env -i PATH="$PATH" LANG=C.UTF-8 "$@")
    else
        "$@"
    fi
}

# Whether the server's user can read this checkout; a clone in root's home is out of its reach.
reachable() { as_server test -r "$root/Makefile"; }

# The folder for data, sockets and logs: .run, or one under /var/tmp where the server's user cannot
# go there or a socket's path would be too long (107 bytes are the most that a socket may have).
run=$root/.run
if [ ${#run} -gt 70 ] || ! reachable; then
    run=/var/tmp/persona-$(printf %s "$root" | sha256sum | cut -c1-12)
fi

# Makes $run; a folder that somebody else put in its place is refused.
make_run() {
    [ -d "$run" ] || mkdir -m 0755 "$run"
    [ ! -L "$run" ] && [ "$(stat -c %u "$run")" = "$(id -u)" ] || die "$run belongs to somebody else"
}

# The embedded Postgres as real paths: its programs find their libraries relative to themselves.
pg=$(readlink -m "$deps/pg/$PG")
