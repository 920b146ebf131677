#!/usr/bin/env bash
# Format, clippy for every crate, and that the extension's library needs no torch library.
source "$(dirname "$0")/lib.sh"

cd "$root"
cargo fmt --all --check
# In release, as everything else is built: clippy takes the libraries' metadata from there. The
# root package on its own, because the features of its Postgres must be named.
cargo clippy --release --quiet -p persona_core -p persona_engine -p persona_tests --all-targets -- -D warnings
cargo clippy --release --quiet -p persona --all-targets --no-default-features --features "pg$PG,pg_test" -- -D warnings

library=$("$pg/bin/pg_config" --pkglibdir)/persona.so
[ -e "$library" ] || "$root/scripts/install.sh"
needed=$(readelf -d "$library" | grep NEEDED)
if grep -E 'torch|libc10|cuda' <<<"$needed"; then die "the extension's library needs a torch library"; fi
if readelf -d "$(dirname "$library")/persona/persona-check" | grep NEEDED | grep -E 'torch|libc10|cuda'; then
    die "persona-check needs a torch library"
fi
say "the extension's library and persona-check need no torch library"

if command -v shellcheck >/dev/null; then shellcheck -x -P "$root/scripts" scripts/*.sh tests/*.sh .ci/run; fi
