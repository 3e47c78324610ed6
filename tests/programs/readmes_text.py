"""Reads the project's documents: the blocks of READMEs with their marks, the examples of --help, and what of a README can be
checked without running anything."""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "configs/packaging"))
from helps import PROGRAMS, commands  # noqa: E402

FOLDERS = ["core", "data", "infer", "train", "eval", "configs", "notebooks", "tests"]
CHAPTERS = [f"{folder}/README.md" for folder in FOLDERS]
MARK = re.compile(r"<!-- (run(?: and compare)?|config: (kvtrain|kvtrain --sweep|kveval)(?: as (\S+))?|file: (\S+)|not run: \S.*|data) -->")
FENCE = re.compile(r" *(```+|~~~+)")


class Block:
    def __init__(self, place, mark, lines):
        self.place, self.mark, self.lines = place, mark, lines


def readmes():
    """Paths from the root: the front page, the chapters, and what lies below those."""
    below = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("README.md")))
    return ["README.md", *CHAPTERS, *(name for name in (str(p.relative_to(ROOT)) for p in below) if name not in CHAPTERS)]


# ---- Reading a README ----------------------------------------------------------------------------------

def fences(lines):
    """(index of the opening fence, lines inside) of every block."""
    start, fence = None, ""
    for i, line in enumerate(lines):
        found = FENCE.match(line)
        if start is None and found:
            start, fence = i, found.group(1)
        elif start is not None and line.strip() == fence:
            yield start, lines[start + 1:i]
            start = None
    if start is not None:
        yield start, lines[start + 1:]


def blocks_of(readme, problems):
    lines = (ROOT / readme).read_text().splitlines()
    blocks = []
    for start, inside in fences(lines):
        place = f"{readme}:{start + 1}"
        found = MARK.fullmatch(lines[start - 1].strip()) if start else None
        if found:
            indent = len(lines[start]) - len(lines[start].lstrip())
            blocks.append(Block(place, found, [line[indent:] for line in inside]))
        else:
            problems.append(f"{place}: a block without a mark in the line above it, as <!-- run --> (tests/README.md)")
    return blocks


def prose_of(readme):
    """(number, text) of the lines outside blocks, without `code`."""
    lines = (ROOT / readme).read_text().splitlines()
    code = {i for start, inside in fences(lines) for i in range(start, start + len(inside) + 2)}
    return [(i + 1, re.sub(r"`[^`]*`", "", line)) for i, line in enumerate(lines) if i not in code]


def anchor(heading):
    """GitHub's name of it."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.lstrip("#").strip()).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors_of(path):
    seen, anchors = {}, set()
    lines = path.read_text().splitlines()
    code = {i for start, inside in fences(lines) for i in range(start, start + len(inside) + 2)}
    for i, line in enumerate(lines):
        if i in code or not re.match(r"#+ ", line):
            continue
        name = anchor(line)
        anchors.add(name if name not in seen else f"{name}-{seen[name]}")
        seen[name] = seen.get(name, 0) + 1
    return anchors


def check_links(readme, problems):
    for number, line in prose_of(readme):
        for target in re.findall(r"\]\(([^)\s]+)", line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (ROOT / readme).parent / name if name else ROOT / readme
            document = path / "README.md" if path.is_dir() else path
            if not path.exists():
                problems.append(f"{readme}:{number}: ({target}): there is no {name}")
            elif anchor and anchor not in anchors_of(document):
                problems.append(f"{readme}:{number}: ({target}): no heading #{anchor}, there are {sorted(anchors_of(document))}")


def check_indented(readme, problems):
    """An indented block would be shown as code, and never run."""
    before, in_list = "", False
    for number, line in prose_of(readme):
        if line and not line.startswith(" "):
            in_list = bool(re.match(r"([-*+]|\d+\.) ", line)) or (in_list and bool(before))
        if line.startswith("    ") and not before.strip() and not in_list:
            problems.append(f"{readme}:{number}: an indented block; put it between fences with a mark above")
        before = line


def check_contents(readme, problems):
    """A chapter opens with a list of its parts."""
    lines = (ROOT / readme).read_text().splitlines()
    code = {i for start, inside in fences(lines) for i in range(start, start + len(inside) + 2)}
    parts = [i for i, line in enumerate(lines) if line.startswith("## ") and i not in code]
    opening = "\n".join(lines[:parts[0]]) if parts else ""
    for i in parts:
        name = anchor(lines[i])
        if f"](#{name})" not in opening:
            problems.append(f"{readme}:{i + 1}: the contents list at the beginning has no (#{name})")


def check_front_page(readme, problems):
    """Short, and with a reason for every package that ./kv installs."""
    text = (ROOT / readme).read_text()
    if len(text.encode()) > 10_000:
        problems.append(f"{readme}: {len(text.encode())} bytes, expected at most 10 000: move something to a chapter")
    lists = re.findall(r"^(?:test_)?packages=\(([^)]*)\)", (ROOT / "kv").read_text(), re.M)
    for package in " ".join(lists).split():
        if not re.search(rf"(?<![\w-]){re.escape(package)}(?![\w-])", text):
            problems.append(f"{readme}: does not say why {package} is needed")


def check_text(readme, problems):
    check_links(readme, problems)
    check_indented(readme, problems)
    if readme in CHAPTERS:
        check_contents(readme, problems)
    elif "/" not in readme:
        check_front_page(readme, problems)


# ---- Reading a --help ----------------------------------------------------------------------------------


def config_program(lines):
    keys = {line.split(":")[0] for line in lines if not line.startswith(" ")}
    return "kveval" if "systems" in keys else "kvtrain --sweep" if keys & {"grid", "arms"} else "kvtrain"


def yaml_end(lines, first):
    """The last line of the indented block."""
    last = first
    while last + 1 < len(lines) and lines[last + 1].startswith("  "):
        last += 1
    return last


def yaml_mark(lines, first, last):
    """How the block is checked; the file's name stands before the colon, if one does."""
    named = re.search(r"(\S+\.yaml)\b[^.]*:$", " ".join(lines[max(0, first - 2):first]))
    program = config_program([line[2:] for line in lines[first:last + 1]])
    return f"<!-- config: {program}{f' as {named.group(1)}' if named else ''} -->"


def examples_of(words, text, problems):
    """Lines that are indented by two and have a program in them where a command begins are commands; an indented block behind a
    colon whose first line is a `key:` is YAML."""
    command = re.compile(rf"  (?=[^\s-])(?:.*(?:\||;|&&|\bdo|\$\() *)?(?:{'|'.join(PROGRAMS)})\b")
    lines, blocks, i = text.splitlines(), [], 0
    while i < len(lines):
        place, first = f"{words} --help, line {i + 1}", i
        if command.match(lines[i]):
            while lines[i].endswith("\\") and i + 1 < len(lines):
                i += 1
            mark = "<!-- not run: needs a download -->" if "models/" in "".join(lines[first:i + 1]) else "<!-- run -->"
        elif re.match(r"  [a-z_]+:( \S|$)", lines[i]):
            i = yaml_end(lines, i)
            mark = yaml_mark(lines, first, i)
            if not lines[first - 1].endswith(":"):
                problems.append(f"{place}: YAML must stand directly behind a line that ends with a colon")
        else:
            if re.match(r"Examples?: *\S", lines[i]):
                problems.append(f"{place}: put the example on a line of its own, indented by two")
            i += 1
            continue
        following = lines[i + 1].split(" ")[0] if i + 1 < len(lines) else ""
        if following and len(lines[i]) + 1 + len(following) > 79:
            problems.append(f"{place}: '{lines[i].strip()}' is wrapped after column 79 and cannot be pasted")
        blocks.append(Block(place, MARK.fullmatch(mark), [line[2:] for line in lines[first:i + 1]]))
        i += 1
    return blocks
