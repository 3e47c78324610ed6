"""What the notebooks read: files that kvtrain and kveval wrote, as simple structures.

Nothing here computes a figure that a program has already written; numbers that could not be had are NaN.
"""

import csv
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent


class Missing(Exception):
    """A file is not there; says which command makes it. Jupyter shows the message without the way it came."""

    def _render_traceback_(self):
        return [f"Missing: {self}"]


# ---- Places --------------------------------------------------------------------------------------------


def place(variable, *defaults):
    """The directory that the environment variable names, else the first of `defaults` that exists, else the
    first of them. Relative paths count from the repository's root."""
    named = os.environ.get(variable)
    candidates = [ROOT / p for p in ([named] if named else defaults)]
    return next((c for c in candidates if c.exists()), candidates[0])


def short(path):
    """The path as it is written in the README: from the repository's root, where it lies below it."""
    path = Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def need(path, command):
    """The path, which must exist; `command` is what makes it."""
    path = Path(path)
    if not path.exists():
        raise Missing(f"{short(path)} is not there. This makes it, from the repository's root:  {command}")
    return path


# ---- CSV -----------------------------------------------------------------------------------------------


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")


@dataclass
class Sweep:
    """table.csv of a sweep. A row is a run (or one of the systems it is compared with: arm is "") on one task, split and metric; without
    figures where it was not evaluated. Its `settings` are the values of the swept keys, as text. `lower`: less is better of the
    metric, which then is no share (tables of before there were such do not say). Of a sweep over seeds a row is their mean, with one
    standard deviation to each side in the place of an interval."""

    name: str
    directory: Path
    keys: list
    rows: list


_FIGURES = "accuracy low high retention retention_low retention_high p_value paper_reduction exact_reduction steps trained_parameters train_loss validation_loss seconds"


def sweep(directory, command):
    path = need(Path(directory) / "table.csv", command)
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        table, columns = list(reader), reader.fieldnames or []
    if columns[:2] != ["run", "arm"] or "task" not in columns:
        raise Missing(f"{short(path)} is not the table of a sweep. This makes one:  {command}")
    keys = columns[2 : columns.index("task")]
    found = []
    for r in table:
        text = {n: r[n] for n in ("run", "arm", "task", "split", "metric")}
        numbers = {n: _number(r.get(n)) for n in _FIGURES.split()}
        found.append(SimpleNamespace(**text, **numbers, lower=r.get("better") == "lower", settings={k: r[k] for k in keys}))
    means = _over_seeds(found)
    if len(means) < len(found):
        keys.remove("seed")
    return Sweep(Path(directory).name, Path(directory), keys, means)


def _over_seeds(rows):
    """Rows of one run that differ in their seed alone, as one; those of a sweep without `seeds` as they are."""
    groups = {}
    for r in rows:
        groups.setdefault((r.run, r.task, r.split, r.metric), []).append(r)
    return [same[0] if len(same) == 1 else _mean_of(same) for same in groups.values()]


def _mean_of(same):
    row = SimpleNamespace(**vars(same[0]))
    for name in _FIGURES.split():
        setattr(row, name, float(np.mean([getattr(r, name) for r in same])))
    for name, low, high in (("accuracy", "low", "high"), ("retention", "retention_low", "retention_high")):
        spread = float(np.std([getattr(r, name) for r in same], ddof=1))
        setattr(row, low, getattr(row, name) - spread)
        setattr(row, high, getattr(row, name) + spread)
    return row


def sweeps(directory, command):
    """All sweeps in a directory, by name; at least one."""
    found = sorted(p.parent for p in Path(directory).glob("*/table.csv"))
    return [sweep(d, command) for d in found] or need(Path(directory) / "*" / "table.csv", command)


@dataclass
class Grid:
    """Of grid.csv one task, whose items lie on a grid of lengths and depths: for each system, by name, what it scores. Cells nobody
    was asked are NaN. `lower`: less is better of the metric."""

    task: str
    metric: str
    lower: bool
    lengths: list
    depths: list
    families: dict  # of systems, in the order of the file
    cells: dict  # system -> [depths, lengths]
    by_length: dict  # system -> rows over all depths, one for each length: accuracy, accuracy_low, accuracy_high, ttft_seconds, ...
    notes: dict  # system -> "not finite", or ""


_CELL = "length depth n_items accuracy accuracy_low accuracy_high flops_reduction_exact prompt_tokens ttft_seconds ttft_spread ttft_reduction"


def seeds(directory, file):
    """The directories of evaluations that differ in seed alone: `directory` itself where it holds `file`, else its s1, s2, ..."""
    found = sorted(p.parent for p in Path(directory).glob(f"s*/{file}")) if not (Path(directory) / file).exists() else []
    return found or [Path(directory)]


def grids_of_seeds(directory, command):
    """The grids of one evaluation, or the means of those of its seeds, with the number of these. A mean's rows have one standard deviation
    to each side in the place of an interval; systems that not all seeds have are left out."""
    found = [grids(d, command) for d in seeds(directory, "grid.csv")]
    return ([_mean_grid(same) for same in zip(*found)] if len(found) > 1 else found[0]), len(found)


def _mean_grid(same):
    first, grids_ = same[0], same
    names = [name for name in first.families if all(name in g.families for g in grids_)]
    mean = Grid(first.task, first.metric, first.lower, first.lengths, first.depths, {n: first.families[n] for n in names}, {}, {}, {n: first.notes[n] for n in names})
    for name in names:
        mean.cells[name] = np.mean([g.cells[name] for g in grids_], axis=0)
        mean.by_length[name] = [_mean_row(rows) for rows in zip(*(g.by_length[name] for g in grids_))]
    return mean


def _mean_row(rows):
    values = {n: np.array([getattr(r, n) for r in rows]) for n in _CELL.split()}
    row = SimpleNamespace(**{n: float(v.mean()) for n, v in values.items()})
    spread = float(values["accuracy"].std(ddof=1))
    row.accuracy_low, row.accuracy_high = row.accuracy - spread, row.accuracy + spread
    return row


@dataclass
class Score:
    """Of results.csv one system's figure of a metric with each seed."""

    system: str
    family: str
    values: list
    exact: float  # the base's FLOPs up to the first token over the system's, mean


def scores(directory, metric):
    """Of every system, in the order of the file, the figures of the first task that has this metric; {} where none has."""
    found = {}
    for place_ in seeds(directory, "results.csv"):
        with open(place_ / "results.csv", encoding="utf-8", newline="") as file:
            rows = [r for r in csv.DictReader(file) if r["metric"] == metric]
        for r in rows:
            if (r["task"], r["split"]) == (rows[0]["task"], rows[0]["split"]):
                score = found.setdefault(r["system"], Score(r["system"], r["family"], [], _number(r["flops_reduction_exact"])))
                score.values.append(_number(r["accuracy"]))
    return found


def grids(directory, command):
    """All tasks of an evaluation whose items lie on a grid; at least one."""
    if (Path(directory) / "results.csv").exists() and not (Path(directory) / "grid.csv").exists():
        raise Missing(f"{short(directory)} has no grid.csv: none of its tasks asks items of several lengths and depths, as `kind: recall` does")
    path = need(Path(directory) / "grid.csv", command)
    tasks = {}
    with open(path, encoding="utf-8", newline="") as file:
        for r in csv.DictReader(file):
            numbers = SimpleNamespace(**{n: _number(r.get(n)) for n in _CELL.split()})
            tasks.setdefault((f"{r['task']}, {r['split']}" if r["split"] else r["task"], r["metric"], r["better"] == "lower"), []).append((r, numbers))
    return [_grid(name, rows) for name, rows in tasks.items()]


def _grid(name, rows):
    lengths, depths = (sorted({v for _, n in rows if (v := getattr(n, which)) == v}) for which in ("length", "depth"))  # without NaN
    grid = Grid(*name, lengths, depths, {r["system"]: r["family"] for r, _ in rows}, {}, {}, {r["system"]: r["note"] for r, _ in rows})
    for r, n in rows:
        system = r["system"]
        cells = grid.cells.setdefault(system, np.full((len(depths), len(lengths)), np.nan))
        if n.length == n.length and n.depth == n.depth:
            cells[depths.index(n.depth), lengths.index(n.length)] = n.accuracy
        elif n.length == n.length:
            grid.by_length.setdefault(system, []).append(n)
    return grid


@dataclass
class Published:
    """A table of the paper's: points (model, family, reduction, {score name: fraction of 1}), the base first."""

    scores: list
    points: list


_NO_SCORES = {"model", "family", "flops_reduction", "ttft_s", "ttft_reduction", "lambda_consistency"}


def published(path):
    """published.csv, or None when there is none."""
    if not Path(path).exists():
        return None
    with open(path, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    scores = [n for n in table[0] if n not in _NO_SCORES]
    points = [
        SimpleNamespace(
            name=r["model"],
            family=r["family"],
            reduction=float(r["flops_reduction"]),
            weight=r.get("lambda_consistency"),
            values={n: _number(r[n]) / 100 for n in scores},
        )
        for r in table
    ]
    return Published(scores, points)


def published_name(directory):
    """The name by which kveval knows the table that published.csv of an evaluation is a copy of, or None."""
    copy = Path(directory) / "published.csv"
    tables = sorted((ROOT / "eval" / "published").glob("*.csv")) if copy.exists() else []
    return next((t.stem for t in tables if t.read_bytes() == copy.read_bytes()), None)


# ---- metrics.jsonl -------------------------------------------------------------------------------------


@dataclass
class Curve:
    """One kind of line of a metrics.jsonl, in order of steps: names of numbers -> arrays, as long as `step`.
    Where a step was logged twice (a run that went on from a checkpoint) the later line counts."""

    step: np.ndarray
    values: dict

    def __getitem__(self, name):
        return self.values[name]

    def __contains__(self, name):
        return name in self.values

    def __len__(self):
        return len(self.step)


def _curve(lines):
    by_step = {line["step"]: line for line in lines}
    steps = sorted(by_step)
    names = {n: None for s in steps for n, v in by_step[s].items() if isinstance(v, (int, float)) and n != "step"}
    nan = float("nan")
    return Curve(np.array(steps, float), {n: np.array([by_step[s].get(n, nan) for s in steps], float) for n in names})


@dataclass
class Run:
    name: str
    training: Curve
    validation: Curve
    layers: list  # of the last validation line: (key errors, value errors) per base layer, or None

    @property
    def is_kvp(self):
        return "consistency" in self.training


def run(directory):
    """What metrics.jsonl of a run directory says. A last line that is being written does not count."""
    path = need(Path(directory) / "metrics.jsonl", "kvtrain CONFIG.yaml")
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    validation = [{**v["validation"], "step": v["step"]} for v in lines if "validation" in v]
    last = validation[-1] if validation else {}
    layers = (np.array(last["key_error"]), np.array(last["value_error"])) if "key_error" in last else None
    return Run(path.parent.name, _curve([v for v in lines if "loss" in v]), _curve(validation), layers)


def runs(directory):
    """All runs in a directory, by name."""
    found = sorted(Path(directory).glob("*/metrics.jsonl"))
    return [r for r in map(run, (p.parent for p in found)) if len(r.training)]


# ---- results.h5 ----------------------------------------------------------------------------------------


@dataclass
class System:
    row: int
    name: str
    family: str
    base: int  # the row it is compared with
    paper_reduction: float


@dataclass
class Task:
    """Arrays of [systems, metrics]; NaN in the rows of systems that were not asked."""

    index: int
    name: str
    split: str
    kind: str
    metrics: list
    n_items: int
    prompt_tokens: float
    asked: np.ndarray
    exact_reduction: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    retention: np.ndarray
    retention_low: np.ndarray
    retention_high: np.ndarray
    p_value: np.ndarray
    lower: list  # of every metric whether less is better: figures of such are in their own unit, all others are shares
    n_skipped: int = 0
    n_cut: int = 0

    @property
    def title(self):
        title = f"{self.name}, {self.split}" if self.split else self.name
        if self.n_skipped:
            title += f" ({self.n_skipped} of {self.n_items + self.n_skipped} skipped: too long)"
        if self.n_cut:
            title += f" ({self.n_cut} of {self.n_items} cut from the left: too long)"
        return title


@dataclass
class Errors:
    """What kveval's analysis found of one system's predicted cache: for "key" and "value" the mean |error|
    [layers, positions], counts of signed errors [layers, bins] with their edges [layers, bins + 1], the share
    of variance explained [layers] and the mean |true value| [layers]. Of attention outputs the cosine [layers] (NaN in files of
    before it was measured). `predicted` [layers] is False of a layer whose cache is the base's own."""

    system: System
    error: dict = field(default_factory=dict)
    histogram: dict = field(default_factory=dict)
    edges: dict = field(default_factory=dict)
    explained: dict = field(default_factory=dict)
    magnitude: dict = field(default_factory=dict)
    cosine: np.ndarray = None
    predicted: np.ndarray = None


@dataclass
class Results:
    path: Path
    systems: list
    tasks: list
    timings: list  # prompt_tokens, batch_size, repeats; seconds, spread, reduction, flops [systems]

    def records(self, task, system):
        """What a system answered, question by question."""
        with h5py.File(self.path, "r") as file:
            name = f"tasks/{task.index}/records/{system.row}"
            text = file[name][()].tobytes().decode("utf-8") if name in file else ""
        return [json.loads(line) for line in text.splitlines() if line]

    def system(self, name):
        return next((s for s in self.systems if s.name == name), None)


def _text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _metric(file, name):
    """What version 2 called acc_norm was divided by bytes."""
    return "acc_bytes" if name == "acc_norm" and int(file.attrs["version"]) == 2 else name


def _task(file, index):
    group = file[f"tasks/{index}"]
    a = group.attrs
    arrays = {n: group[n][()] for n in ("exact_reduction", "accuracy", "low", "high", "retention", "p_value")}
    for n in ("retention_low", "retention_high"):  # results of version 2 had none
        arrays[n] = group[n][()] if n in group else np.full_like(arrays["retention"], np.nan)
    return Task(
        index,
        _text(a["name"]),
        _text(a["split"]),
        _text(a["kind"]),
        [_metric(file, _text(m)) for m in group["metrics"][()]],
        int(a["n_items"]),
        float(a["prompt_tokens"]),
        group["asked"][()].astype(bool),
        **arrays,
        lower=[_text(b) == "lower" for b in group["better"][()]] if "better" in group else [False] * len(group["metrics"]),
        n_skipped=int(a.get("n_skipped", 0)),
        n_cut=int(a.get("n_cut", 0)),
    )


def _timing(file, index):
    group = file[f"ttft/{index}"]
    arrays = {n: group[n][()] for n in ("seconds", "spread", "reduction", "flops")}
    return SimpleNamespace(**{n: int(group.attrs[n]) for n in ("prompt_tokens", "batch_size", "repeats")}, **arrays)


def _open(directory, command):
    path = need(Path(directory) / "results.h5", command)
    file = h5py.File(path, "r")
    if _text(file.attrs.get("format", "")) != "kv-results":
        raise Missing(f"{short(path)} is not a file of kveval's. This makes one:  {command}")
    return path, file


def _systems(file):
    group = file["systems"]
    columns = [group[n][()] for n in ("name", "family", "base", "paper_reduction")]
    return [System(i, _text(n), _text(f), int(b), float(p)) for i, (n, f, b, p) in enumerate(zip(*columns))]


def results(directory, command):
    """results.h5 of an evaluation's directory."""
    path, file = _open(directory, command)
    with file:
        tasks = [_task(file, i) for i in range(int(file.attrs["n_tasks"]))]
        timings = [_timing(file, i) for i in range(int(file.attrs["n_timings"]))]
        return Results(path, _systems(file), tasks, timings)


def analysis(directory, command):
    """What the group /analysis of results.h5 says: what it was made on, and the Errors of every system in it."""
    path, file = _open(directory, command)
    with file:
        if "analysis" not in file:
            raise Missing(
                f"{short(path)} has no analysis of predicted caches: give its configuration an `analysis:`, then  {command}"
            )
        group = file["analysis"]
        about = SimpleNamespace(**{n: _text(v) for n, v in group.attrs.items()})
        found = []
        for system in _systems(file):
            if str(system.row) not in group:
                continue
            part, errors = group[str(system.row)], Errors(system)
            for name in ("error", "histogram", "edges", "explained", "magnitude"):
                for which in ("key", "value"):
                    getattr(errors, name)[which] = part[f"{which}_{name}"][()]
            layers = len(errors.explained["key"])
            errors.cosine = part["attention_cosine"][()] if "attention_cosine" in part else np.full(layers, np.nan)
            errors.predicted = part["predicted"][()].astype(bool) if "predicted" in part else np.full(layers, True)
            found.append(errors)
    return about, found
