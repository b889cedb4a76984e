"""Scores of sets of structures beside real ones, as tables."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import UserError
from ..core.progress import verbosity
from .structures import STORES, read

if TYPE_CHECKING:
    import pandas as pd


def score(
    samples: Any,
    reference: Any,
    *,
    splits: str | Path | None = None,
    targets: str | Path | None = None,
    classifier: str | Path | None = None,
    per_structure: bool = False,
    **settings: Any,
) -> pd.DataFrame:
    """Score structures of any origin against real domains, by the metrics of the workflow.

    Parameters
    ----------
    samples : `Structures`, or anything that `read` takes; a path is read as `cvae-protein score` reads it
    reference : the real domains: path of a store, such as `results/domains.h5`, or anything that `read` takes
    splits : `splits.tsv` of a run: compare with its held-out domains, and report how close samples are to its training
    targets : table `id label` or `file label` of the class that each sample should have; without it, the labels of the
        samples
    classifier : folder of a trained fold classifier, for the metrics that need its features
    per_structure : return one row per sample instead: its own metrics and the nearest real domain
    settings : settings of the section `score`, such as `bootstrap=200`

    Returns
    -------
    DataFrame : one row per metric and class, columns `fold metric value low high n unit better note` (95 % intervals),
        or one row per structure

    Raises
    ------
    UserError : if nothing can be compared

    Examples
    --------
    >>> samples = load("pretrained").sample(fold="3", length=76, n=2, seed=1)
    >>> table = score(samples, "domains.h5", bootstrap=50)
    >>> float(table.set_index(["fold", "metric"]).loc[("all", "physically_valid"), "value"])
    1.0
    >>> list(score(samples, "domains.h5", bootstrap=50, per_structure=True)["nearest_id"])
    ['1ubi_A', '1ubi_A']
    """
    import json

    import pandas as pd

    from ..config.load import section
    from ..score.external import read_set, score_set, write_set

    own = section("score", json.dumps(settings))
    with tempfile.TemporaryDirectory() as scratch, verbosity("slow"):
        folder = Path(scratch)
        given = Path(samples) if isinstance(samples, str | Path) else _stored(samples, folder / "given.h5", "samples")
        real = _store(reference, folder)
        found = read_set(given, real, Path(splits) if splits else None, Path(targets) if targets else None)
        stored = write_set(found, folder, "samples", 0)
        embeddings = (
            set_embeddings(found, Path(classifier), real, folder / "samples.h5") if classifier and stored else None
        )
        score_set(found, folder, "samples", 0, own, embeddings)
        table = pd.read_csv(folder / ("structures.tsv" if per_structure else "scores.tsv"), sep="\t", dtype=TEXT)
    return table.drop(columns=["kind"] if per_structure else ["variant", "seed", "split"])


TEXT = dict.fromkeys(("id", "fold", "label", "nearest_id", "nearest_label", "training_id", "predicted_label"), str)


def set_embeddings(sample_set: Any, classifier: Path, reference: Path, samples: Path) -> Any:
    """Embeddings of the samples and of the held-out domains by the fold classifier in a folder, from their stores."""
    from ..model.fold_classifier import embed
    from ..score.external import read_set_embeddings

    with tempfile.TemporaryDirectory() as scratch:
        own, real = Path(scratch) / "own", Path(scratch) / "real"
        embed(classifier, [samples], own)
        embed(classifier, [reference], real)
        return read_set_embeddings(sample_set, own / samples.name, real / reference.name)


def _store(reference: Any, folder: Path) -> Path:
    """The store of real domains that `reference` is, or that is made from it."""
    if isinstance(reference, str | Path) and Path(reference).suffix in STORES:
        return Path(reference)
    return _stored(reference, folder / "reference.h5", "reference")


def _stored(source: Any, path: Path, name: str) -> Path:
    """A store of the structures that `read` returns for `source`."""
    found = read(source, name)
    if not found:
        raise UserError(f"{name}: expected one structure or more to compare, got none")
    return found.to(path)[0]
