"""How a run is judged and shown."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class ScoreSettings:
    """How samples and reconstructions are judged."""

    confidence: float = setting(0.95, "of the intervals", gt=0, lt=1)
    bootstrap: int = setting(1000, "resamplings an interval", ge=10, le=1_000_000)
    neighbours: int = setting(8, "candidates of a structural search that are aligned exactly", ge=1)
    seed: int = setting(0, "of the resampling and the probes", ge=0)


@dataclass(frozen=True)
class ReportSettings:
    """What the page shows."""

    title: str = setting("cvae_protein", "heading of the page", min_length=1)
    gallery: int = setting(4, "samples a class and variant in the 3D gallery", ge=1, le=50)
