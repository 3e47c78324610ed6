#!/usr/bin/env python3
"""Fails when comments promise what is not there, with a line for every offence.

    check_comments.py ROOT COMPILER...

- The example that opens a header compiles, without a warning.
- Every section and equation of core/README.md that a comment cites exists, the equation in that section.
- A citation stands in brackets that close on their own line.
- Files that a comment or a README names are there: by their path from the root, or from the file that names them; a bare
  name is that of some file. In capitals (test_NAME.c) it stands for any.
- Every source opens with a comment that says why it is there, or its header does.
"""

import posixpath
import re
import subprocess
import sys
from pathlib import Path

FOLDERS = ["core", "data", "infer", "train", "eval", "configs", "notebooks", "tests"]
EXAMPLES = ["core/objective.h", "infer/session/engine.h"]
# What the examples take for granted.
AROUND = """#include "core/objective.h"
#include "core/optimizer.h"
#include "infer/session/engine.h"
#include "infer/session/sample.h"
#include <stdio.h>
#include <stdlib.h>
void fail(const kv_error *err);
void example(kv_model *base, kv_model *aux, kv_predictor *predictor, kv_adamw *optimizer, const int32_t *ids,
             const int32_t *next_ids, int64_t n, kv_error err);
void example(kv_model *base, kv_model *aux, kv_predictor *predictor, kv_adamw *optimizer, const int32_t *ids,
             const int32_t *next_ids, int64_t n, kv_error err) {
(void)base, (void)aux, (void)predictor, (void)optimizer, (void)ids, (void)next_ids, (void)n, (void)err;
%s
}
"""
# A source by its name, or anything by its path from the root.
NAMED = re.compile(
    r"(?<![\w/.$<>{}*:-])((?:[\w.-]+/)*[\w-]+\.(?:c|h|cc|py|sh)|(?:core|data|infer|train|eval|tests|notebooks)/[\w./-]*\w)(?![\w*<{(/-])"
)
UNCLOSED = re.compile(r"//.*\[[^\]]*(§|\bet al\.|\bsection \d|\beq\.|\barXiv\b|\b(19|20)\d\d\b)[^\]]*$")


def sources(root):
    return sorted(p for p in root.glob("*/**/*") if p.suffix in (".c", ".h", ".cc") and not p.parts[len(root.parts)].startswith("build"))


def names_below(root):
    """Paths from the root of the files and folders that belong to the project."""
    names = {path.name for path in root.iterdir() if path.is_file()}
    for folder in FOLDERS:
        names |= {folder} | {path.relative_to(root).as_posix() for path in (root / folder).rglob("*")}
    return names


def example_of(header):
    lines = header.read_text().split("#pragma once")[0].splitlines()
    return "\n".join(line[5:] for line in lines if re.match(r"//   \S|//    +[^ \[]", line))


def check_example(root, name, compiler):
    text = AROUND % example_of(root / name)
    command = [*compiler, "-std=c17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", str(root), "-x", "c", "-"]
    run = subprocess.run(command, input=text, capture_output=True, text=True)
    return [f"{name}: its example does not compile:\n{run.stderr}"] if run.returncode or "kv_" not in text else []


def equations_of(readme):
    """{section: equations in it} of core/README.md."""
    found, section = {}, None
    for line in readme.read_text().splitlines():
        heading = re.match(r"#+ (\d*)", line)
        if heading:
            section = heading.group(1)
            if section:
                found[section] = set()
        equation = re.match(r"[A-Z]* *\((\d+)\) ", line)
        if section and equation:
            found[section].add(int(equation.group(1)))
    return found


def prose_of(path, text):
    """[(number of the line, what of it is prose)]: comments of a source, all of a README but paths inside its blocks."""
    inside, prose = False, []
    for number, line in enumerate(text.splitlines(), 1):
        if path.suffix == ".md":
            inside ^= line.lstrip().startswith("```")
            prose.append((number, re.sub(r"\S+/\S*", "", line) if inside else line))
        else:
            comment = re.search(r"(?<!:)//(.*)" if path.suffix in (".c", ".h", ".cc") else r"(?:^|\s)#(.*)", line)
            # What stands in brackets behind a comma is in others' work.
            prose.append((number, re.sub(r"\[[^\]]*, [^\]]*\]", "", comment.group(1)) if comment else ""))
    return prose


def check_names(path, text, names):
    """`names`: the paths of all files and folders, from the root."""
    problems, bare = [], {posixpath.basename(name) for name in names}
    for number, line in prose_of(path, text):
        for name in NAMED.findall(line):
            beside = posixpath.normpath(posixpath.join(path.parent.as_posix(), name))
            if not re.search("[A-Z]{4}", name) and not {name, beside} & names and ("/" in name or name not in bare):
                problems.append(f"{path}:{number}: there is no {name}")
    return problems


def check_opening(path, text, header):
    """`header`: the text of the header of the same name, or nothing."""
    opens = [t.lstrip().removeprefix("#pragma once").lstrip().startswith(("//", "/*")) for t in (text, header)]
    return [] if any(opens) else [f"{path}:1: neither it nor its header opens with a comment"]


def cited_numbers(text):
    numbers = set()
    for first, last in re.findall(r"(\d+)(?: to (\d+))?", text):
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def check_citations(path, text, equations):
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        if UNCLOSED.search(line):
            problems.append(f"{path}:{number}: a citation whose bracket does not close: {line.strip()}")
        for cited in re.findall(r"core/README\.md,? (§.*)", line):
            for section, rest in re.findall(r"§(\d+)(?:, eq\. ([\d, and to]+))?", cited):
                if section not in equations:
                    problems.append(f"{path}:{number}: core/README.md has no section {section}")
                for equation in cited_numbers(rest) - equations.get(section, set()):
                    problems.append(f"{path}:{number}: core/README.md has no equation {equation} in section {section}")
    return problems


def main():
    root, compiler = Path(sys.argv[1]).resolve(), sys.argv[2:]
    equations = equations_of(root / "core/README.md")
    problems = [p for name in EXAMPLES for p in check_example(root, name, compiler)]
    files = sources(root)
    names = names_below(root)
    for path in files:
        text, header = path.read_text(), path.with_suffix(".h")
        problems += check_citations(path.relative_to(root), text, equations)
        problems += check_opening(path.relative_to(root), text, header.read_text() if header.exists() else "")
    for name in sorted(names):
        path = root / name
        if path.suffix in (".c", ".h", ".cc", ".md", ".py", ".sh") or path.name in ("meson.build", "floors.txt", "kv"):
            if path.is_file():
                problems += check_names(path.relative_to(root), path.read_text(), names)
    print(*problems or [f"{len(files)} files keep their promises"], sep="\n")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
