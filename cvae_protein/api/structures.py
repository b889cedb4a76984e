"""Structures as Python objects: samples, domains of a store and structure files alike, and where they come from."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..core.errors import StructureError, UserError
from ..core.progress import verbosity
from ..core.structure import ATOMS, CA, Backbone

if TYPE_CHECKING:
    import pandas as pd

STORES = (".h5", ".hdf5")


@dataclass(frozen=True, eq=False)
class Structure(Backbone):
    """A `Backbone` with its fold class and further facts about it.

    Attributes
    ----------
    label : dotted code of its fold class, such as `2.60.40`; for a sample, the requested class; empty if unknown
    facts : further facts from its store, such as `draw_seed`, `temperature` and `weights` of a sample
    """

    label: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def torsions(self) -> np.ndarray:
        """phi, psi, omega in radians, NaN at ends and breaks (model, L, 3)."""
        from ..core.geometry import torsions

        return torsions(self.coords, self.breaks)

    @property
    def secondary_structure(self) -> str:
        """DSSP letters `H B E G I T S -` of the first model, `?` where an atom is missing; L letters."""
        from ..core.secondary_structure import secondary_structure

        return secondary_structure(self)[0]

    @property
    def atoms(self) -> Any:
        """A biotite `AtomArray`, or an `AtomArrayStack` for several models; Å."""
        from ..io.objects import to_biotite

        return to_biotite(self)

    @property
    def trajectory(self) -> Any:
        """An mdtraj `Trajectory` with one frame per model; nm."""
        from ..io.objects import to_mdtraj

        return to_mdtraj(self)

    @property
    def structure(self) -> Any:
        """A Biopython `Structure` (Bio.PDB); Å."""
        from ..io.objects import to_biopython

        return to_biopython(self)

    def to(self, path: str | Path) -> list[Path]:
        """Write it to a file or into a folder, as `Structures.to` does."""
        return Structures([self]).to(path)

    def __repr__(self) -> str:
        models = f", {self.models} models" if self.models > 1 else ""
        return f"<Structure {self.id}: {len(self)} residues{models}{f', label {self.label}' if self.label else ''}>"

    def _repr_html_(self) -> str:
        return Structures([self])._repr_html_()


class Structures(Sequence[Structure]):
    """Structures in order, as returned by `sample`, `reconstruct`, `read_store`, `featurize` and `read`.

    It is a sequence of `Structure`: `len`, iteration, `structures[0]`, `structures[2:5]`, `structures["an id"]`,
    `"an id" in structures`, `structures[lengths > 100]` by a mask or by numbers, and `a + b`. In a notebook it is shown
    in 3D.

    Attributes
    ----------
    rejected : rows `domain_id source reason detail` for what was read but cannot be used
    """

    def __init__(self, items: Iterable[Backbone], rejected: Sequence[Mapping[str, str]] = ()) -> None:
        self._items = [_with_label(item) for item in items]
        self._rejected = list(rejected)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, key: int | str) -> Structure: ...
    @overload
    def __getitem__(self, key: slice) -> Structures: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            found = next((item for item in self._items if item.id == key), None)
            if found is None:
                raise KeyError(f"no structure with the id {key!r}; it has {_some(self.ids)}")
            return found
        if isinstance(key, slice):
            return Structures(self._items[key])
        chosen = np.asarray(key)
        if chosen.ndim == 0:
            return self._items[key]
        if chosen.dtype == bool and len(chosen) != len(self):
            raise IndexError(f"a mask of {len(chosen)} for {len(self)} structures")
        if chosen.dtype.kind in "US":
            return Structures(self[str(name)] for name in chosen)
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(int)
        return Structures(self._items[row] for row in rows)

    def __iter__(self) -> Iterator[Structure]:
        return iter(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self.ids if isinstance(item, str) else item in self._items

    def __add__(self, other: Iterable[Backbone]) -> Structures:
        return Structures([*self, *other])

    def __repr__(self) -> str:
        if not self:
            return "<Structures: none>"
        lengths = self.lengths
        span = f"{lengths.min()}" if lengths.min() == lengths.max() else f"{lengths.min()} to {lengths.max()}"
        labels = sorted(set(self.labels) - {""})
        return f"<Structures: {len(self)} of {span} residues{f', labels {_some(labels)}' if labels else ''}>"

    @property
    def ids(self) -> list[str]:
        """The id of each."""
        return [item.id for item in self]

    @property
    def labels(self) -> list[str]:
        """The fold class of each, empty if unknown."""
        return [item.label for item in self]

    @property
    def sequences(self) -> list[str]:
        """The sequence of each in one-letter code; samples are poly-alanine."""
        return [item.sequence for item in self]

    @property
    def lengths(self) -> np.ndarray:
        """Number of residues of each (n,)."""
        return np.array([len(item) for item in self], int)

    @property
    def coords(self) -> list[np.ndarray]:
        """N, CA, C, O, CB of the first model of each in Å, NaN where missing; float32 (L, 5, 3) each."""
        return [item.coords[0] for item in self]

    @property
    def ca(self) -> list[np.ndarray]:
        """CA of the first model of each in Å, NaN where missing; float32 (L, 3) each, which `np.stack` may join."""
        return [item.coords[0, :, CA] for item in self]

    @property
    def table(self) -> pd.DataFrame:
        """One row per structure: id, label, length and the facts from its store."""
        import pandas as pd

        rows = [{"id": item.id, "label": item.label, "length": len(item), **item.facts} for item in self]
        return pd.DataFrame(rows, columns=None if rows else ["id", "label", "length"])

    @property
    def rejected(self) -> pd.DataFrame:
        """What was read but cannot be used, and why: columns `domain_id source reason detail`."""
        import pandas as pd

        from ..core.files import REJECTED_COLUMNS

        return pd.DataFrame(self._rejected, columns=list(REJECTED_COLUMNS))

    @property
    def atoms(self) -> list[Any]:
        """A biotite `AtomArray` of each; Å."""
        return [item.atoms for item in self]

    @property
    def trajectory(self) -> Any:
        """All as frames of one mdtraj `Trajectory`, nm; they must have the same number of residues."""
        return self._as_models("a trajectory has").trajectory

    @property
    def structure(self) -> Any:
        """All as models of one Biopython `Structure`, Å; they must have the same number of residues."""
        return self._as_models("models of one structure have").structure

    def _as_models(self, what: str) -> Structure:
        if len(lengths := sorted(set(self.lengths.tolist()))) != 1:
            raise UserError(f"{what} one number of residues, these {len(self)} have {_some(lengths)}; choose some")
        alike = len(set(self.sequences)) == 1
        sequence = self[0].sequence if alike else "X" * len(self[0])
        return replace(self[0], sequence=sequence, coords=np.concatenate([item.coords for item in self]))

    def to(self, path: str | Path, format: str = "pdb") -> list[Path]:
        """Write the structures, and return the paths of the files.

        Parameters
        ----------
        path : a file `.pdb`, `.cif` or `.xtc` for all of them, if of one length; a store `.h5`; or a folder, which gets
            one file per structure, named by its id, and the table `samples.tsv`; existing files are replaced
        format : format of the files in a folder, `pdb` or `cif`

        Raises
        ------
        UserError : if there is nothing to write, or coordinates, names or lengths do not fit the format

        Examples
        --------
        >>> samples = load("pretrained").sample(fold="2", length=60, n=2)
        >>> [file.name for file in samples.to("designs")]
        ['concat-0-2-0-0000.pdb', 'concat-0-2-0-0001.pdb']
        >>> samples.to("both.cif")
        [PosixPath('both.cif')]
        """
        from ..io.write import export, write_each

        path = Path(path)
        if path.suffix in STORES:
            return [self._to_store(path)]
        if path.suffix and not path.is_dir():
            return export(self, path)
        if not self:
            raise UserError(f"{path}: expected one structure or more to write, got none")
        if len({item.id for item in self}) < len(self):
            raise UserError(f"{path}: two structures have one id; give each its own, or write a store (.h5)")
        path.mkdir(parents=True, exist_ok=True)
        return write_each(((item, {"label": item.label, **item.facts}) for item in self), path, format)

    def _to_store(self, path: Path) -> Path:
        from ..store.layout import Entry
        from ..store.write import write_store

        columns = {name: None for item in self for name in item.facts}
        entries = (
            Entry(item, {"label": item.label, **{name: item.facts.get(name, "") for name in columns}}) for item in self
        )
        write_store(path, entries, kind="samples")
        return path

    def _repr_html_(self) -> str:
        from .view import page

        return page(self)


def _some(values: Sequence[object], most: int = 8) -> str:
    """The first of many values, and how many more there are."""
    said = ", ".join(map(str, values[:most])) or "none"
    return f"{said} and {len(values) - most} more" if len(values) > most else said


def _with_label(item: Any) -> Structure:
    if isinstance(item, Structure):
        return item
    if isinstance(item, Backbone):
        return Structure(item.id, item.sequence, item.coords, item.residue_ids)
    raise UserError(f"expected a Backbone or Structure, got {type(item).__name__}; read() makes one of other things")


def featurize(
    path: str | Path,
    domains: str | Path | None = None,
    *,
    min_length: int | None = None,
    max_length: int | None = None,
) -> Structures:
    """Read the structures of a file or folder, with the checks of a run; models of a file become conformations.

    Parameters
    ----------
    path : a structure file, or a folder of them: PDB, mmCIF or BinaryCIF, also `.gz`
    domains : table `domain_id pdb_id chain residue_range` and `cath` or `scope`, of the domains to cut out; without it,
        every protein chain is read whole, with the id FILE_CHAIN and no label
    min_length, max_length : limits in residues; what is shorter or longer is rejected

    Returns
    -------
    Structures : what can be used; `.rejected` gives the reason for all else

    Raises
    ------
    UserError : if there is no structure file, or the table cannot be read

    Examples
    --------
    >>> found = featurize("structures")
    >>> found
    <Structures: 2 of 46 to 76 residues>
    >>> found["1ubi_A"].secondary_structure[:20]
    '-EEEEEETTS-EEEEE--TT'
    """
    from ..config.load import section
    from ..core.files import REJECTED_COLUMNS, read_table
    from ..dataset.featurize import featurize_folder

    given = {"min_length": min_length, "max_length": max_length}
    limits = replace(section("labels", "{}"), **{key: value for key, value in given.items() if value is not None})
    with tempfile.TemporaryDirectory() as scratch, verbosity("slow"):
        store, rejected = Path(scratch) / "store.h5", Path(scratch) / "rejected.tsv"
        table = None if domains is None else Path(domains)
        featurize_folder(Path(path), section("featurize", "{}"), limits, store, rejected, domains=table)
        found = Structures(read_store(store), read_table(rejected, REJECTED_COLUMNS))
    return _warned(found, path)


def read_store(path: str | Path, fold: str | int = "", length: int | None = None) -> Structures:
    """Read the structures of a store (.h5), such as `results/domains.h5` or `samples.h5` of a run.

    Parameters
    ----------
    path : the store
    fold : only this fold class; `3` includes `3.40`
    length : only structures with this number of residues

    Raises
    ------
    UserError : if it is not a store, or damaged

    Examples
    --------
    >>> read_store("domains.h5", fold="3.10")
    <Structures: 1 of 76 residues, labels 3.10.20.90>
    """
    from ..core.labels import is_within
    from ..store.read import Store

    found = []
    with Store(path) as store:
        length_of = dict(zip(store.columns.get("id", ()), store.lengths.tolist(), strict=True))
        for name in store.ids:
            label = str(store.fact(name, "label", ""))
            if (str(fold) and not is_within(label, str(fold))) or length not in (None, length_of[name]):
                continue
            facts = {key: store.fact(name, key) for key in store.columns if key not in ("id", "model", "label")}
            found.append(_labelled(store.backbone(name), label, facts))
    return Structures(found)


def _labelled(backbone: Backbone, label: str, facts: Mapping[str, Any]) -> Structure:
    return Structure(backbone.id, backbone.sequence, backbone.coords, backbone.residue_ids, label, facts)


def read(source: Any, name: str = "structure") -> Structures:
    """Structures from files, arrays or objects of other packages, in the form that models take.

    Parameters
    ----------
    source : path of a structure file, of a folder of them (each chain of each model is a structure, with all its
        faults), or of a store (.h5); a `Backbone` or `Structures`; an array of biotite (`AtomArray`, `AtomArrayStack`),
        a `Trajectory` of mdtraj, a structure of Bio.PDB; an array of coordinates in Å, (L, 5, 3) of N CA C O CB,
        (L, 4, 3) without CB, or (L, 3) of CA; or a list or generator of such things
    name : id of a structure that has none

    Raises
    ------
    UserError : if it is none of these, or none of its structures can be used

    Examples
    --------
    >>> read("structures/1ubi.cif.gz")[0].coords.shape
    (1, 76, 5, 3)
    >>> import numpy as np
    >>> read(np.zeros((40, 3)), "trace")
    <Structures: 1 of 40 residues>
    """
    if isinstance(source, Structures):
        return source
    if isinstance(source, Backbone):
        return Structures([source])
    if isinstance(source, str | Path):
        return _read_path(Path(source))
    if isinstance(source, np.ndarray) and source.dtype.kind in "fiu":
        return Structures([_of_array(source, name)])
    if isinstance(source, list | tuple | Iterator):
        parts = [read(each, f"{name}{number}") for number, each in enumerate(source, 1)]
        return Structures(item for part in parts for item in part)
    from ..io.objects import backbone_of, chains_of

    try:
        chains = chains_of(source)
        ids = [f"{name}_{chain}" if len(chains) > 1 else "" for chain in chains]
        return Structures(backbone_of(source, chain, name=own) for chain, own in zip(chains, ids, strict=True))
    except TypeError as error:
        raise UserError(f"{name}: expected a path, a Backbone, coordinates in Å or a list of these; {error}") from error
    except StructureError as error:
        raise UserError(f"{name}: {error.detail}") from error


def _read_path(path: Path) -> Structures:
    if path.suffix in STORES:
        return read_store(path)
    from ..score.inputs import read_samples

    with verbosity("slow"):
        found = read_samples(path)
    if not found.samples:
        why = "; ".join(f"{row['domain_id']}: {row['reason']}, {row['detail']}" for row in found.rejected[:3])
        raise UserError(f"{path}: none of its structures can be used ({why})")
    return _warned(Structures((sample.backbone for sample in found.samples), found.rejected), path)


def _warned(found: Structures, path: str | Path) -> Structures:
    """`found`, after a warning about what was rejected."""
    if missing := found._rejected:
        first = f"{missing[0]['domain_id']}, {missing[0]['reason']} ({missing[0]['detail']})"
        said = f"{path}: {len(missing)} rejected, {len(found)} read; the first: {first}; .rejected has all"
        warnings.warn(said, stacklevel=4)
    return found


def _of_array(coords: np.ndarray, name: str) -> Structure:
    """A poly-alanine of coordinates (L, 3), (L, 4, 3) or (L, 5, 3) in Å."""
    whole = np.full((len(coords), len(ATOMS), 3), np.nan, np.float32)
    if coords.ndim == 2 and coords.shape[1] == 3:
        whole[:, CA] = coords
    elif coords.ndim == 3 and coords.shape[1] in (4, 5) and coords.shape[2] == 3:
        whole[:, : coords.shape[1]] = coords
    else:
        raise UserError(f"coordinates: expected (L, 3), (L, 4, 3) or (L, 5, 3) in Å, got {coords.shape}")
    numbers = tuple(str(number) for number in range(1, len(coords) + 1))
    return Structure(name, "A" * len(coords), whole[None], numbers)
