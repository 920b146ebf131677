#!/usr/bin/env bash
# Builds persona and installs it into a Postgres: install.sh [PG_CONFIG]
# `install.sh --engine PG_CONFIG` installs the engine alone, built before.
source "$(dirname "$0")/lib.sh"

only_engine=0
if [ "${1:-}" = --engine ]; then only_engine=1; shift; fi
pg_config=$(readlink -f "$(command -v "${1:-$pg/bin/pg_config}")") || die "no such program: ${1:-}"
[ $only_engine = 1 ] || "$root/scripts/build.sh" "$pg_config"

library=$("$pg_config" --pkglibdir)
share=$("$pg_config" --sharedir)/extension
major=$("$pg_config" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
package=$target/release/persona-pg$major
sudo=
[ -w "$library" ] && [ -w "$share" ] || sudo=sudo

# put FILE FOLDER [HOW]: copies (or links) a file that differs. A running server may have the old
# one mapped: it keeps that, and the new one takes the name in one step.
put() {
    local new=$2/${1##*/}
    if [ "$1" -ef "$new" ] || cmp -s "$1" "$new"; then return; fi
    if [ "${3:-copy}" != link ] || ! $sudo ln -f "$1" "$new.new" 2>/dev/null; then
        $sudo cp -f "$1" "$new.new"
    fi
    $sudo chmod a+rX "$new.new"
    $sudo mv -f "$new.new" "$new"
}

# The embedded Postgres gets links to libtorch (440 MB) instead of copies.
how="copy"
case $pg_config in "$(readlink -f "$deps/pg")"/* | "$run"/*) how="link" ;; esac

$sudo mkdir -p "$library/persona/lib" "$library/persona/cuda"
put "$target/release/persona-engine" "$library/persona"
put "$target/release/persona-check" "$library/persona"
for file in "$LIBTORCH"/lib/*; do
    [ -L "$file" ] || put "$file" "$library/persona/lib" $how
done
# The engine asks for libtorch.so, which is the CPU half under another name.
$sudo ln -sfn libtorch_cpu.so "$library/persona/lib/libtorch.so"
# The CUDA half is of use only with CUDA's own libraries, which `make deps CUDA=1` brings.
if [ -e "$LIBTORCH/cuda/libcudnn.so.9" ]; then
    for file in "$LIBTORCH"/cuda/*; do put "$file" "$library/persona/cuda" $how; done
fi

if [ $only_engine = 0 ]; then
    put "$package$library/persona.so" "$library"
    for file in "$package$share"/persona*; do put "$file" "$share"; done
    say "installed into $library"
fi
