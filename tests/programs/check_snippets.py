"""Runs what kvdata snippets wrote, all in this one process: check_snippets.py PROBLEMS.jsonl... or --texts TEXTS.jsonl...

Problems: every canonical solution passes its test, and no object that equals everything does (both is "right");
solutions with another constant or without one step fail it, but for the few where that makes no difference.
Texts: the examples in the docstrings are what the functions return.
Prints the counts that the test looks at.
"""
import doctest
import json
import re
import sys


def lines_of(paths):
    for path in paths:
        with open(path) as file:
            yield from map(json.loads, file)


def passes(problem, solution):
    names = {}
    try:
        exec(problem["prompt"] + solution + problem["test"], names)
        names["check"](names[problem["entry_point"]])
    except Exception:
        return False
    return True


def wrong_solutions(solution):
    lines = solution.splitlines(keepends=True)
    for i, line in enumerate(lines[:-1]):
        target, expression = line.split(" = ", 1)
        if re.search(rf"\b{target.strip()}\b", expression):
            yield "".join(lines[:i] + lines[i + 1:])
    for found in re.finditer(r"(?<![\w*])([3-8])(?!\w)|'([b-d])'", solution):
        place = found.start(1) if found.group(1) else found.start(2)
        for other in (-1, 1):
            yield solution[:place] + chr(ord(solution[place]) + other) + solution[place + 1:]
    yield "    return None\n"
    yield "    return\n    syntax error\n"


def cheats(solution):
    """Results that equal everything: as a whole, and as what a list holds."""
    lines = solution.splitlines(keepends=True)
    anything = "    class Anything(int):\n        def __eq__(self, other): return True\n"
    yield anything + "    return Anything()\n"
    yield anything + "".join(lines[:-1]) + lines[-1].replace("return ", "result = ") + (
        "    return [Anything(x) for x in result or [0]] if isinstance(result, list) else Anything()\n")


def check_problems(paths):
    n = right = wrong = caught = 0
    for problem in lines_of(paths):
        n += 1
        right += passes(problem, problem["canonical_solution"]) and not any(
            passes(problem, cheat) for cheat in cheats(problem["canonical_solution"]))
        for solution in wrong_solutions(problem["canonical_solution"]):
            wrong += 1
            caught += not passes(problem, solution)
    print(f"problems {n} right {right} wrong {wrong} caught {caught}")


def check_texts(paths):
    n = examples = failed = 0
    parser = doctest.DocTestParser()
    for text in lines_of(paths):
        n += 1
        names = {}
        exec(text["text"], names)
        test = parser.get_doctest(names["solve"].__doc__, names, "solve", None, 0)
        result = doctest.DocTestRunner().run(test, out=lambda _: None)
        examples += result.attempted
        failed += result.failed
    print(f"texts {n} examples {examples} failed {failed}")


if sys.argv[1] == "--texts":
    check_texts(sys.argv[2:])
else:
    check_problems(sys.argv[1:])
