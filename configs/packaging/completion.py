#!/usr/bin/env python3
"""Writes what Bash needs to complete the programs' command lines, a file each, from what --help says; complete.bash is the frame.

usage: completion.py BUILD DIR
"""
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from helps import PROGRAMS, commands, options, run  # noqa: E402

# Options whose directory may also be a name of random weights.
MODELS, PREDICTORS = ("base", "aux", "model"), ("predictor",)


def random_names(build):
    """Published shapes, as the program lists them to those who ask for another."""
    refused = run(build, "kvdata inspect", "random:?")
    first, *others = re.search(r"expected (random:.+?), perhaps", refused).group(1).split(", ")
    return [first, *(f"random:{name}" for name in others)]


def words_told(option):
    """The words that may be its value, where --help lists them."""
    if re.fullmatch(r"[a-z0-9]+(\|[a-z0-9]+)+", option.value):
        return option.value.split("|")
    prefixes = re.findall(r"\b([a-z]+:)[A-Z]", option.tells)
    if prefixes:
        return prefixes
    if option.value in ("TYPE", "WAY", "FORMAT"):
        word = r"([a-z]+\d*)(?: \(default\))?"
        listed = re.search(rf"\b{word}(?:, {word})?(?:, {word})?(?:, {word})?,? or {word}\b", option.tells)
        return [name for name in listed.groups() if name] if listed else []
    return []


def kind_of(option, names):
    words = words_told(option)
    if option.name in MODELS:
        words = names
    elif option.name in PREDICTORS:
        words = ["random", "random:prefix="]
    places = set(option.value.split("|"))
    kind = "files" if places & {"FILE", "PATH", "PREFIX"} else "dirs" if "DIR" in places else "words" if words else "none"
    return ("maybe " if option.optional else "") + " ".join([kind, *words])


def operand_kind(words, text, found, names):
    """Its commands, and files where its usage asks for some, by names that --help may say are others' too."""
    usage = re.match(r"Usage:.*\n(?: +or: .*\n)*", text).group(0)
    below = [other.split()[1] for other in found if other.startswith(f"{words} ")]
    places = re.sub(r"--\w+ \S+", "", usage)
    kind = "words" if "COMMAND" in places else "files" if re.search(r"INPUT|CORPUS|PATH|\.yaml|\.h5|DIR", places) else "none"
    return " ".join([kind, *below, *(names if "such as random:" in text and kind == "files" else [])])


def table(rows):
    return "\n".join(f"        [{key!r}]='{value}'" for key, value in rows.items())


def main(build, target):
    frame = (Path(__file__).parent / "complete.bash").read_text()
    found, names = commands(build), random_names(build)
    for program in PROGRAMS:
        own = {words: text for words, text in found.items() if words.split()[0] == program}
        spelt, values = {}, {}
        for words, text in own.items():
            given = options(text)
            letters = [f"-{option.letter}" for option in given if option.letter]
            spelt[words] = " ".join([f"--{option.name}{'=' if option.value and not option.optional else ''}" for option in given] + letters)
            for option in given:
                if option.value:
                    for name in [f"--{option.name}"] + ([f"-{option.letter}"] if option.letter else []):
                        values[f"{words} {name}"] = kind_of(option, names)
        operands = {words: operand_kind(words, text, own, names) for words, text in own.items()}
        text = frame.replace("@OPTIONS@", table(spelt)).replace("@VALUES@", table(values)).replace("@OPERANDS@", table(operands))
        (Path(target) / program).write_text(f"# Completion of {program}'s command lines, made from its --help.\n" + text.replace("@NAME@", program))


if __name__ == "__main__":
    main(*sys.argv[1:])
