#!/usr/bin/env bash
# Measures persona beside its peers and prints one table; see tests/bench/README.md.
#
# STAGE=name[,name] chooses stages, RUNS=n how often persona and quick peers are measured, PEER_RUNS=n
# how often peers that take minutes are. BENCH_PYTHON=PATH is a Python that has the peers already.
source "$(dirname "$0")/lib.sh"

bench=$root/tests/bench
peers=$deps/bench

# The peers come from PyPI alone, into a virtual environment, or where Python
# cannot make one into a folder of packages.
get_peers() {
    local version
    version="$(sha256sum <"$bench/requirements.txt" | cut -c1-16) for $(python3 --version)"
    [ "$(cat "$deps/stamps/bench" 2>/dev/null)" = "$version" ] && return
    step "the peers (6 GB): $(grep -cv '^#' "$bench/requirements.txt") packages and what they need"
    rm -rf "$peers" "$peers.part"
    local python=python3 into=()
    if python3 -m venv "$peers.part" 2>/dev/null; then
        python=$peers.part/bin/python
    else
        rm -rf "$peers.part"
        into=(--target "$peers.part/packages")
    fi
    "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore "${into[@]}" \
        -r "$bench/requirements.txt" || die "could not install the peers"
    mv "$peers.part" "$peers"
    mkdir -p "$deps/stamps"
    printf %s "$version" >"$deps/stamps/bench"
}

if [ -z "${BENCH_PYTHON:-}" ]; then
    get_peers
    BENCH_PYTHON=$peers/bin/python
    if [ ! -x "$BENCH_PYTHON" ]; then
        BENCH_PYTHON=$(command -v python3)
        export PYTHONPATH=$peers/packages
    fi
fi
"$root/scripts/install.sh"
as_server test -x "$pg/bin/postgres" || die "$pg is not there for user $user: run make deps"

IFS=, read -ra stages <<<"${STAGE:-}"
export PERSONA_PG_BIN=$pg/bin RUN_AS=$user PYTHONDONTWRITEBYTECODE=1
exec "$BENCH_PYTHON" "$bench/bench.py" --runs "${RUNS:-3}" --peer-runs "${PEER_RUNS:-1}" \
    --out "$target/bench" "${stages[@]}"
