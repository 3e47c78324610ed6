#!/usr/bin/env bash
# Makes the world in which the examples of READMEs and of --help are run (tests/README.md describes it): what a user has after
# ./kv quickstart, and a family of their own in my/, all made small. Takes seconds.
# usage: readmes_world.sh BUILD DIR     DIR must not be there
set -euo pipefail
build=$(realpath "$1")
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
PATH=$build/data:$build/train:$build/infer:$build/eval:$PATH
mkdir "$2"
cd "$2"

quietly() {
  "$@" >log 2>&1 </dev/null || {
    echo "failed: $*" >&2
    tail -n 20 log >&2
    exit 1
  }
  rm -f log
}

# ---- Text and questions --------------------------------------------------------------------------------

mkdir -p my texts runs/quickstart
quietly kvdata atlas --facts 1000 --out runs/quickstart/data
python3 - <<'PYTHON'
import gzip, json
facts = [json.loads(line)["text"] for line in open("runs/quickstart/data/train.jsonl")]
documents = [" ".join(facts[i:i + 40]) for i in range(0, len(facts), 40)]  # none too short for kvdata tokenize
half = len(documents) // 2
with open("corpus.jsonl", "w") as file:
    for text in documents:
        print(json.dumps({"text": text}), file=file)
open("texts/one.txt", "w").write("\n\n".join(documents[:half]) + "\n")
with gzip.open("texts/two.jsonl.gz", "wt") as file:
    for text in documents[half:]:
        print(json.dumps({"text": text}), file=file)
PYTHON
head -n 40 runs/quickstart/data/questions_trained.jsonl >my/questions.jsonl
gzip <"$root/tests/fixtures/code_problems.jsonl" >HumanEval.jsonl.gz
for kind in arc boolq hellaswag piqa sciq winogrande; do cp "$root/tests/fixtures/choices/$kind.jsonl" "my/$kind.jsonl"; done
echo "In which country is Chaco?" >prompt.txt

# ---- A family ------------------------------------------------------------------------------------------

quietly kvdata tokenizer --input corpus.jsonl --vocab-size 640 --out my/tokenizer
quietly kvdata tokenize --tokenizer my/tokenizer.model --out my/train.h5 corpus.jsonl
quietly kvdata tokenize --min-chars 0 --min-tokens 0 --tokenizer my/tokenizer.model --out my/held_out.h5 \
  runs/quickstart/data/held_out.jsonl
quietly kvdata recall --tokenizer my/tokenizer.model --lengths 64 --items 1 --out my/recall.jsonl

model() { # NAME LAYERS DIM: a language model from scratch, with heads of 8
  cat >"my/$1.yaml" <<YAML
task: lm
output: my/$1
data: {train: my/train.h5, seq_len: 64, batch_size: 4}
model:
  from: scratch
  n_layers: $2
  model_dim: $3
  head_dim: 8
  n_heads: 2
  n_kv_heads: 1
  ffn_dim: 32
  context_length: 512
train: {steps: 10, lr: 4.0e-3, warmup_steps: 2, checkpoint_every: 5, log_every: 2}
YAML
}
model base 4 32
model aux 2 16
cat >my/predictor.yaml <<'YAML'
task: kvp
output: my/predictor
data: {train: my/train.h5, validation: my/held_out.h5, seq_len: 64, batch_size: 4}
base: my/base/final/model
aux: my/aux/final/model
predictor: {mapping: separate, init: least_squares, least_squares_tokens: 2000}
loss: {aux: 0.3, kl: 2}
train: {steps: 10, lr: 1.0e-3, warmup_steps: 2, validate_every: 5, validation_tokens: 1000, log_every: 2}
YAML
cat >my/eval.yaml <<'YAML'
output: my/eval
tokenizer: my/tokenizer.model
systems:
  - {name: base, family: base, model: my/base/final/model}
  - {name: aux, family: aux alone, model: my/aux/final/model}
  - name: KVP
    family: KVP-C
    base: my/base/final/model
    aux: my/predictor/final/aux
    predictor: my/predictor/final/predictor
tasks:
  - {name: facts, file: my/questions.jsonl, max_tokens: 4}
ttft: {prompt_tokens: 16, batch_size: 2, repeats: 1}
analysis: {corpus: my/held_out.h5, sequences: 4, seq_len: 64}
YAML
cat >my/ablation.yaml <<'YAML'
output: my/ablation
train: my/predictor.yaml
set: {train.steps: 5}
grid:
  loss.kl: [0, 2]
eval: my/eval.yaml
YAML
for name in base aux predictor; do quietly kvtrain "my/$name.yaml"; done
quietly kveval my/eval.yaml
for seed in 1 2; do
  quietly kvtrain my/predictor.yaml -s seed=$seed -s train.steps=2 --output "my/s{seed}"
  quietly kveval my/eval.yaml -s seed=$seed -s "systems[2].aux=my/s{seed}/final/aux" --no-ttft -s analysis=null \
    -s "systems[2].predictor=my/s{seed}/final/predictor" -o "my/seeds/s{seed}"
done

# ---- What ./kv quickstart leaves -----------------------------------------------------------------------

cp -r "$root/configs" .
quickstart=runs/quickstart
cp my/tokenizer.* $quickstart/data
for split in train predictor_train held_out; do
  quietly kvdata tokenize --min-chars 0 --min-tokens 0 --tokenizer $quickstart/data/tokenizer.model \
    --out $quickstart/data/$split.h5 $quickstart/data/$split.jsonl
done
cp -r my/base $quickstart
for name in aux rival lp_050; do cp -r my/aux $quickstart/$name; done
for name in paper ours; do cp -r my/predictor $quickstart/$name; done
quietly kvtrain configs/quickstart/prefix_1.yaml -s train.steps=2 -s train.warmup_steps=1 -s predictor.least_squares_tokens=2000
cp my/eval/*.* $quickstart
cp -r my/eval/samples $quickstart
