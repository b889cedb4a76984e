"""Print, and write to benchmarks/results/crosschecks.tsv, how far each metric is from an independent implementation.

    python benchmarks/crosschecks.py results/benchmark [--pairs 500] [--domains 120] [--seed 0]

The folder holds a finished run (domains.h5, splits.tsv, samples/*/seed*/). Programs (TMalign, TMscore, mkdssp) and the
packages prdc and vendi_score are compared with where they are found, and named as absent where not. `worst` is the
largest absolute difference; where one side may only be better, a row says by how much it is worse and another by how
much better. Some minutes of one core, most of them in the programs.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import biotite.structure as biotite
import mdtraj
import numpy as np
from crosschecks_sets import Check, set_checks
from featurize_peers import mkdssp
from tmtools import tm_align

from cvae_protein.core.files import write_table
from cvae_protein.core.geometry import torsions
from cvae_protein.core.progress import say, track
from cvae_protein.core.secondary_structure import secondary_structure
from cvae_protein.core.structure import Backbone
from cvae_protein.score.inputs import read_domains, read_pairs
from cvae_protein.score.metrics import physical_validity, reconstruction
from cvae_protein.score.metrics.novelty import RealDomains
from cvae_protein.score.metrics.reconstruction import Pair
from cvae_protein.similarity.nearest_structures import tm_align_score
from cvae_protein.similarity.tm_score import tm_scores
from cvae_protein.store.read import Store

OUTPUT = Path(__file__).parents[1] / "benchmarks/results/crosschecks.tsv"
COLUMNS = ("metric", "ours", "independent", "n", "worst", "unit", "remark", "date")
SHARP = 1.5  # Å, resolution of the domains whose torsions are compared with the published contours
HEAD = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"


def pdb_text(coords: np.ndarray, names: Sequence[str] = ("CA",)) -> str:
    """Lines of the atoms `names` of each residue, coordinates (L, len(names), 3), all alanine."""
    lines = [
        f"ATOM  {index * len(names) + k + 1:5d}  {name:<3s} ALA A{index + 1:4d}    "
        f"{atom[0]:8.3f}{atom[1]:8.3f}{atom[2]:8.3f}  1.00  0.00           {name[0]}\n"
        for index, residue in enumerate(coords)
        for k, (name, atom) in enumerate(zip(names, residue, strict=True))
    ]
    return "".join([HEAD, *lines, "TER\n", "END\n"])


def program_score(program: str, first: np.ndarray, second: np.ndarray, key: str) -> float:
    """TM-score that a program prints for two CA traces, in the first line that holds `key`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, trace in (("a.pdb", first), ("b.pdb", second)):
            (Path(folder) / name).write_text(pdb_text(trace[:, None]))
        said = subprocess.run([program, "a.pdb", "b.pdb"], cwd=folder, capture_output=True, text=True, check=True)
    line = next(line for line in said.stdout.splitlines() if key in line and "=" in line)
    return float(line.split("=")[1].split()[0])


def one_sided(metric: str, ours: str, other: str, found: np.ndarray, theirs: np.ndarray, unit: str) -> Iterator[Check]:
    """By how much ours is below and above the other."""
    below = f"ours below; by more than 0.001 in {(theirs - found > 1e-3).sum()}"
    yield Check(metric, ours, other, len(found), max(0.0, float((theirs - found).max())), unit, below)
    yield Check(metric, ours, other, len(found), max(0.0, float((found - theirs).max())), unit, "ours above")


def both(metric: str, ours: str, other: str, found: Sequence, theirs: Sequence, unit: str, remark: str = "") -> Check:
    """Largest absolute difference of two lists of numbers."""
    worst = np.abs(np.asarray(found, float) - np.asarray(theirs, float)).max()
    return Check(metric, ours, other, len(found), float(worst), unit, remark)


def absent(metric: str, ours: str, other: str) -> Check:
    """The row of what could not be compared."""
    return Check(metric, ours, other, 0, float("nan"), "", "not installed, not compared")


def alignments(domains: RealDomains, count: int, random: np.random.Generator) -> Iterator[Check]:
    """TM-align as a library against the program, on real pairs of all likeness."""
    ours, other = "tmtools 0.3", "program TMalign"
    if shutil.which("TMalign") is None:
        yield absent("nearest_tm", ours, other)
        return
    held = domains.held_out
    pairs = [random.choice(len(held), 2, replace=False) for _ in range(count)]
    traces = [tuple(np.round(held[index].ca, 3) for index in pair) for pair in pairs]
    found = [tm_align_score(first, second)[0] for first, second in track(traces, "tmtools", count, "pairs")]
    theirs = [program_score("TMalign", *pair, "TM-score=") for pair in track(traces, "TMalign", count, "pairs")]
    yield both("nearest_tm", ours, other, found, theirs, "score", "real pairs, normalised by the first")


def same_length(pairs: Sequence[Pair], random: np.random.Generator) -> Iterator[Check]:
    """TM-score of corresponding residues: reconstructions, and as many unlike chains cut to one length."""
    like = [(np.round(pair.model.ca, 3), np.round(pair.reference.ca, 3)) for pair in pairs]
    others = [like[index][1] for index in random.permutation(len(like)).tolist()]
    traces = [
        *like,
        *((a[: min(map(len, (a, b)))], b[: min(map(len, (a, b)))]) for (_, a), b in zip(like, others, strict=True)),
    ]
    found = tm_scores(traces)
    given = []
    for mobile, target in traces:
        letters = "A" * len(mobile)
        result = tm_align(mobile.astype(float), target.astype(float), letters, letters, alignment=[letters, letters])
        given.append(result.tm_norm_chain2)
    others_say = {"tmtools, alignment given": given}
    if shutil.which("TMscore") is None:
        yield absent("tm_score", "similarity/tm_score.py", "program TMscore")
    else:
        said = [
            program_score("TMscore", *pair, "TM-score  ") for pair in track(traces, "TMscore", len(traces), "pairs")
        ]
        others_say["program TMscore"] = said
    for name, theirs in others_say.items():
        for kind, part in (("reconstructions", slice(len(like))), ("unlike chains", slice(len(like), None))):
            yield from one_sided(
                "tm_score", "similarity/tm_score.py", f"{name}, {kind}", found[part], np.array(theirs)[part], "score"
            )


def trajectory(coords: np.ndarray) -> mdtraj.Trajectory:
    """N, CA, C, O of a chain of alanines (L, 4, 3) in Å."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in coords:
        residue = topology.add_residue("ALA", chain)
        for name, element in (("N", "nitrogen"), ("CA", "carbon"), ("C", "carbon"), ("O", "oxygen")):
            topology.add_atom(name, getattr(mdtraj.element, element), residue)
    return mdtraj.Trajectory(coords.reshape(1, -1, 3) / 10, topology)


def whole(pair: Pair) -> bool:
    """Whether no backbone atom is missing and no chain broken on either side."""
    return all(np.isfinite(side.coords[:, :4]).all() and not side.breaks.any() for side in (pair.model, pair.reference))


def shapes(pairs: Sequence[Pair]) -> Iterator[Check]:
    """RMSD, radius of gyration, lDDT of reconstructions."""
    sides = [(trajectory(pair.model.coords[:, :4]), trajectory(pair.reference.coords[:, :4])) for pair in pairs]
    alphas = [side[0].topology.select("name CA") for side in sides]
    rmsd = [10 * mdtraj.rmsd(*side)[0] for side in sides]
    yield both("backbone_rmsd", "geometry.rmsd", "mdtraj.rmsd", [*map(reconstruction.backbone_rmsd, pairs)], rmsd, "Å")
    rmsd = [10 * mdtraj.rmsd(*side, atom_indices=atoms)[0] for side, atoms in zip(sides, alphas, strict=True)]
    yield both("ca_rmsd", "geometry.rmsd", "mdtraj.rmsd", [*map(reconstruction.ca_rmsd, pairs)], rmsd, "Å")
    gyration = [10 * mdtraj.compute_rg(side[0].atom_slice(atoms))[0] for side, atoms in zip(sides, alphas, strict=True)]
    found = [physical_validity.rg(pair.model) for pair in pairs]
    yield both("rg", "geometry", "mdtraj.compute_rg", found, gyration, "Å")
    found = [reconstruction.lddt(pair) for pair in pairs]
    atoms = []
    for pair in pairs:
        reference = biotite.AtomArray(len(pair.reference))
        reference.coord, reference.res_id = pair.reference.ca.astype(np.float32), np.arange(len(pair.reference))
        reference.atom_name[:] = "CA"
        atoms.append(biotite.lddt(reference, pair.model.ca.astype(np.float32)))
    yield both("lddt", "score/metrics/reconstruction.py", "biotite.structure.lddt", found, atoms, "score")
    yield both(
        "lddt", "score/metrics/reconstruction.py", "loops over the definition", found, [*map(lddt, pairs)], "score"
    )


def lddt(pair: Pair) -> float:
    """The published definition, pair by pair (Mariani et al. 2013): all pairs within 15 Å in the reference."""
    kept, total = 0, 0
    model, reference = pair.model.ca.tolist(), pair.reference.ca.tolist()
    for i in range(len(reference)):
        for j in range(len(reference)):
            wanted = sum((a - b) ** 2 for a, b in zip(reference[i], reference[j], strict=True)) ** 0.5
            if i != j and wanted < 15:
                found = sum((a - b) ** 2 for a, b in zip(model[i], model[j], strict=True)) ** 0.5
                kept += sum(abs(found - wanted) < limit for limit in (0.5, 1, 2, 4))
                total += 4
    return kept / total


def states(pairs: Sequence[Pair]) -> Iterator[Check]:
    """Shares of helix and strand of real domains, residue types hidden."""
    real = [pair.reference for pair in pairs]
    simple = [mdtraj.compute_dssp(trajectory(each.coords[:, :4]))[0] for each in real]
    for name, function, letter in (("helix", physical_validity.helix, "H"), ("strand", physical_validity.strand, "E")):
        theirs = [(one == letter).mean() for one in simple]
        yield both(
            name,
            "core/secondary_structure.py",
            "mdtraj.compute_dssp",
            [function(each) for each in real],
            theirs,
            "share",
        )
    if shutil.which("mkdssp") is None:
        yield absent("helix, strand", "core/secondary_structure.py", "program mkdssp")
        return
    hidden = [Backbone(each.id, "A" * len(each), each.coords[None], tuple(map(str, range(len(each))))) for each in real]
    ours = [secondary_structure(each)[0] for each in hidden]
    with tempfile.TemporaryDirectory() as folder:
        said = [mkdssp(each, Path(folder)) for each in track(hidden, "mkdssp", len(hidden), "domains")]
    letters_of = [(own, other) for own, other in zip(ours, said, strict=True) if len(own) == len(other)]
    for name, letters in (("helix", "HGI"), ("strand", "EB")):
        shares = np.array([[np.isin(list(one), list(letters)).mean() for one in pair] for pair in letters_of])
        remark = f"mean {np.abs(shares[:, 0] - shares[:, 1]).mean():.4f}"
        yield both(name, "core/secondary_structure.py", "program mkdssp", shares[:, 0], shares[:, 1], "share", remark)


def plot(store: Path, names: Sequence[str]) -> Iterator[Check]:
    """Residues of sharp crystal structures beside the shares for which the contours were drawn."""
    found = []
    with Store(store) as file:
        for name in names:
            try:
                resolution = float(str(file.fact(name, "resolution")))
            except ValueError:
                continue
            if not 0 < resolution <= SHARP:
                continue
            entry = file.backbone(name)
            phi, psi = torsions(entry.coords[0].astype(float), entry.breaks)[:, :2].T
            following = entry.sequence[1:] + "P"
            general = np.array([a not in "GP" and b != "P" for a, b in zip(entry.sequence, following, strict=True)])
            keep = general & np.isfinite(phi) & np.isfinite(psi)
            found.append(physical_validity.region(phi[keep], psi[keep]))
    cells = np.concatenate(found) if found else np.zeros(0, int)
    for metric, kind, published in (
        ("ramachandran_favoured", physical_validity.FAVOURED, 0.98),
        ("ramachandran_outlier", physical_validity.OUTLIER, 0.0005),
    ):
        share = float((cells == kind).mean()) if len(cells) else float("nan")
        remark = (
            f"{share:.4f} of general residues at {SHARP} Å or sharper, not cleaned by B-factor; no package has the map"
        )
        yield Check(
            metric,
            "score/metrics/physical_validity.py",
            f"{published} by construction",
            len(cells),
            abs(share - published),
            "share",
            remark,
        )


def checks(folder: Path, count: int, few: int, seed: int) -> Iterator[Check]:
    """All rows."""
    random = np.random.default_rng(seed)
    domains = read_domains(folder / "domains.h5", folder / "splits.tsv")
    files = sorted(folder.glob("samples/*/seed*/reconstructions.h5"))
    rebuilt = [pair for path in files for pair in read_pairs(path, domains.held_out) if whole(pair)]
    rebuilt = [rebuilt[index] for index in random.permutation(len(rebuilt))[: count // 2].tolist()]
    parts: list[Callable[[], Iterator[Check]]] = [
        lambda: alignments(domains, count, random),
        lambda: same_length(rebuilt, random),
        lambda: shapes(rebuilt[:few]),
        lambda: states(list({pair.id: pair for pair in rebuilt}.values())[:few]),
        lambda: plot(folder / "domains.h5", [each.id for each in (*domains.held_out, *domains.training)]),
        lambda: set_checks(folder, random),
    ]
    for part in parts:
        yield from part()


def main() -> None:
    """Compare everything, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--domains", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    optional = [name for name in ("prdc", "vendi_score") if importlib.util.find_spec(name) is None]
    say("crosschecks", f"packages not installed: {', '.join(optional) or 'none'}")
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    rows = [{**check.cells(), "date": date} for check in checks(given.results, given.pairs, given.domains, given.seed)]
    write_table(OUTPUT, COLUMNS, rows)
    for row in rows:
        print(" | ".join(str(row[name]) for name in COLUMNS[:-1]))


if __name__ == "__main__":
    main()
