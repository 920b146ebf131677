#!/usr/bin/env bash
# Reproduces the published table on Amazon Beauty: leave-one-out, all items ranked, seen items
# removed. The data's terms forbid copying it here: it is read from ../shared/data.
source "$(dirname "$0")/lib.sh"

events=$root/../shared/data/beauty/events.tsv.gz
if [ ! -e "$events" ]; then
    say "skipped: there is no ../shared/data/beauty"
    exit 0
fi

"$root/scripts/install.sh"
"$root/scripts/server.sh" start >/dev/null
server=$("$root/scripts/server.sh" conninfo)
server=${server%=*}
sql() { "$pg/bin/psql" -Xq -v ON_ERROR_STOP=1 -d "$server=quality" "$@"; }

"$pg/bin/psql" -Xqd "$server=postgres" -c 'SET client_min_messages = warning' \
    -c 'DROP DATABASE IF EXISTS quality WITH (FORCE)' -c 'CREATE DATABASE quality'
sql -c 'CREATE TABLE beauty (user_id int NOT NULL, seq int NOT NULL, item_id int NOT NULL)'
gunzip -c "$events" | sql -c 'COPY beauty FROM STDIN (FORMAT csv, HEADER, DELIMITER E'"'\\t'"')'
sql -f "$root/tests/quality.sql"
