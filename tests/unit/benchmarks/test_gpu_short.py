"""The benchmark of a GPU, tried without one: what it packs, what it counts, and a whole run where nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import write_domains
from torch.nn import functional as F

from cvae_protein.config.settings import DecoderSettings, ModelSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.model.batch import pad, read_split
from cvae_protein.model.decoder import ChainDecoder
from cvae_protein.model.spec import Spec, load_tensors, save_tensors
from cvae_protein.store.read import Store

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
NEEDED = ("torch", "numpy", "h5py", "safetensors")


@pytest.fixture
def script(monkeypatch):
    """benchmarks/gpu_short.py as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gpu_short

    return gpu_short


@pytest.fixture(scope="module")
def by_split(tmp_path_factory):
    """Domains of a small run."""
    return read_split(*write_domains(tmp_path_factory.mktemp("run")))


def test_a_pack_holds_what_the_second_level_learns_from(script, by_split, tmp_path):
    script.pack(by_split, tmp_path / "pack.safetensors")
    found = script.unpack(tmp_path / "pack.safetensors")
    assert set(found) == {"train", "validation", "crops"}
    for split, domains in found.items():
        given = by_split[split]
        assert (domains.ids, domains.labels) == (given.ids, given.labels)
        np.testing.assert_allclose(domains.weights, given.weights)
        for one, other in zip(domains.coords, given.coords, strict=True):
            packed, read = pad([one], [[0]]), pad([other], [[0]])
            torch.testing.assert_close(packed.ca, read.ca, atol=0.04, rtol=0)  # half a step of float16 below 128
            torch.testing.assert_close(packed.carbonyl, read.carbonyl, atol=1e-3, rtol=0)


def test_a_pack_is_as_large_as_it_may_be(script, by_split, tmp_path, capsys):
    path, most = tmp_path / "pack.safetensors", 12_000
    script.pack(by_split, path, most)
    found = script.unpack(path)
    assert most / 2 < path.stat().st_size <= most
    left = len(by_split["train"]) - len(found["train"])
    assert 0 < left < len(by_split["train"])
    assert f"no room for {left} of {len(by_split['train'])} structures of the split train" in capsys.readouterr().err
    with pytest.raises(UserError, match="expected room for domains to train on in 100 bytes, found none"):
        script.pack(by_split, path, 100)


def test_another_file_is_no_pack(script, tmp_path):
    save_tensors(tmp_path / "weights.safetensors", {"decoder.bias": torch.zeros(2)})
    with pytest.raises(UserError, match="expected a file that --pack wrote"):
        script.unpack(tmp_path / "weights.safetensors")


def test_products_are_counted_as_multiplications_and_additions(script):
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert script.products(lambda: a @ b) == 2 * 3 * 5 * 7
    q, bias = torch.ones(2, 3, 11, 4), torch.zeros(2, 3, 11, 11)
    assert script.products(lambda: F.scaled_dot_product_attention(q, q, q, attn_mask=bias)) == 4 * 2 * 3 * 11 * 11 * 4


def test_products_of_a_step_follow_from_the_length(script, monkeypatch):
    settings = DecoderSettings(width=8, depth=2, stages=2, heads=1)
    spec = Spec("decoder", 0, ModelSettings(), settings, (("1",),), {"1": (40,)}, {})
    fitted = script.products_of_training(spec, CPU)
    net, coarse = ChainDecoder(spec), script.some_chains(spec, 47, CPU)
    terms = net.loss(coarse.trace, torch.zeros_like(coarse.trace), coarse, torch.Generator())
    forward = script.products(lambda: net.loss(coarse.trace, coarse.trace, coarse, torch.Generator()))
    backward = script.products(torch.stack([value for value, _ in terms.values()]).sum().backward)
    assert float(fitted(47)) == pytest.approx((forward + backward) / script.COUNTED, rel=1e-6)


def test_a_rate_is_of_late_steps_that_no_row_follows(script):
    times = [0.0, 60.0, 61.0, 62.0, 64.0, 73.0, 75.0]  # compiled in the first, a row behind the fifth
    steps = [script.Step(time, time + 0.1, 4, 40, reported=index == 4) for index, time in enumerate(times)]
    assert [seconds for _, seconds in script.steady(steps)] == [2.0, 2.0]


def test_training_ends_in_time(script):
    assert script.steps_until(seconds=100, each=0.5, most=6000) == 200
    assert script.steps_until(seconds=100, each=0.001, most=6000) == 6000
    assert script.steps_until(seconds=-1, each=0.5, most=6000) == script.FEWEST


def only(names, folder):
    """A folder of packages with those of these names and what they require, and nothing else."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        if found.name in seen:
            continue
        seen.add(found.name)
        waiting += [re.match(r"[\w.-]+", line)[0] for line in found.requires or () if "extra ==" not in line]
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
    return folder


def test_it_runs_with_torch_numpy_h5py_and_safetensors_alone(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    only(NEEDED, site)
    assert not any((site / name).exists() for name in ("pydantic", "typer", "yaml", "gemmi", "scipy", "hdf5plugin"))
    write_domains(tmp_path)
    paths = f"{ROOT}{os.pathsep}{site}"
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        "import gpu_short\n"
        "for words in (['--pack', '.', '-o', 'pack.safetensors'], ['pack.safetensors', '--tiny', '-o', 'out']):\n"
        "    sys.argv[1:] = words\n"
        "    gpu_short.main()\n"
    )
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = read_table(tmp_path / "out/table.tsv")
    values = {(row["what"], row["unit"]): row["value"] for row in rows}
    assert [line.split("\t")[:3] for line in done.stdout.splitlines()] == [[*key, v] for key, v in values.items()]
    assert {key[1] for key, value in values.items() if not value} == {"share of the bfloat16 peak"}  # a CPU has none
    assert all(float(value) > 0 for value in values.values() if value)
    assert float(values["6 samples of 40, whole draw", "structures/s"]) < float(
        values["6 samples of 40, decode", "structures/s"]
    )
    assert sorted(row["goal"] for row in rows if row["goal"]) == ["0.4", "0.4", "1000", "480"]
    weights, _ = load_tensors(tmp_path / "out/decoder/weights.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert len(read_table(tmp_path / "out/decoder/history.tsv", ["step", "loss", "validation_flow"])) > 1
    with Store(tmp_path / "out/samples.h5") as store:
        assert len(store.ids) == 6
        assert {store.coords(row).shape for row in range(6)} == {(40, 5, 3)}
