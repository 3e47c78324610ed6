"""How the notebooks draw: one look, the colour and the marker of every family of systems (eval/plot/families.csv), pictures by
kveval itself, and all of them saved under a name where KV_FIGURES says."""

import csv
import io
import os
import subprocess
import tempfile
from pathlib import Path

import kvresults
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython import display
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image

WIDTH = 9.0  # inches; 900 pixels of a README, so that a point is 1.4 of its pixels
GREY, LIGHT = "#666666", "#E4E4E4"

def look():
    """Sets matplotlib's defaults. Call it once, first."""
    plt.rcParams.update(
        {
            "figure.facecolor": "white",
            "figure.dpi": 100,
            "savefig.dpi": 150,
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": LIGHT,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.4,
            "lines.markersize": 6,
            "figure.constrained_layout.use": True,
        }
    )


def _store(picture, name, directory):
    folder = os.environ.get("KV_FIGURES")
    if not folder:
        return
    folder = Path(directory) / folder  # which is the latter alone where it is absolute
    path = folder / f"{name}.png"
    if len(picture) >= 150_000:  # 256 colours are enough for lines on white, and take a third of the bytes
        small = io.BytesIO()
        Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        picture = small.getvalue()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    except OSError as error:  # results of others, which one may only read: the page has the picture all the same
        print(f"Not saved: {kvresults.short(path)}: {error.strerror}")


def save(figure, name, directory):
    """Writes NAME.png where KV_FIGURES says: a folder of the results' directory ("figures"), or an absolute path. Without it
    the notebook only shows the figure."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    _store(drawn.getvalue(), name, directory)


def by_kveval(results, name, picture="pareto", **options):
    """The picture that kveval draws of a results.h5, saved as above: `options` are those of `kveval report`. kveval places
    labels, and its pictures look alike wherever they are shown."""
    program = Path(os.environ.get("KVEVAL") or kvresults.ROOT / "build" / "eval" / "kveval")
    kvresults.need(program, "./kv build")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [program, "report", results, "--output", out, *(f"--{k}={v}" for k, v in options.items() if v)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not (out / f"{picture}.png").exists():
            raise RuntimeError(done.stderr.strip() or f"kveval drew no {picture}.png")
        drawn = (out / f"{picture}.png").read_bytes()
    _store(drawn, name, Path(results).parent)
    return display.Image(data=drawn)


# ---- Families ------------------------------------------------------------------------------------------

# The table that kveval draws by, too: colours that people with colour blindness can tell apart [Okabe & Ito 2008; Tol 2021,
# "muted"], and markers for greyscale.
with open(Path(__file__).resolve().parent.parent / "eval" / "plot" / "families.csv", encoding="utf-8", newline="") as _file:
    _LINES = list(csv.DictReader(_file))


def _key(name):
    """"KVP-C (ours)" and "kvp_c Ours" are one family (eval/plot/families.c)."""
    return name.replace("’", "").encode().lower().translate(None, b" -_()'\"")


_LOOKS = {_key(row["family"]): (row["colour"], row["marker"]) for row in _LINES if row["family"]}
_OWN = [row["colour"] for row in _LINES if not row["family"]]  # of families that have no line
_MARKERS = list(dict.fromkeys(marker for _, marker in _LOOKS.values()))
_SHAPES = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "wedge": "v", "pentagon": "p", "cross": "x", "plus": "+", "star": "*"}


def _hash(key):
    """FNV-1a."""
    value = 2166136261
    for byte in key:
        value = (value ^ byte) * 16777619 % 2**32
    return value


def look_of(name):
    """(colour, marker) of a family as kveval has them: of the table, or by its name (eval/plot/families.h). Of two families
    that are not in the table and have the same hash, which kveval would tell apart, both look alike here."""
    key = _key(name)[:63]
    if key in _LOOKS:
        return _LOOKS[key]
    place = _hash(key) % (len(_OWN) * len(_MARKERS))
    return _OWN[place % len(_OWN)], _MARKERS[place // len(_OWN)]


def family(arm):
    """The family of an arm of a sweep that says what it is: "ours_steps" is "ours"."""
    first_word = arm.replace("_", " ").replace("-", " ").split(" ")[0]
    return arm if is_known(arm) or not is_known(first_word) else first_word


def is_known(name):
    return _key(name) in _LOOKS


def colour_of(name):
    return look_of(name)[0]


def marker_of(name, **more):
    """How plot() is told a family's colour and marker: a dotted one is white inside."""
    colour, marker = look_of(name)
    dotted, shape = marker.startswith("dotted "), _SHAPES[marker.split(" ")[-1]]
    return dict(color=colour, marker=shape, mfc="white" if dotted else colour, mew=2 if dotted or shape == "x" else 1, ms=5 if dotted else 6) | more


def mix(colour, share, other="#FFFFFF"):
    """`share` of the colour, the rest of the other one."""
    a, b = matplotlib.colors.to_rgb(colour), matplotlib.colors.to_rgb(other)
    return tuple(share * x + (1 - share) * y for x, y in zip(a, b))


def dark(colour):
    """To be read as text."""
    return mix(colour, 0.65, "#000000")


# ---- Figures -------------------------------------------------------------------------------------------


def unit(lower):
    """What a figure is multiplied by to be shown: shares are shown in percent, what is better the lower it is (nats, perplexities,
    bits) as it is."""
    return 1 if lower else 100


def figure_text(value, lower):
    if not np.isfinite(value):
        return "-"
    return _plain(value) if lower else f"{100 * value:.1f} %"


def _plain(value):
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def interval_text(low, high, lower):
    return f"{_plain(low)}–{_plain(high)}" if lower else f"{100 * low:.1f}–{100 * high:.1f}"


def figure_label(metric, lower):
    """Of an axis."""
    return metric.replace("_", " ") + (", lower is better" if lower else " (%)")


def kept_label(metric, lower):
    """Of an axis of what is kept, which is always a share."""
    return f"kept of the base's {metric.replace('_', ' ')} (%)" if lower else f"{metric.replace('_', ' ')}, % of the base's"


# ---- Axes ----------------------------------------------------------------------------------------------


def log_ticks(axis, ticks, text):
    """A logarithmic axis (ax.xaxis, ax.yaxis) marked at these places, with this format or function for each."""
    write = text if callable(text) else text.format
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: write(v)))


def times_axis(ax, low, high):
    """A logarithmic horizontal axis of factors: 1x, 2x, 4x ..."""
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    log_ticks(ax.xaxis, 2.0 ** np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1), "{:g}×")


def steps_axis(ax, steps):
    """A logarithmic horizontal axis for these numbers of steps, with a place for 0 if it is one of them."""
    positive = [s for s in steps if s > 0] or [1]
    if 0 in steps:
        ax.set_xscale("symlog", base=2, linthresh=positive[0])
        ax.set_xlim(-0.25 * positive[0], positive[-1] * 1.25)
    else:
        ax.set_xscale("log")
        ax.set_xlim(positive[0] / 1.25, positive[-1] * 1.25)
    log_ticks(ax.xaxis, steps if len(steps) <= 8 else steps[:: -(-len(steps) // 8)], "{:g}")


def percent_axis(ax, label, low=-4, high=106):
    """A vertical axis of percents from 0 to 100, or as far as what is drawn: where lower is better more than all may be kept."""
    drawn = ax.dataLim.intervaly[1]
    high = max(high, 1.06 * drawn) if np.isfinite(drawn) else high
    ax.set_ylim(low, high)
    ax.set_yticks(range(0, int(high) + 1, 20 * max(1, round(high / 250))))
    ax.set_ylabel(label)


def figure_axis(ax, metric, lower, label=True):
    """A vertical axis of figures: percents, or the metric's own unit, which needs no 0."""
    text = figure_label(metric, lower) if label else ""
    if lower:
        ax.margins(y=0.08)
        ax.set_ylabel(text)
    else:
        percent_axis(ax, text)


def seconds(value):
    """A time as people write it."""
    return f"{value:.3g} s" if value >= 0.9995 else f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def below(figure, entries, columns):
    """A legend under the whole figure, which gives it the room. Axes are laid out when the figure is drawn."""
    rows = -(-len(entries) // columns)
    height = (rows * 1.55 + 0.9) * 9 / 72 / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, height, 1, 1 - height))
    figure.legend(handles=entries, loc="lower center", ncol=columns, columnspacing=1.6, handletextpad=0.4)


# ---- Labels --------------------------------------------------------------------------------------------


def last_labels(ax, ends, size=9, gap=1.25):
    """Names at the right ends of curves, pushed apart where they would overlap. ends: (y, text, colour)."""
    ax.figure.canvas.draw()
    unit = ax.figure.dpi / 72 * size * gap
    order = sorted(ends, key=lambda e: e[0])
    at = [ax.transData.transform((ax.get_xlim()[1], y))[1] for y, *_ in order]
    for _ in range(200):  # neighbours that are too near push each other away
        for i in range(len(at) - 1):
            lack = unit - (at[i + 1] - at[i])
            if lack > 0:
                at[i], at[i + 1] = at[i] - lack / 2, at[i + 1] + lack / 2
    for pixel, (_, text, colour) in zip(at, order):
        y = ax.transAxes.inverted().transform((0, pixel))[1]
        ax.text(1.015, y, text, transform=ax.transAxes, va="center", color=colour, fontsize=size)
