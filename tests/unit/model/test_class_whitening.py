"""Components class by class: what they take out of a code, and that they lose nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from cvae_protein.config.settings import ModelSettings, RefineSettings
from cvae_protein.model.representation import MEMBERS, ClassWhitening
from cvae_protein.model.spec import Spec

LATENT = 4
SPEC = Spec(
    "concat", 0, replace(ModelSettings(), latent=LATENT), RefineSettings(), (("1", "2"), ("1.10", "1.20")), {}, {}
)
VARIANCE = torch.tensor([9.0, 4.0, 1.0, 0.25])


def draw(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (2 count, 4) of two classes with means and covariances of their own, and their label ids."""
    random = np.random.default_rng(seed)
    scores = []
    for label in range(2):
        own = np.random.default_rng(100 + label)
        mix = np.linalg.qr(own.normal(size=(LATENT, LATENT)))[0] * [1.0, 0.8, 0.4, 0.3]
        scores.append(own.normal(size=LATENT) + random.normal(size=(count, LATENT)) @ mix.T)
    labels = torch.tensor([[1, 0]] * count + [[2, 0]] * count)
    return torch.from_numpy(np.concatenate(scores)).float(), labels


@pytest.fixture(scope="module")
def fitted() -> ClassWhitening:
    components = ClassWhitening(SPEC)
    scores, labels = draw(20_000)
    components.fit(scores, labels, torch.ones(len(scores)), VARIANCE)
    return components


def test_codes_of_every_class_have_mean_0_and_covariance_1(fitted: ClassWhitening) -> None:
    scores, labels = draw(20_000)
    codes = fitted.to_codes(scores, labels).double()
    for label in (1, 2):
        own = codes[labels[:, 0] == label]
        # 8 of 20,008 parts of the mean, and 4 of 20,004 of the covariance, are not the class's own.
        torch.testing.assert_close(own.mean(0), torch.zeros(LATENT).double(), atol=1e-2, rtol=0)
        torch.testing.assert_close(torch.cov(own.T), torch.eye(LATENT).double(), atol=1e-2, rtol=0)


def test_a_probe_that_tells_gaussians_apart_is_left_with_chance(fitted: ClassWhitening) -> None:
    scores, labels = draw(20_000)
    fresh, truth = draw(5_000, seed=1)
    accuracy = {}
    for name, train, test in (
        ("scores", scores, fresh),
        ("codes", fitted.to_codes(scores, labels), fitted.to_codes(fresh, truth)),
    ):
        probe = QuadraticDiscriminantAnalysis().fit(train.numpy(), labels[:, 0].numpy())
        accuracy[name] = (probe.predict(test.numpy()) == truth[:, 0].numpy()).mean()
    assert accuracy["scores"] > 0.8
    assert accuracy["codes"] == pytest.approx(0.5, abs=0.03)


def test_the_map_loses_nothing_and_is_the_identity_without_a_class(fitted: ClassWhitening) -> None:
    scores, labels = draw(50, seed=2)
    torch.testing.assert_close(fitted.to_scores(fitted.to_codes(scores, labels), labels), scores, atol=1e-4, rtol=1e-4)
    unknown = torch.zeros_like(labels)
    assert torch.equal(fitted.to_codes(scores, unknown), scores)
    assert torch.equal(fitted.to_scores(scores, unknown), scores)
    assert (fitted.to_codes(scores, labels) - scores).abs().max() > 0.1


def test_numbers_of_a_code_stay_independent_in_the_posterior(fitted: ClassWhitening) -> None:
    """A squared error in Å² weighs the scores by their variance; by the codes' numbers it must be a sum of squares."""
    for label in (1, 2):
        spread = fitted.spread(torch.tensor([[label, 0]]))[0].double()
        gram = spread.T @ torch.diag(VARIANCE.double()) @ spread
        assert (gram - torch.diag(gram.diagonal())).abs().max() < 1e-4 * gram.diagonal().max()
        assert (gram.diagonal().diff() <= 0).all()


def test_a_finer_label_moves_the_mean_by_its_share_of_members() -> None:
    components = ClassWhitening(SPEC)
    members = 24
    scores = torch.zeros(2 * members, LATENT)
    scores[:members] = torch.tensor([1.0, 2.0, 0.0, -1.0])
    scores[members:] = -scores[:members]
    labels = torch.tensor([[1, 1]] * members + [[1, 2]] * members)
    components.fit(scores, labels, torch.ones(len(scores)), VARIANCE)
    mean = components.to_scores(torch.zeros(1, LATENT), torch.tensor([[1, 1]]))
    torch.testing.assert_close(mean[0], scores[0] * members / (members + MEMBERS))
    assert torch.equal(components.to_scores(torch.zeros(1, LATENT), torch.tensor([[1, 0]]))[0], torch.zeros(LATENT))


def test_a_small_class_is_drawn_to_all() -> None:
    scores, labels = draw(2_000)
    few = torch.cat([torch.arange(2_000), torch.arange(2_000, 2_002)])
    components = ClassWhitening(SPEC)
    components.fit(scores[few], labels[few], torch.ones(len(few)), VARIANCE)
    codes = components.to_codes(scores, labels)[2_000:]
    assert 0.1 < codes.std() < 10  # two members alone would have no covariance
