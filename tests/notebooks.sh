#!/usr/bin/env bash
# The notebooks as a user has them: nothing stored but their text; and executed on results that the programs have just made, each
# with all its pictures.
# usage: notebooks.sh BUILD     exit status 77 (skipped) where Jupyter is not installed
set -euo pipefail
build=$(realpath "$1")
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
names=(tour pareto errors ablations budget)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# ---- What is stored ------------------------------------------------------------------------------------

python3 - "$root/notebooks" "${names[@]}" <<'PYTHON'
import json, re, sys
from pathlib import Path
folder, names = Path(sys.argv[1]), sys.argv[2:]
# "/home/...", 'C:\...', "~/...", also behind runs= and the like; not the / of 1/n_B, of a URL, or of a path from the root.
absolute = re.compile(r"""(?:^|["'`\s=(])(?:/[A-Za-z][\w.-]*/|~/|[A-Za-z]:\\)""")
wrong = []
found = sorted(p.stem for p in folder.glob("*.ipynb"))
if found != sorted(names):
    wrong.append(f"notebooks: found {found}, expected {sorted(names)}")
for path in sorted(folder.glob("*.ipynb")):
    text = path.read_text(encoding="utf-8")
    book = json.loads(text)
    if text != json.dumps(book, indent=1, ensure_ascii=False) + "\n":
        wrong.append(f"{path.name}: not as Jupyter stores it with an indent of 1")
    for number, cell in enumerate(book["cells"], 1):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            wrong.append(f"{path.name}: cell {number} has stored outputs")
        for line in "".join(cell["source"]).splitlines():
            if absolute.search(line):
                wrong.append(f"{path.name}: cell {number} has an absolute path: {line.strip()}")
print("\n".join(wrong) or f"{len(found)} notebooks without outputs or absolute paths")
sys.exit(bool(wrong))
PYTHON

for module in nbconvert ipykernel matplotlib h5py; do
  /usr/bin/python3 -c "import $module" 2>/dev/null || {
    echo "skipped: the notebooks were not executed, $module is not installed for /usr/bin/python3 (./kv setup installs it)"
    exit 77
  }
done

# ---- Results -------------------------------------------------------------------------------------------

# Everything lies below $dir as it lies below the repository's root, so that the places the notebooks look at by themselves are tried.
cd "$dir"
kvdata=$build/data/kvdata kvtrain=$build/train/kvtrain kveval=$build/eval/kveval

quietly() {
  "$@" >"$dir/log" 2>&1 </dev/null || {
    echo "failed: $*" >&2
    tail -n 20 "$dir/log" >&2
    exit 1
  }
}

data=runs/quickstart/data
quietly "$kvdata" atlas --facts 60 --out $data
quietly "$kvdata" tokenizer --input $data/train.jsonl --vocab-size 384 --out $data/tokenizer
for split in train predictor_train; do
  quietly "$kvdata" tokenize --tokenizer $data/tokenizer.model --out $data/$split.h5 $data/$split.jsonl
done

train() { # NAME STEPS [OPTION...]: a run of the quickstart's, made small
  quietly "$kvtrain" "$root/configs/quickstart/$1.yaml" -s "train.steps=$2" -s train.warmup_steps=10 -s train.log_every=5 "${@:3}"
}
time {
train base 200 -s model.n_layers=3 -s model.model_dim=48 -s model.head_dim=12 -s model.ffn_dim=96
for name in aux_small aux_large rival_small rival_large paper_small paper_large ours_small ours_large; do
  train "$name" 30
done
}
time quietly "$kveval" "$root/configs/quickstart/eval.yaml" -s picture.published=triviaqa-openelm-1.1b -s ttft.repeats=3 -s 'ttft.prompts=[8, 32]' -s 'ttft.batches=[8]'
column -s, -t < runs/quickstart/results.csv | cut -c1-100
cp "$root/eval/published/triviaqa-openelm-1.1b.csv" runs/quickstart/published.csv
ls runs/quickstart
