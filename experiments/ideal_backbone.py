"""Print the distance in Å between deposited atoms and atoms rebuilt from CA positions and carbonyl directions.

    python experiments/ideal_backbone.py results/domains.h5

Over all complete, unbroken domains of a store: mean and 99th percentile per atom, with chain ends separate.
"""

from __future__ import annotations

import sys

import numpy as np

from cvae_protein.core.structure import ATOMS
from cvae_protein.model.batch import pad
from cvae_protein.sampling.relax import build_backbone
from cvae_protein.store.read import Store


def main() -> None:
    """Rebuild all domains and compare."""
    inner, ends = [], []
    with Store(sys.argv[1]) as store:
        for name in store.ids:
            backbone = store.backbone(name)
            if not backbone.complete.all() or backbone.breaks.any():
                continue
            deposited = backbone.coords[0] - backbone.ca[0].mean(0)
            batch = pad([deposited], [[0]])
            built = build_backbone(batch.ca, batch.carbonyl, batch.lengths)[0].numpy()
            error = np.linalg.norm(built - deposited, axis=-1)
            inner.append(error[1:-1])
            ends.append(error[[0, -1]])
    for what, parts in (("inner residues", inner), ("first and last", ends)):
        errors = np.concatenate(parts)
        for column, atom in enumerate(ATOMS):
            value = errors[:, column][np.isfinite(errors[:, column])]
            print(f"{what}\t{atom}\tmean {value.mean():.3f}\t99 % {np.quantile(value, 0.99):.3f}\tn {len(value)}")


if __name__ == "__main__":
    main()
