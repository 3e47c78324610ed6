#!/usr/bin/env python3
"""Holds what `kvtrain --example` and `kveval --example` print to the tables of keys in train/README.md and eval/README.md (which
tests hold to the programs): every key is one of them, and is said to have the default that it has.

    examples.py BUILD

A line is "KEY: VALUE  # COMMENT", or the same behind "# " where the key is not set. A comment that begins with "default" says
that VALUE is the default; with "default X." that X is. That every example is valid as it is printed, test_kvdata_new.c sees.
"""
import re
import subprocess
import sys
from pathlib import Path

BUILD = Path(sys.argv[1])
ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"^(\s*)(- )?([a-z_]+):(?: (.*?))?(?:\s+# (.*))?$")


def table(readme):
    """{key: default} of a README's tables of keys."""
    rows = re.findall(r"^\| `([\w.\[\]]+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", (ROOT / readme).read_text(), re.M)
    return {key: default.strip() for key, default in rows}


def lines(text):
    """(number, key, value, comment, set) of each line that names a key."""
    groups = []  # (indent, name) of what a line stands in
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r"^(\s*)# (?=\s*(- )?[a-z_]+: )", r"\1", line)
        match = LINE.match(bare)
        if not match:
            continue
        indent = len(match[1]) + len(match[2] or "")
        while groups and groups[-1][0] >= (len(match[1]) if match[2] else indent):
            groups.pop()
        if match[2]:
            groups.append((len(match[1]), "[]"))
        key = ".".join([name for _, name in groups] + [match[3]]).replace(".[]", "[]")
        value = match[4] or ""
        if not value:
            groups.append((indent, match[3]))
        yield number, key, value, match[5] or "", bare == line


def plain(text):
    text = text.replace("`", "").strip()
    try:
        return float(text)
    except ValueError:
        return re.sub(r"\s", "", text)


def default_of(cell, conditions):
    """What a cell says: of its alternatives the one of a condition that holds, else the first."""
    ways = cell.split("; ")
    for way in ways[1:]:
        if any(f"with `{condition}`" in way for condition in conditions):
            return way.partition(" with ")[0]
    return re.split(r" with |: |, or", ways[0])[0]


def check(name, text, keys):
    problems, n = [], 0
    conditions = ["recipe: ours"] if re.search(r"^recipe: ours", text, re.M) else []
    for number, key, value, comment, is_set in lines(text):
        if key not in keys:
            if value:
                problems.append(f"{name}:{number}: `{key}` is in no table")
            continue
        said = re.match(r"default(?: (.+?))?(?:\.(?=\s|$)|$)", comment)
        real = default_of(keys[key], conditions)
        if real == "required":
            continue
        n += 1
        if not said:
            if real not in ("none", "required") and not key.startswith(("systems", "tasks")) and is_set:
                problems.append(f"{name}:{number}: `{key}` does not say its default, {real}")
        elif plain(said[1] or value) != plain(real):
            problems.append(f"{name}:{number}: `{key}` is said to have the default {said[1] or value}, expected {real}")
    if n < 15:
        problems.append(f"{name}: only {n} keys were looked at")
    return problems


def printed(program, *words):
    return subprocess.run([BUILD / program, *words], capture_output=True, text=True, check=True).stdout


training, evaluation = table("train/README.md"), table("eval/README.md")
examples = {"lm": (printed("train/kvtrain", "--example", "lm"), training), "kvp": (printed("train/kvtrain", "--example", "kvp"), training),
            "eval": (printed("eval/kveval", "--example"), evaluation)}
problems = [problem for name, (text, keys) in examples.items() for problem in check(name, text, keys)]
if printed("train/kvtrain", "--example", "eval") != examples["eval"][0]:
    problems.append("kvtrain --example eval and kveval --example differ")
# What is wrong is found.
for wrong in ("steps: 400\n  warmup: 50  # default\n", "warmup_steps: 60  # default. Steps\n", "# lr_end: 1  # default train.lr / 9. So\n"):
    if not check("wrong", "train:\n  " + wrong, training)[:-1]:
        problems.append(f"nothing is found wrong with {wrong!r}")
print("\n".join(problems) or f"{len(examples)} examples")
sys.exit(1 if problems else 0)
