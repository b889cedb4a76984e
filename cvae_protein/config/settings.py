"""How models are built, trained and drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings.field import setting


@dataclass(frozen=True)
class Schedule:
    """The weight of a term as a function of the step."""

    kind: Literal["constant", "ramp", "cosine", "cycle", "target_rate"] = setting("ramp", "shape of the schedule")
    weight: float = setting(1.0, "weight once reached (start value of target_rate)", ge=0, le=1e6)
    steps: int = setting(500, "optimiser steps of the rise, or of one cycle", ge=1)
    ratio: float = setting(0.5, "share of a cycle that rises", gt=0, le=1)
    rate: float = setting(60.0, "nats a structure that target_rate steers to", gt=0)


@dataclass(frozen=True)
class TermSettings:
    """Weights of terms beyond the evidence bound; 0 leaves a term out. Usual weights: benchmarks/terms.py."""

    schedule: Schedule = setting(Schedule, "factor of all weights of this section; target_rate does not apply")
    variance_floor: float = setting(0.0, "against collapse: codes that spread less than 0.5 in a dimension", ge=0)
    mmd: float = setting(0.0, "against holes of the prior: discrepancy of codes and prior", ge=0)
    total_correlation: float = setting(0.0, "against dependence of the code's dimensions on each other", ge=0)
    class_mmd: float = setting(0.0, "against the label in the code: discrepancy of the classes' codes", ge=0)
    hsic: float = setting(0.0, "against the label in the code: dependence by kernels, all levels", ge=0)
    label_adversary: float = setting(0.0, "against the label in the code: a critic that tells it", ge=0)
    club: float = setting(0.0, "against the label in the code: upper bound on their mutual information", ge=0)
    classifier: float = setting(0.0, "against an ignored label: class of traces decoded under another label", ge=0)
    label_seeking: float = setting(0.0, "against an ignored label: traces alike under two labels", ge=0)
    mode_seeking: float = setting(0.0, "against an ignored code: traces alike for two codes", ge=0)
    fape: float = setting(0.0, "error of the decoded trace seen from each residue's frame", ge=0)
    step_length: float = setting(0.0, "decoded steps from CA to CA that are not 3.8 Å", ge=0)

    @property
    def compare_structures(self) -> bool:
        """Whether a term that is on looks at a batch as a whole, and not at one structure after the other."""
        return any(weight for name, weight in vars(self).items() if name not in ("schedule", "fape", "step_length"))


@dataclass(frozen=True)
class ModelSettings:
    """Size of a conditional VAE; equal for all variants."""

    latent: int = setting(64, "numbers a structure", ge=1, le=4096)
    coefficients: int = setting(48, "cosine coefficients of the CA trace that the model sees", ge=4, le=256)
    width: int = setting(256, "hidden units a layer of the encoder", ge=8, le=8192)
    depth: int = setting(2, "hidden layers of the encoder", ge=1, le=64)
    decoder_width: int = setting(96, "channels of the decoder's convolutions along the chain", ge=8, le=8192)
    decoder_depth: int = setting(4, "convolutions of the decoder", ge=1, le=64)
    inference_steps: int = setting(10, "descent steps that better a code after the encoder's guess", ge=0, le=10_000)
    dropout: float = setting(0.1, "share of hidden units dropped in training", ge=0, lt=1)
    fold_block: float = setting(0.25, "share of the latent that `branched` gives to the fold", gt=0, lt=1)


@dataclass(frozen=True)
class TrainSettings:
    """How a variant is trained."""

    steps: int = setting(400, "optimiser steps", ge=1)
    batch_size: int = setting(32, "structures a step", ge=1)
    learning_rate: float = setting(1e-3, "at its peak", gt=0, le=1)
    weight_decay: float = setting(1e-2, "of AdamW", ge=0, le=1)
    ema: float = setting(0.999, "decay of the averaged weights that are kept", ge=0, lt=1)
    crop: float = setting(0.5, "share of training structures cut to a random stretch", ge=0, le=1)
    jitter: float = setting(0.3, "standard deviation of the noise on training coordinates, Å", ge=0, le=5)
    label_dropout: float = setting(0.1, "share of labels hidden in training, level by level", ge=0, lt=1)
    kl: Schedule = setting(Schedule, "weight of the Kullback-Leibler term")
    free_bits: float = setting(0.0, "nats a dimension below which the Kullback-Leibler term does not press", ge=0)
    flow_steps: int = setting(1000, "optimiser steps of the flow that is fitted to the codes afterwards", ge=1)
    terms: TermSettings = setting(TermSettings, "weights of further terms, for every variant")
    adversary: float = setting(1.0, "weight of the critic's `fool` term in `adversarial`", ge=0)
    bucket: int = setting(
        8,
        "batches drawn at once and sorted by length, to pad less; 1 = no sorting, as terms of a whole batch have it",
        ge=1,
    )
    processes: int = setting(1, "processes of the workflow's training jobs, by torchrun; one GPU each", ge=1, le=1024)
    patience: int = setting(0, "rows of history.tsv without a gain on validation that end the training; 0 = none", ge=0)
    report_every: int = setting(100, "steps between rows of history.tsv", ge=1)
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints for resuming", gt=0)


@dataclass(frozen=True)
class RefineSettings:
    """The refiner that turns a decoded trace into a full backbone; one for all variants."""

    width: int = setting(96, "channels", ge=8, le=2048)
    depth: int = setting(4, "blocks", ge=1, le=64)
    heads: int = setting(4, "attention heads", ge=1, le=64)
    crop: int = setting(64, "residues of a training window", ge=16, le=4096)
    steps: int = setting(1000, "optimiser steps", ge=1)
    batch_size: int = setting(24, "windows a step", ge=1)
    learning_rate: float = setting(2e-3, "at its peak", gt=0, le=1)


@dataclass(frozen=True)
class OracleSettings:
    """The oracle that tells the fold of a structure, for scoring; trained on the training split alone."""

    levels: int = setting(3, "label levels that it tells: 1 = class, 2 = architecture, 3 = topology", ge=1, le=4)
    features: int = setting(32, "features of a structure, in which sets are compared", ge=2, le=1024)
    width: int = setting(128, "hidden units", ge=8, le=8192)
    dropout: float = setting(0.5, "share of hidden units dropped in training", ge=0, lt=1)
    jitter: float = setting(0.7, "largest standard deviation of the noise on training coordinates, Å", ge=0, le=5)
    copies: int = setting(4, "disturbed copies of each training domain", ge=1, le=1000)
    steps: int = setting(600, "optimiser steps", ge=1)
    batch_size: int = setting(64, "structures a step", ge=1)
    learning_rate: float = setting(2e-3, "at its peak", gt=0, le=1)
    seed: int = setting(0, "of the training", ge=0)


@dataclass(frozen=True)
class SampleSettings:
    """What is drawn from a trained model."""

    per_class: int = setting(16, "samples a fold class", ge=1)
    temperature: float = setting(0.9, "standard deviation of the latent draw, relative to the prior", ge=0, le=10)
    prior: Literal["flow", "gaussian", "model"] = setting(
        "flow",
        "codes from a flow or from a Gaussian a class, fitted to the training codes, or from the model's own prior",
    )
    guidance: float = setting(
        2.0, "how far the flow follows the label: 0 = not at all, 1 = as learnt, above 1 = beyond it", ge=0, le=10
    )
    refine_noise: float = setting(0.25, "start noise of the refiner, relative to its training", ge=0, le=2)
    refine_steps: int = setting(
        3, "integration steps of the refiner, by the midpoint rule: two evaluations each", ge=1, le=1000
    )
    relax_steps: int = setting(200, "descent steps that close the chain and part overlaps; 0 = none", ge=0)
