#!/usr/bin/env bash
# AArch64's kernels, compiled for it and run by an emulator: their sums are those of double precision, and have the bits of
# AVX2's, whose products are fused as well.
# usage: neon.sh ROOT SUMS      SUMS: product_sums as this machine runs it; exit 77: no compiler or emulator here
set -euo pipefail
root=$1 sums=$2
cc=$(command -v aarch64-linux-gnu-gcc) || exit 77
emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || exit 77
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gemm=$root/core/gemm
"$cc" -O2 -std=c17 -D_GNU_SOURCE -ffp-contract=off -fopenmp -static -Wall -Wextra -I "$root" -o "$dir/sums" \
  "$root/tests/core/product_sums.c" "$root/core/dtype.c" "$gemm"/{isa,product,ranges,kernels_plain,kernels_neon}.c -lm
expected=$("$sums" avx2) || { [ $? = 77 ] || exit 1; expected=unknown; }
for threads in 1 3; do
  found=$(OMP_NUM_THREADS=$threads "$emulator" "$dir/sums" neon) || { echo "$found"; exit 1; }
  [ "$expected" = unknown ] || [ "$found" = "$expected" ] || { echo "neon $found, avx2 $expected"; exit 1; }
done
OMP_NUM_THREADS=1 "$emulator" "$dir/sums" plain
