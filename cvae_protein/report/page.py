"""Assembling the page: one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from .. import __version__
from ..config.settings import ReportSettings
from ..core.errors import REASONS
from ..core.files import atomic_path
from ..core.progress import say
from ..core.variants import BASELINE, REAL, REAL_ROWS
from ..similarity.nearest_structures import RECALL
from . import class_cards, samples, sections
from .figures import as_tsv, css, variant_colours
from .gallery import gallery
from .given import OF_MODELS, differences, given
from .leaderboard import board_table, leaderboard, matrix, show, tiles
from .results import Results
from .summary import summary

HERE = Path(__file__).parent
TILES = ("trace_rmsd", "physically_valid", "nearest_tm", "fidelity", "nearest_same_class")
MOST_TILES = 4
OPEN_CARDS = 3  # number of classes up to which all cards are open


def write_report(
    results: Path, settings: ReportSettings, variants: Sequence[str], seeds: Sequence[str], output: Path
) -> None:
    """Write the page of a results folder to `output`: figures, tables and structures in one self-contained HTML file.

    `variants` may include `pca`, which is shown first. If a file is absent, its section has a sentence that says so;
    an unreadable one raises `UserError`.
    """
    ordered = sorted(dict.fromkeys(str(v) for v in variants), key=lambda name: name != BASELINE)
    data = Results(Path(results), ordered, [str(seed) for seed in seeds])
    try:
        text = render(data, settings)
    finally:
        data.close()
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say("report", f"{output}, {len(text.encode()) / 1e6:.1f} MB")


def vendored(name: str) -> Markup:
    """A file of `vendor/` as text for a `<script>` element; refused if it would end the element."""
    text = (HERE / "vendor" / name).read_text(encoding="utf-8")
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError(f"{name}: holds `</script` or `<!--` and cannot stand inside a page")
    return Markup(text)  # a file of this package


def environment() -> Environment:
    """Templates that escape what they print and keep the order of embedded data."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


def render(results: Results, settings: ReportSettings) -> str:
    """The page as text."""
    templates = environment()
    colours = variant_colours(results.variants)
    board = leaderboard(results)
    scores, scores_cut = as_tsv(results.table("scores.tsv"))
    rejected, rejected_cut = as_tsv(results.table("rejected.tsv"))
    shown = gallery(results, settings.gallery)
    head, verdicts, best = sections.header(results), matrix(results), tiles(board, TILES)[:MOST_TILES]
    scored = {row["variant"] for row in results.table("scores.tsv")}
    return templates.get_template("template.html").render(
        title=settings.title,
        version=__version__,
        variants=results.variants,
        seeds=results.seeds,
        colours={name: css(colour) for name, colour in colours.items()},
        trained=sections.legend(results, colours, "models", "history.tsv"),
        rebuilt=sections.legend(results, colours, "samples", "reconstructions.h5"),
        fold_legend=sections.fold_legend(results),
        head=head,
        given=given(results),
        differences=differences(results),
        difference_table=as_tsv(results.table("differences.tsv"))[0],
        of_models=OF_MODELS,
        summary=summary(results, head, verdicts),
        audit=sections.leak_audit(results),
        reasons=REASONS,
        specs=sections.specs(results),
        board=board,
        board_table=as_tsv(board_table(board))[0],
        columns=[*results.variants, REAL, *(name for name in REAL_ROWS if name in scored and name != REAL)],
        unranked=results.unranked,
        seen=results.seen,
        tiles=best,
        verdicts=verdicts,
        verdict_table=as_tsv(results.table("verdicts.tsv"))[0],
        **_fold_classes(results),
        **_samples(results, colours),
        recall=RECALL,
        training=sections.training(results, colours),
        reconstruction=sections.reconstruction(results, colours),
        symptoms=sections.symptoms(results, colours),
        literal=sections.literal(results, colours),
        ramachandran=sections.ramachandran(results, colours),
        latent=sections.latent(results, colours),
        maps=sections.distance_maps(results),
        gallery=shown,
        viewer=vendored("3Dmol-min.js") if shown["items"] else "",
        spreads=sections.spreads(results, colours),
        open_classes=sections.OPEN_CLASSES,
        hidden_classes=max(0, len(results.folds) - sections.MOST_CLASSES),
        folds=results.folds,
        scores=scores,
        scores_cut=scores_cut,
        rejected=rejected,
        rejected_cut=rejected_cut,
    )


def _samples(results: Results, colours: dict[str, str]) -> dict[str, object]:
    """What the template shows of the samples: classes, nearest domains, lengths, one map, and designs."""
    designs = samples.designability(results, colours)
    designed = [line["name"] for line in designs["lines"]] if designs else []
    drawn = [name for name in results.variants if results.structures(name, ("sample",))]
    return {
        "asked": samples.confusion(results),
        "asked_table": as_tsv(samples.confusion_table(results))[0],
        "nearest": samples.nearest(results, colours),
        "lengths": samples.by_length(results, colours),
        "sampled": [(css(colours[name]), name) for name in (*drawn, REAL)],
        "space": samples.structure_space(results),
        "designs": designs,
        "designed": [(css(colours[name]), name) for name in designed],
        "design_table": as_tsv(designs["rows"])[0] if designs else "",
        "show": show,
    }


def _fold_classes(results: Results) -> dict[str, object]:
    """What the template shows of the fold classes and of the fold classifier."""
    found, judge = class_cards.cards(results), class_cards.fold_classifier(results)
    differing = class_cards.disagreements(results)
    notes = class_cards.by_class(differing)
    return {
        "cards": [card | {"disagreement": notes.get(card["fold"], "")} for card in found],
        "card_facts": class_cards.FACTS,
        "card_table": as_tsv(class_cards.table(found))[0],
        "open_cards": OPEN_CARDS,
        "rare": (class_cards.RARE_TRAINING, class_cards.RARE_HELD_OUT),
        "classifier": judge,
        "classifier_table": as_tsv(judge["checks"])[0] if judge else "",
        "confusion_table": as_tsv(judge["confusion"])[0] if judge else "",
        "disagreements": class_cards.said(differing),
        "disagreement_table": as_tsv(differing)[0],
    }
