"""How the notebooks draw: one look, a colour and a marker for every family of systems, labels that do not
cover one another, and figures saved under a name when KV_FIGURES says where."""

import io
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image

WIDTH = 9.0  # inches; 900 pixels of a README, so that a point is 1.4 of its pixels
GREY, LIGHT = "#666666", "#E4E4E4"

# Colours that people with colour blindness can tell apart [Okabe & Ito 2008; Tol 2021, "muted"], given as in
# kveval's own pictures to the families of its configurations; in greyscale the markers tell them apart.
_STYLES = {
    "base": ("#333333", "o"),
    "aux alone": ("#0072B2", "s"),
    "fair rival": ("#D55E00", "^"),
    "LP": ("#009E73", "D"),
    "KVP-C (paper's loss)": ("#CC79A7", "v"),
    "KVP-C (ours)": ("#E69F00", "p"),
    "KVP-LP (paper's loss)": ("#56B4E9", "o"),
    "KVP-LP (ours)": ("#8B6F47", "s"),
    "RP": ("#882255", "<"),
    "SP": ("#332288", ">"),
    "L0.75": ("#999933", "X"),
    "L0.50": ("#44AA99", "*"),
    "SPF": ("#555555", "P"),
}
_OTHER_NAMES = {
    "OE": "aux alone",
    "OE (aux alone)": "aux alone",
    "aux": "aux alone",
    "rival": "fair rival",
    "OE-LP": "LP",
    "KVP-C": "KVP-C (paper's loss)",
    "paper": "KVP-C (paper's loss)",
    "ours": "KVP-C (ours)",
    "KVP-LP": "KVP-LP (paper's loss)",
    "LazyLLM": "L0.75",
}


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


def save(figure, name):
    """Writes NAME.png to the directory KV_FIGURES, if there is one; the notebook shows the figure either way."""
    folder = os.environ.get("KV_FIGURES")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    path, drawn = Path(folder) / f"{name}.png", io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    if drawn.tell() < 150_000:
        path.write_bytes(drawn.getvalue())
    else:  # 256 colours are enough for lines on white, and take a third of the bytes
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


# ---- Families ------------------------------------------------------------------------------------------


def family(name):
    """The name under which a family, or an arm of a sweep that says what it is ("ours_steps"), has its colour."""
    first_word = name.replace("_", " ").replace("-", " ").split(" ")[0]
    return name if name in _STYLES else _OTHER_NAMES.get(name) or _OTHER_NAMES.get(first_word, name)


def colour_of(name):
    """Families that are not known share the colours of the known ones, the same in every picture."""
    known = list(_STYLES.values())
    return _STYLES.get(family(name), known[1 + sum(name.encode()) % (len(known) - 1)])[0]


def marker_of(name):
    known = list(_STYLES.values())
    return _STYLES.get(family(name), known[1 + sum(name.encode()) % (len(known) - 1)])[1]


def family_key(name, **more):
    """An entry of a legend."""
    style = dict(color=colour_of(name), marker=marker_of(name), linestyle="none") | more
    return Line2D([], [], label=name, **style)


def mix(colour, share, other="#FFFFFF"):
    """`share` of the colour, the rest of the other one."""
    a, b = matplotlib.colors.to_rgb(colour), matplotlib.colors.to_rgb(other)
    return tuple(share * x + (1 - share) * y for x, y in zip(a, b))


def dark(colour):
    """To be read as text."""
    return mix(colour, 0.65, "#000000")


# ---- Axes ----------------------------------------------------------------------------------------------


def log_ticks(axis, ticks, text):
    """A logarithmic axis (ax.xaxis, ax.yaxis) marked at these places, with this format or function for each."""
    write = text if callable(text) else text.format
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: write(v)))


def times_axis(ax, low, high, which="x"):
    """A logarithmic axis of factors: 1x, 2x, 4x ..."""
    getattr(ax, f"set_{which}scale")("log")
    getattr(ax, f"set_{which}lim")(low, high)
    powers = 2.0 ** np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1)
    log_ticks(getattr(ax, f"{which}axis"), powers, "{:g}×")


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
    """A vertical axis of percents from 0 to 100."""
    ax.set_ylim(low, high)
    ax.set_yticks(range(0, 101, 20))
    ax.set_ylabel(label)


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

# Where a label may stand, by the direction from its point; the nearer ones are tried first.
_ANCHORS = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
_DISTANCES = [8, 16, 26, 38]


def _overlap(a, b):
    """Area that two boxes (x0, y0, x1, y1) share, or many of them."""
    w = np.minimum(a[2], b[..., 2]) - np.maximum(a[0], b[..., 0])
    h = np.minimum(a[3], b[..., 3]) - np.maximum(a[1], b[..., 1])
    return np.clip(w, 0, None) * np.clip(h, 0, None)


def _boxes(x, y, width, height, unit):
    """All places of one label: (cost, box, how far from the point), in pixels."""
    for distance in _DISTANCES:
        for turn, (dx, dy) in enumerate(_ANCHORS):
            step = distance * unit / (1.35 if dx and dy else 1)
            x0 = x + dx * step - (0 if dx > 0 else width if dx < 0 else width / 2)
            y0 = y + dy * step - (0 if dy > 0 else height if dy < 0 else height / 2)
            yield distance * 3 + turn, np.array([x0, y0, x0 + width, y0 + height]), distance


def _crossings(box, segments):
    """How many points of the lines lie in the box; lines are given as points a few pixels apart."""
    if not len(segments):
        return 0
    inside = (segments[:, 0] > box[0]) & (segments[:, 0] < box[2])
    return np.count_nonzero(inside & (segments[:, 1] > box[1]) & (segments[:, 1] < box[3]))


def _sampled(ax):
    """The lines of the axes as points 3 pixels apart."""
    found = []
    for line in ax.lines:
        if line.get_linestyle() in ("None", "none", "") or line.get_label() == "_ignored":
            continue
        corners = line.get_transform().transform(np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float))
        for a, b in zip(corners, corners[1:]):
            if np.isfinite([a, b]).all():
                n = int(np.clip(np.hypot(*(b - a)) / 3, 1, 2000))
                found.append(a + (b - a) * np.linspace(0, 1, n + 1)[:, None])
    return np.concatenate(found) if found else np.empty((0, 2))


def place_labels(ax, labels, others=(), size=9):
    """Writes text beside points so that it covers neither other text nor points, and lines as little as can be.
    labels: (x, y, text, colour); others: points (x, y) without text that had better not be covered. Call it when
    the axes have their limits and the figure is otherwise complete."""
    figure = ax.figure
    figure.canvas.draw()
    figure.set_layout_engine("none")  # text must not move the axes that it was placed in
    renderer = figure.canvas.get_renderer()
    unit = figure.dpi / 72
    points = np.array([ax.transData.transform((x, y)) for x, y, *_ in [*labels, *others]])
    if not len(points):
        return
    marks = np.column_stack([points - 5 * unit, points + 5 * unit])
    weights = np.where(np.arange(len(points)) < len(labels), 3, 1)
    lines, frame, taken = _sampled(ax), ax.get_window_extent(renderer), np.empty((0, 4))
    for i in sorted(range(len(labels)), key=lambda i: -points[i, 1]):
        x, y, text, colour = labels[i]
        box = ax.text(0, 0, text, fontsize=size).get_window_extent(renderer)
        ax.texts[-1].remove()
        best = None
        for cost, b, distance in _boxes(*points[i], box.width, box.height * 0.9, unit):
            outside = max(0, frame.x0 - b[0]) + max(0, b[2] - frame.x1) + max(0, frame.y0 - b[1]) + max(0, b[3] - frame.y1)
            cost += outside * 50 + (_overlap(b, marks) * weights).sum() + _crossings(b, lines) * 1.2
            cost += _overlap(b, taken).sum() * 8
            if best is None or cost < best[0]:
                best = cost, b, distance
        _, b, distance = best
        taken = np.vstack([taken, b])
        to_data = ax.transData.inverted().transform
        if distance > _DISTANCES[0]:
            nearest = np.clip(points[i], b[:2], b[2:])
            ax.plot(*np.array([to_data(points[i]), to_data(nearest)]).T, color="#999999", lw=0.6, zorder=1.5, label="_ignored")
        # A white rim keeps lines that pass behind from striking the text out.
        rim = [withStroke(linewidth=2, foreground="white")]
        ax.text(*to_data(b[:2] + (0, box.height * 0.12)), text, fontsize=size, color=colour, path_effects=rim, zorder=5)


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
