#!/usr/bin/env python3
"""Holds what can be pasted to what there is. The examples of every --help are the same in a terminal of 40 columns, of 60 and of 200; those
commands, and the ones in READMEs that no test runs, are ones that Bash can read, of programs, commands and options that exist.

usage: check_pasted.py BUILD
"""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "configs/packaging"), str(ROOT / "tests/programs")]
from helps import PROGRAMS, commands, options  # noqa: E402
from readmes_text import blocks_of, examples_of, readmes  # noqa: E402

WIDTHS = ("40", "60", "200")  # beside the usual one
BETWEEN = re.compile(r"[;&|()<>]+$")


def by_spelling(text):
    """{"--top-k" or "-k": whether a value follows as a word of its own}."""
    given = {}
    for option in options(text):
        for name in [f"--{option.name}"] + ([f"-{option.letter}"] if option.letter else []):
            given[name] = bool(option.value) and not option.optional
    return given


def calls(script):
    """The words of every call of a program, as far as Bash's own quoting is shlex's."""
    script = re.sub(r"\$'((?:[^'\\]|\\.)*)'", "'quoted'", script.replace("\\\n", " "))
    for line in script.splitlines():
        lexer = shlex.shlex(line.replace("$(", " ; "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            continue  # a quotation that goes on in the next line
        at = [i for i, word in enumerate(words) if word.rsplit("/", 1)[-1] in PROGRAMS
              and (i == 0 or BETWEEN.match(words[i - 1]) or words[i - 1] in ("do", "then", "{", "!", "$"))]
        for i in at:
            end = next((j for j in range(i, len(words)) if BETWEEN.match(words[j])), len(words))
            yield [words[i].rsplit("/", 1)[-1], *words[i + 1:end]]


def check_call(place, words, given, problems):
    command = words[0]
    rest = words[1:]
    if rest and f"{command} {rest[0]}" in given:
        command = f"{command} {rest.pop(0)}"
    known, wants = given[command], False
    for word in rest:
        if wants:
            wants = False
        elif word == "--":
            return
        elif word.startswith("--"):
            name = word.split("=")[0]
            if name not in known:
                problems.append(f"{place}: {command} has no {name}")
            wants = "=" not in word and known.get(name, False)
        elif re.match(r"-[A-Za-z?]", word):
            if word[:2] not in known:
                problems.append(f"{place}: {command} has no {word[:2]}")
            wants = len(word) == 2 and known.get(word[:2], False)


def check_script(place, script, given, problems):
    read = subprocess.run(["bash", "-n"], input=script + "\n", text=True, capture_output=True)
    if read.returncode != 0:
        problems.append(f"{place}: Bash cannot read it: {read.stderr.strip()}")
    n = 0
    for words in calls(script):
        check_call(place, words, given, problems)
        n += 1
    return n


def check_kv(place, script, problems):
    """Calls of ./kv: its command, and options that its --help names."""
    for command, rest in re.findall(r"^(?:\S+=\S+ )*\./kv (\w+)([^\n#|;&]*)", script, re.M):
        text = subprocess.run([ROOT / "kv", "help", command], capture_output=True, text=True).stdout
        if command != "help" and not text:
            problems.append(f"{place}: ./kv has no command {command}")
        problems.extend(f"{place}: ./kv {command} has no {option}" for option in re.findall(r" (--[\w-]+)", rest)
                        if option not in text and "[OPTION...]" not in text.split("\n")[0])


def is_yaml(block):
    return block.mark.group(1).startswith("config")


def check_help(build, words, given, problems):
    """How many calls its examples have."""
    seen = {}
    for width in ("", *WIDTHS):
        program, *rest = words.split()
        environment = {k: v for k, v in os.environ.items() if k != "COLUMNS" and not k.startswith(("KV_", "ARGP_"))}
        text = subprocess.run([build / PROGRAMS[program] / program, *rest, "--help"], capture_output=True, text=True,
                              env=environment | ({"COLUMNS": width} if width else {})).stdout
        seen[width] = examples_of(words, text, problems if not width else [])
    shown = {width: [block.lines for block in blocks] for width, blocks in seen.items()}
    for width in WIDTHS:
        for wide, narrow in zip(shown[""], shown[width] + [[]] * len(shown[""])):
            if wide != narrow:
                problems.append(f"{words} --help: with {width} columns an example is another: '{wide[0]} …' became '{(narrow or ['nothing'])[0]} …'")
    return sum(check_script(block.place, "\n".join(block.lines), given, problems) for block in seen[""] if not is_yaml(block))


def check_widths(build, words, problems):
    """glibc's argp loses letters of options, puts margins where they do not belong and writes behind its buffer where that is full."""
    whole = None
    for width in (33, 34, 36, 38, 40, 44, 52, 61, 200):
        program, *rest = words.split()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("KV_", "ARGP_"))} | {"COLUMNS": str(width)}
        done = subprocess.run([build / PROGRAMS[program] / program, *rest, "--help"], capture_output=True, text=True, env=environment)
        found = re.findall(r"^ {2,6}(?:-\S, +)?--([\w-]+)", re.split(r"^Mandatory", done.stdout, maxsplit=1, flags=re.M)[0], re.M)
        if done.returncode != 0:
            problems.append(f"{words} --help: with {width} columns it ends with {done.returncode}")
        elif whole is not None and found != whole:
            problems.append(f"{words} --help: with {width} columns other options are shown: {set(found) ^ set(whole)}")
        whole = whole or found


def shell_blocks(readme):
    """(place, commands) of a README's blocks that no test runs."""
    for block in blocks_of(readme, []):
        if block.mark.group(1).startswith("not run"):
            prompts = any(line.startswith("$ ") for line in block.lines)
            yield block.place, console(block.lines) if prompts else "\n".join(block.lines)


def console(lines):
    """The commands of a console block: behind "$ ", and as long as a line ends with a backslash."""
    kept, going = [], False
    for line in lines:
        if line.startswith("$ ") or going:
            kept.append(line.removeprefix("$ "))
            going = line.endswith("\\")
    return "\n".join(kept)


def main(build):
    build, problems, n = Path(build).resolve(), [], 0
    found = commands(build)
    given = {words: by_spelling(text) for words, text in found.items()}
    for words in found:
        n += check_help(build, words, given, problems)
        check_widths(build, words, problems)
    for readme in readmes():
        for place, script in shell_blocks(readme):
            n += check_script(place, script, given, problems)
            check_kv(place, script, problems)
    print("\n".join(problems) or f"{n} calls in {len(found)} --helps and {len(readmes())} READMEs")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main(sys.argv[1])
