#!/usr/bin/env bash
# Removes what was built: clean.sh; and also the server's data and .deps: clean.sh all
source "$(dirname "$0")/lib.sh"

for PG in 16 18; do PG=$PG "$root/scripts/server.sh" stop; done
rm -rf "$root/target"
if [ "${1:-}" = all ]; then
    rm -rf "$run" "$deps"
fi
