"""A whole run: one section a stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..config.settings import ModelSettings, OracleSettings, RefineSettings, SampleSettings, TrainSettings
from .data import ClusterSettings, FeaturizeSettings, FetchSettings, LabelSettings, SplitSettings
from .field import setting
from .score import ReportSettings, ScoreSettings, VerdictSettings


@dataclass(frozen=True)
class TuneSettings:
    """The search of `snakemake tune`."""

    variant: str = setting("concat", "model that is trained in each trial", min_length=1)
    space: dict[str, Any] = setting(
        dict,
        "keys of `model` and `train`, such as train.kl.weight, each with the list of its choices; two numbers are the "
        "ends of a range, searched by its logarithm where it spans a factor of ten",
    )
    objective: Literal["validation_bound", "validation_rmsd"] = setting(
        "validation_bound", "column of history.tsv that is to be least: negative evidence bound in nats, or RMSD in Å"
    )
    trials: int = setting(20, "trainings; more of them go on from those that were made", ge=1)
    seed: int = setting(0, "of the search and of each training", ge=0)


@dataclass(frozen=True)
class Settings:
    """A whole run."""

    results: str = setting("results", "folder of all outputs", min_length=1)
    variants: tuple[str, ...] = setting(
        ("concat", "branched", "adversarial", "reference"),
        "models to train beside `pca`; `reference`: the trained one of the package, judged beside them",
    )
    seeds: tuple[int, ...] = setting((0,), "one training a seed and variant", min_length=1)
    labels: LabelSettings = setting(LabelSettings, "domain table and labels")
    fetch: FetchSettings = setting(FetchSettings, "entry files")
    featurize: FeaturizeSettings = setting(FeaturizeSettings, "parsing and storing")
    cluster: ClusterSettings = setting(ClusterSettings, "domains that are alike")
    split: SplitSettings = setting(SplitSettings, "held-out domains")
    model: ModelSettings = setting(ModelSettings, "size of the models")
    train: TrainSettings = setting(TrainSettings, "training of the variants")
    refine: RefineSettings = setting(RefineSettings, "training of the refiner")
    oracle: OracleSettings = setting(OracleSettings, "training of the oracle")
    sample: SampleSettings = setting(SampleSettings, "sampling")
    score: ScoreSettings = setting(ScoreSettings, "scoring")
    verdict: VerdictSettings = setting(VerdictSettings, "when a model counts as broken")
    report: ReportSettings = setting(ReportSettings, "the page")
    sweep: dict[str, Any] = setting(
        dict, "grid of `snakemake sweep`: keys of `model`, `train` and `sample`, each with the list of its values"
    )
    tune: TuneSettings = setting(TuneSettings, "search of `snakemake tune`")
