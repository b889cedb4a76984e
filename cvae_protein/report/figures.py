"""The figures of the page as SVG, and the table behind each of them."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

from ..core.variants import BASELINE, NEW_MEMBER, REAL, REAL_SHUFFLED, REFERENCES, TRAINING

MOST_BYTES = 1_500_000  # of an embedded table
Column = Sequence[Any] | np.ndarray
FORMULA = ("=", "+", "-", "@")  # first characters by which a spreadsheet takes a cell for a formula


@dataclass(frozen=True)
class Plot:
    """A figure and the table behind it: the `name` of its file, and its text in base64."""

    figure: Markup
    name: str
    table: str


def plot(figure: Markup, name: str, columns: Mapping[str, Column]) -> Plot:
    """A figure with the table behind it, given as columns of equal length."""
    cells = zip(*columns.values(), strict=True)
    rows = [dict(zip(columns, map(_shown, row), strict=True)) for row in cells]
    return Plot(figure, f"{re.sub(r'[^A-Za-z0-9.]+', '_', name).strip('_')}.tsv", as_tsv(rows, columns)[0])


def _shown(value: object) -> str:
    """A number with five digits, text as it is."""
    return f"{value:.5g}" if isinstance(value, float | np.floating) else str(value)


def safe(cell: str) -> str:
    """Text that no spreadsheet runs: a quote before what looks like a formula and is not a number; one line, no tab."""
    cell = " ".join(cell.split())
    if not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def as_tsv(rows: Sequence[dict[str, str]], columns: Iterable[str] = ()) -> tuple[str, bool]:
    """Rows as base64 tab-separated text for a data URI, and whether it was cut to the page's limit."""
    header = list(columns or (rows[0] if rows else ()))
    if not header:
        return "", False
    lines = ["\t".join(map(safe, header))]
    size = 0
    for row in rows:
        line = "\t".join(safe(row[name]) for name in header)
        size += len(line.encode()) + 1
        if size > MOST_BYTES:
            break
        lines.append(line)
    text = "\n".join(lines) + "\n"
    return base64.b64encode(text.encode()).decode(), len(lines) <= len(rows)


INK = "#010203"  # stands for the page's text colour
MUTED = "#8a8f98"  # grey that reads on light and dark
VARIANT_COLOURS = ("#2f7fd1", "#e0731d", "#1a9e77", "#c2619b", "#7d6fd6", "#a58b00", "#c8453b", "#3aa6c4")
FOLD_COLOURS = ("#d6455d", "#2f7fd1", "#2a9d6f", "#b78a00", "#8b62c9", "#d07a2d", "#2aa3b3", "#a0527a")
PCA_COLOUR = "#8d8f94"
REAL_COLOUR = INK
SHUFFLED_COLOUR = "#b9a9a0"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cvae_protein",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": MUTED,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "savefig.transparent": True,
    "figure.dpi": 72,
    "savefig.dpi": 144,
}


def variant_colours(variants: Sequence[str]) -> dict[str, str]:
    """Colour of each variant: grey for `pca`, ink for real domains, and palette colours in order for the others."""
    others = [name for name in variants if name not in REFERENCES]
    colours = {name: VARIANT_COLOURS[index % len(VARIANT_COLOURS)] for index, name in enumerate(others)}
    real = dict.fromkeys((REAL, NEW_MEMBER, TRAINING), REAL_COLOUR)
    return {**real, REAL_SHUFFLED: SHUFFLED_COLOUR, BASELINE: PCA_COLOUR, **colours}


HOVER = "hover:"


def hover(artist: Artist, text: str) -> None:
    """Let the page show `text` when the pointer rests on a drawn mark."""
    artist.set_gid(HOVER + text)


def css(colour: str) -> str:
    """A colour as the page writes it."""
    return "currentColor" if colour == INK else colour


@contextmanager
def panel(width: float = 4.4, height: float = 3.0, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with `columns` axes in the page's style; sizes in units of 72 px."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that the measuring font lacks; the browser has it
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        yield figure, list(axes)


def svg(figure: Figure, alt: str) -> Markup:
    """The figure as an `<svg>` element with `alt` as its description; call inside `panel`."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(rf'<g id="{HOVER}([^"]*)"([^>]*)>', r"<g\2><title>\1</title>", text)  # escaped as an attribute
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"\n\s*", "\n", text)
    text = text.replace(INK, "currentColor")
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"(?<=base64,)[^\"]+", lambda found: _fewer_colours(found[0]), text)
    width, height = (float(value) for value in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    style = f"max-width:{width * 1.45:.0f}px"
    head = f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {width:g} {height:g}" style="{style}"'
    inner = text[text.index(">", text.index("<svg")) + 1 :]
    link = 'xmlns:xlink="http://www.w3.org/1999/xlink"' if "xlink:" in inner else ""
    return Markup(f"{head} {link}>{inner}")  # matplotlib escapes the text it draws


def _fewer_colours(encoded: str) -> str:
    """A base64 PNG with 48 colours instead of millions: a quarter of the size, no difference to the eye."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        small = image.convert("RGBA").quantize(48, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    shorter = base64.b64encode(buffer.getvalue()).decode()
    return min(encoded, shorter, key=len)


Curve = tuple[str, np.ndarray, np.ndarray, np.ndarray | None]
RAMACHANDRAN_BINS = 72  # of 5°
MOST_DIMENSIONS = 256
MAP_LIMIT = 40.0  # Å; beyond it a distance map has one colour
MAP_STEP = 1.25  # Å per shade


def training(title: str, unit: str, curves: Sequence[Curve]) -> Markup:
    """One quantity over the steps: a curve is (colour, step, training, validation or None); validation is dashed.

    A history of one row, such as that of `pca`, is a horizontal line.
    """
    with panel() as (figure, (axes,)):
        everything = []
        for colour, step, train, validation in curves:
            for values, dashes in ((train, (None, None)), (validation, (3, 1.6))):
                if values is None:
                    continue
                everything.append(values)
                if len(step) == 1:
                    axes.axhline(float(values[0]), color=colour, linewidth=1.3, dashes=dashes)
                else:
                    axes.plot(step, values, color=colour, linewidth=1.4, dashes=dashes)
        found = np.concatenate(everything)
        found = found[np.isfinite(found)]
        if found.size and found.min() > 0 and found.max() > 8 * np.median(found):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(PlainLog())
            axes.yaxis.set_minor_formatter(PlainLog())
        axes.set(title=title, xlabel="optimiser step", ylabel=unit)
        axes.margins(x=0.01)
        return svg(figure, f"Training curves of {title}; solid: training, dashed: validation")


def rate_distortion(
    clouds: Sequence[tuple[str, np.ndarray, np.ndarray]], means: Sequence[tuple[str, str, float, float]], xlabel: str
) -> Markup:
    """Rate in nats against CA RMSD in Å, held-out domains as a cloud with its curve for each (colour, rate, RMSD).

    `means` are (name, colour, rate, RMSD), one per model; the best trade-offs among them are joined by a dotted line.
    """
    with panel(3.9, 3.1) as (figure, (axes,)):
        for colour, rate, rmsd in clouds:
            axes.scatter(rate, rmsd, s=9, color=colour, alpha=0.28, linewidths=0, rasterized=True)
        for colour, rate, rmsd in clouds:
            middles, errors = running_mean(rate, rmsd)
            axes.plot(middles, errors, color=colour, linewidth=1.5, zorder=3)
        for name, colour, nats, error in means:
            mark: Artist
            if np.isfinite(nats):
                mark = axes.scatter([nats], [error], s=75, color=colour, edgecolors="white", linewidths=1.3, zorder=5)
            else:
                mark = axes.axhline(error, color=colour, linewidth=1.4, dashes=(4, 2), zorder=3)
            hover(mark, f"{name}: {nats:.0f} nats, {error:.2f} Å" if np.isfinite(nats) else f"{name}: {error:.2f} Å")
        best = lower_envelope([(nats, error) for _, _, nats, error in means if np.isfinite(nats)])
        if best:
            axes.plot(*zip(*best, strict=True), color=MUTED, linewidth=1.2, dashes=(1.5, 1.5), zorder=4)
        axes.set(xlabel=xlabel, ylabel="held-out CA RMSD, Å")
        axes.set_ylim(bottom=0)
        alt = "Rate in nats against held-out reconstruction error; large dots are the means of the variants"
        return svg(figure, alt)


def running_mean(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of x and y in up to eight bins of equally many points along x; empty for fewer than 16 points."""
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 16:
        return np.zeros(0), np.zeros(0)
    order = np.argsort(x[known], kind="stable")
    parts = np.array_split(order, min(8, known.sum() // 8))
    at, means = (np.array([values[known][part].mean() for part in parts]) for values in (x, y))
    return at, means


def lower_envelope(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points below which no other lies in both coordinates, in order of the first: a rate-distortion curve."""
    best: list[tuple[float, float]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


class PlainLog(LogFormatter):
    """Labels a logarithmic axis with plain numbers, in place of matplotlib's powers of ten in its own markup."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of `x`, empty if matplotlib would have none."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def _along_rate(axes: Axes, ylabel: str) -> None:
    """Label the axes of the plot of a symptom against the rate, which is logarithmic."""
    axes.set(xlabel="rate, nats a domain", ylabel=ylabel, xscale="log")
    axes.xaxis.set_major_formatter(PlainLog())
    axes.xaxis.set_minor_formatter(PlainLog())


def against_rate(points: Sequence[tuple[str, float, float, float, float]], ylabel: str) -> Markup:
    """A symptom against the rate in nats, one dot with interval per training: (colour, rate, value, low, high)."""
    with panel(3.1, 2.7) as (figure, (axes,)):
        for colour, rate, value, low, high in points:
            axes.plot([rate, rate], [low, high], color=colour, linewidth=1.2, zorder=2)
            mark = axes.scatter([rate], [value], s=28, color=colour, zorder=3)
            hover(mark, f"{rate:.0f} nats: {value:.3g} ({low:.3g} to {high:.3g})")
        _along_rate(axes, ylabel)
        return svg(figure, f"{ylabel} against the rate of each training, with its interval")


def along_rate(series: Sequence[tuple[str, Sequence[tuple[float, float, str]]]], ylabel: str) -> Markup:
    """A symptom along the rate in nats, one line per design: (colour, (rate, value, setting) of each of its points)."""
    with panel(3.1, 2.7) as (figure, (axes,)):
        for colour, points in series:
            rates, values, settings = zip(*sorted(points), strict=True)
            axes.plot(rates, values, color=colour, linewidth=1.4, zorder=2)
            for rate, value, setting in zip(rates, values, settings, strict=True):
                mark = axes.scatter([rate], [value], s=28, color=colour, zorder=3)
                hover(mark, f"{setting}: {rate:.3g} nats, {value:.3g}")
        _along_rate(axes, ylabel)
        return svg(figure, f"{ylabel} along the rate of the literal variants")


def cumulative(
    series: Sequence[tuple[str, np.ndarray]], xlabel: str, ylabel: str = "share of held-out domains"
) -> Markup:
    """Share of held-out domains at or below each value, one line per series of (colour, values)."""
    with panel(3.9, 3.1) as (figure, (axes,)):
        top = np.nanpercentile(np.concatenate([values for _, values in series]), 99)
        for colour, values in series:
            x = np.sort(values[np.isfinite(values)])
            ends, shares = [*x, max(top, x[-1])], [*np.arange(1, len(x) + 1) / len(x), 1]
            axes.step(ends, shares, where="post", color=colour, linewidth=1.7)
        axes.set(xlim=(0, top * 1.02), ylim=(0, 1.01), xlabel=xlabel, ylabel=ylabel)
        return svg(figure, f"Cumulative distribution of {xlabel}, {ylabel}")


def _shades(colour: str) -> LinearSegmentedColormap:
    """One hue from faint to full, readable on light and dark."""
    base = to_rgb("#768193" if colour == INK else colour)
    return LinearSegmentedColormap.from_list("shades", [(*base, 0.10), (*base, 0.60), (*base, 1.0)])


def _smooth_density(torsion: np.ndarray) -> np.ndarray:
    """Periodic density of phi, psi over 5° bins, axis 0 = psi."""
    edges = np.linspace(-np.pi, np.pi, RAMACHANDRAN_BINS + 1)
    counts, _, _ = np.histogram2d(torsion[:, 1], torsion[:, 0], bins=(edges, edges))
    offsets = np.minimum(np.arange(RAMACHANDRAN_BINS), RAMACHANDRAN_BINS - np.arange(RAMACHANDRAN_BINS))
    kernel = np.exp(-0.5 * (offsets / 1.6) ** 2)
    spectrum = np.fft.fft2(counts) * np.outer(np.fft.fft(kernel).real, np.fft.fft(kernel).real)
    density = np.fft.ifft2(spectrum).real
    return density / max(density.sum(), 1e-12)


def _level(density: np.ndarray, share: float) -> float:
    """Density above which `share` of the whole lies."""
    ordered = np.sort(density.ravel())[::-1]
    return float(ordered[np.searchsorted(np.cumsum(ordered), share)])


def ramachandran(torsion: np.ndarray, reference: np.ndarray, colour: str, title: str) -> Markup:
    """Density of phi, psi in radians (R, 2), with the outline that holds 90 % of the reference's residues."""
    degrees = np.degrees(torsion[np.isfinite(torsion).all(axis=1)])
    real = reference[np.isfinite(reference).all(axis=1)]
    with panel(2.5, 2.55) as (figure, (axes,)):
        axes.hexbin(
            degrees[:, 0],
            degrees[:, 1],
            gridsize=48,
            extent=(-180, 180, -180, 180),
            bins="log",
            mincnt=1,
            cmap=_shades(colour),
            linewidths=0,
            rasterized=True,
        )
        if len(real) >= 200:
            density = _smooth_density(real)
            centres = (np.arange(RAMACHANDRAN_BINS) + 0.5) * 360 / RAMACHANDRAN_BINS - 180
            axes.contour(centres, centres, density, [_level(density, 0.9)], colors=[INK], linewidths=0.8)
        ends, ticks = (-180, 180), [-180, 0, 180]
        axes.set(title=title, xlim=ends, ylim=ends, aspect="equal", xlabel="φ, °", ylabel="ψ, °")
        axes.set(xticks=ticks, yticks=ticks)
        return svg(figure, f"Ramachandran density, {title}, {len(degrees)} residues; outline: 90 % of real residues")


def ramachandran_counts(torsion: np.ndarray) -> dict[str, np.ndarray]:
    """Number of residues in each 5° bin of phi and psi that is not empty, with the bins' centres in degrees."""
    edges = np.linspace(-180, 180, RAMACHANDRAN_BINS + 1)
    degrees = np.degrees(torsion[np.isfinite(torsion).all(axis=1)])
    counts = np.histogram2d(degrees[:, 0], degrees[:, 1], bins=(edges, edges))[0].astype(int)
    phi, psi = np.nonzero(counts)
    centres = (edges[:-1] + edges[1:]) / 2
    return {"phi": centres[phi], "psi": centres[psi], "residues": counts[phi, psi]}


def latent_map(
    points: np.ndarray,
    folds: Sequence[str],
    held_out: np.ndarray,
    palette: Mapping[str, str],
    explained: Sequence[float],
) -> Markup:
    """Two leading components (D, 2) of the posterior means, coloured by class; held-out domains are ringed diamonds."""
    colours = np.array([palette.get(fold, MUTED) for fold in folds])
    with panel(4.2, 3.7) as (figure, (axes,)):
        low, high = np.percentile(points, [0.5, 99.5], axis=0)
        margin = 0.08 * (high - low) + 1e-9
        ways: tuple[dict[str, Any], ...] = (
            {"s": 8, "alpha": 0.4, "linewidths": 0},
            {"s": 24, "marker": "D", "edgecolors": "white", "linewidths": 0.7},
        )
        for rows, way in zip((~held_out, held_out), ways, strict=True):
            axes.scatter(points[rows, 0], points[rows, 1], c=colours[rows], rasterized=True, **way)
        (left, right), (bottom, top) = zip(low - margin, high + margin, strict=True)
        axes.set(xlim=(left, right), xlabel=f"component 1 ({explained[0]:.0%} of variance)")
        axes.set(ylim=(bottom, top), ylabel=f"component 2 ({explained[1]:.0%})")
        return svg(figure, "Posterior means in two components, coloured by fold class; diamonds are held out")


def kl_bars(kl: np.ndarray, blocks: Mapping[str, Sequence[int]], colour: str) -> Markup:
    """Mean KL of each latent dimension in nats (Z), largest first, within the named blocks of the code."""
    named = {name: kl[start:stop] for name, (start, stop) in blocks.items()} if len(blocks) > 1 else {"": kl}
    with panel(4.2, 2.5) as (figure, (axes,)):
        position = 0
        for index, (name, values) in enumerate(named.items()):
            ordered = np.sort(values)[::-1][:MOST_DIMENSIONS]
            x = position + np.arange(len(ordered))
            bars = axes.bar(x, ordered, width=0.8, color=colour, alpha=1.0 if index % 2 == 0 else 0.55)
            for place, bar in enumerate(bars):
                hover(bar, f"{name} dimension {place + 1} by KL: {ordered[place]:.3g} nats".strip())
            if name:
                axes.text(x.mean(), 1.01, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
            position += len(ordered) + 1
        by = "latent dimension, by KL" + (" within its block" if len(named) > 1 else "")
        axes.set(xlabel=by, ylabel="KL, nats", xticks=[])
        axes.grid(axis="x", visible=False)
        return svg(figure, f"KL divergence of {len(kl)} latent dimensions, in nats")


def _distance_map(axes: Axes, ca: np.ndarray, title: str) -> None:
    distances = np.linalg.norm(ca[:, None] - ca[None], axis=-1)
    levels = np.minimum(np.round(distances / MAP_STEP) * MAP_STEP, MAP_LIMIT)
    axes.imshow(levels, cmap="viridis", vmin=0, vmax=MAP_LIMIT, interpolation="none")
    axes.set_title(title, fontsize=9)
    axes.grid(False)
    axes.set(xlabel="residue")
    axes.spines[:].set_visible(False)


def distance_maps(sample: np.ndarray, nearest: np.ndarray, titles: tuple[str, str]) -> Markup:
    """CA distance maps (L, 3) of a sample and of its nearest held-out domain, 0 to 40 Å."""
    with panel(4.3, 2.45, columns=2) as (figure, (left, right)):
        _distance_map(left, sample, titles[0])
        _distance_map(right, nearest, titles[1])
        left.set_ylabel("residue")
        shades = figure.colorbar(right.images[0], ax=[left, right], shrink=0.75, ticks=[0, 20, 40], pad=0.02)
        shades.set_label("Å")
        shades.outline.set_visible(False)
        return svg(figure, f"CA distance maps: {titles[0]} beside {titles[1]}")


def quantiles(
    title: str, metric: str, groups: Sequence[tuple[str, str, np.ndarray]], limits: tuple[float, float]
) -> Markup:
    """Spread of a metric for each (name, colour, values): 5-95 % thin, 25-75 % thick, the median a dot."""
    with panel(3.4, 0.75 + 0.27 * len(groups)) as (figure, (axes,)):
        for row, (name, colour, values) in enumerate(groups):
            finite = values[np.isfinite(values)]
            if not len(finite):
                axes.text(0.5, row, "no value", transform=axes.get_yaxis_transform(), ha="center", va="center")
                continue
            low, first, middle, third, high = np.percentile(finite, [5, 25, 50, 75, 95])
            axes.plot([low, high], [row, row], color=colour, linewidth=1.1, solid_capstyle="butt")
            axes.plot([first, third], [row, row], color=colour, linewidth=5.5, alpha=0.55, solid_capstyle="butt")
            mark = axes.scatter([middle], [row], s=34, color=colour, edgecolors="white", linewidths=1, zorder=4)
            hover(mark, f"{name}: median {middle:.3g}, half {first:.3g} to {third:.3g}, n = {len(finite)}")
        axes.set_yticks(range(len(groups)), [name for name, _, _ in groups])
        axes.set_ylim(len(groups) - 0.45, -0.55)
        axes.set(xlim=limits, title=title, xlabel=metric)
        axes.grid(axis="y", visible=False)
        return svg(figure, f"{metric}, {title}: medians, quartiles and 5-95 % of " + ", ".join(g[0] for g in groups))


def fold_palette(folds: Sequence[str]) -> dict[str, str]:
    """Colour of the first classes in order; the others stay grey."""
    return dict(zip(folds, FOLD_COLOURS, strict=False))


def principal(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two leading principal components of codes (D, Z) as coordinates (D, 2), and their shares of the variance."""
    centred = mean - mean.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(mean), 2))
    shares = np.zeros(2)
    count = min(2, len(values))
    points[:, :count] = left[:, :count] * values[:count]
    shares[:count] = values[:count] ** 2 / max((values**2).sum(), 1e-12)
    return points, shares


TM_BINS = np.linspace(0, 1, 41)


def histogram(groups: Sequence[tuple[str, str, np.ndarray]], own: str, xlabel: str) -> Markup:
    """Shares of TM-scores for each (name, colour, values): those of `own` as bars, the others as outlines."""
    with panel(3.1, 2.5) as (figure, (axes,)):
        for name, colour, values in groups:
            finite = values[np.isfinite(values)]
            if not len(finite):
                continue
            shares = np.histogram(finite, TM_BINS)[0] / len(finite)
            said = f"{name}: mean {finite.mean():.3f}, n = {len(finite)}"
            if name == own:
                bars = axes.bar(TM_BINS[:-1], shares, np.diff(TM_BINS), align="edge", color=colour, alpha=0.6)
                for low, high, share, bar in zip(TM_BINS[:-1], TM_BINS[1:], shares, bars, strict=True):
                    hover(bar, f"{name}: {share:.0%} from {low:.3g} to {high:.3g}")
            else:
                line = axes.stairs(
                    shares, TM_BINS, color=colour, linewidth=1.3, linestyle="-" if name == REAL else (0, (3, 1.6))
                )
                hover(line, said)
            middle = axes.plot([finite.mean()] * 2, [0, 0.012], color=colour, linewidth=4, solid_capstyle="butt")[0]
            hover(middle, said)
        axes.axvline(0.5, color=MUTED, linewidth=0.8, dashes=(2, 2))
        axes.set(xlim=_span(groups), xlabel=xlabel, ylabel="share", title=own)
        return svg(figure, f"{xlabel} of {', '.join(name for name, *_ in groups)}; tick: mean, dotted: 0.5")


def _span(groups: Sequence[tuple[str, str, np.ndarray]]) -> tuple[float, float]:
    """Limits of TM-scores that hold all but the lowest 0.5 %, whole tenths at least 0.3 apart."""
    values = np.concatenate([values[np.isfinite(values)] for *_, values in groups])
    low, high = np.percentile(values, [0.5, 100]) if len(values) else (0.0, 1.0)
    top = min(1.0, np.ceil(10 * high) / 10)
    return float(min(np.floor(10 * low) / 10, top - 0.3)), float(top)


def by_length(series: Sequence[tuple[str, str, Sequence[tuple[float, float, int]]]], ylabel: str) -> Markup:
    """A mean against the length, one line per (name, colour, points), each point (residues, mean, structures)."""
    with panel(3.9, 2.8) as (figure, (axes,)):
        for name, colour, points in series:
            x, y, _ = zip(*points, strict=True)
            axes.plot(x, y, color=colour, linewidth=1.4)
            for length, value, count in points:
                mark = axes.scatter([length], [value], s=18 + 6 * np.sqrt(count), color=colour, linewidths=0, zorder=3)
                hover(mark, f"{name}, about {length:.0f} residues: {value:.3g}, n = {count}")
        axes.set(xlabel="length, residues", ylabel=ylabel)
        axes.set_ylim(0, 1.02)
        return svg(figure, f"{ylabel} by length of {', '.join(name for name, *_ in series)}")


def structure_map(real: np.ndarray, own: np.ndarray, colours: Sequence[str], title: str, limits: np.ndarray) -> Markup:
    """Real domains (R, 2), grey, and samples (n, 2), in their colours, in one plane; `limits` (2, 2) low and high."""
    with panel(3.1, 3.0) as (figure, (axes,)):
        axes.scatter(real[:, 0], real[:, 1], s=7, color=MUTED, alpha=0.45, linewidths=0, rasterized=True)
        axes.scatter(own[:, 0], own[:, 1], s=16, c=list(colours), edgecolors="white", linewidths=0.5, rasterized=True)
        (left, bottom), (right, top) = limits
        axes.set(xlim=(left, right), ylim=(bottom, top), title=title, xticks=[], yticks=[])
        axes.set(xlabel="component 1", ylabel="component 2")
        return svg(figure, f"Map of structure space: {len(own)} {title} among {len(real)} real domains, grey")
