#!/usr/bin/env bash
# Real MNIST with 1 % of its labels, under both protocols: about an hour on two idle cores.
# usage: mnist_one_percent.sh FOLDER_WITH_THE_FOUR_IDX_FILES [OUT]
set -euo pipefail
source=${1:?folder with train-images-idx3-ubyte and so on, plain, .gz or .xz}
out=${2:-mnist-one-percent}
tessera=${TESSERA:-cargo run --quiet --release --}
mkdir -p "$out"
data=$out/mnist.safetensors
[ -f "$data" ] || $tessera data import idx "$source" -o "$data"

split=(--labels 1% --validation 2000)
# ACAI's own rate, 1e-4, is for 2^24 images; for so few, 1e-3 gives far purer partitions.
rate=(--rate 1e-3)
for seed in 1 2 3; do
    # Partitions of the labelled images alone.
    [ -f "$out/labelled-$seed.safetensors" ] ||
        $tessera embed "$data" -o "$out/labelled-$seed.safetensors" --samples 2^15 "${rate[@]}" --pool labelled "${split[@]}" --seed $seed
    $tessera cluster "$out/labelled-$seed.safetensors" -o "$out/labelled-tasks-$seed.safetensors" --seed $seed
done
# Partitions of all training images.
[ -f "$out/all.safetensors" ] || $tessera embed "$data" -o "$out/all.safetensors" --samples 2^16 "${rate[@]}"
for seed in 1 2 3; do
    $tessera cluster "$out/all.safetensors" -o "$out/all-tasks-$seed.safetensors" --restarts 5 --seed $seed
done

common=("${split[@]}" --select last --evaluate-every 100 --seeds 3
    --tasks "$out/labelled-tasks-{seed}.safetensors" --tasks-unlabelled "$out/all-tasks-{seed}.safetensors")
$tessera study "$data" --out "$out/paper" --protocol paper \
    --methods stl,mtl,meta-mtl:paper,mtl+,meta-mtl:paper+ "${common[@]}"
$tessera study "$data" --out "$out/tuned" --protocol tuned --trial-steps 300 \
    --methods stl,mtl,meta-mtl:paper,mtl+,mtl+=random:4:10,meta-mtl:released-intended+ "${common[@]}"
