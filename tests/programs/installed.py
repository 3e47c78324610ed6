#!/usr/bin/env python3
"""What `meson install` leaves, in a folder of its own: all that should be there and nothing else, without a trace of where it was
built; headers that compile alone, as C and as C++; a library that shows what they declare; the example of infer/README.md, in C
and C++, with the shared and the static library, which answers as kvrun does; completion that completes.

usage: installed.py BUILD
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ["kvdata", "kveval", "kvrun", "kvtrain"]
COMPILERS = [["gcc", "-xc", "-std=c17"], ["g++", "-xc++", "-std=c++17"], ["clang++", "-xc++", "-std=c++17"]]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
problems = []


def run(*command, expected=0, text=None, **more):
    done = subprocess.run([str(word) for word in command], input=text or "", text=True, capture_output=True, **more)
    if done.returncode != expected:
        problems.append(f"{' '.join(str(word) for word in command)[:400]}: exit status {done.returncode}\n    {done.stderr.strip()[-1500:]}")
    return done.stdout


def there(word):
    return shutil.which(word) is not None


# ---- Files ---------------------------------------------------------------------------------------------

def check_files(place, prefix, build, manual):
    files = sorted(path for path in place.rglob("*") if not path.is_dir())
    names = [path.relative_to(prefix).as_posix() for path in files if prefix in path.parents]
    if len(names) != len(files):
        problems.append(f"files outside of the prefix: {[str(path) for path in files if prefix not in path.parents]}")
    expected = [f"bin/{name}" for name in PROGRAMS] + [f"share/bash-completion/completions/{name}" for name in PROGRAMS]
    expected += [f"share/man/man1/{name}.1" for name in [*PROGRAMS, "kvdata-tokenize", "kvtrain-status", "kveval-curve"] if manual]
    expected += ["include/kv-prediction/core/api.h", "include/kv-prediction/data/checkpoint/checkpoint.h",
                 "include/kv-prediction/infer/session/engine.h"]
    problems.extend(f"{name}: is not installed" for name in expected if name not in names)
    kinds = r"bin/kv|include/kv-prediction/.*\.h$|lib\S*/(libkv-prediction\.|pkgconfig/|kv-prediction/(kvrun_saved|kv_mpi_\w+)\.so$)|share/(bash-completion|doc|man)/"
    problems.extend(f"{name}: should not be installed" for name in names if not re.match(kinds, name) or re.search("test|bench/|embed$", name))
    for path in files:
        content = path.read_bytes()
        if b".debug_info" not in content:  # which names sources
            problems.extend(f"{path.name}: has the path {trace}" for trace in (build, ROOT, place) if str(trace).encode() in content)
        if content.startswith(b"\x7fELF") and re.search(r"(?:RPATH|RUNPATH).*\[(?!\$ORIGIN/)", run("readelf", "-d", path)):
            problems.append(f"{path.name}: searches libraries where it was built or should be installed")


# ---- Headers and what the library shows ------------------------------------------------------------------

def check_headers(include):
    headers = [path.relative_to(include).as_posix() for path in sorted(include.rglob("*.h"))]
    with tempfile.TemporaryDirectory(prefix="headers-") as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
        sources = []
        for header in headers:
            sources.append(Path(scratch) / f"{header.replace('/', '_')}.c")
            sources[-1].write_text(f'#include "{header}"\ntypedef int something;\n')
        for compiler in COMPILERS:
            if there(compiler[0]):
                pool.submit(run, *compiler, *WARNINGS, "-fsyntax-only", f"-I{include}", *sources)
    return [(header, (include / header).read_text()) for header in headers]


def check_symbols(library, headers):
    shown = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    problems.extend(f"{library.name}: shows {name}" for name in shown if not name.startswith("kv_"))
    declared = {}
    for header, text in headers:
        if not re.search(r"^KV_API_BEGIN\n[\s\S]*^KV_API_END\n*\Z", text, re.M) and header != "core/api.h":
            problems.append(f"{header}: is not between KV_API_BEGIN and KV_API_END (core/api.h)")
        for name in re.findall(r"^(?!static|typedef)[a-z][\w *]*?\b(kv_\w+)\(", text, re.M):
            declared[name] = header
    problems.extend(f"{header}: declares {name}, which {library.name} does not show" for name, header in declared.items() if name not in shown)
    if len(declared) < 100:
        problems.append(f"found {len(declared)} functions in headers, expected more than a hundred")


# ---- A program that uses it ------------------------------------------------------------------------------

def make_models(bin, world):
    """A family that has hardly seen anything, made by what is installed."""
    (world / "lm.yaml").write_text(
        "task: lm\noutput: base\ndata: {train: train.h5, seq_len: 32, batch_size: 2}\ntrain: {steps: 1, warmup_steps: 1, lr: 1e-3}\n"
        "model: {from: scratch, n_layers: 2, model_dim: 16, head_dim: 8, n_heads: 2, n_kv_heads: 1, ffn_dim: 32, context_length: 128}\n")
    (world / "kvp.yaml").write_text(
        "task: kvp\noutput: kvp\nbase: base/final/model\naux: aux/final/model\ndata: {train: train.h5, seq_len: 32, batch_size: 2}\n"
        "train: {steps: 1, warmup_steps: 1, lr: 1e-3, lr_aux: 1e-3}\n")
    for command in ("kvdata atlas --facts 40 --out atlas", "kvdata tokenizer --input atlas/train.jsonl --vocab-size 320 --out tokenizer",
                    "kvdata tokenize -c 0 -m 0 -t tokenizer.model -o train.h5 atlas/train.jsonl", "kvtrain lm.yaml",
                    "kvtrain lm.yaml -s model.n_layers=1 --output aux", "kvtrain kvp.yaml"):
        program, *words = command.split()
        run(bin / program, *words, cwd=world)


def pkg_config(prefix, place, *words):
    """Flags as pkg-config gives them once all is where it belongs, with the place it is in now; and where the libraries are."""
    folder = next(prefix.rglob("kv-prediction.pc")).parent
    flags = run("pkg-config", *words, "kv-prediction", env=os.environ | {"PKG_CONFIG_PATH": str(folder)}).split()
    meant = "/" + prefix.relative_to(place).as_posix()
    return [re.sub(rf"^(-[IL]){meant}/(?=include/kv-prediction|{folder.parent.relative_to(prefix)})", rf"\1{prefix}/", flag) for flag in flags], folder.parent


def check_example(prefix, place, world):
    text = (ROOT / "infer/README.md").read_text()
    (world / "first_tokens.c").write_text(re.search(r"^```c\n(.*?)^```$", text, re.M | re.S).group(1))
    prompt = "Question: In which country is Tipperary?\nAnswer:\n"
    (world / "prompt").write_text(prompt)
    models = ["base/final/model", "kvp/final/aux", "kvp/final/predictor"]
    asked = [prefix / "bin/kvrun", "--base", models[0], "--aux", models[1], "--predictor", models[2], "-n", "16", "--file", "prompt"]
    answer = subprocess.run([*asked, "--quiet"], cwd=world, capture_output=True).stdout.decode().removesuffix("\n")
    n_prompt = len(json.loads(run(*asked, "--json", cwd=world) or '{"prompt_ids": []}')["prompt_ids"])
    run(*asked, "--save-prompt", "saved.h5", cwd=world)
    run(*asked, "--load-prompt", "saved.h5", cwd=world)
    flags, libraries = pkg_config(prefix, place, "--cflags", "--libs")
    static, _ = pkg_config(prefix, place, "--static", "--cflags", "--libs")
    static = ["-l:libkv-prediction.a" if flag == "-lkv-prediction" else flag for flag in static]
    for compiler in COMPILERS[:2]:
        for name, given in (("shared", flags), ("static", static)):
            program = world / f"{compiler[0]}_{name}"
            run(*compiler, *WARNINGS, world / "first_tokens.c", "-xnone", "-o", program, *given)
            if not program.exists():
                continue
            needed = run("readelf", "-d", program)
            if ("libkv-prediction.so.0" in needed) != (name == "shared"):
                problems.append(f"{program.name}: is not linked with the {name} library")
            done = subprocess.run([program, *models], cwd=world, input=prompt.encode(), capture_output=True,
                                  env=os.environ | {"LD_LIBRARY_PATH": str(libraries) if name == "shared" else "/nowhere"})
            said = done.stderr.decode(errors="replace")
            text = done.stdout.decode(errors="replace")  # as kvrun shows what is no UTF-8
            if done.returncode != 0 or text != answer or not answer:
                problems.append(f"{program.name}: exit status {done.returncode}, says {text!r}, kvrun {answer!r}: {said}")
            elif not re.search(rf"tokens behind {n_prompt}, the first after \d+\.\d+ ms", said):
                problems.append(f"{program.name}: says {said!r} of {n_prompt} tokens")


# ---- Completion ----------------------------------------------------------------------------------------

# Line, words as Bash cuts them (a blank between), what is offered among others, what is not.
LINES = [
    ("kvdata tok", "kvdata tok", "tokenize tokenizer", "atlas"),
    ("kvdata tokenize --fo", "kvdata tokenize --fo", "--format= --force", "--out="),
    ("kvdata tokenize --format ", "kvdata tokenize --format ''", "text jsonl", "files"),
    ("kvdata tokenize --format=j", "kvdata tokenize --format = j", "jsonl", "text"),
    ("kvdata tokenize --format=", "kvdata tokenize --format =", "text jsonl", "--format=text"),
    ("kvdata cache -d ", "kvdata cache -d ''", "bf16 f16 f32", ""),
    ("kvtrain st", "kvtrain st", "status", ""),
    ("kvtrain status --w", "kvtrain status --w", "--watch", "--sweep="),
    ("kveval re", "kveval re", "report", "seeds"),
    ("kveval report -x ", "kveval report -x ''", "exact paper clock", ""),
    ("kvrun --base random:smollm2-1", "kvrun --base random : smollm2-1", "smollm2-135m smollm2-1.7b", "random:smollm2-135m"),
    ("kvrun --base=random:smollm2-3", "kvrun --base = random : smollm2-3", "smollm2-360m", ""),
    ("kvrun --base rand", "kvrun --base rand", "random:openelm-1.1b random:qwen3-4b", ""),
    ("kvrun --prune l", "kvrun --prune l", "lazy:", "static:"),
    ("kvrun --too-long ", "kvrun --too-long ''", "refuse cut", ""),
    ("kvrun --base x --dt", "kvrun --base x --dt", "--dtype=", "--base="),
]


def check_completion(folder):
    script = 'compopt() { :; }\nfor program in kvdata kvtrain kvrun kveval; do . "$1/$program"; done\n'
    for line, words, _, _ in LINES:
        script += (f"COMP_LINE={line!r} COMP_POINT={len(line)} COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
                   f"_{line.split()[0]}; echo ${{COMPREPLY[@]}}\n")
    offered = run("bash", "--norc", "-c", script, "-", folder).splitlines()
    for (line, _, some, no), given in zip(LINES, [words.split() for words in offered] + [[]] * len(LINES)):
        problems.extend(f"'{line}' completes to {given}, without {word}" for word in some.split() if word not in given)
        problems.extend(f"'{line}' completes to {given}, with {word}" for word in no.split() if word in given)


# ---- Manual pages --------------------------------------------------------------------------------------

def check_manual(folder, bin):
    """They keep examples as they are."""
    page = (folder / "kvtrain.1").read_text()
    example = re.search(r"^  (kvtrain my/new.yaml --dry-run)$", run(bin / "kvtrain", "--help"), re.M)
    if not example or f".nf\n.RS\n{example.group(1)}".replace("-", "\\-") not in page:
        problems.append("kvtrain.1: its examples are run together")
    for path in folder.iterdir():
        if re.search(r"HERE|KV-EXAMPLE", path.read_text()):
            problems.append(f"{path.name}: an example is missing")


def main(build):
    build = Path(build).resolve()
    with tempfile.TemporaryDirectory(prefix="installed-") as scratch:
        place, world = Path(scratch) / "place", Path(scratch) / "world"
        world.mkdir()
        run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", place)
        options = json.loads(run("meson", "introspect", build, "--buildoptions"))
        prefix = Path(str(place) + next(option["value"] for option in options if option["name"] == "prefix"))
        if not problems:
            manual = any(target["name"] == "manual" for target in json.loads(run("meson", "introspect", build, "--targets")))
            check_files(place, prefix, build, manual)
            check_symbols(next(prefix.rglob("libkv-prediction.so")), check_headers(prefix / "include/kv-prediction"))
            make_models(prefix / "bin", world)
            check_example(prefix, place, world)
            check_completion(prefix / "share/bash-completion/completions")
            if manual:
                check_manual(prefix / "share/man/man1", prefix / "bin")
    print("\n".join(problems) or "all is in its place")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main(*sys.argv[1:])
