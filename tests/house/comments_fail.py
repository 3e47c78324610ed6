#!/usr/bin/env python3
"""check_comments.py finds what it is there for: each offence is named, and what only looks like one is not.

    comments_fail.py
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
from check_comments import check_citations, check_names, check_opening  # noqa: E402

NAMES = {"core", "core/ops", "core/ops/rope.c", "core/model.h", "data", "data/README.md", "tests", "tests/floors.txt"}
EQUATIONS = {"2": {1, 2}, "3": set()}

# File, its text, what has to be said of it (None: nothing).
TEXTS = [
    ("core/a.c", "// As core/ops/rope.c does.\n", None),
    ("core/a.c", "// As ops/rope.c does, and rope.c, and core/ops.\n", None),
    ("core/a.c", "// As core/rope.c does.\n", "core/a.c:1: there is no core/rope.c"),
    ("core/a.c", "int a;\nint b; // as eval_config.c\n", "core/a.c:2: there is no eval_config.c"),
    ("core/a.h", "// Only tests/floors.md says.\n", "core/a.h:1: there is no tests/floors.md"),
    ("core/a.c", "// core/ops/NAME.c, https://example.org/core/gone.c, /tmp/core/gone.c, $DIR/core/gone.c\n", None),
    ("core/a.c", "// One of gone-*.c.          [CPython, unicodeobject.c]\n", None),
    ("core/a.c", "//          [core/gone.c]\n", "core/a.c:1: there is no core/gone.c"),
    ("core/a.c", 'const char *text = "core/gone.c";\n', None),
    ("tests/a.py", "# see gone.py\n", "tests/a.py:1: there is no gone.py"),
    ("data/README.md", "`../core/model.h` and `core/ops/`\n", None),
    ("data/README.md", "A test, `tests/check.sh`, holds it.\n", "data/README.md:1: there is no tests/check.sh"),
    ("data/README.md", "```\nkvdata inspect data/train.h5\n```\n", None),
    ("data/README.md", "```\ngone.c\n```\n", "data/README.md:2: there is no gone.c"),
    ("core/a.c", "// [core/README.md §2, eq. 1 and 2]\n", None),
    ("core/a.c", "// [core/README.md §2, eq. 3]\n", "core/a.c:1: core/README.md has no equation 3 in section 2"),
    ("core/a.c", "// [core/README.md §4]\n", "core/a.c:1: core/README.md has no section 4"),
    ("core/a.c", "// [Chen et al. 2021,\n// equation 1]\n", "core/a.c:1: a citation whose bracket does not close"),
]

# A source and its header, and whether one of them opens with a comment.
OPENINGS = [
    ("// Why.\nint a;\n", "", True),
    ("/* Why. */\nint a;\n", "", True),
    ('#include "a.h"\n', "// Why.\n#pragma once\n", True),
    ('#include "a.h"\n', "#pragma once\n\n// Why.\n", True),
    ('#include "a.h"\n// Too late.\n', "#pragma once\nint a; // why\n", False),
    ("int a;\n", "", False),
]


def main():
    failed = 0
    for name, text, expected in TEXTS:
        path = Path(name)
        said = check_names(path, text, NAMES) + check_citations(path, text, EQUATIONS)
        if len(said) != (expected is not None) or (expected and not said[0].startswith(expected)):
            failed += 1
            print(f"{name}, {text!r}: expected {expected}, found {said}")
    for text, header, opens in OPENINGS:
        if check_opening(Path("core/a.c"), text, header) != [] if opens else check_opening(Path("core/a.c"), text, header) == []:
            failed += 1
            print(f"{text!r} with {header!r}: judged wrongly")
    print(f"{len(TEXTS) + len(OPENINGS) - failed} of {len(TEXTS) + len(OPENINGS)} texts are judged rightly")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
