"""Drawing to SVG text that sits inside the page: ink follows the page's colour, nothing points elsewhere."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

INK = "#010203"  # stands for the page's text colour
QUIET = "#8a8f98"  # grey that reads on light and dark
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
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": QUIET,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "savefig.transparent": True,
    "figure.dpi": 72,
    "savefig.dpi": 144,
}


def variant_colours(variants: Sequence[str]) -> dict[str, str]:
    """Colour of each variant: grey for `pca`, ink for real domains, one of the palette for every other in its order."""
    others = [name for name in variants if name not in ("pca", "real", "real_shuffled")]
    colours = {name: VARIANT_COLOURS[index % len(VARIANT_COLOURS)] for index, name in enumerate(others)}
    return {"real": REAL_COLOUR, "real_shuffled": SHUFFLED_COLOUR, "pca": PCA_COLOUR, **colours}


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


def quiet_frame(axes: Axes) -> None:
    """No grid, no ticks: for maps and shapes."""
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
