#!/usr/bin/env python3
"""notebooks/kvp_transformers.py gives the greedy ids that kvrun gives, for every kind of predictor that kvtrain writes and
for two kinds of models; and those of the goldens. Where python3 has no torch or transformers only its syntax is looked at,
and 77 returned.

    kvp_transformers.py BUILD               all of it
    kvp_transformers.py --make DIR BUILD    only trains, and writes what kvrun answers: DIR/cases.json
    kvp_transformers.py --check DIR         only holds the loader against that, on a machine without the programs, say
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOADER = os.path.join(ROOT, "notebooks", "kvp_transformers.py")
GOLDEN = os.path.join(ROOT, "tests", "golden")
N_TOKENS = 10
LM = """\
task: lm
output: lm
data: {train: text.h5, seq_len: 48, batch_size: 8}
model: {from: scratch, n_layers: 4, model_dim: 32, head_dim: 12, n_heads: 4, n_kv_heads: 2, ffn_dim: 64, context_length: 128}
train: {steps: 60, warmup_steps: 5, lr: 8.0e-3}
"""
KVP = """\
task: kvp
output: kvp
base: qwen3/final/model
aux: aux/final/model
data: {train: text.h5, seq_len: 48, batch_size: 8}
train: {steps: 8, warmup_steps: 2, lr: 5.0e-3}
"""
PREFIX = ["aux=prefix", "prefix_layers=1"]
MODELS = {
    "qwen3": [],
    "llama": ["model.qk_norm=false", "seed=2"],
    "aux": ["model.n_layers=2", "model.model_dim=16", "model.head_dim=8", "model.n_heads=2", "seed=3"],
}
PREDICTORS = {
    "paper": [],
    "two-layers": ["predictor.aux_layers=2", "predictor.rank=3"],
    "ours": ["recipe=ours"],
    "llama": ["recipe=ours", "base=llama/final/model"],
    "parts": ["predictor.sources=[h, own_h]", "predictor.aux_layers=0", "predictor.exact_layers=1",
              "predictor.map=low_rank", "predictor.width=4", "predictor.token_table=8", "predictor.adapt=lora",
              "predictor.adapt_rank=4", "train.lr_queries=2e-2"],
    "matched-mlp": ["predictor.heads=matched", "predictor.map=mlp", "predictor.width=3"],
    "embedding": ["predictor.sources=[v1, k0, embedding]"],
    "prefix": PREFIX + ["recipe=ours", "predictor.adapt=q", "train.lr_queries=2e-2"],
    "prefix-llama": PREFIX + ["prefix_layers=2", "base=llama/final/model", "predictor.init=least_squares"],
}  # fmt: skip


# ---- What kvrun answers ---------------------------------------------------------------------------------


def make(directory, build):
    def run(program, *args):
        folder = {"kvdata": "data", "kvtrain": "train", "kvrun": "infer"}[program]
        path = os.path.join(os.path.abspath(build), folder, program)
        done = subprocess.run([path, *args], cwd=directory, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{program} {' '.join(args)}: {done.stderr}")
        return done.stdout

    def train(config, name, settings):
        pairs = [x for s in settings for x in ("-s", s)]
        run("kvtrain", config, "--output", name, *pairs)

    for name, text in (("lm.yaml", LM), ("kvp.yaml", KVP)):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
    run("kvdata", "atlas", "--facts", "30", "--out", "facts")
    run("kvdata", "tokenizer", "--input", "facts/train.jsonl", "--vocab-size", "350", "--out", "t")
    run("kvdata", "tokenize", "-c", "0", "-m", "0", "-t", "t.model", "-o", "text.h5", "facts/train.jsonl")
    for name, settings in MODELS.items():
        train("lm.yaml", name, settings)
    with open(os.path.join(directory, "facts", "train.jsonl"), encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    prompts = [t[: t.index("Answer:") + 7] for t in texts[:3]]
    prompts = [run("kvdata", "encode", "-t", "t.model", "--bos", p).strip() for p in prompts]
    cases = []
    for base in ("qwen3", "llama"):
        cases.append({"name": base, "base": f"{base}/final/model"})
    for name, settings in PREDICTORS.items():
        train("kvp.yaml", "kvp-" + name, settings)
        base = next((s[5:] for s in settings if s.startswith("base=")), "qwen3/final/model")
        case = {"name": name, "base": base, "predictor": f"kvp-{name}/final/predictor"}
        cases.append(case if "aux=prefix" in settings else {**case, "aux": f"kvp-{name}/final/aux"})
    for case in cases:
        models = [x for key in ("base", "aux", "predictor") if key in case for x in ("--" + key, case[key])]
        case["prompts"] = [[int(x) for x in p.split()] for p in prompts]
        answers = [run("kvrun", *models, "-q", "--ids", "-n", str(N_TOKENS), "--prompt-ids", p) for p in prompts]
        case["answers"] = [[int(x) for x in a.split()] for a in answers]
    with open(os.path.join(directory, "cases.json"), "w", encoding="utf-8") as file:
        json.dump(cases, file)


# ---- What the loader answers ----------------------------------------------------------------------------


def load_loader():
    spec = importlib.util.spec_from_file_location("kvp_transformers", LOADER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Checks:
    def __init__(self):
        self.kvp, self.failed, self.n = load_loader(), 0, 0

    def compare(self, name, found, expected):
        self.n += 1
        if found != expected:
            self.failed += 1
            print(f"FAILED {name}: found {found}, expected {expected}")

    def refused(self, name, words, function, *args):
        self.n += 1
        try:
            function(*args)
        except self.kvp.Refused as refusal:
            if words in str(refusal):
                return
            print(f"FAILED {name}: says {refusal}, expected {words}")
        else:
            print(f"FAILED {name}: taken, expected a refusal with {words}")
        self.failed += 1


def check_cases(checks, directory):
    kvp = checks.kvp
    with open(os.path.join(directory, "cases.json"), encoding="utf-8") as file:
        cases = json.load(file)
    for case in cases:
        base, *rest = (
            kvp.load_model(os.path.join(directory, case[key])) for key in ("base", "aux") if key in case
        )
        predictor = None
        if "predictor" in case:
            path = os.path.join(directory, case["predictor"])
            predictor = kvp.Predictor(path, base, *rest)
        for prompt, answer in zip(case["prompts"], case["answers"]):
            checks.compare(case["name"], kvp.generate(base, prompt, N_TOKENS, predictor), answer)


def check_refusals(checks, directory):
    """What is not known is not guessed: predictor.json and its weights, changed one thing at a time."""
    kvp, source = checks.kvp, os.path.join(directory, "kvp-paper", "final")
    base = kvp.load_model(os.path.join(directory, "qwen3", "final", "model"))
    aux = kvp.load_model(os.path.join(source, "aux"))
    said = kvp.read_json(os.path.join(source, "predictor"), "predictor.json")
    entry = {"sources": ["k0"], "map": "linear"}
    whole = {"n_base_layers": 4, "n_aux_layers": 2, "version": 2, "keys": [entry] * 4, "values": [entry] * 4}
    changed = {
        "version 3": {**said, "version": 3},
        "a map of kind cubic": {**whole, "keys": [{**entry, "map": "cubic"}] * 4},
        "reads x1": {**whole, "values": [{**entry, "sources": ["x1"]}] * 4},
        "heads odd": {**whole, "keys": [{**entry, "heads": "odd"}] * 4},
        "queries of kind new": {**whole, "queries": {"kind": "new"}},
        "has no 'key.0.table'": {**whole, "keys": [{**entry, "table": "full"}] * 4},
        "is nothing that predictor.json speaks of": {**whole, "values": [{**entry, "map": "exact"}] * 4},
        "made for 9 layers": {**said, "n_base_layers": 9},
        "no aux belongs": {**whole, "prefix_layers": 1},
    }
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(os.path.join(source, "predictor", "predictor.safetensors"), place)
        for words, content in changed.items():
            with open(os.path.join(place, "predictor.json"), "w", encoding="utf-8") as file:
                json.dump(content, file)
            checks.refused(words, words, kvp.Predictor, place, base, aux)


def golden_predictor(h5, golden, base, aux, place):
    """The goldens' predictors have no predictor.json: their layer map stands with what was expected of them."""
    said = {"n_base_layers": len(base.model.layers), "n_aux_layers": len(aux.model.layers), "version": 1}
    said["mapping"] = [int(x) for x in h5.attrs["mapping"]]
    with open(os.path.join(place, "predictor.json"), "w", encoding="utf-8") as file:
        json.dump(said, file)
    shutil.copy(os.path.join(golden, "predictor.safetensors"), place)


def check_goldens(checks):
    try:
        import h5py
    except ImportError:
        print("no h5py: the goldens are left out")
        return
    kvp = checks.kvp
    for where, names, files in os.walk(GOLDEN):
        if "expected.h5" not in files:
            continue
        pair = "predictor.safetensors" in files
        with h5py.File(os.path.join(where, "expected.h5")) as h5, tempfile.TemporaryDirectory() as place:
            base, predictor = kvp.load_model(os.path.join(where, "base") if pair else where), None
            if pair:
                aux = kvp.load_model(os.path.join(where, "aux"))
                golden_predictor(h5, where, base, aux, place)
                predictor = kvp.Predictor(place, base, aux)
            base.generation_config.eos_token_id = None
            for prompt, answer in zip(h5["input_ids"], h5["infer/greedy_tokens" if pair else "greedy_tokens"]):
                found = kvp.generate(base, prompt.tolist(), len(answer), predictor)
                checks.compare(os.path.basename(where), found, answer.tolist())


def check(directory):
    checks = Checks()
    check_cases(checks, directory)
    check_refusals(checks, directory)
    check_goldens(checks)
    print(f"{checks.n} comparisons, {checks.failed} failed")
    return 1 if checks.failed else 0


def main(args):
    if args[0] == "--make":
        return make(args[1], args[2])
    if args[0] == "--check":
        return check(args[1])
    with open(LOADER, encoding="utf-8") as file:
        compile(file.read(), LOADER, "exec")
    for name in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(name) is None:
            print(f"python3 has no {name}: only the syntax was looked at")
            return 77
    with tempfile.TemporaryDirectory() as directory:
        make(directory, args[0])
        return check(directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
