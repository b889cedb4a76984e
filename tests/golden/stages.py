"""The stages of the pipeline, each from recorded inputs to what it makes of them.

A stage gets recorded arrays, never what the stage before has just made, so that a difference names its stage. Six
domains are followed: their structures concatenated along all residues of all conformations, or, where a network takes
them as a batch, their first conformations padded with zeros to the longest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cvae_protein.core.geometry import torsions
from cvae_protein.core.secondary_structure import secondary_structure
from cvae_protein.core.structure import Backbone
from cvae_protein.core.variants import PRETRAINED
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.model.batch import Batch
from cvae_protein.model.cvae import Output
from cvae_protein.model.losses import evidence_bound
from cvae_protein.model.priors import Gaussian
from cvae_protein.model.registry import resolve
from cvae_protein.sampling import relax
from cvae_protein.sampling.sampler import Sampler, load_sampler
from cvae_protein.score.metrics import physical_validity
from cvae_protein.score.metrics.metric import PreparedStructure

Arrays = dict[str, np.ndarray]
FILE = Path(__file__).parent / "golden.npz"
INPUT = "input "  # how the name of an input in the file begins
INPUTS = (
    *("latent_noise", "refiner_state", "coords", "lengths", "models", "sequences", "residue_ids", "log_sigma"),
    *("label_ids", "coefficients", "target", "posterior_mean", "posterior_logvar", "refined_mean", "drawn_codes"),
    *("trace", "ca", "carbonyl", "relaxed"),
)
STRUCTURES = Path(__file__).parents[2] / "data/embedded"

# Entry, chain and range as in data/domains.tsv, and the label: two domains of each class, of 51 to 118 residues.
DOMAINS = {
    "1lcdA00": ("1lcd", "A", "1-51", "1.10.260.40"),  # three NMR models
    "2qdlA01": ("2qdl", "A", "11-31,99-139", "2.30.30.40"),  # two segments, so a chain break
    "1orcA00": ("1orc", "A", "3-61", "3.30.240.10"),  # insertion codes
    "1bpdA01": ("1bpd", "A", "1-83", "1.10.150.110"),  # no CB
    "4e43A00": ("4e43", "A", "1-99", "2.40.70.10"),  # alternative locations, a topology that the model has not seen
    "3ny7A00": ("3ny7", "A", "433-550", "3.30.750.24"),
}
# Written out, so that another default of the settings is no difference.
TEMPERATURE, GUIDANCE = 0.9, 2.0  # of codes that the flow draws
REFINER_NOISE, REFINER_STEPS = 0.25, 3
FREE_BITS = 2.5  # nats a dimension, which some dimensions fall short of
TIMES = (0.05, 0.25, 0.45, 0.6, 0.8, 0.95)  # of the refiner's flow, one a domain
# Long descents magnify rounding: the best of the late codes is chosen among nearly equal ones, and relaxation is
# chaotic. So each is recorded twice: short and to be met closely, and long, as samples and reconstructions are made.
INFERENCE_STEPS = {"partly_refined_mean": 4, "refined_mean": 20}
RELAXATION_STEPS = {"partly_relaxed": 60, "relaxed": 200}


@cache
def pretrained() -> Sampler:
    """The package's trained model with its flow and refiner, on the CPU, where it computes in float32."""
    sampler = load_sampler(*resolve(Path(PRETRAINED), None))
    for network in (sampler.model, sampler.flow, sampler.second_level):
        network.cpu()
    return sampler


def random_inputs() -> Arrays:
    """What is drawn once and recorded, since NumPy does not promise the same numbers in its next version."""
    rng = np.random.default_rng(0)
    longest, latent = 118, pretrained().spec.model.latent  # residues of 3ny7A00
    return {
        "latent_noise": rng.standard_normal((len(DOMAINS), latent), np.float32),
        "refiner_state": rng.standard_normal((len(DOMAINS), longest, 6), np.float32),
    }


def load() -> tuple[Arrays, Arrays]:
    """Recorded inputs of the stages, and their recorded outputs.

    Most inputs are outputs of earlier stages. Where one of these was renewed, the file keeps the former one as input,
    so that a renewal of one stage leaves the records of later stages as they are.
    """
    with np.load(FILE) as file:
        recorded = dict(file)
    outputs = {name: values for name, values in recorded.items() if not name.startswith(INPUT)}
    return {name: recorded.get(INPUT + name, outputs.get(name)) for name in INPUTS}, outputs


# --- inputs in the form that the package takes


def tensor(inputs: Arrays, name: str) -> Tensor:
    """An array as a tensor of its own."""
    return torch.from_numpy(inputs[name].copy())


def lengths(inputs: Arrays) -> Tensor:
    """Residues of each domain (6,)."""
    return tensor(inputs, "lengths")


def mask(inputs: Arrays) -> Tensor:
    """Which residues of the padded batch there are (6, L)."""
    return torch.arange(int(inputs["lengths"].max())) < lengths(inputs)[:, None]


def backbones(inputs: Arrays) -> list[Backbone]:
    """The domains as they were read, with all their conformations."""
    found, start = [], 0
    for row, (name, length) in enumerate(zip(DOMAINS, inputs["lengths"], strict=True)):
        models = int(inputs["models"][row])
        coords = inputs["coords"][start : start + models * length].reshape(models, length, 5, 3)
        numbers = tuple(str(inputs["residue_ids"][row]).split(","))
        found.append(Backbone(name, str(inputs["sequences"][row]), coords, numbers))
        start += models * length
    return found


def batch(inputs: Arrays) -> Batch:
    """The first conformations of the domains as a padded batch; missing atoms are zeros."""
    coords = np.zeros((*mask(inputs).shape, 5, 3), np.float32)
    for row, backbone in enumerate(backbones(inputs)):
        coords[row, : len(backbone)] = np.nan_to_num(backbone.coords[0])
    return Batch(torch.from_numpy(coords), mask(inputs), tensor(inputs, "label_ids"))


def as_arrays(**tensors: Tensor) -> Arrays:
    """Tensors as arrays."""
    return {name: value.detach().numpy() for name, value in tensors.items()}


# --- stages of the science side


def reading(inputs: Arrays) -> Arrays:
    """Domains cut out of their structure files."""
    found = []
    for name, (entry, chain, residues, _) in DOMAINS.items():
        structure = read_structure(STRUCTURES / entry[1:3] / f"{entry}.cif.gz")
        found.append(extract_domain(structure, chain, residues, name))
    return {
        "coords": np.concatenate([backbone.coords.reshape(-1, 5, 3) for backbone in found]),
        "lengths": np.array([len(backbone) for backbone in found]),
        "models": np.array([backbone.models for backbone in found]),
        "sequences": np.array([backbone.sequence for backbone in found]),
        "residue_ids": np.array([",".join(backbone.residue_ids) for backbone in found]),
    }


def torsion_angles(inputs: Arrays) -> Arrays:
    """phi, psi and omega of all conformations, in radians."""
    angles = [torsions(backbone.coords, backbone.breaks).reshape(-1, 3) for backbone in backbones(inputs)]
    return {"torsions": np.concatenate(angles)}


def dssp(inputs: Arrays) -> Arrays:
    """Secondary structure of all conformations."""
    return {"secondary_structure": np.array([",".join(secondary_structure(b)) for b in backbones(inputs)])}


def validity(inputs: Arrays) -> Arrays:
    """Metrics of physical validity and composition, of real domains and of relaxed backbones."""
    return {
        "metrics_of_domains": metrics([backbone.coords[0] for backbone in backbones(inputs)]),
        "metrics_of_relaxed": metrics(chains(inputs, inputs["relaxed"])),
    }


def metrics(structures: list[np.ndarray]) -> np.ndarray:
    """One row a structure of coordinates (L, 5, 3), one column a metric in the order of `METRICS`."""
    found = []
    for coords in structures:
        numbers = tuple(str(number) for number in range(1, len(coords) + 1))
        judged = PreparedStructure.of(Backbone("x", "A" * len(coords), coords[None], numbers), "")
        found.append([metric(judged) for metric in METRICS.values()])
    return np.array(found)


METRICS = {
    "physically valid": physical_validity.physically_valid,
    "chain breaks": physical_validity.chain_breaks,
    "clashes": physical_validity.clashes,
    "overlaps": physical_validity.overlaps,
    "CA step deviation": physical_validity.ca_step_deviation,
    "share of ideal CA steps": physical_validity.ca_steps_ideal,
    "bond RMSZ": physical_validity.bond_rmsz,
    "angle RMSZ": physical_validity.angle_rmsz,
    "share of Ramachandran favoured": physical_validity.ramachandran_favoured,
    "share of Ramachandran outliers": physical_validity.ramachandran_outlier,
    "share of left-handed helix": physical_validity.left_handed_helix,
    "share of helix": physical_validity.helix,
    "share of strand": physical_validity.strand,
    "radius of gyration": physical_validity.rg,
    "relative radius of gyration": physical_validity.relative_rg,
}


def chains(inputs: Arrays, atoms: np.ndarray) -> list[np.ndarray]:
    """Chains (L, 5, 3) of a padded batch."""
    return [chain[:length] for chain, length in zip(atoms, inputs["lengths"], strict=True)]


# --- stages of the learning side


def weights(inputs: Arrays) -> Arrays:
    """Digests of the pretrained networks, the decoder's log sigma, and the ids of the domains' labels."""
    sampler = pretrained()
    networks = (sampler.model, sampler.flow, sampler.aggregate, sampler.second_level)
    return {
        "weights": np.array([digest(network) for network in networks]),
        "log_sigma": sampler.model.log_sigma.detach().numpy(),
        "label_ids": np.array([sampler.spec.label_ids(label) for *_, label in DOMAINS.values()]),
    }


def digest(module: nn.Module) -> str:
    """SHA-256 of names and values of a network's state."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def representation(inputs: Arrays) -> Arrays:
    """Cosine coefficients of the CA traces, and the traces in the chain frame."""
    coefficients, target = pretrained().model.describe(batch(inputs))
    return as_arrays(coefficients=coefficients, target=target)


def posterior(inputs: Arrays) -> Arrays:
    """Mean and log variance of the codes, from the encoder alone."""
    of = (tensor(inputs, "coefficients"), tensor(inputs, "label_ids"), lengths(inputs))
    found = pretrained().model.posterior(*of)
    return as_arrays(posterior_mean=found.mean, posterior_logvar=found.logvar)


def latent_refinement(inputs: Arrays) -> Arrays:
    """Means of the codes after a descent on the negative evidence bound, which begins with the encoder's guess."""
    infer = pretrained().model.infer
    return as_arrays(**{name: infer(batch(inputs), steps).mean for name, steps in INFERENCE_STEPS.items()})


def flow(inputs: Arrays) -> Arrays:
    """Codes to noise, noise to codes, and codes drawn with guidance."""
    given = (tensor(inputs, "label_ids"), lengths(inputs))
    net, generator = pretrained().flow, torch.Generator().manual_seed(0)
    return as_arrays(
        noise_of_codes=net.to_noise(tensor(inputs, "refined_mean"), *given),
        codes_of_noise=net.to_codes(tensor(inputs, "latent_noise"), *given),
        drawn_codes=net.sample(*given, TEMPERATURE, GUIDANCE, generator),
    )


def aggregate_posterior(inputs: Arrays) -> Arrays:
    """Codes drawn from the Gaussian of a class, given the length."""
    given = (tensor(inputs, "label_ids")[:, 0], lengths(inputs), TEMPERATURE, torch.Generator().manual_seed(0))
    return as_arrays(aggregate_codes=pretrained().aggregate.sample(*given))


def decoder(inputs: Arrays) -> Arrays:
    """CA traces in Å of refined codes and of drawn ones."""
    given = (tensor(inputs, "label_ids"), mask(inputs))
    decode = torch.no_grad()(pretrained().model.decode)
    return as_arrays(
        trace=decode(tensor(inputs, "refined_mean"), *given),
        drawn_trace=decode(tensor(inputs, "drawn_codes"), *given),
    )


def refiner(inputs: Arrays) -> Arrays:
    """One evaluation of the refiner's network."""
    given = (tensor(inputs, "refiner_state"), torch.tensor(TIMES), tensor(inputs, "trace"), mask(inputs))
    return as_arrays(velocity=pretrained().second_level(*given))


def refiner_sampling(inputs: Arrays) -> Arrays:
    """CA positions in Å and carbonyl directions, as the refiner draws them for the decoded traces."""
    given = (tensor(inputs, "trace"), mask(inputs), REFINER_NOISE, REFINER_STEPS)
    ca, carbonyl = pretrained().second_level.sample(*given, torch.Generator().manual_seed(0))
    return as_arrays(ca=ca, carbonyl=carbonyl * mask(inputs)[..., None])


def ideal_peptides(inputs: Arrays) -> Arrays:
    """Backbones before relaxation."""
    given = (tensor(inputs, "ca"), tensor(inputs, "carbonyl"), lengths(inputs))
    return as_arrays(unrelaxed=relax.build_backbone(*given))


def energy_gradient(inputs: Arrays) -> Arrays:
    """The gradient that relaxation follows, before its first step and with the weights of its second half."""
    given = (tensor(inputs, "ca"), tensor(inputs, "carbonyl"), mask(inputs), relax.FREE)
    fixed = relax.Chains.of(*given, tensor(inputs, "trace"))
    x, u = fixed.ca, fixed.carbonyl
    pairs = relax.Pairs.of(x, u, fixed)
    return as_arrays(
        early_gradient=relax.slope(x, u, fixed, pairs, 0.0),
        late_gradient=relax.slope(x, u, fixed, pairs, 1.0),
    )


def relaxation(inputs: Arrays) -> Arrays:
    """Backbones after a short descent in float64, and after one as long as samples have it in float32."""

    def relaxed(name: str, dtype: torch.dtype) -> Tensor:
        ca, carbonyl, goal = (tensor(inputs, of).to(dtype) for of in ("ca", "carbonyl", "trace"))
        found = relax.relax(ca, carbonyl, mask(inputs), RELAXATION_STEPS[name], relax.FREE, goal)
        return relax.build_backbone(*found, lengths(inputs)).float()

    return as_arrays(partly_relaxed=relaxed("partly_relaxed", torch.double), relaxed=relaxed("relaxed", torch.float))


def evidence_terms(inputs: Arrays) -> Arrays:
    """Terms of the evidence bound in nats, of recorded posteriors and traces."""
    found = Gaussian(tensor(inputs, "posterior_mean"), tensor(inputs, "posterior_logvar"))
    prior = Gaussian(torch.zeros_like(found.mean), torch.zeros_like(found.mean))
    traces = (tensor(inputs, "target"), tensor(inputs, "trace"))
    output = Output(found, prior, found.mean, *traces, tensor(inputs, "log_sigma"), {})
    terms = (evidence_bound.reconstruction, evidence_bound.kl, evidence_bound.kl_free_bits(FREE_BITS))
    return as_arrays(evidence_terms=torch.stack([term(batch(inputs), output) for term in terms]))


def forward_and_backward(inputs: Arrays) -> Arrays:
    """Codes drawn for a batch, terms of the bound in nats, and logarithms of gradient norms, without dropout.

    The gradient is that of the bound by encoder, decoder and condition.
    """
    model = pretrained().model
    model.zero_grad()
    output = model(batch(inputs), torch.Generator().manual_seed(0))
    terms = torch.stack([term(batch(inputs), output) for term in (evidence_bound.reconstruction, evidence_bound.kl)])
    with torch.enable_grad():
        terms.sum().backward()
    parts = (model.encoder, model.decoder, model.condition)
    norms = [nn.utils.get_total_norm([p.grad for p in part.parameters() if p.grad is not None]) for part in parts]
    model.zero_grad()
    return as_arrays(batch_codes=output.z, batch_terms=terms, log_gradient_norms=torch.stack(norms).log())


STAGES: dict[str, Callable[[Arrays], Arrays]] = {
    stage.__name__: stage
    for stage in (
        *(reading, torsion_angles, dssp),
        *(weights, representation, posterior, latent_refinement, flow, aggregate_posterior, decoder),
        *(refiner, refiner_sampling, ideal_peptides, energy_gradient, relaxation, validity),
        *(evidence_terms, forward_and_backward),
    )
}
"""In an order in which each finds its inputs when nothing is recorded yet."""
