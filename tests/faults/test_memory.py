"""A process whose memory is really limited; what a GPU says is played in tests/unit/training/test_loop.py."""

import subprocess
import sys

import pytest

PROGRAM = """
import re, resource
import numpy as np, torch
from cvae_protein.model.batch import in_pieces

torch.zeros(1).sum()
held = int(re.search(r"VmSize:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (held + 500_000_000, -1))
made = in_pieces(lambda rows: torch.ones(len(rows), 25_000_000).sum(1), np.arange(8), "relax")
print([len(rows) for rows, _ in made], torch.cat([sums for _, sums in made]).tolist() == [25e6] * 8)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_host_memory_that_does_not_suffice():
    """800 MB are asked for where 500 are left: two halves, and the same numbers."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[4, 4] True"
    assert "relax: memory does not suffice for 8 structures at once; going on with 4" in done.stderr
