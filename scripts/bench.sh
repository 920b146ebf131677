#!/usr/bin/env bash
# Measures what a user waits for: scan and sequencing, a new connection, a backend's first call.
source "$(dirname "$0")/lib.sh"

cd "$root"
"$root/scripts/install.sh"

step "sequencing alone, without Postgres"
cargo run --quiet --release -p persona_core --example sequence

step "scan and sequencing of the Complete Journey (1,469,307 lines)"
"$root/scripts/server.sh" start >/dev/null
server=$(DB=demo "$root/scripts/server.sh" conninfo)
if "$pg/bin/psql" -XAtd "$server" -c "SELECT 1 FROM persona.sources WHERE source = 'purchases'" 2>/dev/null | grep -q 1; then
    # Once to warm the table up, then what counts.
    for _ in 1 2 3; do
        "$pg/bin/psql" -Xd "$server" -c '\timing on' \
            -c 'SELECT count(product_id), sum(sales_value), max(transaction_timestamp) FROM transactions' \
            -c "SELECT * FROM persona.check_source('purchases') WHERE finding = 'rows'"
    done
else
    say "skipped: run make demo first, which loads it"
fi

step "connections and first calls"
PERSONA_PG_BIN=$pg/bin RUN_AS=$user cargo test --quiet --release -p persona_tests --test connections -- \
    --nocapture --test-threads=1

if [ -x "$root/tests/bench/run.sh" ]; then "$root/tests/bench/run.sh"; fi
