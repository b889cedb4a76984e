"""The variants of the model: one record each, used by configuration, training, sampling, verdicts and report.

A file in `model/variants/` is a variant by itself; a record here says how one differs from the default. The baselines
have no file: they are the linear model that `concat` starts from, and differ in what their samples are drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parents[1] / "model" / "variants"

Prior = Literal["settings", "gaussian", "training_codes", "other_class"]


@dataclass(frozen=True)
class Variant:
    """One variant; by default it is trained, has its own network, and is sampled from the prior in the settings.

    Values of `prior` other than `settings`: only a Gaussian per class, with no flow fitted to the codes; the codes of
    training domains; the flow under the label of another class. Variants that are not `ranked` are controls, whose good
    scores mean nothing.
    """

    name: str
    shares: str = ""  # the variant whose file builds its network
    trained: bool = True  # if not: the linear model, fitted in closed form, whose decoder gets no label
    view: bool = False  # uses the trained weights of the variant it shares; its code is the noise of their flow
    prior: Prior = "settings"
    ranked: bool = True  # whether it can be ranked best in a run
    started: bool = False  # training starts from trained weights (`train.start`)

    @property
    def file(self) -> str:
        """The file below `model/` that builds its network."""
        return f"variants/{self.shares or self.name}.py"

    @property
    def has_flow(self) -> bool:
        """Whether a flow is fitted to its codes."""
        return self.prior in ("settings", "other_class")


BASELINE = "pca"
LITERAL = "literal_"  # prefix of the names of published designs reproduced unchanged
PRETRAINED = "pretrained"  # the trained model that comes with the package, with CATH labels
FINE_TUNED = "fine_tuned"
REAL, REAL_SHUFFLED = "real", "real_shuffled"  # held-out domains scored as samples of their own class or of another
# Real domains scored as samples: of an ideal sampler (new members of trained superfamilies) and of one that copies.
NEW_MEMBER, TRAINING = "new_member", "training"
REAL_ROWS = (REAL, NEW_MEMBER, TRAINING, REAL_SHUFFLED)
REFERENCES = (BASELINE, *REAL_ROWS)  # always part of a run; their verdicts never fail it

RECORDS = {
    record.name: record
    for record in (
        # Probabilistic PCA of the coefficients: the state in which every variant starts.
        Variant(BASELINE, "concat", trained=False, prior="gaussian"),
        # The same with a flow as its prior: what a trained variant adds to its samples, it adds to these.
        Variant("pca_flow", "concat", trained=False),
        # The same, but returning training domains, like a memorising model: a score that ranks these first is useless.
        Variant("training_copies", "concat", trained=False, prior="training_codes", ranked=False),
        # The same, sampled for another class than the recorded one: the zero point of label fidelity.
        Variant("swapped_label", "concat", trained=False, prior="other_class", ranked=False),
        # A flow as prior p(z | y), and a decoder that begins with that flow and has the prior N(0, 1), are two views
        # of one model (Chen et al. 2017, section 3.2). This is the second: the code is the flow's noise, which does not
        # distinguish classes if the flow fits, and the label decides what the decoder makes of it.
        Variant("flow_prior", "concat", view=True),
        Variant(PRETRAINED, "concat"),
        # The package's model, or another, trained further on the run's domains; their labels are added to its own.
        Variant(FINE_TUNED, "concat", started=True),
    )
}


RENAMED = {"floor": "pca_flow", "copies": "training_copies", "shuffled": "swapped_label", "reference": PRETRAINED}
"""Former -> current names of variants."""


def find(name: str) -> Variant:
    """The record of a variant; the default record if it has none of its own."""
    return RECORDS.get(name, Variant(name))


def names() -> list[str]:
    """Names of all variants: the files of `model/variants/`, and those that have only a record."""
    return sorted({*RECORDS, *(path.stem for path in FOLDER.glob("[a-z]*.py"))})


def choices() -> list[str]:
    """Names that a run may list: all except the baseline, which is in every run."""
    return [name for name in names() if name != BASELINE]
