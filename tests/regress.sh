#!/usr/bin/env bash
# Runs tests/pg_regress by Postgres' own pg_regress, against a cluster of its own that ends with it.
source "$(dirname "$0")/../scripts/lib.sh"

cases=()
for file in "$root"/tests/pg_regress/sql/*.sql; do
    [ -e "$file" ] || die "there are no tests in tests/pg_regress/sql"
    cases+=("$(basename "$file" .sql)")
done

home=$(mktemp -d /tmp/persona-XXXXXX)
if am_root; then chown "$user:" "$home"; fi
out=$target/pg_regress-$PG
mkdir -p "$out"

finish() {
    as_server "$pg/bin/pg_ctl" -D "$home/data" -m fast -w stop >/dev/null 2>&1 || true
    cp "$home/log" "$out/server.log" 2>/dev/null || true
    rm -rf "$home"
}
trap finish EXIT

as_server "$pg/bin/initdb" -D "$home/data" -U postgres --auth=trust --no-sync --encoding=UTF8 --locale=C.UTF-8 \
    >"$out/initdb.log"
as_server "$pg/bin/pg_ctl" -D "$home/data" -l "$home/log" -w -t 60 start >/dev/null -o \
    "-k $home -c listen_addresses= -c fsync=off -c shared_preload_libraries=persona"

# The database is made anew with the settings that the expected files were made with.
"$pg/bin/psql" -Xqh "$home" -U postgres -c 'CREATE DATABASE regression'
"$pg/bin/psql" -Xqh "$home" -U postgres -d regression -v ON_ERROR_STOP=1 -f "$root/tests/pg_regress/setup.sql"
# The driver is 16's for every server: it only calls psql, and the package's own for 18 does not start.
"$(readlink -f "$deps/pg/16")/lib/postgresql/pgxs/src/test/regress/pg_regress" --use-existing --bindir="$pg/bin" --dbname=regression \
    --host="$home" --port=5432 --user=postgres --inputdir="$root/tests/pg_regress" --outputdir="$out" \
    "${cases[@]}" || {
    cat "$out/regression.diffs" 2>/dev/null
    exit 1
}
