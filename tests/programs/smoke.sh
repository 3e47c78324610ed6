#!/usr/bin/env bash
# Every configuration of configs/openelm, configs/smollm2 and configs/qwen3 at work, with random weights of the published shapes in
# place of downloads (configs/random.sed): kvtrain does one step of 1 x 32 tokens (or, where that is all, solves for the
# predictors), or says before it takes any memory that it would not fit; kveval asks every system one question; kvrun answers with
# every predictor. Prints a line for each, with the most memory it took.
# usage: smoke.sh BUILD [NAME...]     NAME: openelm/1.1b-kvp-c-450m, say, with the systems that use it; default all
#        smoke.sh --names             prints them
set -euo pipefail
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")

# Not those that others extend, nor the evaluations.
training_names() {
  (cd "$root/configs" && printf '%s\n' openelm/{[0-9],code-}*.yaml smollm2/{kvp,lp,prefix}-*.yaml \
    qwen3/{[op]*,r[ai]*,head_*,swiftkv}.yaml | sed 's/\.yaml$//')
}

if [ "${1:-}" = --names ]; then
  training_names
  exit
fi
build=$(realpath "$1")
shift
cd "$root"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

# measured COMMAND...: runs it; $seconds, $memory (GB) and $status are what it took and ended with, $dir/log what it said.
measured() {
  read -r status seconds memory < <(python3 - "$dir/log" "$@" <<'PYTHON'
import resource, subprocess, sys, time
started = time.time()
with open(sys.argv[1], "w") as log:
    status = subprocess.call(sys.argv[2:], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
print(status, "%.1f" % (time.time() - started), "%.2f" % (resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024e-9))
PYTHON
  )
}

show() { # NAME WHAT RESULT
  printf '%-30s %-11s %6s GB %7s s   %s\n' "$1" "$2" "$memory" "$seconds" "$3"
}

fail() { # NAME WHAT
  failures=$((failures + 1))
  show "$1" "$2" "FAILED with $status: $(tail -n 1 "$dir/log")"
}

prepare() {
  local file
  for file in configs/{openelm,smollm2,qwen3}/*.yaml; do
    mkdir -p "$dir/$(dirname "$file")"
    sed -E -f configs/random.sed "$file" >"$dir/$file"
  done
  {
    "$build/data/kvdata" atlas --facts 300 --out "$dir/atlas"
    # Without BOS and EOS, on whose ids the families do not agree.
    spm_train --input="$dir/atlas/train.jsonl" --model_prefix="$dir/tokenizer" --model_type=bpe --vocab_size=512 \
      --byte_fallback --bos_id=-1 --eos_id=-1
    "$build/data/kvdata" tokenize --min-chars 0 --min-tokens 0 --tokenizer "$dir/tokenizer.model" --out "$dir/text.h5" "$dir/atlas/train.jsonl"
  } >"$dir/log" 2>&1 || {
    cat "$dir/log" >&2
    exit 1
  }
}

# A refusal has to come before the memory is taken.
train() { # NAME
  local plan what=step options=(-o "$dir/run" -s "data.train=$dir/text.h5" -s data.seq_len=32 -s data.batch_size=1 -s data.micro_batch_size=1)
  plan=$("$build/train/kvtrain" "$dir/configs/$1.yaml" "${options[@]}" --dry-run 2>"$dir/log" || true)
  if grep -q '^steps  *0 of' <<<"$plan"; then what=start; else options+=(-s train.steps=1); fi
  if grep -q 'for the least-squares start' <<<"$plan"; then options+=(-s predictor.least_squares_tokens=64); fi
  if grep -q 'stand for the best' <<<"$plan"; then options+=(-s predictor.best_tokens=64); fi
  measured "$build/train/kvtrain" "$dir/configs/$1.yaml" "${options[@]}"
  local said
  said=$(grep -o 'it needs about [0-9.]* GB' "$dir/log" || true)
  if [ "$status" = 0 ] && [ -d "$dir/run/final" ]; then
    show "$1" $what "$(grep -o 'loss [0-9.]*' "$dir/log" | tail -n 1)"
  elif [ "$status" = 1 ] && [ -n "$said" ] && [ ! -e "$dir/run" ] && [ "${memory%.*}" = 0 ]; then
    show "$1" $what "refused: $said"
  else
    fail "$1" $what
  fi
  rm -rf "$dir/run"
}

field() { # ROW KEY: what a system's line says
  sed -nE "s/.*[{ ]$2: \"?([^,}\"]*)\"?[,}].*/\1/p" <<<"$1"
}

ask() { # ROW BASE, the row that it is compared with
  local name row=$1 base=$2
  name=$(field "$row" name)
  if [ "$row" = "$base" ]; then base=; fi
  cat >"$dir/one.yaml" <<YAML
output: $dir/eval
tokenizer: $dir/tokenizer.model
systems:
$base
$row
tasks:
  - {name: atlas, file: $dir/atlas/questions_trained.jsonl, shots: 1, limit: 1, max_tokens: 4}
YAML
  measured "$build/eval/kveval" "$dir/one.yaml" --no-ttft
  if [ "$status" = 0 ] && [ -s "$dir/eval/results.csv" ]; then show "$name" question answered; else fail "$name" question; fi
  rm -rf "$dir/eval"
  [ -n "$(field "$row" predictor)" ] || return 0
  local aux
  aux=$(field "$row" aux)
  measured "$build/infer/kvrun" --base "$(field "$row" base)" ${aux:+--aux "$aux"} --predictor "$(field "$row" predictor)" \
    --prompt-ids "1 5 17" --ids --max-tokens 4 --quiet
  if [ "$status" = 0 ] && grep -qE '^[0-9]+( [0-9]+){0,3}$' "$dir/log"; then
    show "$name" generation "$(grep -E '^[0-9]+' "$dir/log")"
  else
    fail "$name" generation
  fi
}

# Line by line the files with random weights are those without.
rows_of() { # FILE PATTERN: the systems' lines that match
  local numbers
  numbers=$(grep -nE "^  - \{name: .*(model|base): .*$2" "$root/configs/$1" | cut -d: -f1)
  for number in $numbers; do sed -n "${number}p" "$dir/configs/$1"; done
}

prepare
cd "$dir" # files of configs/ name each other from here
names=("$@")
if [ $# -eq 0 ]; then mapfile -t names < <(training_names); fi
for name in "${names[@]}"; do train "$name"; done
first_row() { # FILE
  grep -m 1 -E '^  - \{name: .*(model|base): ' "$dir/configs/$1"
}

for file in openelm/systems-1.1b.yaml openelm/systems-1.1b-code.yaml openelm/systems-3b.yaml smollm2/eval.yaml qwen3/systems.yaml; do
  for name in "${@:-}"; do
    while IFS= read -r row; do
      if [ -n "$row" ]; then ask "$row" "$(first_row "$file")"; fi
    done < <(rows_of "$file" "${name:+runs/$name/final}")
  done
done
[ "$failures" = 0 ] || {
  echo "$failures failed"
  exit 1
}
