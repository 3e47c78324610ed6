#!/usr/bin/env bash
# Executes the notebooks on the runs that are there: pages with their outputs to runs/notebooks/, pictures to notebooks/figures/. A
# notebook whose files have not been made yet is left out and says how to make them.
# usage: render.sh [NAME...]     NAME: tour, pareto, errors, ablations, budget; default all
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
all=(tour pareto errors ablations budget)
names=("$@")
[ $# -gt 0 ] || names=("${all[@]}")
for name in "${names[@]}"; do
  [[ " ${all[*]} " == *" $name "* ]] || {
    echo "render.sh: there is no notebook '$name'; there are: ${all[*]}" >&2
    exit 2
  }
done
pages=runs/notebooks
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mkdir -p "$pages"

command -v jupyter-nbconvert >/dev/null || {
  echo "render.sh: jupyter-nbconvert is not installed; ./kv setup installs it" >&2
  exit 1
}

failed=0
for name in "${names[@]}"; do
  if KV_FIGURES=$PWD/notebooks/figures PYDEVD_DISABLE_FILE_VALIDATION=1 jupyter-nbconvert --to html --execute \
    --output-dir "$pages" "notebooks/$name.ipynb" >"$log" 2>&1; then
    echo "$name: $pages/$name.html"
  elif grep -q '^Missing: ' "$log"; then
    sed -n "s/^Missing: /$name left out: /p" "$log" | tail -n 1
  else
    tail -n 40 "$log" >&2
    echo "$name: failed" >&2
    failed=1
  fi
done
echo "pictures: notebooks/figures/"
exit "$failed"
