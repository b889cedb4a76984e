"""The two kinds of error that users of the package see, and the reason codes of `rejected.tsv`."""

from __future__ import annotations

from typing import NamedTuple

REASONS: dict[str, str] = {
    "not_found": "no source has the entry",
    "offline": "the file is not in the cache and the run is offline",
    "obsolete": "the entry was withdrawn from the archive, and no successor can be used",
    "connection": "the server cannot be reached, or the connection broke off",
    "timeout": "the server takes too long",
    "http_error": "the server answers with an error",
    "bad_redirect": "the server sends to an address that is not allowed",
    "too_large": "the file is larger than the configured maximum",
    "bad_download": "what the server sent is not the whole file that was asked for",
    "unreadable": "the file is there and cannot be opened or read",
    "empty_file": "the file has no bytes",
    "truncated": "the file ends before its content does",
    "not_a_structure": "the file holds no readable PDB or mmCIF structure",
    "no_protein": "the structure has no amino acid with a backbone atom",
    "chain_not_found": "the chain is not in the structure",
    "range_not_found": "a residue of the range is not in the chain",
    "bad_range": "the residue range cannot be read",
    "model_not_found": "the model is not in the structure",
    "other_sequence": "the conformer has other residues than the first one of its domain",
    "other_models": "models of the file have other residues than the first, which alone is stored with its like",
    "ligand": "amino acids of the file belong to no chain",
    "no_complete_residue": "no residue has all of N, CA, C and O",
    "too_short": "fewer residues than the configured minimum",
    "too_long": "more residues than the configured maximum",
    "incomplete": "more residues lack a backbone atom than the configured share",
    "low_confidence": "the mean pLDDT of a predicted model is below the configured minimum",
    "bad_geometry": "atoms coincide or coordinates are not finite",
    "duplicate_id": "the domain id was met before",
    "bad_id": "the id holds characters that cannot name a file",
    "unlabelled": "the label is missing or is not of the classification's form",
    "class_not_selected": "the fold class is not among the configured ones",
    "rare_class": "the fold class has fewer members than the configured minimum",
    "bad_row": "the table's row cannot be read",
    "no_range": "the table does not say which residues of the chain belong to the domain",
    "several_chains": "the domain has parts of several chains",
    "not_included": "the domain is not in the list of domains to include",
    "low_resolution": "the resolution is coarser than the configured limit or not known",
    "other_method": "the experimental method is not among the configured ones",
    "redundant": "a better resolved domain of the same sequence cluster is kept",
    "superfamily_full": "better resolved domains fill the superfamily up to the configured number",
}
"""Reason codes of `rejected.tsv` and their meanings."""
NOTES = ("ligand", "other_models")
"""Reasons in rows about files and domains that were stored only in part: they name what was left out."""


class UserError(ValueError):
    """A mistake that the caller can correct; the command line prints it on one line and exits with 1."""


class StructureError(ValueError):
    """A structure that cannot be used: `code` is a key of `REASONS`, `detail` describes the problem."""

    def __init__(self, code: str, detail: str) -> None:
        if code not in REASONS:
            raise KeyError(f"unknown reason code {code!r}; add it to REASONS")
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class UnusableDomain(NamedTuple):
    """A table row that cannot be used: its reason code (a key of `REASONS`) and a sentence."""

    domain_id: str
    code: str
    detail: str


LONGEST_DETAIL = 500  # characters of an id or a sentence in `rejected.tsv`


def rejection(domain_id: str, source: object, error: StructureError | UnusableDomain) -> dict[str, str]:
    """A row of `rejected.tsv`; unprintable characters of the id become question marks, and long text is cut."""
    name, detail = printable(domain_id)[:LONGEST_DETAIL], error.detail[:LONGEST_DETAIL]
    return {"domain_id": name, "source": str(source), "reason": error.code, "detail": detail}


def printable(text: str) -> str:
    """`text` with each control character replaced by a question mark."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in text)
