"""The variants of the model, one record each: what configuration, training, sampling, verdicts and report know of them.

A file in `model/variants/` is a variant by itself; a record here says in what one differs from the usual. The baselines
have no file: they are the linear model that `concat` begins with, and differ in what their samples are drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parents[1] / "model" / "variants"

Prior = Literal["settings", "gaussian", "training_codes", "other_class"]


@dataclass(frozen=True)
class Variant:
    """One variant: by default trained, with a network of its own, and drawn from the prior that the settings name.

    `prior` other than `settings`: a Gaussian per class alone, no flow being fitted to the codes; the codes of training
    domains; the flow under the label of another class. Not `ranked` are controls, whose good scores say nothing.
    """

    name: str
    shares: str = ""  # the variant whose file builds its network
    trained: bool = True  # else the linear model, fitted in closed form, whose decoder is given no label
    view: bool = False  # the trained weights of the variant that it shares, its code being the noise of their flow
    prior: Prior = "settings"
    ranked: bool = True  # whether it may be called the best of a run
    started: bool = False  # begins with trained weights (`train.start`)

    @property
    def file(self) -> str:
        """The file below `model/` that builds its network."""
        return f"variants/{self.shares or self.name}.py"

    @property
    def has_flow(self) -> bool:
        """Whether a flow is fitted to its codes."""
        return self.prior in ("settings", "other_class")


BASELINE = "pca"
LITERAL = "literal_"  # how the names of published designs as they stand begin
PRETRAINED = "pretrained"  # the trained model that comes with the package, of labels of CATH
FINE_TUNED = "fine_tuned"
REAL, REAL_SHUFFLED = "real", "real_shuffled"  # held-out domains judged as samples, by their class or by another
# Real domains that play a sampler: an ideal one, which draws new members of trained superfamilies, and a copying one.
NEW_MEMBER, TRAINING = "new_member", "training"
REAL_ROWS = (REAL, NEW_MEMBER, TRAINING, REAL_SHUFFLED)
REFERENCES = (BASELINE, *REAL_ROWS)  # in every run without being asked for; none of their verdicts fails it

RECORDS = {
    record.name: record
    for record in (
        # Probabilistic PCA of the coefficients: the state in which every variant starts.
        Variant(BASELINE, "concat", trained=False, prior="gaussian"),
        # The same with a flow as its prior: what a trained variant adds to its samples, it adds to these.
        Variant("pca_flow", "concat", trained=False),
        # The same handing out its training domains, as memorising would: no score that these top says anything.
        Variant("training_copies", "concat", trained=False, prior="training_codes", ranked=False),
        # The same asked for another class than the one that is recorded: where fidelity to the label begins.
        Variant("swapped_label", "concat", trained=False, prior="other_class", ranked=False),
        # A prior p(z | y) that is a flow, or a decoder that begins with that flow and has the prior N(0, 1), are two
        # views of one model (Chen et al. 2017, section 3.2). This is the second: the code is the flow's noise, in which
        # classes are not told apart if the flow fits, and the label decides what the decoder makes of it.
        Variant("flow_prior", "concat", view=True),
        Variant(PRETRAINED, "concat"),
        # The package's model, or another one, trained further on the run's domains, whose labels are added to its own.
        Variant(FINE_TUNED, "concat", started=True),
    )
}


RENAMED = {"floor": "pca_flow", "copies": "training_copies", "shuffled": "swapped_label", "reference": PRETRAINED}
"""Former name of a variant -> its name."""


def find(name: str) -> Variant:
    """The record of a variant, the usual one where it has none of its own."""
    return RECORDS.get(name, Variant(name))


def names() -> list[str]:
    """Names of all variants: files of `model/variants/`, and those that have a record alone."""
    return sorted({*RECORDS, *(path.stem for path in FOLDER.glob("[a-z]*.py"))})


def choices() -> list[str]:
    """Names that a run may list: all but the baseline, which every run has."""
    return [name for name in names() if name != BASELINE]
