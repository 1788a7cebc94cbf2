#!/usr/bin/env bash
# Installs the CUDA tools that need neither a GPU nor a driver, from pinned wheels of PyPI.
#
#   toolkit.sh DEST
#
# gives DEST/nvrtc/lib/libnvrtc.so.12 (and the builtins library, which must lie beside it) and
# DEST/bin/{ptxas,nvdisasm,cuobjdump}. A second run finds everything in place and does nothing. The folder
# appears whole under its name or not at all. The downloads take about 140 MB, the result about 200 MB.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 DEST" >&2
    exit 2
fi

packages=(
    nvidia-cuda-nvrtc-cu12==12.9.86
    nvidia-cuda-nvcc-cu12==12.9.86
    nvidia-cuda-nvdisasm==13.5.37
    nvidia-cuda-cuobjdump==13.5.37
)
mkdir -p "$(dirname "$1")"
dest="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
wanted="${packages[*]}"

if [ -f "$dest/VERSIONS" ] && [ "$(cat "$dest/VERSIONS")" = "$wanted" ]; then
    exit 0
fi

work="$(mktemp -d "$dest.XXXXXX")"
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
    --target "$work/wheels" "${packages[@]}"

# The one file of this name that a wheel brought, wherever the wheel keeps it.
find_one() {
    local found
    found="$(find "$work/wheels" -name "$1" ! -name '*.alt*' -not -type d | head -n 1)"
    if [ -z "$found" ]; then
        echo "$0: no $1 in the wheels" >&2
        exit 1
    fi
    echo "$found"
}

mkdir -p "$work/whole/nvrtc/lib" "$work/whole/bin"
nvrtc="$(find_one 'libnvrtc.so.12')"
cp "$nvrtc" "$work/whole/nvrtc/lib/"
cp "$(find_one 'libnvrtc-builtins.so.12.*')" "$work/whole/nvrtc/lib/"
for tool in ptxas nvdisasm cuobjdump; do
    cp "$(find_one "$tool")" "$work/whole/bin/"
    chmod 755 "$work/whole/bin/$tool"
done
echo "$wanted" > "$work/whole/VERSIONS"

# Another process may have finished first: its folder is as good as ours.
if [ -e "$dest" ]; then
    if [ -f "$dest/VERSIONS" ] && [ "$(cat "$dest/VERSIONS")" = "$wanted" ]; then
        exit 0
    fi
    mv -T "$dest" "$work/old"
fi
mv -T "$work/whole" "$dest"
