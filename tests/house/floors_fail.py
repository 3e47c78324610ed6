#!/usr/bin/env python3
"""check_floors.py finds what it is there for: each offence, put into a small house of its own, is named.

    floors_fail.py CHECK_FLOORS.PY
"""

import pathlib
import subprocess
import sys
import tempfile

HOUSE = {
    "tests/floors.txt": """floors: core < data < train, eval
core:
data: file < text, [tool + train]
train: step < run < [start]
eval: plot
""",
    "core/tape.h": "#pragma once\n",
    "core/tape.c": '#include "core/tape.h"\n// printf("in a comment")\n',
    "data/file/csv.h": '#include "core/tape.h"\n',
    "data/file/csv.c": '#include "data/file/csv.h"\n#include <stdio.h>\n',
    "data/text/words.h": '#include "data/file/csv.h"\n',
    "data/tool/tool.h": '#include "data/file/csv.h"\n#include "train/step.h"\n',
    "train/step.h": "",
    "train/run.c": '#include "data/text/words.h"\n',
    "train/start/start.h": '#include "train/step.h"\n',
    "eval/plot.h": '#include "core/tape.h"\n',
}

# What is added to the house, and what has to be said of it.
OFFENCES = [
    ({"core/tape.h": '#include "data/file/csv.h"\n'}, "core/tape.h:1: core may not include data/file/csv.h"),
    ({"data/file/csv.h": '\n#include "data/text/words.h"\n'}, "data/file/csv.h:2: data/file may not include"),
    ({"data/text/words.h": '# include "data/tool/tool.h"\n'}, "data/text may not include data/tool/tool.h"),
    ({"data/tool/tool.h": '#include "eval/plot.h"\n'}, "data/tool may not include eval/plot.h"),
    ({"data/tool/tool.h": '#include "train/start/start.h"\n'}, "data/tool may not include train/start/start.h"),
    ({"data/text/words.h": '#include "train/step.h"\n'}, "data/text may not include train/step.h"),
    ({"tests/floors.txt": HOUSE["tests/floors.txt"].replace("text,", "text + train,")}, "'text + train': only a program"),
    ({"tests/floors.txt": HOUSE["tests/floors.txt"].replace("+ train", "+ cellar")}, "[tool + cellar]: there is no floor cellar"),
    ({"train/run.c": '#include "eval/plot.h"\n'}, "train/run may not include eval/plot.h"),
    ({"eval/plot.h": '#include "data/tool/tool.h"\n'}, "eval/plot may not include data/tool/tool.h"),
    ({"eval/plot.h": "#include <data/tool/tool.h>\n"}, "eval/plot may not include data/tool/tool.h"),
    ({"eval/plot.h": '#include "tests/floors.txt"\n'}, "eval/plot may not include tests/floors.txt"),
    ({"data/file/csv.c": '#include "csv.h"\n'}, "data/file/csv.c:1: 'csv.h' is not a header's path from the root"),
    ({"data/file/new/odd.h": "", "data/odd/odd.h": ""}, "data/odd is not in tests/floors.txt"),
    ({"train/run.c": None, "train/go.c": ""}, "train/run is in tests/floors.txt, but has no sources"),
    (
        {
            "data/file/a.h": '#include "data/file/csv.h"\n',
            "data/file/csv.c": '#include "data/file/csv.h"\n#include "data/file/a.h"\n',
            "data/text/b.c": '#include "data/file/a.h"\n',
        },
        "a circle: data/file/",
    ),
    ({"core/tape.c": 'int f(void) {\n    exit(1);\n}\n'}, "core/tape.c:2: core prints, ends or opens: 'exit('"),
    ({"train/run.c": "\n// json_loads(\nint x = json_loadb (text);\n"}, "train/run.c:3: JSON is read by kv_json_parse"),
    ({"data/text/words.h": "json_load_file(path)\n"}, "data/text/words.h:1: JSON is read by kv_json_parse"),
    ({"core/tape.c": "void *f(void) { return stderr; }\n"}, "core/tape.c:1: core prints, ends or opens: 'stderr'"),
]


def check(checker, files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root, name)
            if text is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        done = subprocess.run([sys.executable, checker, root], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def main():
    checker, failed = sys.argv[1], 0
    code, said = check(checker, HOUSE)
    if code != 0:
        failed += 1
        print(f"a house in order was refused:\n{said}")
    for change, message in OFFENCES:
        code, said = check(checker, {**HOUSE, **change})
        if code != 1 or message not in said:
            failed += 1
            print(f"{change}: expected '{message}', found exit status {code}:\n{said}")
    print(f"{len(OFFENCES) + 1 - failed} of {len(OFFENCES) + 1} houses are judged rightly")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
