#!/usr/bin/env bash
# Writers, refreshes, retrainings, rollbacks, readers and killed engines at once, for MINUTES, in a cluster of its own.
source "$(dirname "$0")/lib.sh"

"$root/scripts/install.sh"
cd "$root"
exec env PERSONA_PG_BIN="$pg/bin" RUN_AS="$user" MINUTES="${MINUTES:-}" \
    cargo test --release --quiet -p persona_tests --test soak -- --nocapture
