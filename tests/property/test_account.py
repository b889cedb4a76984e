"""Every CA of a chain in a file is read, belongs to another conformer, or is counted as a ligand's: nothing is lost."""

import random
from pathlib import Path

import numpy as np
import pytest
from ca_lines import ca_lines
from synthetic import helix, residue_lines, write

from cvae_protein.config.settings import FeaturizeSettings, LabelSettings
from cvae_protein.core.errors import StructureError
from cvae_protein.core.files import read_table
from cvae_protein.core.structure import CA
from cvae_protein.dataset.featurize import featurize_folder
from cvae_protein.io.read import read_structure
from cvae_protein.store.read import Store

ROOT = Path(__file__).parents[2]
EMBEDDED = sorted((ROOT / "data/embedded").glob("*/*.cif.gz"))
SMALL = sorted((ROOT / "tests/data").glob("*.cif.gz"))
HELIX = helix(30)
RESIDUES = ["ALA", "GLY", "SER", "HIS", "LYS"]


@pytest.mark.parametrize("part", range(4))
def test_every_ca_of_the_embedded_files_is_accounted_for(part):
    for path in [*EMBEDDED, *SMALL][part::4]:
        found = read_structure(path)
        stored = int(np.isfinite(found.coords[:, CA, 0]).sum())
        lines = ca_lines(path.read_bytes(), of_polymers=True)
        assert stored == len(set(lines)) > 0, path.name
        assert stored + found.alternates == len(lines), path.name
        assert stored + found.alternates + found.ligands >= len(ca_lines(path.read_bytes())), path.name


def odd_lines(draw):
    """Lines of a file of some chains and models, each with oddities of deposited and of written files."""
    lines = []
    models = draw.choice([0, 0, 1, 2, 3])
    chains = [
        (draw.choice("ABAB "), draw.randint(1, 30), draw.choice([-3, 1, 1, 50])) for _ in range(draw.randint(1, 4))
    ]
    for model in range(max(models, 1)):
        lines += [f"MODEL     {model + 1:>4}"] if models else []
        for number, (chain, length, first) in enumerate(chains):
            lines += odd_chain(draw, chain, length, first, np.array([40.0 * number, 3.0 * model, 0]))
        lines += [draw.choice(["ENDMDL", "ENDMDL", "END"])] if models else []
    return lines


def odd_chain(draw, chain, length, first, place):
    lines = []
    for index, coords in enumerate(HELIX[:length] + place):
        options = {"number": first + index, "chain": chain, "hetero": draw.random() < 0.02}
        name = draw.choice(RESIDUES)
        oddity = draw.random()
        if oddity < 0.04:
            lines += residue_lines(coords, name, altloc="A", occupancy=0.6, **options)
            lines += residue_lines(coords + 0.3, draw.choice([name, "THR"]), altloc="B", occupancy=0.4, **options)
        elif oddity < 0.07:
            lines += residue_lines(coords, name, atoms=draw.choice([("CA",), ("N", "CA"), ("C", "CA", "N")]), **options)
        elif oddity < 0.09:
            whole = residue_lines(coords, name, **options)
            lines += [*whole, whole[1]]
        elif oddity < 0.11:
            lines += residue_lines(coords, name, insertion="A", **options)
        else:
            lines += residue_lines(coords, name, **options)
    if draw.random() < 0.2:
        lines += residue_lines(coords + 20, "GLU", chain, first + 900, hetero=True)
    return [*lines, *draw.choice([[], ["TER"]])]


@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_every_ca_of_odd_files_is_accounted_for(tmp_path, name):
    draw = random.Random(name)
    read = 0
    for _ in range(30):
        path = write(tmp_path / name, odd_lines(draw))
        try:
            found = read_structure(path)
        except StructureError:
            continue
        read += 1
        stored = int(np.isfinite(found.coords[:, CA, 0]).sum())
        assert stored + found.alternates + found.ligands == len(ca_lines(path.read_bytes())), path.read_text()
    assert read > 15


def test_what_is_not_stored_has_a_row(tmp_path):
    """From file to store: a chain is stored with each CA that was read, or a row of its name says why not."""
    draw = random.Random(2)
    folder, output, rejected = tmp_path / "in", tmp_path / "x.h5", tmp_path / "x.tsv"
    folder.mkdir()
    paths = [write(folder / f"f{number:02}.pdb", odd_lines(draw)) for number in range(16)]
    featurize_folder(folder, FeaturizeSettings(), LabelSettings(min_length=10, max_length=4096), output, rejected)
    rows = read_table(rejected)
    stored = 0
    with Store(output) as store:
        for path in paths:
            lines = ca_lines(path.read_bytes())
            own = [row for row in rows if row["domain_id"].startswith(path.stem)]
            ids = [name for name in store.ids if name.startswith(path.stem)]
            chains = {f"{path.stem}_{chain}".rstrip("_ ") for _, chain, _ in lines}
            whole = any(row["domain_id"] == path.stem and row["reason"] != "ligand" for row in own)
            assert whole or chains <= {*ids, *(row["domain_id"] for row in own)}
            if all(row["reason"] == "ligand" for row in own):
                found = read_structure(path)
                count = sum(int(np.isfinite(store.backbone(name).coords[:, :, CA, 0]).sum()) for name in ids)
                assert count + found.alternates + found.ligands == len(lines)
                stored += 1
    assert stored > 3
