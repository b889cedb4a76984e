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
class VerdictSettings:
    """When a model counts as broken; `docs/metrics.md` has the metrics."""

    active: float = setting(0.1, "COLLAPSE: least share of active units", ge=0, le=1)
    information: float = setting(0.5, "COLLAPSE: least mutual information of code and structure, nats", ge=0)
    permutation: float = setting(
        0.02, "COLLAPSE: least share by which another domain's code changes the held-out error", ge=0
    )
    leak: float = setting(0.1, "LEAK: highest skill of a probe that reads the label from the code", ge=0, le=1)
    leak_margin: float = setting(0.05, "LEAK: highest lower end of that skill's interval", ge=0, le=1)
    flip: float = setting(2.0, "CONDITION-IGNORED: least share of swaps that the oracle follows, in chances", ge=0)
    coverage: float = setting(0.5, "MODE-COLLAPSE: least coverage, as a share of that of real domains", ge=0, le=1)
    memorisation: float = setting(
        0.25, "MEMORISATION: share by which samples may lie nearer to training than real domains do", ge=0
    )
    copied: float = setting(
        0.95,
        "MEMORISATION: TM-score to training, as a share of the reconstructions', from which samples are copies",
        gt=0,
    )
    fail: bool = setting(False, "a verdict that fires fails the run, after all is written")


@dataclass(frozen=True)
class ReportSettings:
    """What the page shows."""

    title: str = setting("cvae_protein", "heading of the page", min_length=1)
    gallery: int = setting(4, "samples a class and variant in the 3D gallery", ge=1, le=50)
