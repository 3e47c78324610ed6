#!/usr/bin/env python3
"""Which ranks x threads train a configuration fastest here: kvtrain under a launcher, a few steps of each, by turns.

usage: ranks.py [OPTION...] CONFIG [kvtrain's options...]      ranks.py --picture FILE.svg FILE.jsonl...

  --layouts LIST      ranks x threads (default: powers of two up to the cores there are, and all of the most of them)
  --weak              the batch is the configuration's for each core, instead of one that all share
  --steps N           steps of a run; the first of them, which touches memory anew, does not count (default 6)
  --rounds N          each layout so many times, by turns (default 2)
  --launcher COMMAND  default: mpiexec's, each rank on cores of its own; {ranks} and {threads} are filled in: "srun -n {ranks} -c {threads}"
  --kvtrain PROGRAM   default: kvtrain of the build beside this file
  --scratch DIR       where the runs are written, and removed (default: the place for temporary files)
  --name NAME         of the measurement (default: the configuration's)
  --json FILE         append a line for each layout
  --picture FILE      draw speedups of all lines of FILE.jsonl, with gnuplot

Speeds are medians over steps and rounds, efficiency is speed / (speed with the fewest cores x how many times the cores).
"""
import argparse
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
COLUMNS = ("ranks", "threads", "tokens/s", "least", "most", "speedup", "efficiency", "waiting")


def arguments():
    # All that is not ours is kvtrain's.
    p = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("usage: "), add_help=False, allow_abbrev=False)
    p.add_argument("-h", "--help", action="store_true")
    p.add_argument("--layouts")
    p.add_argument("--weak", action="store_true")
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--launcher")
    p.add_argument("--kvtrain", default=HERE.parent.parent / os.environ.get("KV_BUILD", "build") / "train/kvtrain")
    p.add_argument("--scratch")
    p.add_argument("--name")
    p.add_argument("--json")
    p.add_argument("--picture")
    p.add_argument("config", nargs="?")
    args, rest = p.parse_known_args()
    if args.help:
        print(__doc__, end="")
        sys.exit()
    if not args.config:
        sys.exit("ranks.py: found no configuration, expected a file of kvtrain's (ranks.py --help)")
    return args, rest


def default_layouts():
    cores = len(os.sched_getaffinity(0))
    powers = [2**i for i in range(cores.bit_length()) if 2**i <= cores]
    most = powers[-1]
    return [(1, n) for n in powers] + [(n, most // n) for n in powers[1:]]


def layouts_of(text):
    if not text:
        return default_layouts()
    try:
        layouts = [tuple(int(n) for n in word.split("x")) for word in text.split(",")]
    except ValueError:
        layouts = []
    if not layouts or any(len(l) != 2 or min(l) < 1 for l in layouts):
        sys.exit(f"ranks.py: found --layouts '{text}', expected ranks x threads such as 1x1,1x4,2x2,4x1")
    return layouts


def default_launcher():
    try:
        says = subprocess.run(["mpiexec", "--version"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        sys.exit("ranks.py: found no mpiexec, expected one, or --launcher")
    if "Open MPI" in says or "OpenRTE" in says:
        return "mpiexec -n {ranks} --map-by slot:PE={threads} --bind-to core"
    return "mpiexec -n {ranks} -bind-to core:{threads}"


def lines_of(path):
    try:
        return [line for line in path.read_text().split("\n")[:-1] if "tokens_per_second" in line]
    except FileNotFoundError:
        return []


def end_session(leader):
    """All that the launcher has started here, without what a run does at its end; ranks elsewhere end with their launcher."""
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rsplit(")", 1)[1].split()[3]) == leader:
                os.kill(int(path.parent.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass


def run(args, rest, layout, batch):
    """Tokens a second, and the share of the time that rank 0 waited, of each step but the first."""
    ranks, threads = layout
    with tempfile.TemporaryDirectory(prefix="ranks", dir=args.scratch) as dir:
        log = pathlib.Path(dir, "run", "metrics.jsonl")
        command = shlex.split(args.launcher.format(ranks=ranks, threads=threads)) + [str(args.kvtrain), args.config] + rest
        command += ["-s", "train.steps=1000000", "-s", "train.log_every=1", "-s", "train.checkpoint_every=1000000", "-o", f"{dir}/run"]
        if batch:
            command += ["-s", f"data.batch_size={batch}"]
        said = follow(command, threads, log, args.steps, pathlib.Path(dir, "said"))
        steps = lines_of(log)[1:args.steps]
    if not steps:
        sys.exit(f"ranks.py: {shlex.join(command)} trained no two steps:\n{said}")
    return [(s["tokens_per_second"], s.get("waiting", 0)) for s in map(json.loads, steps)]


def follow(command, threads, log, steps, said):
    """Starts it, waits until so many steps are logged, ends it. What it said."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))  # which cores they are is said by the launcher
    with open(said, "w") as out:
        started = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            while started.poll() is None and len(lines_of(log)) < steps:
                time.sleep(0.05)
        finally:
            end_session(started.pid)
            started.wait()
    return said.read_text()


def batch_size(args, rest):
    says = subprocess.run([args.kvtrain, args.config, *rest, "--dry-run"], capture_output=True, text=True)
    for line in says.stdout.splitlines():
        if line.strip().startswith("batch_size:"):
            return int(line.split(":")[1])
    sys.exit(f"ranks.py: {args.kvtrain} {args.config} --dry-run says no batch_size:\n{says.stderr}")


def measure(args, rest):
    layouts, batch = layouts_of(args.layouts), batch_size(args, rest) if args.weak else None
    args.launcher = args.launcher or default_launcher()
    found = {layout: [] for layout in layouts}
    for _ in range(args.rounds):
        for layout in layouts:
            found[layout] += run(args, rest, layout, batch and batch * layout[0] * layout[1])
    rows = []
    for (ranks, threads), steps in found.items():
        rows.append({
            "name": args.name or pathlib.Path(args.config).stem, "scaling": "weak" if args.weak else "strong",
            "ranks": ranks, "threads": threads, "tokens_per_second": statistics.median(s[0] for s in steps),
            "least": min(s[0] for s in steps), "most": max(s[0] for s in steps),
            "waiting": statistics.median(s[1] for s in steps),
        })
    return rows


def cores(row):
    return row["ranks"] * row["threads"]


def compared(rows):
    """Each with its speedup over that of the fewest cores of its name and kind, and the efficiency."""
    for row in rows:
        first = min((r for r in rows if (r["name"], r["scaling"]) == (row["name"], row["scaling"])), key=cores)
        row["speedup"] = row["tokens_per_second"] / first["tokens_per_second"]
        row["efficiency"] = row["speedup"] * cores(first) / cores(row)
    return rows


def show(rows):
    print(" ".join(f"{c:>10}" for c in COLUMNS))
    for r in rows:
        print(f"{r['ranks']:10} {r['threads']:10} {r['tokens_per_second']:10.4g} {r['least']:10.4g} {r['most']:10.4g} "
              f"{r['speedup']:10.2f} {r['efficiency']:10.0%} {r['waiting']:10.1%}", flush=True)


def curves(rows):
    """By name and kind: threads of one rank; and all the cores, as ranks."""
    series = {}
    for r in compared(rows):
        for what, others in (("threads", r["ranks"]), ("ranks", r["threads"])):
            if others == 1:
                series.setdefault((f"{r['name']}, {r['scaling']}", what), set()).add((cores(r), r["speedup"]))
    return series


def picture(out, files):
    rows = [json.loads(line) for file in files for line in pathlib.Path(file).read_text().splitlines()]
    found = curves(rows)
    names = list(dict.fromkeys(name for name, _ in found))
    lines = [f"'-' title '{name}: {what}' with linespoints linewidth 2 linecolor {names.index(name) + 1} "
             f"dashtype {1 if what == 'threads' else 3} pointtype {7 if what == 'threads' else 6}" for name, what in found]
    script = [f"set terminal svg size 760,420 font 'sans,12' background 'white'\nset output '{out}'\nset colorsequence podo",
              "set logscale xy 2\nset xlabel 'cores'\nset ylabel 'times as fast as one core'\nset key outside right Left reverse\nset grid",
              ", ".join(["plot x title 'ideal' with lines linecolor 'gray'"] + lines)]
    for points in found.values():
        script += [f"{x} {y}" for x, y in sorted(points)] + ["e"]
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)


def main():
    args, rest = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending what it has started
    if args.picture:
        picture(args.picture, [args.config, *rest])
        return
    rows = measure(args, rest)
    show(compared(rows))
    if args.json:
        with open(args.json, "a") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)


main()
