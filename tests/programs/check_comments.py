#!/usr/bin/env python3
"""Fails when comments promise what is not there, with a line for every offence.

    check_comments.py ROOT COMPILER...

- The example that opens a header compiles, without a warning.
- Every section and equation of core/README.md that a comment cites exists, the equation in that section.
- A citation stands in brackets that close on their own line.
"""

import re
import subprocess
import sys
from pathlib import Path

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
UNCLOSED = re.compile(r"//.*\[[^\]]*(§|\bet al\.|\bsection \d|\beq\.|\barXiv\b|\b(19|20)\d\d\b)[^\]]*$")


def sources(root):
    return sorted(p for p in root.glob("*/**/*") if p.suffix in (".c", ".h", ".cc") and not p.parts[len(root.parts)].startswith("build"))


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
    for path in files:
        problems += check_citations(path.relative_to(root), path.read_text(), equations)
    print(*problems or [f"{len(files)} files keep their promises"], sep="\n")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
