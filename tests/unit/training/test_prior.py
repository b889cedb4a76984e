"""The flow that is fitted to codes: validation stops it, and the verdict tells one that was not stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cvae_protein.config.settings import (
    ModelSettings,
    RefineSettings,
    SampleSettings,
    ScoreSettings,
    TrainSettings,
    VerdictSettings,
)
from cvae_protein.core.files import write_table
from cvae_protein.model.codes import CodeSet
from cvae_protein.model.priors import AggregatePosterior, Gaussian, LatentFlow, StandardPrior
from cvae_protein.model.spec import Spec
from cvae_protein.sampling.likelihood import judge_codes
from cvae_protein.score.metrics.latent import Codes
from cvae_protein.score.metrics.likelihood import likelihood_rows
from cvae_protein.score.metrics.metric import SCORE_COLUMNS
from cvae_protein.score.verdicts import judge
from cvae_protein.training.prior import fit_flow, log_likelihoods

LATENT = 6
SPEC = Spec(
    "concat", 0, ModelSettings(latent=LATENT, width=48), RefineSettings(), (("1", "2"),), {"1": (50,), "2": (60,)}, {}
)
SETTINGS = TrainSettings(flow_steps=300, learning_rate=3e-3, flow_dropout=0.0)
APART = 1.5  # how far the classes lie from their middle, standard deviations


def codes_of(count: int, seed: int, apart: float) -> CodeSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count)[:, None] % 2 + 1
    mean = torch.randn(count, LATENT, generator=generator)
    mean[:, 0] += apart * (2 * labels[:, 0] - 3)
    lengths = torch.randint(50, 90, (count,), generator=generator)
    posterior = Gaussian(mean, torch.full((count, LATENT), -6.0))
    return CodeSet(posterior, labels, lengths, np.full(count, 1 / count))


def verdict_of(folder: Path, flow: LatentFlow, aggregate: AggregatePosterior, held: CodeSet) -> dict[str, str]:
    """The row of PRIOR-OVERFIT that a prior gets for held-out codes."""
    z, labels, lengths = held.draw(torch.arange(len(held.lengths)), torch.Generator().manual_seed(1))
    standard = StandardPrior(LATENT)
    sampler = SimpleNamespace(
        flow=flow, aggregate=aggregate, spec=SPEC, memory=None, device=torch.device("cpu"),
        prior=lambda labels, lengths: standard(torch.zeros(len(labels), 1)),
    )  # fmt: skip
    judged = {name: each.numpy() for name, each in judge_codes(sampler, z, labels, lengths, SampleSettings()).items()}
    count = len(z)
    ids = np.array([f"d{row}" for row in range(count)])
    codes = Codes(
        ids, np.array(["1.10", "2.10"] * (count // 2)), np.full(count, "test"),
        *(np.zeros((count, LATENT)) for _ in range(3)), judged=judged,
    )  # fmt: skip
    rungs = dict.fromkeys(ids.tolist(), "new_member")
    rows = likelihood_rows(codes, {}, rungs, ScoreSettings(bootstrap=200))
    assert {row.fold for row in rows} == {"all", "1", "2", "new_member"}
    gain = next(row.estimate.value for row in rows if row.metric == "prior_gain" and row.fold == "all")
    assert gain == pytest.approx((judged["flow"] - judged["gaussian"]).mean(), abs=1e-4)
    norm = next(row.estimate.value for row in rows if row.metric == "noise_norm" and row.fold == "all")
    assert norm == pytest.approx(judged["noise"].mean() / LATENT, abs=1e-4)
    write_table(folder / "scores.tsv", SCORE_COLUMNS, [row.cells("concat", "0") for row in rows])
    return next(row for row in judge(folder / "scores.tsv", VerdictSettings()) if row["verdict"] == "PRIOR-OVERFIT")


@pytest.mark.parametrize(
    ("apart", "stopped", "state"), [(0.0, False, "flagged"), (APART, True, "pass")], ids=["broken", "sound"]
)
def test_a_flow_that_nothing_stops_is_told_from_one_that_validation_stopped(
    apart: float, stopped: bool, state: str, tmp_path: Path
) -> None:
    """Few codes of one Gaussian, learnt by heart; many of two classes, which one Gaussian cannot tell apart."""
    torch.manual_seed(0)
    training = codes_of(800 if stopped else 40, 0, apart)
    aggregate = AggregatePosterior(LATENT, 2)
    aggregate.fit(training.posterior.mean, training.posterior.logvar, training.labels[:, 0], training.lengths)
    flow = LatentFlow(SPEC, SETTINGS.flow_dropout)
    flow.whiten(aggregate)
    watched = {"evaluated": training} | ({"validation": codes_of(200, 1, apart)} if stopped else {})
    rows = fit_flow(flow, watched, SETTINGS, "test", 0)
    found = verdict_of(tmp_path, flow, aggregate, codes_of(300, 2, apart))
    assert found["state"] == state, found["evidence"]
    assert "prior_gain = " in found["evidence"]
    assert bool(found["remedy"]) == (state == "flagged")
    kept = next(row for row in rows if row["best"])
    found = log_likelihoods(flow, aggregate, training)
    assert found["nats"] > found["gaussian_nats"]
    if stopped:
        assert kept["validation_flow"] == min(row["validation_flow"] for row in rows)
    else:
        assert kept is rows[-1]


def test_where_there_is_nothing_to_learn_the_gaussian_stays() -> None:
    """Validation keeps a flow that was fitted to a few codes of a Gaussian within a nat of that Gaussian."""
    training, settings = codes_of(60, 0, 0.0), replace(SETTINGS, flow_steps=200, flow_dropout=0.3)
    torch.manual_seed(0)
    aggregate = AggregatePosterior(LATENT, 2)
    aggregate.fit(training.posterior.mean, training.posterior.logvar, training.labels[:, 0], training.lengths)
    flow = LatentFlow(SPEC, settings.flow_dropout)
    flow.whiten(aggregate)
    held_out = codes_of(300, 1, 0.0)
    fit_flow(flow, {"evaluated": training, "validation": held_out}, settings, "test", 0)
    found = log_likelihoods(flow, aggregate, held_out)
    assert found["nats"] > found["gaussian_nats"] - 1


def test_a_flow_is_widened_as_far_as_new_codes_lie() -> None:
    training = codes_of(2000, 0, 0.0)
    aggregate = AggregatePosterior(LATENT, 2)
    aggregate.fit(training.posterior.mean, training.posterior.logvar, training.labels[:, 0], training.lengths)
    for spread, wider in ((0.9, 1.0), (1.12, 1.15), (2.0, 1.3)):
        flow = LatentFlow(SPEC)
        flow.whiten(aggregate)
        given = codes_of(2000, 1, 0.0)
        new = CodeSet(Gaussian(spread * given.posterior.mean, given.posterior.logvar), *list(vars(given).values())[1:])
        drawn = new.draw(torch.arange(2000), torch.Generator().manual_seed(7))
        before, factor = flow.log_density(*drawn)[0].mean(), flow.factor.clone()
        assert flow.widen(*drawn) == wider
        torch.testing.assert_close(flow.factor, wider * factor)
        assert flow.log_density(*drawn)[0].mean() >= before
        if spread == 1.12:
            assert flow.to_noise(*drawn).square().mean() == pytest.approx(1, abs=0.05)
