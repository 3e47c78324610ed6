#!/usr/bin/env bash
# Executes the notebooks on the runs that are there: pages with their outputs to runs/notebooks/, pictures to notebooks/figures/. A
# notebook whose files have not been made yet is left out and says how to make them.
# usage: render.sh BUILD [NAME...]     NAME: tour, pareto, errors, ablations, budget; default all
set -euo pipefail
build=$(realpath "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
names=("$@")
[ $# -gt 0 ] || names=(tour pareto errors ablations budget)
pages=runs/notebooks
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mkdir -p "$pages"

command -v jupyter-nbconvert >/dev/null || {
  echo "render.sh: jupyter-nbconvert is not installed; ./kv setup installs it" >&2
  exit 1
}

# The same results with the paper's figures beside them: nothing is evaluated again.
beside_published() { # FAMILY TABLE
  [ -f "runs/$1/results.h5" ] || return 0
  "$build/eval/kveval" report "runs/$1/results.h5" --x paper --y retention --published "$2" --output "$pages/$1" >/dev/null
}

failed=0
for name in "${names[@]}"; do
  if [ "$name" = pareto ]; then
    beside_published atlas triviaqa-openelm-1.1b
    beside_published snippets humaneval-openelm-1.1b
  fi
  if KV_FIGURES=$PWD/notebooks/figures PYDEVD_DISABLE_FILE_VALIDATION=1 jupyter-nbconvert --to html --execute \
    --output-dir "$pages" "notebooks/$name.ipynb" >"$log" 2>&1; then
    echo "$name: $pages/$name.html"
  elif grep -q '^Missing: ' "$log"; then
    sed -n "s/^Missing: /$name left out: /p" "$log" | tail -n 1
  else
    cat "$log" >&2
    echo "$name: failed" >&2
    failed=1
  fi
done
echo "pictures: notebooks/figures/"
exit "$failed"
