"""Every setting with its default, bounds and meaning: a frozen dataclass per stage. It imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

LARGEST_SEED = 2**64 - 1  # what torch takes


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A dataclass field with its meaning and its bounds (`ge`, `gt`, `le`, `lt`, `min_length`), as in pydantic."""
    metadata = {"description": help, **bounds}
    if default is dict:
        return field(default_factory=dict, metadata={**metadata, "json_schema_extra": {"default": {}}})
    return field(default=default() if isinstance(default, type) else default, metadata=metadata)


class Section:
    """What every section shares: how pydantic, which this file does not need, checks one that was read as JSON."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True)
class LabelSettings(Section):
    """Which domains, and which classification conditions the models."""

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
    ] = setting("auto", "format of `table`; `auto` recognises it by the content")
    boundaries: str = setting(
        "", "file with the residue ranges of a `cath-domain-list`, such as cath-domain-boundaries"
    )
    include: str = setting("", "list of domain ids or FASTA file; domains that are not in it are left out")
    names: str = setting("", "file with the names of folds (cath-names, dir.des) for the report")
    superfamilies: str = setting(
        "", "table of clusters by Foldseek or MMseqs2 (representative, member), which are taken for the superfamilies"
    )
    scheme: Literal["cath", "scope", "own", "none", "cluster"] = setting(
        "cath",
        "fold labels: CATH or SCOPe codes of the table; `own`: its column label, any text, with dots between levels; "
        "`none`: one class for all; `cluster` groups the structures themselves",
    )
    depth: int = setting(1, "label levels given to the models: 1 = class, 2 = architecture, 3 = topology", ge=1, le=4)
    classes: tuple[str, ...] = setting(
        ("1", "2", "3"),
        "first-level classes to keep; empty keeps all. Where it is left out: these of cath, a, b, c, d of scope, all "
        "of the other schemes",
    )
    min_length: int = setting(40, "shortest domain, residues", ge=10, le=4096)
    max_length: int = setting(256, "longest domain, residues", ge=20, le=4096)
    max_resolution: float = setting(
        0.0, "coarsest resolution, Å; leaves out domains without one, such as NMR; 0 = no limit", ge=0, le=100
    )
    methods: tuple[str, ...] = setting((), "experimental methods to keep, such as X-ray, NMR, EM; empty keeps all")
    redundancy: Literal["none", "s35", "s60", "s95"] = setting(
        "none", "keep one domain, the best resolved, of each cluster in the table: at 35, 60 or 95 % identity"
    )
    max_per_cluster: int = setting(
        0, "most usable domains of a sequence cluster (`cluster`), the best resolved ones; 0 = no limit", ge=0
    )
    max_per_superfamily: int = setting(
        0,
        "most domains of a superfamily: of those in the table the best resolved, of usable ones those of distinct "
        "sequence first; alternatives do not count; 0 = no limit",
        ge=0,
    )
    min_members: int = setting(8, "fewest domains of a class at the first level", ge=1)


@dataclass(frozen=True)
class FetchSettings(Section):
    """Where entry files come from."""

    sources: tuple[str, ...] = setting(
        ("embedded",),
        "tried in order: `embedded`, the path of a mirror folder, `rcsb`, `pdbe`, `afdb` (the AlphaFold database, by "
        "accession of UniProt), or a URL such as "
        "`https://host/{pdb_id}.cif.gz`",
        min_length=1,
    )
    format: Literal["cif", "bcif"] = setting("cif", "mmCIF or BinaryCIF, where a source has both")
    afdb_version: int = setting(6, "version of the AlphaFold database's models", ge=1)
    cache: str = setting(".cache", "folder of downloaded files; several runs may share it", min_length=1)
    offline: bool = setting(False, "never connect; what is not in the cache is rejected")
    revalidate: bool = setting(False, "ask servers whether files in the cache have changed")
    locked: str = setting("", "a kept sources.lock.tsv: files that differ from it stop the run; empty for none")
    obsolete: str = setting(
        "https://files.wwpdb.org/pub/pdb/data/status/obsolete.dat",
        "the wwPDB's list of superseded entries: URL or path; empty for none",
    )
    connections: int = setting(4, "downloads at once", ge=1, le=16)
    timeout: float = setting(30.0, "seconds without an answer, or of a trickle, after which a try is given up", gt=0)
    retries: int = setting(4, "further tries after a failure that may pass", ge=0, le=20)
    backoff: float = setting(1.0, "seconds before the first further try; doubled with each", ge=0, le=60)
    longest_wait: float = setting(120.0, "most seconds to wait before a try, also where a server asks for more", ge=0)
    max_megabytes: float = setting(1000.0, "largest file, packed or unpacked, in 10⁶ bytes", gt=0)


@dataclass(frozen=True)
class FeaturizeSettings(Section):
    """How structure files become arrays."""

    batch_size: int = setting(150, "domains per job", ge=1, le=100_000)
    stride: int = setting(1, "every so many-th model of a file or frame of a trajectory is stored", ge=1)
    min_plddt: float = setting(
        0.0,
        "least mean pLDDT over a domain's residues, of files that have it, as predicted models do; 0 = no limit",
        ge=0,
        le=100,
    )
    max_missing: float = setting(0.2, "largest share of residues that lack N, CA, C or O", ge=0, le=1)
    compression: Literal["gzip", "blosc-lz4"] = setting(
        "gzip", "of the HDF5 store; any program reads gzip, blosc-lz4 is faster to write and needs hdf5plugin"
    )


@dataclass(frozen=True)
class ClusterSettings(Section):
    """Which domains count as alike."""

    method: Literal["auto", "mmseqs", "kmer"] = setting(
        "kmer",
        "of the sequence clusters: our own search by words, MMseqs2, or `auto`: the latter where it is installed",
    )
    identity: float = setting(0.35, "least share of equal residues within a sequence cluster", ge=0.2, le=1)


@dataclass(frozen=True)
class SplitSettings(Section):
    """Which domains are held out."""

    scheme: Literal["sequence", "superfamily", "topology", "ladder", "file"] = setting(
        "superfamily",
        "what is held out: sequence clusters of trained superfamilies (S1), superfamilies of trained topologies (S2), "
        "topologies, known by their architecture alone (S3), or a third of each as the rungs of a `ladder`; "
        "`file` takes over a split that was made before",
    )
    file: str = setting("", "`file`: the frozen table of splits, with columns domain_id, split and label")
    sha256: str = setting("", "`file`: SHA-256 of that table; another one is refused")
    test: float = setting(0.2, "share of domains held out for scoring", gt=0, lt=0.9)
    validation: float = setting(
        0.1, "share of domains held out for validation: early stopping and the choice of weights", ge=0, lt=0.9
    )
    min_test: int = setting(2, "fewest held-out domains per class", ge=1)
    max_breaks: int = setting(0, "most chain breaks of a domain that trains or scores a model", ge=0)
    max_length: int = setting(
        0,
        "residues beyond which a domain trains by crops alone and is never held out; 0 = no limit",
        ge=0,
        le=4096,
    )
    max_per_topology: int = setting(
        20, "`ladder`: most domains of a topology in the test and in the validation split; 0 = no limit", ge=0
    )
    unseen_first: bool = setting(
        False,
        "hold out what the package's model was not trained on, so that it can be compared with fairly, where that is "
        "half of what is wanted of a class or more; without effect with the schemes ladder and file",
    )
    seed: int = setting(0, "of the random choice of what is held out", ge=0, le=LARGEST_SEED)


@dataclass(frozen=True)
class Schedule(Section):
    """The weight of a term as a function of the step."""

    kind: Literal["constant", "ramp", "cosine", "cycle", "target_rate"] = setting("ramp", "shape of the schedule")
    weight: float = setting(1.0, "weight once reached (start value of target_rate)", ge=0, le=1e6)
    steps: int = setting(500, "optimiser steps of the rise, or of one cycle", ge=1)
    ratio: float = setting(0.5, "share of a cycle that rises", gt=0, le=1)
    rate: float = setting(60.0, "nats per structure that target_rate steers to", gt=0)


@dataclass(frozen=True)
class TermSettings(Section):
    """Weights of terms beyond the evidence bound; 0 leaves a term out. Usual weights: experiments/loss_terms.py."""

    schedule: Schedule = setting(Schedule, "factor of all weights of this section; target_rate does not apply")
    variance_floor: float = setting(0.0, "against collapse: codes that spread less than 0.5 in a dimension", ge=0)
    mmd: float = setting(0.0, "against holes of the prior: discrepancy of codes and prior", ge=0)
    total_correlation: float = setting(0.0, "against dependence of the code's dimensions on each other", ge=0)
    class_mmd: float = setting(0.0, "against the label in the code: discrepancy of the classes' codes", ge=0)
    hsic: float = setting(0.0, "against the label in the code: dependence by kernels, all levels", ge=0)
    label_adversary: float = setting(0.0, "against the label in the code: a critic that predicts it", ge=0)
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
class ModelSettings(Section):
    """Size of a conditional VAE; equal for all variants."""

    latent: int = setting(64, "numbers per structure", ge=1, le=4096)
    coefficients: int = setting(48, "cosine coefficients of the CA trace that the model sees", ge=4, le=256)
    width: int = setting(256, "hidden units per layer of the encoder", ge=8, le=8192)
    depth: int = setting(2, "hidden layers of the encoder", ge=1, le=64)
    decoder_width: int = setting(96, "channels of the decoder's convolutions along the chain", ge=8, le=8192)
    decoder_depth: int = setting(4, "convolutions of the decoder", ge=1, le=64)
    inference_steps: int = setting(10, "steps of latent refinement after the encoder's guess", ge=0, le=10_000)
    dropout: float = setting(0.1, "share of hidden units dropped in training", ge=0, lt=1)
    nested: float = setting(
        0.0,
        "share of structures whose code training cuts to a random prefix, so that its first numbers are a code too",
        ge=0,
        le=1,
    )
    fold_block: float = setting(0.25, "share of the latent that `branched` gives to the fold", gt=0, lt=1)


@dataclass(frozen=True)
class TrainSettings(Section):
    """How a variant is trained."""

    start: str = setting(
        "pretrained",
        "what the variant `fine_tuned` begins as: `pretrained`, the package's model, or the folder of a `concat`",
    )
    steps: int = setting(400, "optimiser steps", ge=1)
    batch_size: int = setting(32, "structures per step", ge=1)
    learning_rate: float = setting(1e-3, "at its peak", gt=0, le=1)
    weight_decay: float = setting(1e-2, "of AdamW", ge=0, le=1)
    ema: float = setting(0.999, "decay of the averaged weights that are kept", ge=0, lt=1)
    balance: Literal["domains", "superfamilies"] = setting(
        "domains", "what is drawn alike often: domains, or superfamilies, and within each its sequence clusters"
    )
    crop: float = setting(0.5, "share of training structures cropped at random", ge=0, le=1)
    jitter: float = setting(0.3, "standard deviation of the noise on training coordinates, Å", ge=0, le=5)
    label_dropout: float = setting(0.1, "share of labels hidden in training, level by level", ge=0, lt=1)
    kl: Schedule = setting(Schedule, "weight of the Kullback-Leibler term")
    free_bits: float = setting(0.0, "nats per dimension below which the Kullback-Leibler term does not press", ge=0)
    flow_steps: int = setting(
        2000,
        "most optimiser steps of the flow that is fitted to the codes afterwards; validation ends it; 0 = no flow",
        ge=0,
    )
    flow_dropout: float = setting(0.3, "share of the flow's hidden units dropped in its training", ge=0, lt=1)
    flow_label_dropout: float = setting(0.1, "share of labels hidden from the flow, level by level", ge=0, lt=1)
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


DISTILLED = (
    "learn to do in one integration step what the weights of `start` do in many (progressive distillation); such "
    "weights are faster, and no flow any more, whose noise could be found"
)


@dataclass(frozen=True)
class RefineSettings(Section):
    """The refiner that turns a decoded trace into a full backbone; one for all variants."""

    start: str = setting(
        "", "trained weights to begin with: `pretrained`, the package's, or a folder; empty: from scratch"
    )
    width: int = setting(96, "channels", ge=8, le=2048)
    depth: int = setting(4, "blocks", ge=1, le=64)
    heads: int = setting(4, "attention heads", ge=1, le=64)
    distilled: bool = setting(False, DISTILLED)
    crop: int = setting(64, "residues of a training window", ge=16, le=4096)
    steps: int = setting(1000, "optimiser steps; 0 takes the weights of `start` as they are", ge=0)
    batch_size: int = setting(24, "windows per step", ge=1)
    learning_rate: float = setting(2e-3, "at its peak", gt=0, le=1)


@dataclass(frozen=True)
class DecoderSettings(Section):
    """The decoder over whole chains that may take the refiner's place; one for all variants."""

    start: str = setting(
        "", "trained weights to begin with: `pretrained`, the package's, or a folder; empty: from scratch"
    )
    distilled: bool = setting(False, DISTILLED)
    width: int = setting(128, "channels", ge=8, le=2048)
    depth: int = setting(6, "blocks", ge=1, le=64)
    stages: int = setting(3, "predictions of the structure on the way; a divisor of depth", ge=1, le=64)
    heads: int = setting(8, "attention heads", ge=1, le=64)
    longest: int = setting(128, "residues of a training structure; longer chains are cropped", ge=40, le=4096)
    crop: float = setting(0.2, "share of other training structures cropped at random", ge=0, le=1)
    label_dropout: float = setting(0.15, "share of labels hidden in training, level by level", ge=0, lt=1)
    steps: int = setting(6000, "optimiser steps; 0 takes the weights of `start` as they are", ge=0)
    batch_size: int = setting(16, "structures per step", ge=1)
    learning_rate: float = setting(2e-3, "at its peak", gt=0, le=1)


@dataclass(frozen=True)
class ClassifierSettings(Section):
    """The fold classifier, which scores samples; trained on the training split alone, or the package's."""

    start: Literal["", "pretrained"] = setting(
        "", "`pretrained`: the package's, as it is, where labels are CATH's; empty, and with other labels: a new one"
    )
    levels: int = setting(3, "label levels that it predicts: 1 = class, 2 = architecture, 3 = topology", ge=1, le=4)
    features: int = setting(32, "features of a structure, in which sets are compared", ge=2, le=1024)
    width: int = setting(128, "hidden units", ge=8, le=8192)
    dropout: float = setting(0.5, "share of hidden units dropped in training", ge=0, lt=1)
    jitter: float = setting(0.7, "largest standard deviation of the noise on training coordinates, Å", ge=0, le=5)
    augmentations: int = setting(4, "perturbed copies of each training domain", ge=1, le=1000)
    steps: int = setting(600, "optimiser steps", ge=1)
    batch_size: int = setting(64, "structures per step", ge=1)
    learning_rate: float = setting(2e-3, "at its peak", gt=0, le=1)
    seed: int = setting(0, "of the training", ge=0, le=LARGEST_SEED)


@dataclass(frozen=True)
class SampleSettings(Section):
    """What is drawn from a trained model."""

    per_class: int = setting(16, "samples per fold class", ge=1, le=1_000_000)
    max_samples: int = setting(
        256, "most samples of a model in a run; of many classes fewer are drawn each, one at least", ge=1
    )
    batches: int = setting(1, "jobs of the workflow that draw the samples of one model", ge=1, le=1000)
    temperature: float = setting(0.5, "standard deviation of the latent draw, relative to the prior", ge=0, le=10)
    prior: Literal["flow", "gaussian", "model"] = setting(
        "flow",
        "codes from a flow or from one Gaussian per class, fitted to the training codes, or from the model's own prior",
    )
    guidance: float = setting(
        2.0, "how far the flow follows the label: 0 = not at all, 1 = as learnt, above 1 = beyond it", ge=0, le=10
    )
    numbers: int = setting(
        0, "first numbers of a code that are kept; the second level draws what the others would say; 0 = all", ge=0
    )
    refine_noise: float = setting(0.25, "start noise of the second level, relative to its training", ge=0, le=2)
    refine_steps: int = setting(
        0,
        "integration steps of the second level, by the midpoint rule, two evaluations each; 0 = 1 where it is "
        "distilled, else 2 of a refiner and 5 of a decoder",
        ge=0,
        le=1000,
    )
    decoder_guidance: float = setting(
        1.0, "how far the decoder over whole chains follows the label; as `guidance`", ge=0, le=10
    )
    code_error: float = setting(
        0.2,
        "error of drawn codes, relative to their spread, that the decoder over whole chains is told of "
        "(conditioning augmentation)",
        ge=0,
        le=1,
    )
    relax_steps: int = setting(200, "descent steps that close the chain and part overlaps; 0 = none", ge=0)

    def of_each(self, classes: int) -> int:
        """Samples of each of so many classes in a run."""
        return min(self.per_class, max(1, self.max_samples // classes))


@dataclass(frozen=True)
class ScoreSettings(Section):
    """How samples and reconstructions are scored."""

    confidence: float = setting(0.95, "of the intervals", gt=0, lt=1)
    bootstrap: int = setting(1000, "resamplings per interval", ge=10, le=1_000_000)
    neighbours: int = setting(12, "candidates of a structural search that are aligned exactly at most", ge=1)
    seed: int = setting(0, "of the resampling and the probes", ge=0, le=LARGEST_SEED)


@dataclass(frozen=True)
class DesignSettings(Section):
    """Sequences for backbones, and the structures that they are predicted to have."""

    designer: str = setting(
        "proteinmpnn",
        "of sequences: proteinmpnn, or a command with {} for the backbones and {} for the table it writes",
    )
    predictor: str = setting(
        "",
        "of structures: esmfold, or a command with {} for a FASTA file and {} for a folder; empty: none is predicted",
    )
    number: int = setting(8, "sequences a backbone, the best of which counts", ge=1)
    temperature: float = setting(0.1, "of the designer's draw", gt=0)
    ca_only: bool = setting(False, "ProteinMPNN sees the CA trace alone")
    python: str = setting("", "Python of the environment with designer and predictor; empty: the one that runs this")


@dataclass(frozen=True)
class VerdictSettings(Section):
    """When a model counts as broken; `docs/metrics.md` has the metrics."""

    active: float = setting(0.1, "COLLAPSE: least share of active units", ge=0, le=1)
    information: float = setting(0.5, "COLLAPSE: least mutual information of code and structure, nats", ge=0)
    permutation: float = setting(
        0.02, "COLLAPSE: least share by which another domain's code changes the held-out error", ge=0
    )
    leak: float = setting(0.1, "LEAK: highest skill of a probe that predicts the label from the code", ge=0, le=1)
    leak_margin: float = setting(0.05, "LEAK: highest lower end of that skill's interval", ge=0, le=1)
    swap_followed: float = setting(
        2.0, "CONDITION-IGNORED: least share of swaps that the fold classifier follows, in chances", ge=0
    )
    coverage: float = setting(0.5, "MODE-COLLAPSE: least coverage, as a share of that of real domains", ge=0, le=1)
    memorisation: float = setting(
        0.05,
        "MEMORISATION: what TM-score and ratio of samples to training may exceed those of new members of trained "
        "superfamilies by",
        ge=0,
    )
    copy_tm: float = setting(
        0.95,
        "MEMORISATION: TM-score to training, as a share of the reconstructions', from which samples are copies",
        gt=0,
    )
    overfit: float = setting(
        1.5,
        "OVERFIT: highest error of reconstructions of held-out domains, as a ratio to that of training domains",
        ge=1,
    )
    fail_run: bool = setting(False, "a verdict that is flagged fails the run, after all is written")


@dataclass(frozen=True)
class ReportSettings(Section):
    """What the page shows."""

    title: str = setting("cvae_protein", "heading of the page", min_length=1)
    gallery: int = setting(4, "samples per class and variant in the 3D gallery", ge=1, le=50)


@dataclass(frozen=True)
class TuneSettings(Section):
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
    seed: int = setting(0, "of the search and of each training", ge=0, le=LARGEST_SEED)


SecondLevel = Literal["refiner", "decoder"]


@dataclass(frozen=True)
class Settings(Section):
    """A whole run."""

    results: str = setting("results", "folder of all outputs", min_length=1)
    variants: tuple[str, ...] = setting(
        ("concat", "branched", "adversarial", "pretrained"),
        "models to train beside `pca`; `pretrained`: the trained one of the package, scored beside them; `fine_tuned`: "
        "that one trained further",
    )
    seeds: tuple[int, ...] = setting((0,), "one training per seed and variant", min_length=1)
    labels: LabelSettings = setting(LabelSettings, "domain table and labels")
    fetch: FetchSettings = setting(FetchSettings, "entry files")
    featurize: FeaturizeSettings = setting(FeaturizeSettings, "parsing and storing")
    cluster: ClusterSettings = setting(ClusterSettings, "domains that are alike")
    split: SplitSettings = setting(SplitSettings, "held-out domains")
    model: ModelSettings = setting(ModelSettings, "size of the models")
    train: TrainSettings = setting(TrainSettings, "training of the variants")
    second_level: SecondLevel = setting(
        "refiner",
        "what turns decoded traces into full backbones: the refiner, which is fast and local, or the decoder over "
        "whole chains, which is told the label",
    )
    refine: RefineSettings = setting(RefineSettings, "training of the refiner")
    decoder: DecoderSettings = setting(DecoderSettings, "training of the decoder over whole chains")
    classifier: ClassifierSettings = setting(ClassifierSettings, "training of the fold classifier")
    sample: SampleSettings = setting(SampleSettings, "sampling")
    score: ScoreSettings = setting(ScoreSettings, "scoring")
    design: DesignSettings = setting(DesignSettings, "designability and sequence compatibility")
    verdict: VerdictSettings = setting(VerdictSettings, "when a model counts as broken")
    report: ReportSettings = setting(ReportSettings, "the page")
    sweep: dict[str, Any] = setting(
        dict, "grid of `snakemake sweep`: keys of `model`, `train` and `sample`, each with the list of its values"
    )
    tune: TuneSettings = setting(TuneSettings, "search of `snakemake tune`")

    @property
    def judge(self) -> ClassifierSettings:
        """The fold classifier of the run: a new one where labels are not CATH's, which the package's knows alone."""
        return self.classifier if self.labels.scheme == "cath" else replace(self.classifier, start="")
