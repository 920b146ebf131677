#!/usr/bin/env bash
# Builds the engine, and the extension as a package for one Postgres: build.sh [PG_CONFIG]
source "$(dirname "$0")/lib.sh"

pg_config=$(readlink -f "$(command -v "${1:-$pg/bin/pg_config}")") || die "no such program: ${1:-}"
major=$("$pg_config" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
# A Postgres of the user's own is not in cargo-pgrx's list: this names it, and its headers are read.
[ "$pg_config" = "$pg/bin/pg_config" ] || export PGRX_PG_CONFIG_PATH=$pg_config

cd "$root"
cargo build --release -p persona_engine
cargo pgrx package --package persona --pg-config "$pg_config" --no-default-features --features "pg$major"
