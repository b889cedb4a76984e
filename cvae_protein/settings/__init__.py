"""Every setting of a run, its default and its bounds: one frozen dataclass a stage, the one source of defaults.

Plain dataclasses, so that the learning side needs no validation library; `config.py` checks a user's file against them.
"""

from .data import ClusterSettings, FeaturizeSettings, FetchSettings, LabelSettings, SplitSettings
from .model import ModelSettings, OracleSettings, RefineSettings, SampleSettings, Schedule, TermSettings, TrainSettings
from .run import Settings, TuneSettings
from .score import ReportSettings, ScoreSettings, VerdictSettings

__all__ = [
    "ClusterSettings",
    "FeaturizeSettings",
    "FetchSettings",
    "LabelSettings",
    "ModelSettings",
    "OracleSettings",
    "RefineSettings",
    "ReportSettings",
    "SampleSettings",
    "Schedule",
    "ScoreSettings",
    "Settings",
    "SplitSettings",
    "TermSettings",
    "TrainSettings",
    "TuneSettings",
    "VerdictSettings",
]
