#!/usr/bin/env bash
# Executes the notebooks on the runs that are there. Pages with their outputs go to runs/notebooks/; pictures beside the results that
# they were drawn from, in figures/, or with --publish to notebooks/figures/, which the documents show. Where that cannot be written
# only the page has them. A notebook whose files have not been made yet is left out and says how to make them.
# usage: render.sh [--publish] [NAME...]     NAME: tour, pareto, errors, ablations, budget, recall; default all
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
all=(tour pareto errors ablations budget recall)
names=() figures=figures
for word in "$@"; do
  if [ "$word" = --publish ]; then
    figures=$PWD/notebooks/figures
  elif [[ " ${all[*]} " == *" $word "* ]]; then
    names+=("$word")
  else
    echo "render.sh: there is no notebook '$word'; there are: ${all[*]}" >&2
    exit 2
  fi
done
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")
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
  if KV_FIGURES=$figures PYDEVD_DISABLE_FILE_VALIDATION=1 jupyter-nbconvert --to html --execute \
    --output-dir "$pages" "notebooks/$name.ipynb" >"$log" 2>&1; then
    echo "$name: $pages/$name.html"
    grep -o "Not saved: [^<]*" "$pages/$name.html" | sed "s/^Not saved/$name: not saved, but in the page/" || true
  elif grep -q '^Missing: ' "$log"; then
    sed -n "s/^Missing: /$name left out: /p" "$log" | tail -n 1
  else
    tail -n 40 "$log" >&2
    echo "$name: failed" >&2
    failed=1
  fi
done
if [ "$figures" = figures ]; then
  echo "pictures: in figures/, beside the results they were drawn from"
else
  echo "pictures: notebooks/figures/"
fi
exit "$failed"
