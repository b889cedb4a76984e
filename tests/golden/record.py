"""Record anew what the stages make of their inputs: `make golden`.

Only outputs that differ by more than their tolerance are written anew, and named. Inputs stay as they are, so that a
renewal of one stage is none of the next; after a change of the pretrained model remove golden.npz first, and all is
recorded from the structure files on. Renewing needs a line in CHANGELOG.md that says why the numbers changed.

With `--spread` nothing is recorded: the stages run with one thread and two, and as on older processors; the largest
differences from the record are printed, for `tolerances.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from golden.stages import FILE, INPUT, INPUTS, STAGES, Arrays, load, random_inputs, relaxation
from golden.tolerances import LONG, beyond_tolerance, differences

OLD = {
    "ATEN_CPU_CAPABILITY": "default",  # PyTorch's own operations without AVX
    "ONEDNN_MAX_CPU_ISA": "SSE41",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # matrix products of PyTorch
    "OPENBLAS_CORETYPE": "Prescott",  # those of NumPy
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
}
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL",
}
TWO_THREADS = {"OMP_NUM_THREADS": "2"}
ENVIRONMENTS: list[dict[str, str]] = [
    {},
    TWO_THREADS,
    OLD,
    OLD | TWO_THREADS,
    AVX2,
    AVX2 | TWO_THREADS,
    *({name: value} for setting in (OLD, AVX2) for name, value in setting.items()),
    {"ONEDNN_MAX_CPU_ISA": "AVX"},
]
FACTOR = 10  # tolerance over the largest difference
FACTOR_LONG = 3  # of the long relaxation: its differences no longer grow, and are the largest of over a hundred runs
ONE_RESIDUE = 0.02  # of the shortest domain; shares change by residues
LEAST_ULP = 10  # units in the last place of the largest number, where nothing or hardly anything differed
LEAST_FLOAT64 = 1e-12
ROUNDED = 100  # runs of the long relaxation from inputs that are changed in the last place


def renew() -> None:
    """Write what the stages make, with its recorded numbers where it is within its tolerance."""
    inputs, recorded = load() if FILE.is_file() else (random_inputs(), {})
    made: Arrays = {}
    for stage, make in STAGES.items():
        for name, values in make(inputs).items():
            if name not in recorded:
                print(f"{stage}: {name} for the first time")
            elif too_far := beyond_tolerance(differences({name: values}, recorded)):
                print(f"{stage}: {too_far}")
            else:
                values = recorded[name]
            made[name] = values
            if name in INPUTS:
                inputs.setdefault(name, values)
    kept = {INPUT + name: values for name, values in inputs.items() if values is not made.get(name)}
    np.savez_compressed(FILE, **made, **kept)
    print(f"{FILE}: {FILE.stat().st_size // 1000} kB")


def outputs() -> Arrays:
    """What all stages make of the recorded inputs."""
    inputs, _ = load()
    return {name: values for make in STAGES.values() for name, values in make(inputs).items()}


def measure() -> None:
    """Print the largest difference of each output from its record."""
    inputs, recorded = load()
    largest: dict[str, float] = {}

    def note(found: Arrays) -> None:
        for name, value in differences(found, recorded).items():
            largest[name] = max(value, largest.get(name, 0.0))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outputs.npz"
        for environment in ENVIRONMENTS:
            command = [sys.executable, "-m", "golden.record", "--outputs", str(path)]
            subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, check=True)
            with np.load(path) as file:
                note(dict(file))
    rng = np.random.default_rng(0)
    for _ in range(ROUNDED):
        changed = {name: in_the_last_place(inputs[name], rng) for name in ("ca", "carbonyl", "trace")}
        note({"relaxed": relaxation(inputs | changed)["relaxed"]})
    for name, spread in largest.items():
        print(f'    "{name}": ({spread:.1e}, {tolerance(name, spread, recorded):.1e}),')


def tolerance(name: str, spread: float, recorded: Arrays) -> float:
    """The tolerance of an output that differed by `spread` at most."""
    if name.startswith(LONG):
        return max(FACTOR_LONG * spread, ONE_RESIDUE if "share" in name else 0.0)
    values = recorded[name]
    if values.dtype.kind != "f":
        return 0.0
    if values.dtype == np.float64:
        return max(FACTOR * spread, LEAST_FLOAT64)
    return max(FACTOR * spread, LEAST_ULP * float(np.spacing(np.nanmax(np.abs(values)))))


def in_the_last_place(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every number changed to the next one up or down."""
    return np.nextafter(values, rng.choice(np.array([-np.inf, np.inf], values.dtype), values.shape))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Record anew what the stages make of their inputs.")
    parser.add_argument("--spread", action="store_true", help="print differences between instruction sets instead")
    parser.add_argument("--outputs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.outputs:
        np.savez(options.outputs, **outputs())
    elif options.spread:
        measure()
    else:
        renew()
