"""Reads what the programs say of themselves: their commands, and the options of each --help. What is made of it (man pages,
completion, tests) cannot name an option that is not there."""
import os
import re
import subprocess
from pathlib import Path

PROGRAMS = {"kvdata": "data", "kvtrain": "train", "kvrun": "infer", "kveval": "eval"}  # and where a build has them


def run(build, words, *arguments):
    """What a program or one of its commands prints ("kvdata tokenize", "--help"), whatever the terminal's width."""
    program, *rest = words.split()
    environment = {k: v for k, v in os.environ.items() if k not in ("ARGP_HELP_FMT", "COLUMNS") and not k.startswith("KV_")}
    done = subprocess.run([Path(build) / PROGRAMS[program] / program, *rest, *arguments], env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout


def commands(build):
    """{words: --help}: of every program, and behind each its commands. One is told of where its program's --help lists it, or
    names it behind the program; and its own --help says so."""
    found = {}
    for program in PROGRAMS:
        text = found[program] = run(build, program, "--help")
        listed = re.search(r"^Commands:\n((?:  \w+ .*\n)+)", text, re.M)
        names = re.findall(r"^  (\w+) ", listed.group(1), re.M) if listed else []
        named = re.findall(rf"\b{program} (?:\[OPTION\.\.\.\] )?([a-z]+)\b", text)
        for name in dict.fromkeys(names + named):
            own = run(build, f"{program} {name}", "--help")
            if own.startswith(f"Usage: {program} {name} "):
                found[f"{program} {name}"] = own
    return found


class Option:
    """--name=value; letter and value may be empty; optional: [=value]."""

    def __init__(self, letter, name, value, optional, tells):
        self.letter, self.name, self.value, self.optional, self.tells = letter, name, value, optional, tells


def options(text):
    """Those of a --help, in its order."""
    head = re.split(r"^Mandatory or optional", text, maxsplit=1, flags=re.M)[0]
    rows = re.findall(r"^ {2,6}(?:-(\S), +)?--([\w-]+)(?:(\[)?=([^\]\s]+)\]?)?(.*(?:\n {20,}.*)*)", head, re.M)
    return [Option(letter, name, value, bool(bracket), " ".join(tells.split())) for letter, name, bracket, value, tells in rows]


def opening(text):
    """Its first sentence, in which it says what the program is for."""
    paragraph = re.sub(r"^Usage:.*\n(?: +or: .*\n)*", "", text).split("\n\n")[0]
    return re.split(r"(?<=[\w)`])[.:?](?= |$)", " ".join(paragraph.split()), maxsplit=1)[0]
