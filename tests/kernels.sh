#!/usr/bin/env bash
# The numerical tests under the matrix products of other CPUs: OpenBLAS has kernels for each family of CPUs, which add in an
# order of their own, and another number of threads divides the work at another place.
# usage: kernels.sh BUILD...     prints a line for each build, family and number of threads
set -euo pipefail
passed=0 failed=0 skipped=0

# What a CPU must have, by the names of /proc/cpuinfo, to run a family's kernels.
needs() { # FAMILY
  case $1 in
    Prescott) echo pni ;;
    Nehalem) echo pni ssse3 sse4_1 sse4_2 ;;
    Haswell | Zen) echo avx avx2 fma ;;
    SkylakeX) echo avx2 fma avx512f avx512dq avx512bw avx512vl ;;
  esac
}

lacking() { # FAMILY: what of it this CPU has not
  local flags name
  flags=$(grep -m 1 -E '^flags' /proc/cpuinfo || true)
  for name in $(needs "$1"); do
    [[ " $flags " = *" $name "* ]] || echo "$name"
  done
}

run() { # BUILD FAMILY THREADS
  local log
  log=$(mktemp)
  # As a wrapper: a test's own environment has a number of threads, which would win.
  if OPENBLAS_CORETYPE=$2 meson test -C "$1" --no-rebuild --suite numeric --wrapper "env OMP_NUM_THREADS=$3" \
    --print-errorlogs >"$log" 2>&1; then
    passed=$((passed + 1))
    printf '%-16s %-9s %s threads   all %s\n' "$1" "$2" "$3" "$(sed -nE 's/^Ok: +([0-9]+).*/\1/p' "$log")"
  else
    failed=$((failed + 1))
    cat "$log"
    printf '%-16s %-9s %s threads   FAILED\n' "$1" "$2" "$3"
  fi
  rm -f "$log"
}

for build in "$@"; do
  for family in Prescott Nehalem Haswell Zen SkylakeX; do
    lacks=$(lacking "$family" | tr '\n' ' ')
    for threads in 1 2 3; do
      if [ -z "$lacks" ]; then
        run "$build" "$family" "$threads"
      else
        skipped=$((skipped + 1))
        printf '%-16s %-9s %s threads   skipped: this CPU lacks %s\n' "$build" "$family" "$threads" "$lacks"
      fi
    done
  done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
