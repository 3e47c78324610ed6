#!/usr/bin/env bash
# The notebooks as a user has them: nothing stored but their text; and executed on results that the programs have just made, each
# with all its pictures.
# usage: notebooks.sh BUILD     exit status 77 (skipped) where Jupyter is not installed
set -euo pipefail
build=$(realpath "$1")
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
names=(tour pareto errors ablations budget recall)
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
ln -s "$root/configs" configs
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
for split in train predictor_train held_out; do
  quietly "$kvdata" tokenize --min-chars 0 --min-tokens 0 --tokenizer $data/tokenizer.model --out $data/$split.h5 $data/$split.jsonl
done

validation=(-s "data.validation=$data/held_out.h5" -s train.validate_every=5)

train() { # NAME STEPS [OPTION...]: a run of the quickstart's, made small
  quietly "$kvtrain" "configs/quickstart/$1.yaml" -s "train.steps=$2" -s train.warmup_steps=10 -s train.log_every=5 "${@:3}"
}
train base 200 -s model.n_layers=4 -s model.model_dim=48 -s model.head_dim=12 -s model.ffn_dim=96
for name in aux rival lp_050 paper ours prefix_1; do
  case $name in ours | prefix_1) fit=(-s predictor.least_squares_tokens=2000) ;; *) fit=() ;; esac
  train "$name" 30 "${validation[@]}" "${fit[@]}"
done
quietly "$kveval" "configs/quickstart/eval.yaml" -s analysis.sequences=8 -s ttft.repeats=3 \
  -s 'ttft.prompts=[8, 32]' -s 'ttft.batches=[8]'

sweep() { # NAME: with the rest of its configuration on standard input
  { # systems, tasks
    echo "tokenizer: $data/tokenizer.model"
    echo "systems: [{name: base, family: base, model: runs/quickstart/base/final/model}]"
    echo "tasks:"
    for split in trained held_out; do
      echo "  - {name: atlas, split: ${split/_/-}, file: $data/questions_$split.jsonl}"
    done
    echo "ttft: {prompt_tokens: 16, batch_size: 2, repeats: 3}"
  } >questions.yaml
  {
    echo "output: runs/ablations/$1"
    echo "eval: questions.yaml"
    cat
  } >"$1.yaml"
  quietly "$kvtrain" --sweep "$1.yaml" -s train.warmup_steps=2 -s train.log_every=5 "${validation[@]}"
}
sweep lambda <<YAML
set: {train.steps: 10}
grid: {loss.consistency: [0, auto, 1]}
arms:
  - {name: paper, train: configs/quickstart/paper.yaml}
  - {name: ours, train: configs/quickstart/ours.yaml, set: {predictor.least_squares_tokens: 2000}}
YAML
sweep budget <<YAML
grid: {train.steps: [10, 20]}
arms:
  - {name: ours, train: configs/quickstart/ours.yaml, set: {predictor.least_squares_tokens: 2000}}
  - {name: paper, train: configs/quickstart/paper.yaml}
  - {name: rival, train: configs/quickstart/rival.yaml}
YAML

# Passages to recall from, and one too long for the context of the models; with two seeds, as of a family that is trained for each.
quietly "$kvdata" recall --tokenizer $data/tokenizer.model --lengths 64,96,300 --depths 0,0.5,1 --items 2 --out recall.jsonl
mkdir trained
ln -s ../runs/quickstart/ours trained/s1
ln -s ../runs/quickstart/paper trained/s2
cat >recall.yaml <<YAML
output: runs/recall/s{seed}
systems:
  - {name: base, family: base, model: runs/quickstart/base/final/model}
  - {name: aux, family: aux alone, model: runs/quickstart/aux/final/model}
  - {name: ours, family: KVP-C (ours), base: runs/quickstart/base/final/model, aux: "trained/s{seed}/final/aux",
     predictor: "trained/s{seed}/final/predictor"}
tasks:
  - {name: recall, kind: recall, file: recall.jsonl, too_long: skip}
  - {name: text, split: held-out, kind: text, corpus: $data/held_out.h5, window: 96, prompt: 64, limit: 4}
ttft: {prompt_tokens: 16, batch_size: 2, repeats: 3}
YAML
quietly "$kveval" recall.yaml --seeds 2

# ---- The notebooks -------------------------------------------------------------------------------------

# Nothing of the user's own Jupyter, and nothing left in it.
export IPYTHONDIR=$dir/ipython JUPYTER_CONFIG_DIR=$dir/jupyter JUPYTER_DATA_DIR=$dir/jupyter JUPYTER_RUNTIME_DIR=$dir/jupyter
export PYDEVD_DISABLE_FILE_VALIDATION=1 KV_FIGURES=figures KVEVAL=$kveval
unset KV_TOUR KV_PARETO KV_CODE KV_TTFT KV_ERRORS KV_ABLATIONS KV_BUDGET KV_RECALL
mkdir -p notebooks eval/plot eval/published
cp "$root"/notebooks/*.ipynb "$root"/notebooks/*.py notebooks/
cp "$root"/eval/plot/families.csv eval/plot/
cp "$root"/eval/published/*.csv eval/published/

# Families look as in kveval's own pictures, those that the table has and those that it has not (test_plot.c says the same).
PYTHONPATH=notebooks /usr/bin/python3 - "$root" <<'PYTHON'
import re, sys
from pathlib import Path
import kvdraw
wrong = []
script = Path("runs/quickstart/pareto.gp").read_text()
families = re.findall(r"# family: (.*)", Path("runs/quickstart/pareto.dat").read_text())
for name in families:
    if f"lc rgb '{kvdraw.colour_of(name)}'" not in script:
        wrong.append(f"{name}: {kvdraw.colour_of(name)} is not in kveval's picture")
for name, look in {"mine": ("#22BB22", "dotted triangle"), "KVP-C": ("#CC79A7", "wedge"), "kvp_c Ours": ("#E69F00", "pentagon"), "yours": ("#EE22DD", "square")}.items():
    if kvdraw.look_of(name) != look:
        wrong.append(f"{name}: {kvdraw.look_of(name)}, expected {look}")
shipped = [line for path in Path(sys.argv[1], "configs").rglob("*.yaml") for line in path.read_text().splitlines()]
for name in {m[1] or m[2] for line in shipped if (m := re.search(r"""family: *(?:"([^"]*)"|([^,}#]*[^,}# ]))""", line))}:
    if not kvdraw.is_known(name):
        wrong.append(f"{name}: a family of configs/ that is not in eval/plot/families.csv")
print("\n".join(wrong) or f"{len(set(families))} families as kveval draws them")
sys.exit(bool(wrong))
PYTHON

execute() { # NAME
  jupyter-nbconvert --to markdown --execute --output-dir pages "notebooks/$1.ipynb" >"$1.log" 2>&1 || {
    echo "failed: notebooks/$1.ipynb" >&2
    tail -n 30 "$1.log" >&2
    return 1
  }
}
export -f execute
printf '%s\n' "${names[@]}" | xargs -P 2 -I '{}' bash -c 'execute {}'

python3 - "$root/notebooks" <<'PYTHON'
import csv, json, re, sys
from pathlib import Path
wrong = []
# Every picture that a notebook can save, but those of what was not made here: it would take a family that writes programs.
beside = {"tour": "quickstart", "pareto": "quickstart", "errors": "quickstart", "ablations": "ablations", "budget": "ablations/budget", "recall": "recall"}
named = {f"{name}": path.stem for path in sorted(Path(sys.argv[1]).glob("*.ipynb")) for cell in json.loads(path.read_text())["cells"]
         for name in re.findall(r'(?:draw\.save|draw\.by_kveval|kept)\([^"\n]*"((?:tour|pareto|errors|ablations|budget|recall)[a-z-]*)"', "".join(cell["source"]))}
for name, book in named.items():
    picture = Path("runs", beside[book], "figures", f"{name}.png")  # beside what it was drawn from
    if name == "pareto-code":
        continue
    if not picture.exists():
        wrong.append(f"{book}: made no {picture}")
    elif not 10_000 < picture.stat().st_size < 200_000:
        wrong.append(f"{book}: {picture} has {picture.stat().st_size} bytes, expected 10 to 200 kB")
# What the tour prints is what kveval wrote.
page = Path("pages/tour.md").read_text()
for row in csv.DictReader(open("runs/quickstart/results.csv")):
    if row["better"] == "lower" and row["metric"] != "tail_nll":
        continue  # the tour has the first metric of each task
    share, places = (100, 1) if row["better"] == "higher" else (1, 3)
    a, low, high = (f"{share * float(row[n]):.{places}f}" for n in ("accuracy", "accuracy_low", "accuracy_high"))
    a += " %" if share == 100 else ""
    if not re.search(rf"{re.escape(row['system'])} +{re.escape(row['family'])} +{a} +{low}–{high} ", page):
        wrong.append(f"tour: no line that says {row['system']} {a} {low}–{high} ({row['split']})")
print("\n".join(wrong) or f"{len(named) - 1} pictures")
sys.exit(bool(wrong))
PYTHON

# Pictures that the repository tracks are written only with --publish.
cp "$root"/notebooks/render.sh notebooks/
notebooks/render.sh tour >render.log 2>&1 || { cat render.log >&2; exit 1; }
[ ! -e notebooks/figures ] || { echo "render.sh wrote notebooks/figures without --publish" >&2; exit 1; }
notebooks/render.sh --publish tour >render.log 2>&1 || { cat render.log >&2; exit 1; }
for picture in tour-training tour-accuracy tour-ttft tour-ttft-long; do
  [ -s notebooks/figures/$picture.png ] || { echo "render.sh --publish did not write notebooks/figures/$picture.png" >&2; exit 1; }
done
# Results that one may only read, as others' may be: here figures/ cannot be made, whoever runs the test.
rm -r runs/quickstart/figures
touch runs/quickstart/figures
notebooks/render.sh tour >render.log 2>&1 || { cat render.log >&2; exit 1; }
[ "$(grep -c 'not saved, but in the page: runs/quickstart/figures/tour-.*: File exists' render.log)" = 4 ] || {
  echo "render.sh where figures/ cannot be made: $(cat render.log)" >&2
  exit 1
}
status=0
notebooks/render.sh nosuch >render.log 2>&1 || status=$?
[ "$status" = 2 ] || { echo "render.sh nosuch: status $status, expected 2" >&2; exit 1; }
