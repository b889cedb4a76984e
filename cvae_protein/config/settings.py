"""All settings with defaults, bounds and meanings: one frozen dataclass per stage. Imports nothing from the package."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

LARGEST_SEED = 2**64 - 1  # the limit of torch


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A dataclass field with its meaning and bounds (`ge`, `gt`, `le`, `lt`, `min_length`), named as in pydantic."""
    metadata = {"description": help, **bounds}
    if default is dict:
        return field(default_factory=dict, metadata={**metadata, "json_schema_extra": {"default": {}}})
    return field(default=default() if isinstance(default, type) else default, metadata=metadata)


class Section:
    """Base of all sections: tells pydantic, which this file does not import, how to check one read as JSON."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True)
class LabelSettings(Section):
    """Which domains are used, and which classification the models are conditioned on."""

    table: str = setting("data/domains.tsv", "domain table, classification file or folder of structures", min_length=1)
    format: Literal[
        "auto",
        "table",
        "cath-domain-list",
        "cath-domain-boundaries",
        "cath-seqres-boundaries",
        "cath-daily",
        "cath-segments",
        "scope-cla",
        "scope-segments",
        "astral",
        "ecod",
        "ted-domains",
        "ted-chains",
        "folder",
    ] = setting("auto", "format of `table`; `auto` recognises it from the content")
    boundaries: str = setting(
        "", "file with the residue ranges for a `cath-domain-list`, such as cath-domain-boundaries"
    )
    include: str = setting("", "list of domain ids or FASTA file; all other domains are left out")
    names: str = setting("", "file with fold names for the report (cath-names, dir.des)")
    superfamilies: str = setting(
        "", "cluster table of Foldseek or MMseqs2 (representative, member) whose clusters serve as superfamilies"
    )
    scheme: Literal["cath", "scope", "own", "none", "cluster"] = setting(
        "cath",
        "fold labels: `cath` or `scope`, the codes in the table; `own`: its column label, any text, with dots "
        "between levels; `none`: one class for all; `cluster`: clusters of similar structures",
    )
    depth: int = setting(
        1,
        "number of label levels that the models are conditioned on: 1 = class, 2 = architecture, 3 = topology",
        ge=1,
        le=4,
    )
    classes: tuple[str, ...] = setting(
        ("1", "2", "3"),
        "first-level classes to keep; empty = all. If omitted: 1, 2, 3 for cath, a, b, c, d for scope, all for "
        "the other schemes",
    )
    min_length: int = setting(40, "minimum domain length, residues", ge=10, le=4096)
    max_length: int = setting(256, "maximum domain length, residues", ge=20, le=4096)
    max_resolution: float = setting(
        0.0,
        "worst resolution accepted, Å; domains without a resolution, such as NMR, are then left out too; 0 = no limit",
        ge=0,
        le=100,
    )
    methods: tuple[str, ...] = setting((), "experimental methods to keep, such as X-ray, NMR, EM; empty = all")
    redundancy: Literal["none", "s35", "s60", "s95"] = setting(
        "none",
        "keep only the best-resolved domain of each sequence cluster given in the table, at 35, 60 or 95 % identity",
    )
    max_per_cluster: int = setting(
        0, "maximum usable domains per sequence cluster (section `cluster`), best-resolved first; 0 = no limit", ge=0
    )
    max_per_superfamily: int = setting(
        0,
        "maximum domains per superfamily: the best-resolved of the table and, among usable ones, those with "
        "distinct sequences first; alternative conformers do not count; 0 = no limit",
        ge=0,
    )
    min_members: int = setting(8, "minimum domains per first-level class; smaller classes are left out", ge=1)


@dataclass(frozen=True)
class FetchSettings(Section):
    """Where structure files come from."""

    sources: tuple[str, ...] = setting(
        ("embedded",),
        "where to look for structures, in this order: `embedded`, the path of a mirror folder, `rcsb`, `pdbe`, "
        "`afdb` (AlphaFold database, by UniProt accession), or a URL such as `https://host/{pdb_id}.cif.gz`",
        min_length=1,
    )
    format: Literal["cif", "bcif"] = setting("cif", "mmCIF or BinaryCIF, where a source offers both")
    afdb_version: int = setting(6, "version of the models in the AlphaFold database", ge=1)
    cache: str = setting(".cache", "folder for downloaded files; several runs may share it", min_length=1)
    offline: bool = setting(
        False, "never connect to the network; entries that would have to be downloaded are rejected"
    )
    revalidate: bool = setting(False, "ask servers whether cached files have changed")
    locked: str = setting(
        "", "sources.lock.tsv kept from an earlier run; any file that differs from it stops the run; empty = none"
    )
    obsolete: str = setting(
        "https://files.wwpdb.org/pub/pdb/data/status/obsolete.dat",
        "the wwPDB's list of superseded entries: URL or path; empty = none",
    )
    connections: int = setting(4, "maximum simultaneous downloads", ge=1, le=16)
    timeout: float = setting(
        30.0, "seconds without a response, or at less than 1 kB/s, after which an attempt is given up", gt=0
    )
    retries: int = setting(4, "retries after a failure that may be temporary", ge=0, le=20)
    backoff: float = setting(1.0, "seconds before the first retry; doubled for each further one", ge=0, le=60)
    longest_wait: float = setting(
        120.0, "maximum seconds before a retry; a file for which the server asks for a longer wait is given up", ge=0
    )
    max_megabytes: float = setting(1000.0, "maximum file size, compressed or decompressed, in 10⁶ bytes", gt=0)


@dataclass(frozen=True)
class FeaturizeSettings(Section):
    """How structure files become arrays."""

    batch_size: int = setting(150, "domains per job", ge=1, le=100_000)
    stride: int = setting(1, "store every n-th model of a file or frame of a trajectory", ge=1)
    min_plddt: float = setting(
        0.0,
        "minimum mean pLDDT over a domain's residues, for files that have it, such as predicted models; 0 = no limit",
        ge=0,
        le=100,
    )
    max_missing: float = setting(0.2, "maximum fraction of residues that lack N, CA, C or O", ge=0, le=1)
    compression: Literal["gzip", "blosc-lz4"] = setting(
        "gzip",
        "compression of the HDF5 store: gzip can be read by any program; blosc-lz4 writes faster and needs hdf5plugin",
    )


@dataclass(frozen=True)
class ClusterSettings(Section):
    """Which domains count as similar."""

    method: Literal["auto", "mmseqs", "kmer"] = setting(
        "kmer",
        "how sequences are clustered: `kmer`, the built-in search for shared words; `mmseqs`, MMseqs2; `auto`, "
        "MMseqs2 if it is installed",
    )
    identity: float = setting(0.35, "minimum sequence identity within a sequence cluster", ge=0.2, le=1)


@dataclass(frozen=True)
class SplitSettings(Section):
    """Which domains are held out."""

    scheme: Literal["sequence", "superfamily", "topology", "ladder", "file"] = setting(
        "superfamily",
        "what is held out: sequence clusters of trained superfamilies (S1), superfamilies of trained topologies "
        "(S2), topologies, labelled by their architecture alone (S3), or a third of each as the rungs of a "
        "`ladder`; `file` uses an existing split",
    )
    file: str = setting("", "`file`: table of the fixed split, with columns domain_id, split and label")
    sha256: str = setting("", "`file`: SHA-256 of that table; any other table is refused")
    test: float = setting(0.2, "fraction of domains held out for testing", gt=0, lt=0.9)
    validation: float = setting(
        0.1, "fraction of domains held out for validation: early stopping and the choice of weights", ge=0, lt=0.9
    )
    min_test: int = setting(2, "minimum held-out domains per class", ge=1)
    max_breaks: int = setting(0, "maximum chain breaks in a domain used for training or scoring", ge=0)
    max_length: int = setting(
        0,
        "length in residues above which a domain is used only for training crops and never held out; 0 = no limit",
        ge=0,
        le=4096,
    )
    max_per_topology: int = setting(
        20, "`ladder`: maximum domains per topology in each of the test and validation splits; 0 = no limit", ge=0
    )
    unseen_first: bool = setting(
        False,
        "hold out domains that the package's model was not trained on, for a fair comparison with it; in a class "
        "where they fill less than half of the test set, others are added; no effect with the schemes ladder and "
        "file",
    )
    seed: int = setting(0, "seed for the random choice of held-out domains", ge=0, le=LARGEST_SEED)


@dataclass(frozen=True)
class Schedule(Section):
    """The weight of a loss term as a function of the training step."""

    kind: Literal["constant", "ramp", "cosine", "cycle", "target_rate"] = setting("ramp", "shape of the schedule")
    weight: float = setting(1.0, "weight after the rise (starting value for target_rate)", ge=0, le=1e6)
    steps: int = setting(500, "optimiser steps of the rise, or of one cycle", ge=1)
    ratio: float = setting(0.5, "fraction of a cycle during which the weight rises", gt=0, le=1)
    rate: float = setting(60.0, "divergence that target_rate aims at, nats per structure", gt=0)


@dataclass(frozen=True)
class TermSettings(Section):
    """Weights of additional loss terms; 0 leaves a term out. Usual weights: experiments/loss_terms.py."""

    schedule: Schedule = setting(Schedule, "common factor of all weights in this section; target_rate does not apply")
    variance_floor: float = setting(
        0.0, "against collapse: penalises code dimensions with a standard deviation below 0.5", ge=0
    )
    mmd: float = setting(
        0.0, "against holes in the prior: maximum mean discrepancy (MMD) between codes and prior", ge=0
    )
    total_correlation: float = setting(
        0.0, "against dependence between the dimensions of the code: total correlation", ge=0
    )
    class_mmd: float = setting(
        0.0, "against label information in the code: MMD between the codes of different classes", ge=0
    )
    hsic: float = setting(
        0.0, "against label information in the code: Hilbert-Schmidt independence criterion, all levels", ge=0
    )
    label_adversary: float = setting(
        0.0, "against label information in the code: a critic that predicts the label from it", ge=0
    )
    club: float = setting(
        0.0, "against label information in the code: upper bound on their mutual information (CLUB)", ge=0
    )
    classifier: float = setting(0.0, "against an ignored label: classifies traces decoded under another label", ge=0)
    label_seeking: float = setting(0.0, "against an ignored label: penalises similar traces under two labels", ge=0)
    mode_seeking: float = setting(0.0, "against an ignored code: penalises similar traces from two codes", ge=0)
    fape: float = setting(0.0, "frame-aligned point error (FAPE) of the decoded trace", ge=0)
    step_length: float = setting(0.0, "squared deviation of decoded distances between consecutive CA from 3.8 Å", ge=0)

    @property
    def compare_structures(self) -> bool:
        """Whether an active term looks at a batch as a whole instead of at each structure on its own."""
        return any(weight for name, weight in vars(self).items() if name not in ("schedule", "fape", "step_length"))


@dataclass(frozen=True)
class ModelSettings(Section):
    """Size of a conditional VAE, the same for all variants."""

    latent: int = setting(64, "dimensions of the latent code", ge=1, le=4096)
    coefficients: int = setting(48, "cosine coefficients that represent the CA trace", ge=4, le=256)
    width: int = setting(256, "hidden units per encoder layer", ge=8, le=8192)
    depth: int = setting(2, "hidden layers of the encoder", ge=1, le=64)
    decoder_width: int = setting(96, "channels of the decoder's convolutions along the chain", ge=8, le=8192)
    decoder_depth: int = setting(4, "convolutional layers of the decoder", ge=1, le=64)
    inference_steps: int = setting(
        10, "steps of latent refinement, which improves the encoder's estimate of the code", ge=0, le=10_000
    )
    dropout: float = setting(0.1, "dropout rate of hidden units", ge=0, lt=1)
    nested: float = setting(
        0.0,
        "nested dropout: fraction of structures whose code is cut to a random prefix in training, so that its "
        "first dimensions are a code of their own",
        ge=0,
        le=1,
    )
    fold_block: float = setting(0.25, "fraction of the latent code that `branched` assigns to the fold", gt=0, lt=1)


@dataclass(frozen=True)
class TrainSettings(Section):
    """How a variant is trained."""

    start: str = setting(
        "pretrained",
        "weights from which the variant `fine_tuned` starts: `pretrained`, the package's model, or the folder of "
        "a trained `concat`",
    )
    steps: int = setting(400, "optimiser steps", ge=1)
    batch_size: int = setting(32, "structures per step", ge=1)
    learning_rate: float = setting(1e-3, "peak learning rate", gt=0, le=1)
    weight_decay: float = setting(1e-2, "weight decay of AdamW", ge=0, le=1)
    ema: float = setting(
        0.999, "decay of the exponential moving average (EMA) of the weights, which is what is kept", ge=0, lt=1
    )
    balance: Literal["domains", "superfamilies"] = setting(
        "domains",
        "what is drawn with equal probability: domains, or superfamilies and, within each, its sequence clusters",
    )
    crop: float = setting(0.5, "fraction of training structures cropped at random", ge=0, le=1)
    jitter: float = setting(0.3, "standard deviation of the noise added to training coordinates, Å", ge=0, le=5)
    label_dropout: float = setting(
        0.1, "label dropout: fraction of labels hidden in training, level by level", ge=0, lt=1
    )
    kl: Schedule = setting(Schedule, "weight of the Kullback-Leibler (KL) term")
    free_bits: float = setting(0.0, "free bits: nats per dimension that the KL term does not penalise", ge=0)
    flow_steps: int = setting(
        2000,
        "maximum optimiser steps for the flow fitted to the codes afterwards, with early stopping on validation; "
        "0 = no flow",
        ge=0,
    )
    flow_dropout: float = setting(0.3, "dropout rate of the flow's hidden units", ge=0, lt=1)
    flow_label_dropout: float = setting(
        0.1, "label dropout of the flow: fraction of labels hidden in its training, level by level", ge=0, lt=1
    )
    terms: TermSettings = setting(TermSettings, "weights of additional loss terms, for every variant")
    adversary: float = setting(1.0, "weight of the critic's `fool` term in the variant `adversarial`", ge=0)
    bucket: int = setting(
        8,
        "batches drawn together and sorted by length to reduce padding; 1 = no sorting, as always with terms "
        "that need a whole batch",
        ge=1,
    )
    processes: int = setting(
        1, "processes per training job of the workflow, started by torchrun, with one GPU each", ge=1, le=1024
    )
    patience: int = setting(
        0,
        "early stopping: rows of history.tsv without improvement on validation after which training ends; 0 = never",
        ge=0,
    )
    report_every: int = setting(100, "optimiser steps between rows of history.tsv", ge=1)
    checkpoint_seconds: float = setting(
        60.0, "seconds between checkpoints, from which an interrupted training resumes", gt=0
    )


DISTILLED = (
    "progressive distillation: learn to do in one integration step what the weights of `start` do in many; "
    "faster, but no longer a flow that can be inverted to find the noise of a structure"
)


@dataclass(frozen=True)
class RefineSettings(Section):
    """The refiner, which turns a decoded trace into a full backbone; shared by all variants."""

    start: str = setting("", "initial weights: `pretrained`, the package's, or a folder; empty = train from scratch")
    width: int = setting(96, "channels", ge=8, le=2048)
    depth: int = setting(4, "blocks", ge=1, le=64)
    heads: int = setting(4, "attention heads", ge=1, le=64)
    distilled: bool = setting(False, DISTILLED)
    crop: int = setting(64, "residues per training window", ge=16, le=4096)
    steps: int = setting(1000, "optimiser steps; 0 = use the weights of `start` as they are", ge=0)
    batch_size: int = setting(24, "windows per optimiser step", ge=1)
    learning_rate: float = setting(2e-3, "peak learning rate", gt=0, le=1)


@dataclass(frozen=True)
class DecoderSettings(Section):
    """The decoder over whole chains, which can take the refiner's place; shared by all variants."""

    start: str = setting("", "initial weights: `pretrained`, the package's, or a folder; empty = train from scratch")
    distilled: bool = setting(False, DISTILLED)
    width: int = setting(128, "channels", ge=8, le=2048)
    depth: int = setting(6, "blocks", ge=1, le=64)
    stages: int = setting(
        3, "number of times the blocks predict the structure, the final one included; a divisor of depth", ge=1, le=64
    )
    heads: int = setting(8, "attention heads", ge=1, le=64)
    longest: int = setting(128, "maximum residues per training structure; longer chains are cropped", ge=40, le=4096)
    crop: float = setting(0.2, "fraction of the other training structures cropped at random", ge=0, le=1)
    label_dropout: float = setting(
        0.15, "label dropout: fraction of labels hidden in training, level by level", ge=0, lt=1
    )
    steps: int = setting(6000, "optimiser steps; 0 = use the weights of `start` as they are", ge=0)
    batch_size: int = setting(16, "structures per step", ge=1)
    learning_rate: float = setting(2e-3, "peak learning rate", gt=0, le=1)


@dataclass(frozen=True)
class ClassifierSettings(Section):
    """The fold classifier, which scores samples: trained on the training split alone, or the package's."""

    start: Literal["", "pretrained"] = setting(
        "",
        "`pretrained`: use the package's classifier as it is, if labels are CATH's; empty, or with other labels: "
        "train a new one",
    )
    levels: int = setting(3, "label levels to predict: 1 = class, 2 = architecture, 3 = topology", ge=1, le=4)
    features: int = setting(
        32, "dimensions of the feature space in which sets of structures are compared", ge=2, le=1024
    )
    width: int = setting(128, "hidden units", ge=8, le=8192)
    dropout: float = setting(0.5, "dropout rate of hidden units", ge=0, lt=1)
    jitter: float = setting(0.7, "maximum standard deviation of the noise added to training coordinates, Å", ge=0, le=5)
    augmentations: int = setting(4, "perturbed copies per training domain", ge=1, le=1000)
    steps: int = setting(600, "optimiser steps", ge=1)
    batch_size: int = setting(64, "structures per step", ge=1)
    learning_rate: float = setting(2e-3, "peak learning rate", gt=0, le=1)
    seed: int = setting(0, "seed for the training", ge=0, le=LARGEST_SEED)


@dataclass(frozen=True)
class SampleSettings(Section):
    """How samples are drawn from a trained model."""

    per_class: int = setting(16, "samples per fold class", ge=1, le=1_000_000)
    max_samples: int = setting(
        256, "maximum samples per model in a run; with many classes, fewer are drawn per class, but at least one", ge=1
    )
    batches: int = setting(1, "number of workflow jobs among which the samples of one model are divided", ge=1, le=1000)
    temperature: float = setting(
        0.5, "temperature: standard deviation of the latent draw, relative to the prior", ge=0, le=10
    )
    prior: Literal["flow", "gaussian", "model"] = setting(
        "flow",
        "where codes are drawn from: a `flow`, or a `gaussian` per class, fitted to the training codes, or the "
        "model's own prior (`model`)",
    )
    guidance: float = setting(
        2.0,
        "classifier-free guidance of the flow: 0 = ignores the label, 1 = as trained, above 1 = follows it more "
        "strongly",
        ge=0,
        le=10,
    )
    numbers: int = setting(
        0,
        "leading dimensions of each code to keep; the second level samples what the others would determine; 0 = all",
        ge=0,
    )
    refine_noise: float = setting(0.25, "initial noise of the second level, relative to its training", ge=0, le=2)
    refine_steps: int = setting(
        0,
        "integration steps of the second level (midpoint rule, two evaluations each); 0 = 1 if it is distilled, "
        "otherwise 2 for a refiner and 5 for a decoder",
        ge=0,
        le=1000,
    )
    decoder_guidance: float = setting(
        1.0, "classifier-free guidance of the decoder over whole chains; values as for `guidance`", ge=0, le=10
    )
    code_error: float = setting(
        0.2,
        "conditioning augmentation: error of drawn codes, relative to their spread, that the decoder over whole "
        "chains is told to expect",
        ge=0,
        le=1,
    )
    relax_steps: int = setting(
        200, "steps of the relaxation that closes the chain and removes overlaps; 0 = none", ge=0
    )

    def of_each(self, classes: int) -> int:
        """Samples per class in a run with this number of classes."""
        return min(self.per_class, max(1, self.max_samples // classes))


@dataclass(frozen=True)
class ScoreSettings(Section):
    """How samples and reconstructions are scored."""

    confidence: float = setting(0.95, "confidence level of the intervals", gt=0, lt=1)
    bootstrap: int = setting(1000, "bootstrap resamples per interval", ge=10, le=1_000_000)
    neighbours: int = setting(12, "maximum candidates of a structural search that are aligned exactly", ge=1)
    seed: int = setting(0, "seed for resampling and probes", ge=0, le=LARGEST_SEED)


@dataclass(frozen=True)
class DesignSettings(Section):
    """Sequences designed for backbones, and the structures predicted for those sequences."""

    designer: str = setting(
        "proteinmpnn",
        "sequence designer: proteinmpnn, or a command with {} for the backbones and {} for the table that it writes",
    )
    predictor: str = setting(
        "",
        "structure predictor: esmfold, or a command with {} for a FASTA file and {} for a folder; empty = no "
        "predictions",
    )
    number: int = setting(8, "sequences per backbone, of which the best counts", ge=1)
    temperature: float = setting(0.1, "sampling temperature of the designer", gt=0)
    ca_only: bool = setting(False, "give ProteinMPNN the CA trace only")
    python: str = setting(
        "", "Python interpreter of the environment that has designer and predictor; empty = the current one"
    )


@dataclass(frozen=True)
class VerdictSettings(Section):
    """When a model counts as broken; `docs/metrics.md` defines the metrics."""

    active: float = setting(0.1, "COLLAPSE: minimum fraction of active units", ge=0, le=1)
    information: float = setting(0.5, "COLLAPSE: minimum mutual information of code and structure, nats", ge=0)
    permutation: float = setting(
        0.02, "COLLAPSE: minimum relative change of the held-out error when decoding from another domain's code", ge=0
    )
    leak: float = setting(0.1, "LEAK: maximum skill of a probe that predicts the label from the code", ge=0, le=1)
    leak_margin: float = setting(0.05, "LEAK: maximum lower limit of that skill's confidence interval", ge=0, le=1)
    swap_followed: float = setting(
        2.0,
        "CONDITION-IGNORED: minimum fraction of label swaps whose result the fold classifier assigns to the new "
        "label, as a multiple of chance",
        ge=0,
    )
    coverage: float = setting(0.5, "MODE-COLLAPSE: minimum coverage, as a fraction of that of real domains", ge=0, le=1)
    memorisation: float = setting(
        0.05,
        "MEMORISATION: margin by which `training_tm` and `memorisation_ratio` may exceed those of new members of "
        "trained superfamilies",
        ge=0,
    )
    copy_tm: float = setting(
        0.95,
        "MEMORISATION: TM-score to training, as a fraction of that of reconstructions, above which samples count "
        "as copies",
        gt=0,
    )
    overfit: float = setting(
        1.5,
        "OVERFIT: maximum ratio of the reconstruction error of held-out domains to that of training domains",
        ge=1,
    )
    fail_run: bool = setting(False, "let the run fail if a verdict is flagged, once everything is written")


@dataclass(frozen=True)
class ReportSettings(Section):
    """What the report page shows."""

    title: str = setting("cvae_protein", "heading of the page", min_length=1)
    gallery: int = setting(4, "samples per class and variant in the 3D gallery", ge=1, le=50)


@dataclass(frozen=True)
class TuneSettings(Section):
    """The search of `snakemake tune`."""

    variant: str = setting("concat", "variant trained in each trial", min_length=1)
    space: dict[str, Any] = setting(
        dict,
        "search space: keys of `model` and `train`, such as train.kl.weight, each with a list of choices; two "
        "numbers are the ends of a range, searched on a log scale if it spans a factor of ten or more",
    )
    objective: Literal["validation_bound", "validation_rmsd"] = setting(
        "validation_bound", "column of history.tsv to minimise: negative evidence lower bound in nats, or RMSD in Å"
    )
    trials: int = setting(20, "number of trials; raise it to continue an earlier search", ge=1)
    seed: int = setting(0, "seed for the search and for each training", ge=0, le=LARGEST_SEED)


SecondLevel = Literal["refiner", "decoder"]


@dataclass(frozen=True)
class Settings(Section):
    """Settings of a whole run."""

    results: str = setting("results", "folder for all outputs", min_length=1)
    variants: tuple[str, ...] = setting(
        ("concat", "branched", "adversarial", "pretrained"),
        "models to train besides the baseline `pca`; `pretrained`: the package's trained model, scored "
        "alongside; `fine_tuned`: that model trained further",
    )
    seeds: tuple[int, ...] = setting((0,), "seeds; every variant is trained once per seed", min_length=1)
    labels: LabelSettings = setting(LabelSettings, "domain table and labels")
    fetch: FetchSettings = setting(FetchSettings, "structure files")
    featurize: FeaturizeSettings = setting(FeaturizeSettings, "parsing and storing structures")
    cluster: ClusterSettings = setting(ClusterSettings, "clusters of similar domains")
    split: SplitSettings = setting(SplitSettings, "held-out domains")
    model: ModelSettings = setting(ModelSettings, "size of the models")
    train: TrainSettings = setting(TrainSettings, "training of the variants")
    second_level: SecondLevel = setting(
        "refiner",
        "what turns decoded traces into full backbones: the refiner, which is fast and local, or the decoder "
        "over whole chains, which is conditioned on the label",
    )
    refine: RefineSettings = setting(RefineSettings, "training of the refiner")
    decoder: DecoderSettings = setting(DecoderSettings, "training of the decoder over whole chains")
    classifier: ClassifierSettings = setting(ClassifierSettings, "training of the fold classifier")
    sample: SampleSettings = setting(SampleSettings, "sampling")
    score: ScoreSettings = setting(ScoreSettings, "scoring")
    design: DesignSettings = setting(DesignSettings, "designability and sequence compatibility")
    verdict: VerdictSettings = setting(VerdictSettings, "when a model counts as broken")
    report: ReportSettings = setting(ReportSettings, "the report page")
    sweep: dict[str, Any] = setting(
        dict, "grid of `snakemake sweep`: keys of `model`, `train` and `sample`, each with a list of values"
    )
    tune: TuneSettings = setting(TuneSettings, "hyperparameter search of `snakemake tune`")

    @property
    def judge(self) -> ClassifierSettings:
        """The run's fold classifier: a new one unless labels are CATH's, the only ones that the package's knows."""
        return self.classifier if self.labels.scheme == "cath" else replace(self.classifier, start="")
