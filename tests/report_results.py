"""Results folders that tests of the page are given."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import synthetic

from cvae_protein.config.settings import ReportSettings
from cvae_protein.core.files import write_table
from cvae_protein.core.structure import Backbone
from cvae_protein.report.page import write_report
from cvae_protein.score.verdicts import VERDICT_COLUMNS
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

SCORES = ("variant", "seed", "split", "fold", "metric", "value", "low", "high", "n", "unit", "better")
STRUCTURES = (
    "id",
    "kind",
    "label",
    "length",
    "helix",
    "backbone_rmsd",
    "nearest_id",
    "nearest_label",
    "nearest_tm",
    "predicted_label",
)


def helix(name: str, length: int, random: np.random.Generator) -> Backbone:
    coords = synthetic.helix(length) + random.normal(0, 0.02, (length, 5, 3))
    return Backbone(name, "A" * length, coords[None], tuple(str(i + 1) for i in range(length)))


def entry(name: str, random: np.random.Generator, **facts: str | float | int) -> Entry:
    backbone = helix(name, 44, random)
    return Entry(backbone, facts)


def write_run(root: Path, variant: str, seed: str, prefix: str, random: np.random.Generator) -> None:
    place = (variant, f"seed{seed}")
    names = [(f"{prefix}{variant}-{fold}-{k}", fold) for fold in ("1", "3") for k in range(3)]
    tag = {"variant": variant, "seed": int(seed)}
    drawn = [entry(name, random, label=fold, **tag) for name, fold in names]
    for kind in ("samples", "raw"):
        write_store(root.joinpath("samples", *place, f"{kind}.h5"), drawn, compression="gzip")
    rates = {
        "rate": float("nan") if variant == "pca" else 50.0,
        "trace_rmsd": 2.5,
        "permuted_code_rmsd": 9.0,
        "swapped_label_rmsd": 3.0,
    }
    rebuilt = [entry(f"{prefix}d{k}", random, label="1.10.8.1", **tag, **rates) for k in (0, 1)]
    write_store(root.joinpath("samples", *place, "reconstructions.h5"), rebuilt, compression="gzip")
    rows = [
        dict.fromkeys(STRUCTURES, "")
        | {"id": name, "kind": "sample", "label": fold, "length": 44, "helix": 0.5 + 0.1 * int(fold)}
        | {"nearest_id": f"{prefix}d0", "nearest_label": "1.10.8.1", "nearest_tm": 0.6, "predicted_label": "1"}
        for name, fold in names
    ]
    write_features(root.joinpath("features", *place, "samples.h5"), *map(list, zip(*names, strict=True)), random)
    rows += [dict.fromkeys(STRUCTURES, "") | {"id": f"{prefix}d0", "kind": "reconstruction", "backbone_rmsd": 2.0}]
    write_table(root.joinpath("scores", *place, "structures.tsv"), STRUCTURES, rows)
    root.joinpath("models", *place).mkdir(parents=True)
    root.joinpath("models", *place, "spec.json").write_text(json.dumps({"model": {"latent": 8}, "name": prefix}))
    with h5py.File(root.joinpath("samples", *place, "latents.h5"), "w") as file:
        for name, values in {"id": [f"{prefix}d{k}" for k in range(4)], "label": ["1.10.8.1"] * 4}.items():
            file[name] = np.array(values, object).astype(h5py.string_dtype())
        file["split"] = np.array(["test", "test", "train", "train"], object).astype(h5py.string_dtype())
        for name in ("mean", "logvar", "kl"):
            file[name] = random.random((4, 8))
        file.attrs["blocks"] = json.dumps({"shape": [0, 6], "fold": [6, 8]})
    if variant != "pca":
        history = [
            {"step": k, "seconds": k, "loss": 9 / k, "rmsd": 9 / k, "validation_rmsd": 10 / k} for k in (1, 2, 3)
        ]
        write_table(root.joinpath("models", *place, "history.tsv"), list(history[0]), history)


def write_features(path: Path, ids: list[str], labels: list[str], random: np.random.Generator) -> None:
    """What the fold classifier sees of some structures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in (("id", ids), ("label", labels)):
            file[name] = np.array(values, object).astype(h5py.string_dtype())
        file["feature"] = random.random((len(ids), 5))
        file["level1"] = np.ones((len(ids), 1))
        file["level1"].attrs["labels"] = ["1"]


def score(variant: str, seed: str, metric: str, value: float, better: str, half: float = 0.1) -> dict[str, object]:
    numbers = {"value": value, "low": value - half, "high": value + half}
    return dict(
        variant=variant, seed=seed, split="test", fold="all", metric=metric, **numbers, n=6, unit="", better=better
    )


def verdict(variant: str, seed: str, name: str, state: str, prefix: str = "") -> dict[str, str]:
    cells = (
        variant,
        seed,
        name,
        state,
        f"{prefix}number = 0.4",
        "number > 0.1",
        "Set train.steps." * (state == "flagged"),
    )
    return dict(zip(VERDICT_COLUMNS, cells, strict=True))


def write_classifier(root: Path, prefix: str) -> None:
    """Tables of a fold classifier's held-out checks."""
    checks = {
        "split": "test",
        "level": 1,
        "labels": "all",
        "n": 40,
        "accuracy": 0.91,
        "low": 0.8,
        "high": 0.96,
        "ece": 0.03,
    }
    write_table(root / "models/classifier/classifier.tsv", (*checks, "temperature"), [checks | {"temperature": 1.1}])
    confused = [("1", "1", 18, 0.9), ("1", f"{prefix}3", 2, 0.1), (f"{prefix}3", f"{prefix}3", 20, 1.0)]
    rows = [
        {"split": "test", "level": 1, "label": a, "predicted": b, "n": n, "share": share} for a, b, n, share in confused
    ]
    write_table(root / "models/classifier/confusion.tsv", list(rows[0]), rows)


def write_results(root: Path, seeds: tuple[str, ...] = ("0",), prefix: str = "") -> list[str]:
    random = np.random.default_rng(0)
    domains = [entry(f"{prefix}d{k}", random, label="1.10.8.1") for k in range(6)]
    write_store(root / "domains.h5", domains, compression="gzip")
    splits = [
        {"domain_id": f"{prefix}d{k}", "split": "test" if k < 2 else "train", "label": "1.10.8.1", "reason": ""}
        for k in range(6)
    ]
    write_table(root / "splits.tsv", ("domain_id", "split", "label", "reason"), splits)
    write_features(root / "features/real/domains.h5", [f"{prefix}d{k}" for k in range(6)], ["1.10.8.1"] * 6, random)
    known = [{"domain_id": f"{prefix}d{k}", "pdb_id": "1ubi" if k == 0 else f"{prefix}1x"} for k in range(6)]
    write_table(root / "domains.tsv", ("domain_id", "pdb_id"), known)
    rejected = [{"domain_id": f"{prefix}x", "source": prefix, "reason": "too_short", "detail": f"{prefix} 3 residues"}]
    write_table(root / "rejected.tsv", ("domain_id", "source", "reason", "detail"), rejected)
    write_table(root / "fold_names.tsv", ("code", "name"), [{"code": "1", "name": f"{prefix}some fold"}])
    rows = [score("real", "", "nearest_tm", 0.5, "high")]
    for variant in ("pca", "concat"):
        for seed in seeds:
            write_run(root, variant, seed, prefix, random)
            rows.append(score(variant, seed, "nearest_tm", 0.3 + 0.01 * int(seed), "high"))
            rows.append(score(variant, seed, "trace_rmsd", 3.0 if variant == "pca" else 2.0, "low"))
            rows.append(score(variant, seed, "kl", 40.0 + int(seed), "none"))
            rows.append(score(variant, seed, "class_leakage", 0.25, "low"))
            rows.append(score(variant, seed, f"{prefix}invented_metric", 1.0, "none"))
            rows += [score(variant, seed, "fidelity", 0.8, "high") | {"fold": fold} for fold in ("1", "3")]
    write_table(root / "scores.tsv", SCORES, rows)
    states = {"COLLAPSE": "pass", "LEAK": "flagged", "MODE-COLLAPSE": "unknown"}
    judged = [verdict("concat", seed, name, state, prefix) for seed in seeds for name, state in states.items()]
    judged += [verdict("real", "", "LEAK", "not applicable", prefix)]
    write_table(root / "verdicts.tsv", VERDICT_COLUMNS, judged)
    write_classifier(root, prefix)
    return ["pca", "concat"]


def page_of(root: Path, variants: list[str], seeds: tuple[str, ...] = ("0",)) -> str:
    write_report(root, ReportSettings(), variants, list(seeds), root / "report.html")
    return (root / "report.html").read_text(encoding="utf-8")
