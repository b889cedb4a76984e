"""Draw the figures of the recorded founding experiment: symptoms against the rate, and the effect of each remedy.

    python experiments/founding_plot.py    # docs/founding.png, and docs/founding_short_form.png

Top: four symptoms of the designs on contact maps against the rate in nats, with one line per design along its KL
weight, other settings as dots, nested codes as triangles, and the package's own variants of the reference run as
diamonds. Bottom: one row per setting, one column per symptom. Red cells exceed the package's limits; yellow cells are
leaks that a single seed alone shows, or whose interval over seeds reaches 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from founding_tables import AS_IT_STANDS, CHANCE, LIMITS, RECORDED, Setting, recorded
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvae_protein.core.files import read_table
from cvae_protein.report.figures import variant_colours

HERE = Path(__file__).parent
PICTURES = {"full form": "founding.png", "short form": "founding_short_form.png"}
SYMPTOMS = (
    ("active", "active units, share", LIMITS.active),
    ("spread", "spread of samples, real = 1", None),
    ("leak_held", "leak of the class, skill", LIMITS.leak),
    ("class_swapped", "another label followed, share", LIMITS.swap_followed * CHANCE),
)
CELLS = (
    ("active", "active units", "COLLAPSE"),
    ("leak_held", "leak", "LEAK"),
    ("class_swapped", "swap\nfollowed", "CONDITION-IGNORED"),
    ("coverage", "coverage", "MODE-COLLAPSE"),
    ("generalisation", "held out /\ntraining", "OVERFIT"),
    ("error", "error / as\nit stands", ""),
)
OWN = ("concat", "branched", "adversarial", "flow_prior")
ORDER = ("as it stands", "KL weight", "KL weight 8", "KL weight 0.1", "latent size", "nested code", "against the label")
FLAGGED, UNKNOWN, PASSED, PLAIN = "#f2b8a8", "#f7e6b5", "#cfe6d4", "#f4f4f2"


def value(setting: Setting, name: str) -> float:
    """A measure of a setting, or one derived for the figure."""
    return setting["active_held"] / setting["units"] if name == "active" else setting[name]


def axis(axes: Sequence[Axes], found: Sequence[Setting]) -> None:
    """Plot the symptoms against the rate."""
    names = list(dict.fromkeys(s.design for s in found))
    colours = variant_colours([f"literal_{name}" for name in names])
    for place, (name, title, limit) in zip(axes, SYMPTOMS, strict=True):
        others = [s for s in found if s.group not in ("KL weight", "as it stands") and s.design == "concat"]
        nested = [s for s in others if s.group == "nested code"]
        for dots, size, marker, label in ((others, 9, "o", "other settings"), (nested, 26, "^", "nested codes")):
            points = [max(s["rate_held"], 0.01) for s in dots], [value(s, name) for s in dots]
            place.scatter(*points, size, color="#aaaaaa", marker=marker, label=label, zorder=1)
        for design in names:
            own = [s for s in found if s.design == design and s.group in ("KL weight", "as it stands")]
            own.sort(key=lambda s: s["rate_held"])
            rates = [max(s["rate_held"], 0.01) for s in own]
            colour = colours[f"literal_{design}"]
            place.plot(rates, [value(s, name) for s in own], "-o", color=colour, markersize=3.5, label=design)
        if name in OF_PACKAGE:
            own = of_package().values()
            points = [each["rate"] for each in own], [each[OF_PACKAGE[name]] for each in own]
            place.scatter(*points, 22, color="black", marker="D", zorder=3, label="the package's, on traces")
        if limit is not None:
            place.axhline(limit, color="#c0392b", linewidth=0.8, linestyle=":")
        place.set(xscale="log", xlabel="rate, nats", ylim=(-0.05, 1.05))
        place.set_title(title, loc="left", fontsize=9)
    axes[1].legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=7, loc="upper left")


OF_PACKAGE = {"active": "active_share", "leak_held": "class_leakage", "class_swapped": "swap_followed"}


def of_package() -> dict[str, dict[str, float]]:
    """Metrics of the package's own variants, on traces, in the reference run: means over seeds."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in read_table(HERE / "results/reference.tsv", ["variant", "metric", "value"]):
        found.setdefault(row["variant"], {}).setdefault(row["metric"], []).append(float(row["value"]))
    return {name: {key: sum(v) / len(v) for key, v in found[name].items()} for name in OWN}


def cells(axes: Axes, found: Sequence[Setting], usual: Mapping[str, float]) -> None:
    """One row per setting, one column per symptom; `usual` is the error of each unmodified design."""
    for row, setting in enumerate(found):
        for column, (name, _, verdict) in enumerate(CELLS):
            number = setting["error_held"] / usual[setting.design] if name == "error" else value(setting, name)
            states = {verdict: FLAGGED, f"{verdict}?": UNKNOWN} if verdict else {"": PLAIN}
            colour = next((states[each] for each in ("", *setting.verdicts) if each in states), PASSED)
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white"))
            axes.text(column + 0.5, row + 0.5, f"{number:.2f}", ha="center", va="center", fontsize=7)
    axes.set_yticks([row + 0.5 for row in range(len(found))], [s.title for s in found], fontsize=7)
    axes.set_xticks([column + 0.5 for column in range(len(CELLS))], [title for _, title, _ in CELLS], fontsize=7.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set(xlim=(0, len(CELLS)), ylim=(len(found), 0))
    for side in axes.spines.values():
        side.set_visible(False)


def draw(found: Sequence[Setting], output: Path) -> None:
    """Draw the figure of the settings on contact maps."""
    found = [s for s in found if s.form == "contacts"]
    found.sort(key=lambda s: (ORDER.index(s.group) if s.group in ORDER else len(ORDER), s.group, s.design != "concat"))
    half = -(-len(found) // 2)
    figure = Figure(figsize=(11, 3.4 + 0.17 * half), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.6, 0.17 * half + 0.8))
    axis(upper.subplots(1, 4), found)
    usual = {s.design: s["error_held"] for s in found if s.change == AS_IT_STANDS}
    for place, part in zip(lower.subplots(1, 2), (found[:half], found[half:]), strict=True):
        cells(place, part, usual)
    said = ((PASSED, "passes"), (UNKNOWN, "neither shown nor excluded"), (FLAGGED, "flagged"), (PLAIN, "no limit"))
    keys = [Rectangle((0, 0), 1, 1, facecolor=colour, label=label) for colour, label in said]
    lower.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False, fontsize=8)
    figure.savefig(output, dpi=110)


def main() -> None:
    """Read the recorded tables and draw the figures."""
    for form, name in PICTURES.items():
        draw(recorded(RECORDED[form]), HERE.parent / "docs" / name)


if __name__ == "__main__":
    main()
