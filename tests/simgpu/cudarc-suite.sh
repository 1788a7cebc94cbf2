#!/usr/bin/env bash
# Runs cudarc's own unit tests of its driver module against the simulator.
#
#   cudarc-suite.sh DIR [test filter]
#
# DIR gets a copy of cudarc's sources from cargo's registry, and its build. TESSERA_CUDA_TOOLKIT names a folder that
# toolkit.sh has made. SIMGPU_LIBRARY names the library; without it, it is built.
set -euo pipefail

if [ $# -lt 1 ] || [ -z "${TESSERA_CUDA_TOOLKIT:-}" ]; then
    echo "usage: TESSERA_CUDA_TOOLKIT=... $0 DIR [test filter]" >&2
    exit 2
fi
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1"
dir="$(cd "$1" && pwd)"

if [ -z "${SIMGPU_LIBRARY:-}" ]; then
    cargo build --release --manifest-path "$here/Cargo.toml" --target-dir "$dir/simgpu"
    SIMGPU_LIBRARY="$dir/simgpu/release/libcuda.so"
fi

cargo fetch --manifest-path "$here/Cargo.toml"
source="$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -type d -name cudarc-0.19.10 | head -n 1)"
if [ ! -d "$dir/cudarc" ]; then
    cp -r "$source" "$dir/cudarc"
    chmod -R u+w "$dir/cudarc"
fi
mkdir -p "$dir/lib"
cp "$SIMGPU_LIBRARY" "$dir/lib/libcuda.so.1"
ln -sf libcuda.so.1 "$dir/lib/libcuda.so"
ln -sf "$TESSERA_CUDA_TOOLKIT/nvrtc/lib/libnvrtc.so.12" "$dir/lib/libnvrtc.so"

cd "$dir/cudarc"
export LD_LIBRARY_PATH="$dir/lib:$TESSERA_CUDA_TOOLKIT/nvrtc/lib"
cargo test --lib --target-dir "$dir/target" --no-default-features \
    --features std,driver,nvrtc,dynamic-loading,cuda-12090 \
    -- --test-threads=1 "${2:-driver::}"
