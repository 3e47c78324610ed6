#!/usr/bin/env python3
"""Runs what the documents show: the blocks of every README.md, and the examples in every --help.

usage: readmes.py BUILD [PART...]     PART: a README.md's path from the root, or a program ("kvdata cache"); default all

Above the fence of every block stands what becomes of it (tests/README.md explains it):
    <!-- run -->                      shell commands, or lines after "$ " and what they print
    <!-- run and compare -->          the same, and it prints what is shown ("…" alone on a line stands for any lines)
    <!-- config: kvtrain -->          YAML that the program takes; also kvtrain --sweep, kveval; "as PATH" keeps it there
    <!-- file: PATH -->               lines of that file of the repository
    <!-- not run: why -->
    <!-- data -->                     what nobody runs: output, formats, C
Each README and each --help starts in a fresh copy of the world that readmes_world.sh makes.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from readmes_text import PROGRAMS, ROOT, blocks_of, check_text, commands, examples_of, readmes  # noqa: E402


# ---- Running -------------------------------------------------------------------------------------------

def console_commands(lines):
    """[(command, what it prints)] of a console block; [(all of it, None)] of one without prompts."""
    if not any(line.startswith("$ ") for line in lines):
        return [("\n".join(lines), None)]
    steps, inside = [], False
    for line in lines:
        if line.startswith("$ "):
            steps.append([line[2:], []])
        elif inside:
            steps[-1][0] += "\n" + line.removeprefix("> ")
        else:
            steps[-1][1].append(line)
        # A quoted text or a continued line goes on.
        parts = subprocess.run(["bash", "-n"], input=steps[-1][0] + "\n", capture_output=True, text=True)
        inside = steps[-1][0].endswith("\\") or (parts.returncode != 0 and "unexpected EOF" in parts.stderr)
    return steps


def matches(shown, printed):
    pattern = "".join(r"(?:.*\n)*" if line == "…" else re.escape(line.rstrip()) + r" *\n" for line in shown)
    return re.fullmatch(pattern, "".join(line + "\n" for line in printed.splitlines())) is not None


def shell(command, world, environment):
    return subprocess.run(["bash", "-e", "-o", "pipefail", "-c", command], cwd=world, env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)


def run_block(block, world, environment, problems):
    kind, program, name, shown = block.mark.groups()
    if kind.startswith("run"):
        # The block is one script, so that variables last; what each command prints ends with a mark.
        steps, end = console_commands(block.lines), "-- end of a command --"
        script = "\n".join(f"{command}\necho '{end}'" for command, _ in steps)
        done = shell(script, world, environment)
        parts = done.stdout.split(end + "\n")
        if done.returncode != 0:
            at = min(len(parts), len(steps)) - 1
            problems.append(f"{block.place}: exit status {done.returncode} of: {steps[at][0]}\n    " +
                            "\n    ".join(parts[-1].splitlines()[-8:]))
        elif kind == "run and compare":
            for (command, shown), printed in zip(steps, parts):
                if not matches(shown or [], printed):
                    problems.append(f"{block.place}: {command}\n  does not print what is shown, but\n{printed}")
    elif program:
        path = world / (name or "example.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(block.lines) + "\n")
        done = shell(f"{program} '{path.relative_to(world)}' --dry-run", world, environment)
        if done.returncode != 0:
            problems.append(f"{block.place}: {program} does not take it: {done.stdout.strip().splitlines()[-1]}")
    elif shown:
        text = (ROOT / shown).read_text() if (ROOT / shown).is_file() else ""
        if not matches(["…", *block.lines, "…"], text):
            problems.append(f"{block.place}: these are not lines of {shown}")


def run_part(part, blocks, template, environment):
    """Problems, and the time it took."""
    problems = []
    with tempfile.TemporaryDirectory(prefix="readmes-") as scratch:
        world = Path(scratch) / "world"
        shutil.copytree(template, world, symlinks=True)
        for block in blocks:
            try:
                run_block(block, world, environment | {"HOME": scratch}, problems)
            except subprocess.TimeoutExpired:
                problems.append(f"{block.place}: takes more than ten minutes")
    return problems


def collect(build, wanted, problems):
    """{part: blocks} of all documents."""
    parts = {}
    for readme in readmes():
        if wanted and readme not in wanted:
            continue
        if not (ROOT / readme).exists():
            problems.append(f"{readme}: is missing")
            continue
        parts[readme] = blocks_of(readme, problems)
        check_text(readme, problems)
    for words, text in commands(build).items():
        if not wanted or words in wanted:
            parts[words] = examples_of(words, text, problems)
    return parts


def main(build, *wanted):
    build, problems = Path(build).resolve(), []
    parts = collect(build, wanted, problems)
    unknown = [word for word in wanted if word not in parts]
    if unknown:
        sys.exit(f"readmes.py: there is no {', '.join(unknown)}; there are {', '.join([*readmes(), *commands(build)])}")
    # Each of the two that run at a time has one thread; what a user may have set is not taken over.
    path = ":".join(str(build / folder) for folder in PROGRAMS.values()) + ":" + os.environ["PATH"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KV_")}
    environment |= {"PATH": path, "OMP_NUM_THREADS": "1", "ARGP_HELP_FMT": ""}
    with tempfile.TemporaryDirectory(prefix="readmes-") as scratch:
        template = Path(scratch) / "world"
        subprocess.run([ROOT / "tests/programs/readmes_world.sh", build, template], check=True)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda part: run_part(part, parts[part], template, environment), parts):
                problems += found
    blocks = [block for part in parts.values() for block in part]
    counts = {kind: sum(block.mark.group(1).startswith(kind) for block in blocks) for kind in ("run", "config", "file", "not run", "data")}
    print("\n".join(problems) or f"{len(parts)} documents: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main(*sys.argv[1:])
