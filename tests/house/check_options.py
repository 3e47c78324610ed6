#!/usr/bin/env python3
"""Holds the tables of options in data/README.md to what kvdata's --help says: the same commands, and each with the same options.

usage: check_options.py BUILD
"""
import re
import subprocess
import sys
from pathlib import Path

kvdata = Path(sys.argv[1]) / "data/kvdata"
chapter = (Path(__file__).resolve().parents[2] / "data/README.md").read_text()
everywhere = {"--help", "--usage", "--version"}
problems = []


def help_of(*words):
    return subprocess.run([kvdata, *words, "--help"], capture_output=True, text=True, check=True).stdout


def in_help(command):
    """{"--top-k=N": "-t"} of a command's list of options."""
    found = re.findall(r"^ +(?:(-\w), )?(--[\w-]+(?:=\S+)?)", help_of(command).split("\nMandatory")[0], re.M)
    return {long: short for short, long in found if long.split("=")[0] not in everywhere}


def in_chapter(text):
    cells = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if re.match(r"\| `-", line)]
    names = [re.findall(r"`(-[^`]+)`", cell.replace("\\|", "|")) for cell in cells]
    return {given[-1]: given[0] if len(given) > 1 else "" for given in names}


sections = dict(re.findall(r"^### kvdata (\w+)\n(.*?)(?=^##)", chapter, re.M | re.S))
commands = re.findall(r"^  (\w+) ", re.search(r"^Commands:\n((?:  \w+ .*\n)+)", help_of(), re.M).group(1), re.M)
if set(sections) != set(commands):
    problems.append(f"sections on {', '.join(sorted(sections))}; kvdata --help has {', '.join(sorted(commands))}")
for command in sorted(set(sections) & set(commands)):
    told, real = in_chapter(sections[command]), in_help(command)
    problems += [f"kvdata {command}: {option} is not in the chapter" for option in real if option not in told]
    problems += [f"kvdata {command}: the chapter has {option}, --help has not" for option in told if option not in real]
    problems += [f"kvdata {command}: {option} is {told[option] or 'without a letter'} in the chapter, {real[option] or 'none'} in --help"
                 for option in real if option in told and told[option] != real[option]]
print("\n".join(f"data/README.md: {problem}" for problem in problems) or f"{len(sections)} commands")
sys.exit(1 if problems else 0)
