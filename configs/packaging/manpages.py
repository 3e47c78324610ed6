#!/usr/bin/env python3
"""Makes a manual page of each program and of each of its commands, by help2man, from what --help says.

usage: manpages.py HELP2MAN BUILD VERSION DIR     DIR is made, or made anew: kvdata.1, kvdata-tokenize.1, ...

help2man would run the examples of a --help together as text. So they are taken out before and put back behind, as they are.
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from helps import commands, opening  # noqa: E402

EXAMPLE = "KV-EXAMPLE-{}-HERE"


def take_out(text):
    """The --help with a mark in the place of each block that is indented by two, and the blocks. Options come before."""
    end = [option.end() for option in re.finditer(r"^ +-V, --version .*\n", text, re.M)][-1]
    head, blocks = re.sub(r"^ (\w[\w ]*:)$", r"\1", text[:end], flags=re.M), []

    def mark(found):
        blocks.append(found.group(0).rstrip("\n"))
        return f"\n{EXAMPLE.format(len(blocks) - 1)}\n\n"
    return head + re.sub(r"(?:^  .*\n?)+", mark, text[end:], flags=re.M), blocks


def verbatim(block):
    lines = [line[2:].replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga") for line in block.splitlines()]
    return "\n".join([".nf", ".RS", *("\\&" + line if line[:1] in (".", "\\") else line for line in lines), ".RE", ".fi"])


def put_back(page, blocks):
    for i, block in enumerate(blocks):
        mark = re.escape(EXAMPLE.format(i)).replace("\\-", r"\\?-")
        page, n = re.subn(rf"(?:^\.(?:PP|IP|HP|TP)\n)?^{mark}\n", lambda _: verbatim(block) + "\n", page, count=1, flags=re.M)
        if n != 1:
            raise SystemExit(f"manpages.py: an example is lost:\n{block}")
    return page


def make(help2man, words, text, version, told, others, target):
    """One page: help2man asks a stand-in, which says what the program said."""
    name = words.replace(" ", "-")
    shown, blocks = take_out(text)
    with tempfile.TemporaryDirectory(prefix="manpages-") as scratch:
        stand_in = Path(scratch) / name
        stand_in.write_text(f'#!/bin/sh\ncase $1 in --version) echo "{name} {version}" ;; *) cat "$0.help" ;; esac\n')
        stand_in.chmod(0o755)
        Path(f"{stand_in}.help").write_text(shown)
        Path(f"{stand_in}.also").write_text("[SEE ALSO]\n" + ",\n".join(f".BR {other} (1)" for other in others) + "\n")
        page = subprocess.run([help2man, "--no-info", f"--name={told}", f"--include={stand_in}.also", str(stand_in)], text=True, check=True,
                              stdout=subprocess.PIPE).stdout
    target.write_text(put_back(page, blocks))


def main(help2man, build, version, target):
    target, found = Path(target), commands(build)
    target.mkdir(exist_ok=True)
    said = json.dumps([version, Path(__file__).read_text(), found])
    kept = target.with_suffix(".json")
    listed = dict(re.findall(r"^  (\w+) {2,}(\S.*)$", found["kvdata"], re.M))
    if not kept.exists() or kept.read_text() != said:
        for old in target.iterdir():
            old.unlink()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            pages = []
            for words, text in found.items():
                program, _, command = words.partition(" ")
                told = listed[command] if program == "kvdata" and command else opening(text)
                near = [other for other in found if other.split()[0] == program or " " not in other]
                others = [other.replace(" ", "-") for other in near if other != words]
                pages.append(pool.submit(make, help2man, words, text, version, told[0].lower() + told[1:], others,
                                         target / f"{words.replace(' ', '-')}.1"))
            for page in pages:
                page.result()
        kept.write_text(said)
    os.utime(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
