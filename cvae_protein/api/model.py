"""A trained model as a Python object: sample, encode, decode, reconstruct, and interpolate between structures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import UserError
from ..core.progress import verbosity
from .structures import Structure, Structures, read

if TYPE_CHECKING:
    import pandas as pd

    from ..config.settings import SampleSettings
    from ..model.batch import DomainSet
    from ..sampling.sample import Samples
    from ..sampling.sampler import Sampler

Lengths = int | str | range | Iterable[int] | None


def load(model: str | Path = "pretrained", refiner: str | Path | None = None) -> Model:
    """Load a trained model; it runs on the first GPU, or else on the CPU.

    Parameters
    ----------
    model : `pretrained`, which comes with the package, or the folder of a model, such as
        `results/models/concat/seed0`
    refiner : folder of the second level that completes traces to backbones, or `refiner` or `decoder` for the one
        beside the model; by default the refiner, or the decoder where there is no refiner

    Raises
    ------
    UserError : if there is no model, or a file of it is damaged

    Examples
    --------
    >>> load("pretrained")
    <Model concat, seed 0: 64 latent numbers, 3 label levels, 501 folds, 40 to 256 residues, on cpu>
    """
    from ..model.registry import resolve
    from ..sampling.sampler import load_sampler

    if not isinstance(model, str | Path):
        raise UserError(f"load: expected `pretrained` or the folder of a model, got {type(model).__name__}")
    folder, beside = resolve(Path(model), None if refiner is None else Path(refiner))
    if not (folder / "spec.json").is_file():
        found = sorted(str(path.parent) for path in folder.glob("**/spec.json") if (folder / "models") in path.parents)
        own = [
            path for path in found if not path.startswith((f"{folder}/models/refiner", f"{folder}/models/classifier"))
        ]
        hint = f"; of this run give one of {', '.join(own[:8])}" if own else ""
        raise UserError(f"{folder}: expected a folder with spec.json and weights.safetensors, found none{hint}")
    with verbosity("slow"):
        return Model(load_sampler(folder, beside), folder)


class Model:
    """A trained conditional VAE with its prior and its refiner, as returned by `load`.

    A structure may be given as a path, a `Backbone`, an object of biotite, mdtraj or Bio.PDB, or an array of
    coordinates in Å: see `read`. Codes are float32 arrays (n, latent). Equal calls give equal results: all randomness
    comes from `seed`.

    Attributes
    ----------
    folder : the folder from which it was loaded
    """

    def __init__(self, sampler: Sampler, folder: Path) -> None:
        self._sampler, self.folder = sampler, folder

    def __repr__(self) -> str:
        spec = self._sampler.spec
        lengths = [length for own in spec.lengths.values() for length in own]
        return (
            f"<Model {spec.variant}, seed {spec.seed}: {self.latent} latent numbers, {spec.depth} label levels, "
            f"{len(spec.lengths)} folds, {min(lengths)} to {max(lengths)} residues, on {self._sampler.device}>"
        )

    @property
    def variant(self) -> str:
        """Name of the variant."""
        return self._sampler.spec.variant

    @property
    def latent(self) -> int:
        """Number of dimensions of a code."""
        return self._sampler.spec.model.latent

    @property
    def folds(self) -> pd.DataFrame:
        """The fold classes that the model knows: number and lengths in residues of training domains, one row per label.

        Examples
        --------
        >>> load("pretrained").folds.loc["2.60.40"].to_dict()
        {'domains': 1273, 'shortest': 50, 'median': 107, 'longest': 247}
        """
        import pandas as pd

        return pd.DataFrame(self._sampler.spec.folds()).set_index("fold")

    def sample(
        self,
        fold: str | int | Iterable[str | int] | None = None,
        length: Lengths = None,
        n: int = 1,
        *,
        seed: int = 0,
        temperature: float | None = None,
        guidance: float | None = None,
        like: Any = None,
        keep: int | None = None,
        noise_kept: float = 0.0,
        valid: bool = False,
        extrapolate: bool = False,
    ) -> Structures:
        """Sample backbones of the given fold classes.

        Parameters
        ----------
        fold : label that the model knows, such as "2" or "2.60.40" (see `folds`), or several; by default each of its
            first-level classes, with `like` the label of that structure
        length : in residues: a number, "80-120" or a `range` from which each sample draws one, or a list used in turn;
            by default drawn like the lengths of the fold's training domains
        n : samples per fold; the first of them are those of a smaller `n`
        seed : seed of all randomness, from 0 to 2⁶⁴ - 1
        temperature : spread of the draw relative to the prior; by default 0.5
        guidance : how far the draw follows the label, 1 as learnt; by default 2
        like : a structure whose code is decoded under the label `fold`, with the length of that structure
        keep : number of leading dimensions of that code that are kept; the second level, a decoder, draws the rest
        noise_kept : share of the variance of a decoder's noise that is kept from the structure, found by inversion
        valid : draw until `n` of each fold are physically valid (no break, clash or overlap), and report the yield
        extrapolate : allow lengths that no training domain of the fold has

        Returns
        -------
        Structures : in the order of the folds, poly-alanine, relaxed; `.label` is the requested fold

        Raises
        ------
        UserError : if the model does not know the fold, or a number is out of range

        Examples
        --------
        >>> model = load("pretrained")
        >>> samples = model.sample(fold="2.60.40", length=90, n=2, seed=1)
        >>> samples
        <Structures: 2 of 90 residues, labels 2.60.40>
        >>> samples[0].ca.shape  # model, residue, xyz
        (1, 90, 3)
        >>> model.sample(fold=["1", "2"], length=[60, 70], n=2).lengths
        array([60, 70, 60, 70])
        >>> model.sample(fold="2.60.41")
        Traceback (most recent call last):
        cvae_protein.core.errors.UserError: fold: 2.60.41 is unknown to the model; the nearest that it knows is 2.60
        """
        from ..sampling.sample import check_asked, check_kept, draw_samples, draw_valid
        from ..score.metrics.physical_validity import is_valid

        settings, spec = self._settings(n, temperature, guidance), self._sampler.spec
        _check_seed(seed)
        if (keep is not None or noise_kept) and like is None:
            raise UserError("keep, noise_kept: expected like, the structure of which they keep something")
        if keep is not None and not self._has_decoder:
            raise UserError(
                f"keep: expected none, since the code of {self.variant} is not ordered from coarse to fine behind a "
                "refiner; leave it out, and `like` keeps the whole code"
            )
        if like is not None:
            if length is not None:
                raise UserError("length: expected none with like, whose structure has one")
            if keep is not None:
                check_kept(spec, keep)
                settings = replace(settings, numbers=int(keep))
            labels = None if fold is None else _labels(fold)
            return self._around(like, settings, seed, labels, noise_kept=noise_kept)
        folds = list(spec.vocabulary[0]) if fold is None else _labels(fold)
        lengths = _lengths(length)
        check_asked(spec, folds, lengths, extrapolate)
        with verbosity("slow"):
            if valid:
                samples = draw_valid(self._sampler, folds, lengths, settings, seed, is_valid)
            else:
                samples = draw_samples(self._sampler, folds, lengths, settings, seed)
        return self._drawn(samples, settings, seed)

    def around(
        self,
        structure: Any,
        n: int = 1,
        *,
        seed: int = 0,
        spread: float | None = None,
        temperature: float | None = None,
        fold: str | int | None = None,
    ) -> Structures:
        """Draw conformations of one structure: along its soft motions, or from its posterior.

        Parameters
        ----------
        structure : one structure, in any form that `read` takes; residues without CA are left out
        n : number of conformations
        spread : mean RMSD to the structure in Å that they should have, along its soft motions
        temperature : without a spread, scales the width of the posterior; 0 gives its mean, completed with other noise
        fold : label of the structure; by default its own, unknown where it has none

        Examples
        --------
        >>> load("pretrained").around("structures/1ubi.cif.gz", n=2, temperature=1.0)
        <Structures: 2 of 76 residues>
        """
        _check_seed(seed)
        if spread is not None and temperature is not None:
            raise UserError("around: expected a spread or a temperature, got both")
        if spread is not None and (isinstance(spread, bool) or not isinstance(spread, int | float | np.number)):
            raise UserError(f"spread: expected a number of Å, got {spread!r}")
        settings = self._settings(n, temperature, None)
        return self._around(structure, settings, seed, None if fold is None else [self._label(fold)], spread)

    def encode(self, structures: Any, fold: str | int | None = None) -> np.ndarray:
        """Codes of structures: the means of their posteriors, float32 (n, latent).

        Parameters
        ----------
        structures : one or many, in any form that `read` takes; the first model of each
        fold : label of all of them; by default each has its own, unknown where it has none

        Examples
        --------
        >>> load("pretrained").encode("structures/1ubi.cif.gz").shape
        (1, 64)
        """
        with verbosity("slow"):
            return self._sampler.infer(self._domains(read(structures), fold)).mean.numpy()

    def encode_noise(self, structures: Any, fold: str | int | None = None) -> list[np.ndarray]:
        """The second level's latents of structures: the noise from which the decoder makes each, float32 (L, 6).

        Found by running its flow backwards, given their codes; standard normal if the flow fits. Arguments are those of
        `encode`. Raises `UserError` if the second level is a refiner, which has no such noise.
        """
        domains = self._domains(read(structures), fold)
        with verbosity("slow"):
            codes = self._sampler.infer(domains).mean
            return [one.numpy() for one in self._sampler.infer_noise(domains, codes)]

    def decode(
        self,
        codes: Any,
        length: int | Sequence[int],
        fold: str | int = "",
        *,
        noise: Sequence[np.ndarray] | None = None,
    ) -> Structures:
        """Decode codes (n, latent), or one (latent,), to backbones of `length` residues, under a label or none.

        `noise` is that of the second level, from `encode_noise`; by default its mean.

        Examples
        --------
        >>> model = load("pretrained")
        >>> model.decode(model.encode("structures/1ubi.cif.gz"), length=76)
        <Structures: 1 of 76 residues>
        """
        from ..sampling.sample import SHORTEST

        codes = np.atleast_2d(np.asarray(codes, np.float32))
        if codes.ndim != 2 or codes.shape[1] != self.latent or not len(codes):
            raise UserError(f"codes: expected (n, {self.latent}) of one or more, got {codes.shape}")
        lengths = list(_lengths(length) or [])
        lengths = lengths * len(codes) if len(lengths) == 1 else lengths
        if len(lengths) != len(codes) or any(one < SHORTEST for one in lengths):
            raise UserError(f"length: expected one or {len(codes)}, each {SHORTEST} residues or more, got {length!r}")
        label = self._label(fold) if fold else ""
        ids = [f"code{number:04d}" for number in range(len(codes))]
        given = None if noise is None else [np.asarray(one, np.float32) for one in noise]
        if given is not None and [one.shape for one in given] != [(size, 6) for size in lengths]:
            raise UserError(f"noise: expected (L, 6) for each of {lengths} residues, got {[g.shape for g in given]}")
        return self._decoded(codes, lengths, [label] * len(codes), ids, given)

    def reconstruct(self, structures: Any, fold: str | int | None = None, *, noise: bool = False) -> Structures:
        """Reconstruct structures from the means of their codes; ids, lengths and labels are kept.

        Residues without CA are left out. As in a run's reconstructions, the second level gets the mean of its noise;
        with `noise`, and a decoder, that of the structure itself, so that both levels of latents are used.

        Examples
        --------
        >>> load("pretrained").reconstruct("structures/1ubi.cif.gz")
        <Structures: 1 of 76 residues>
        """
        found = read(structures)
        domains = self._domains(found, fold)
        codes, own = self.encode(found, fold), self.encode_noise(found, fold) if noise else None
        return self._decoded(codes, domains.lengths.tolist(), list(domains.labels), list(domains.ids), own)

    def interpolate(self, a: Any, b: Any, steps: int = 5) -> Structures:
        """Structures on the straight line between the codes of two structures, both ends included.

        The length changes in equal steps, and the label is the levels that both have in common, or unknown.

        Parameters
        ----------
        a, b : one structure each, in any form that `read` takes
        steps : number of structures, 2 or more

        Examples
        --------
        >>> load("pretrained").interpolate("structures/1ejg.cif.gz", "structures/1ubi.cif.gz", steps=3).lengths
        array([46, 61, 76])
        """
        from ..core.labels import truncate

        if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 2:
            raise UserError(f"steps: expected a whole number, 2 or more, got {steps!r}")
        ends = Structures([_one(a, "a"), _one(b, "b")])
        first, last = ends.labels
        shared = [level for level in range(1, 9) if first and truncate(first, level) == truncate(last, level)]
        label = truncate(first, max(shared)) if shared else ""
        codes, domains = self.encode(ends), self._domains(ends, None)
        share = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
        start, stop = domains.lengths.tolist()
        lengths = np.rint(np.linspace(start, stop, steps)).astype(int).tolist()
        ids = [f"{ends[0].id}-{ends[1].id}-{number:04d}"[-60:] for number in range(steps)]
        return self._decoded(codes[0] + share * (codes[1] - codes[0]), lengths, [label] * steps, ids)

    def _settings(self, n: int, temperature: float | None, guidance: float | None) -> SampleSettings:
        """Settings of a draw, checked as the command line checks them."""
        import json

        from ..config.load import section

        given = {"per_class": n, "temperature": temperature, "guidance": guidance}
        merged = {key: _plain(value) for key, value in given.items() if value is not None}
        try:
            return section("sample", json.dumps(merged))
        except TypeError as error:
            raise UserError(f"n, temperature, guidance: expected numbers, got {merged}") from error
        except UserError as error:
            said = str(error).removeprefix("settings: ")
            raise UserError(said.replace("sample.per_class", "n").replace("sample.", "")) from error

    def _around(
        self,
        structure: Any,
        settings: SampleSettings,
        seed: int,
        labels: list[str] | None,
        spread: float | None = None,
        noise_kept: float = 0.0,
    ) -> Structures:
        from ..sampling.sample import draw_around

        domain = self._domains(Structures([_one(structure, "structure")]), None)
        parts = []
        with verbosity("slow"):
            for label in [None] if labels is None else labels:
                if label is not None:
                    self._label(label)
                drawn = draw_around(self._sampler, domain, settings, seed, label, spread, noise_kept)
                parts.append(self._drawn(drawn, settings, seed))
        return Structures(item for part in parts for item in part)

    @property
    def _has_decoder(self) -> bool:
        from ..model.decoder import ChainDecoder

        return isinstance(self._sampler.second_level, ChainDecoder)

    def _label(self, fold: str | int) -> str:
        """One label as text, which the model knows."""
        from ..sampling.sample import check_asked

        labels = _labels(fold)
        if len(labels) > 1:
            raise UserError(f"fold: expected one label, got {len(labels)}")
        check_asked(self._sampler.spec, labels, None)
        return labels[0]

    def _domains(self, structures: Structures, fold: str | int | None) -> DomainSet:
        """The first models of structures in the form that the network takes."""
        from ..model.batch import DomainSet, with_ca

        if not len(structures):
            raise UserError("structures: expected one or more, got none")
        labels = structures.labels if fold is None else [self._label(fold) if fold else ""] * len(structures)
        coords = tuple(with_ca(item.coords[0] - np.nanmean(item.coords[0], axis=(0, 1))) for item in structures)
        if short := [item.id for item, own in zip(structures, coords, strict=True) if len(own) < 5]:
            raise UserError(f"{short[0]}: expected five residues with CA or more")
        return DomainSet(coords, tuple(structures.ids), tuple(labels), np.ones(len(coords)))

    def _decoded(
        self,
        codes: np.ndarray,
        lengths: list[int],
        labels: list[str],
        ids: list[str],
        noise: Sequence[np.ndarray] | None = None,
    ) -> Structures:
        """Relaxed backbones of codes (n, latent) and the second level's noise, by default its mean."""
        import torch

        from ..config.settings import SampleSettings
        from ..sampling.relax import HELD
        from ..sampling.sampler import INVERSION_STEPS, complete, no_noise

        spec = self._sampler.spec
        label_ids = torch.tensor([spec.label_ids(label) for label in labels]).reshape(len(labels), -1)
        with verbosity("slow"):
            traces = self._sampler.decode(torch.from_numpy(codes), label_ids, torch.tensor(lengths))
            start, settings = no_noise(traces), SampleSettings(code_error=0.0)
            if noise is not None:
                start = [torch.from_numpy(one) for one in noise]
                settings = replace(settings, refine_steps=INVERSION_STEPS)
            _, relaxed = complete(self._sampler, traces, labels, settings, start, "decode", HELD)
        return Structures(_structure(*each, {}) for each in zip(ids, relaxed, labels, strict=True))

    def _drawn(self, samples: Samples, settings: SampleSettings, seed: int) -> Structures:
        from ..sampling.sample import draw_facts

        facts = draw_facts(self._sampler.spec, self.folder, settings, seed)
        rows = zip(samples.names, samples.relaxed, samples.labels, strict=True)
        return Structures(_structure(*row, facts) for row in rows)


def _structure(name: str, coords: np.ndarray, label: str, facts: dict) -> Structure:
    from ..model.batch import as_backbone

    made = as_backbone(name, coords)
    return Structure(made.id, made.sequence, made.coords, made.residue_ids, label, facts)


def _one(source: Any, name: str) -> Structure:
    found = read(source, name)
    if len(found) != 1:
        raise UserError(f"{name}: expected one structure, got {len(found)}; choose one, such as read(...)[0]")
    return found[0]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _labels(fold: str | int | Iterable[str | int]) -> list[str]:
    """Labels as text; a float such as 2.60 has lost its last digit."""
    given = list(fold) if isinstance(fold, Iterable) and not isinstance(fold, str) else [fold]
    if odd := [each for each in given if isinstance(each, bool) or not isinstance(each, str | int | np.integer)]:
        raise UserError(f"fold: expected labels as text, such as '2.60', got {odd[0]!r}")
    if not given:
        raise UserError("fold: expected a label or more, got none")
    return [str(each) for each in given]


def _lengths(length: Lengths) -> Sequence[int] | None:
    """Lengths as `draw_samples` takes them: a range is drawn from, a list used in turn."""
    if length is None or isinstance(length, range):
        if length is not None and not length:
            raise UserError(f"length: expected a range that is not empty, got {length}")
        return length
    if isinstance(length, str):
        from ..sampling.sample import parse_lengths

        return parse_lengths([length])
    given = list(length) if isinstance(length, Iterable) else [length]
    if not given or any(isinstance(each, bool) or not isinstance(each, int | np.integer) for each in given):
        raise UserError(f"length: expected whole numbers of residues, a range, or '80-120', got {length!r}")
    return [int(each) for each in given]


def _check_seed(seed: int) -> None:
    from ..config.settings import LARGEST_SEED

    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed: expected a whole number from 0 to {LARGEST_SEED}, got {seed!r}")
