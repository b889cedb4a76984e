#!/usr/bin/env bash
# The package itself, from the project's folder; editing it needs no new environment.
set -euo pipefail
source=${CVAE_PROTEIN_SOURCE:-$PWD}
if [ ! -f "$source/pyproject.toml" ] || [ ! -d "$source/cvae_protein" ]; then
    echo "$source: expected the folder of cvae_protein; start the workflow there, or set CVAE_PROTEIN_SOURCE to it" >&2
    exit 1
fi
python -m pip install --quiet --no-deps --editable "$source"
