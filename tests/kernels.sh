#!/usr/bin/env bash
# The numerical tests under the matrix products of other CPUs: ours by instruction set, which the library's families stand
# beside (double precision is theirs, and all products of "plain"). Each adds in an order of its own, and another number of
# threads divides the work at another place.
# usage: kernels.sh BUILD...     prints a line for each build, set, family and number of threads
set -euo pipefail
passed=0 failed=0 skipped=0

# What a CPU must have, by the names of /proc/cpuinfo, to run a set or a family's kernels.
needs() { # SET FAMILY
  case $1 in
    avx2) echo avx2 fma ;;
    avx512) echo avx512f avx512dq avx512bw avx512vl ;;
    amx) echo avx512f avx512dq avx512bw avx512vl amx_tile amx_bf16 ;;
  esac
  case $2 in
    Prescott) echo pni ;;
    Nehalem) echo pni ssse3 sse4_1 sse4_2 ;;
    Haswell | Zen) echo avx avx2 fma ;;
    SkylakeX) echo avx2 fma avx512f avx512dq avx512bw avx512vl ;;
  esac
}

lacking() { # SET FAMILY: what of them this CPU has not
  local flags name
  flags=$(grep -m 1 -E '^flags' /proc/cpuinfo || true)
  for name in $(needs "$1" "$2"); do
    [[ " $flags " = *" $name "* ]] || echo "$name"
  done
}

run() { # BUILD SET FAMILY THREADS
  local log
  log=$(mktemp)
  # As a wrapper: a test's own environment has a number of threads, which would win.
  if KV_ISA=$2 OPENBLAS_CORETYPE=$3 meson test -C "$1" --no-rebuild --suite numeric --wrapper "env OMP_NUM_THREADS=$4" \
    --print-errorlogs >"$log" 2>&1; then
    passed=$((passed + 1))
    printf '%-16s %-7s %-9s %s threads   all %s\n' "$1" "$2" "$3" "$4" "$(sed -nE 's/^Ok: +([0-9]+).*/\1/p' "$log")"
  else
    failed=$((failed + 1))
    cat "$log"
    printf '%-16s %-7s %-9s %s threads   FAILED\n' "$1" "$2" "$3" "$4"
  fi
  rm -f "$log"
}

for build in "$@"; do
  for pair in plain/Prescott plain/Nehalem plain/Haswell plain/SkylakeX avx2/Haswell avx2/Zen avx512/SkylakeX amx/SkylakeX; do
    set=${pair%/*} family=${pair#*/}
    lacks=$(lacking "$set" "$family" | sort -u | tr '\n' ' ')
    for threads in 1 2 3; do
      if [ -z "$lacks" ]; then
        run "$build" "$set" "$family" "$threads"
      else
        skipped=$((skipped + 1))
        printf '%-16s %-7s %-9s %s threads   skipped: this CPU lacks %s\n' "$build" "$set" "$family" "$threads" "$lacks"
      fi
    done
  done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
