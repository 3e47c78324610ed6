#!/usr/bin/env python3
"""Fails when the house is not as tests/floors.txt says, with a line for every offence.

    check_floors.py ROOT

- An include names a header by its path from the root, and reaches only rooms that stand below its own.
- Modules include each other in no circle. A module is a header with the sources that open with it; a header that
  only one other module includes is a part of that one.
- Every folder and file of a floor is a room of tests/floors.txt, and every room exists.
- The core prints nothing, ends no process and opens no file.
- JSON is read by data/file/json_value.c: nobody else calls jansson's loaders.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
CALLS = re.compile(
    r"(?<![A-Za-z0-9_])(printf|fprintf|vprintf|vfprintf|dprintf|puts|fputs|putchar|putc|fputc|fwrite|write|perror"
    r"|exit|_exit|_Exit|quick_exit|abort|fopen|fdopen|freopen|open|openat|creat|popen|mmap|system|getenv)\s*\("
    r"|(?<![A-Za-z0-9_])(stdin|stdout|stderr)(?![A-Za-z0-9_])"
)
LOADERS = re.compile(r"(?<![A-Za-z0-9_])json_load(s|b|f|fd|_file|_callback)\s*\(")
READERS = ("data/file/json_value.c", "data/file/json_text.c")


def read_room(text, where):
    """(name of a room, whether it is a program, floors that it may use as well) from 'room', '[program]', '[program + floor]'."""
    is_program = text.startswith("[") and text.endswith("]")
    name, *more = (part.strip() for part in text.strip("[]").split("+"))
    if more and not is_program:
        sys.exit(f"{where}: '{text}': only a program, in [brackets], may use a floor above its own")
    return name, is_program, more


def read_order(path):
    """{floor: floors below it}, {floor: {room: rooms below it}}, {programs: floors they may use as well}."""
    order, programs = {}, {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        if ":" not in line:
            sys.exit(f"{path}:{number}: expected 'FLOOR: ROOMS', found '{line}'")
        name, rooms = (part.strip() for part in line.split(":", 1))
        below, order[name] = set(), {}
        for step in filter(None, (step.strip() for step in rooms.split("<"))):
            beside = [read_room(room.strip(), f"{path}:{number}") for room in step.split(",")]
            for room, is_program, more in beside:
                if is_program:
                    programs[f"{name}/{room}"] = more
                order[name][room] = set(below)
            below.update(room for room, _, _ in beside)
    floors = order.pop("floors")
    for program, more in programs.items():
        for floor in set(more) - set(floors):
            sys.exit(f"{path}: [{program.split('/')[1]} + {floor}]: there is no floor {floor}")
    return floors, order, programs


def room_of(path):
    """(floor, room) of a source's path from the root; the whole core is one room."""
    parts = pathlib.PurePosixPath(path).parts
    if parts[0] == "core" or len(parts) < 2:
        return parts[0], ""
    return parts[0], parts[1] if len(parts) > 2 else pathlib.PurePosixPath(parts[1]).stem


def allowed(source, target, floors, rooms, programs):
    floor, room = room_of(source)
    other, other_room = room_of(target)
    if other != floor:
        below = {*floors[floor], *programs.get(f"{floor}/{room}", ())}
        return other in below and f"{other}/{other_room}" not in programs
    return room == other_room or other_room in rooms[floor].get(room, set())


def modules(includes):
    """{file: its module}, from {file: what it includes, in order}."""
    headers = {file for file in includes if file.endswith(".h")}
    module = {}
    for file, targets in includes.items():
        own = file.rsplit(".", 1)[0] + ".h"
        beside = [t for t in targets if room_of(t) == room_of(file)]
        module[file] = own if own in headers else beside[0] if beside else file
    merged = True
    while merged:
        merged = False
        for header in headers:
            users = {module[file] for file, targets in includes.items() if header in targets} - {module[header]}
            if len(users) == 1 and module[header] == header and room_of(users.copy().pop()) == room_of(header):
                owner = users.pop()
                module = {file: owner if m == header else m for file, m in module.items()}
                merged = True
    return module


def circles(graph):
    """The circles of {module: modules it includes}, one for each way back that a walk finds."""
    state, path, found = {}, [], []

    def walk(module):
        state[module] = "open"
        path.append(module)
        for other in sorted(graph.get(module, ())):
            if state.get(other) == "open":
                found.append(path[path.index(other) :] + [other])
            elif other not in state:
                walk(other)
        path.pop()
        state[module] = "done"

    for module in sorted(graph):
        if module not in state:
            walk(module)
    return found


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check_floors.py ROOT")
    root = pathlib.Path(sys.argv[1])
    floors, rooms, programs = read_order(root / "tests/floors.txt")
    found, includes, seen = [], {}, {floor: set() for floor in floors}

    for floor in floors:
        if not (root / floor).is_dir():
            sys.exit(f"check_floors.py: no directory {floor} in {root}")
        for path in sorted(p for p in (root / floor).rglob("*") if p.suffix in (".c", ".h", ".cc")):
            name = path.relative_to(root).as_posix()
            seen[floor].add(room_of(name)[1])
            text = path.read_text()
            includes[name] = []
            for match in INCLUDE.finditer(text):
                target, where = match.group(1), f"{name}:{text.count(chr(10), 0, match.start(1)) + 1}"
                if match.group(0).rstrip().endswith(">") and target.split("/")[0] not in floors:
                    continue
                if not (root / target).is_file():
                    found.append(f"{where}: '{target}' is not a header's path from the root")
                elif target.split("/")[0] not in floors or not allowed(name, target, floors, rooms, programs):
                    found.append(f"{where}: {'/'.join(room_of(name)).rstrip('/')} may not include {target}")
                includes[name].append(target)
            code = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)
            for match in LOADERS.finditer(code) if name not in READERS else ():
                found.append(f"{name}:{code.count(chr(10), 0, match.start()) + 1}: JSON is read by kv_json_parse (data/file/json.h)")
            if floor == "core":
                for match in CALLS.finditer(code):
                    line = code.count("\n", 0, match.start()) + 1
                    found.append(f"{name}:{line}: core prints, ends or opens: '{match.group(0)}'")

    for floor, names in seen.items():
        if floor == "core":
            continue
        for room in sorted(names ^ set(rooms[floor])):
            what = "is not in tests/floors.txt" if room in names else "is in tests/floors.txt, but has no sources"
            found.append(f"{floor}/{room} {what}")
    module, graph = modules(includes), {}
    for file, targets in includes.items():
        for target in targets:
            if target in module and module[target] != module[file]:
                graph.setdefault(module[file], set()).add(module[target])
    for circle in circles(graph):
        found.append("a circle: " + " -> ".join(circle))

    print("\n".join(found) if found else "every room in its place")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
