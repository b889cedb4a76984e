"""Every call that the documentation shows is one that its command takes; variant and metric of the how-tos work."""

import re
import shlex
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import typer
import yaml
from small_models import MODEL, REFINE, TRAIN

from cvae_protein.cli.main import app
from cvae_protein.config.settings import LabelSettings
from cvae_protein.core.structure import Backbone
from cvae_protein.dataset.formats import read_classification
from cvae_protein.model.batch import Batch
from cvae_protein.model.spec import Spec
from cvae_protein.score.metrics.metric import Metric, PreparedStructure

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(p for p in sorted((ROOT / "docs").rglob("*.md")) if p.parent.name != "history")]
COMMANDS = typer.main.get_command(app)
FENCED = re.compile(r"^ *```bash\n(.*?)^ *```", re.S | re.M)


def calls(path):
    """Words of every call behind `cvae-protein`, in indented and fenced blocks; `#` begins a remark."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
    lines += [line for line in text.splitlines() if line.startswith("    ")]
    for line in dict.fromkeys(line.strip() for line in lines):
        if line.startswith("cvae-protein ") and "..." not in line:
            yield shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "3"), comments=True)[1:]


CALLS = [(path.relative_to(ROOT), words) for path in PAGES for words in calls(path)]


@pytest.mark.parametrize(("page", "words"), CALLS, ids=[f"{p}: {' '.join(w)[:40]}" for p, w in CALLS])
def test_every_call_is_one_that_its_command_takes(page, words, tmp_path, monkeypatch):
    for word in words:
        if word.endswith(".yaml"):  # `run --config` looks whether the file is there
            (tmp_path / word).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / word).touch()
    monkeypatch.chdir(tmp_path)
    name, *rest = words
    assert COMMANDS.get_command(None, name).make_context(name, rest).params


def test_there_are_many():
    assert len(CALLS) > 30


def test_the_variant_of_the_how_to_has_its_term():
    page = (ROOT / "docs/how-to/new-variant.md").read_text(encoding="utf-8")
    module = ModuleType("cvae_protein.model.variants.compact")
    module.__package__ = "cvae_protein.model.variants"
    exec(re.findall(r"```python\n(.*?)```", page, re.S)[0], module.__dict__)
    model = module.build(Spec("compact", 0, MODEL, REFINE, (("1",),), {"1": (40,)}, {}))
    (term,) = module.extra_terms(model, TRAIN, torch.Generator())
    assert term.name == "gyration"
    mask = torch.arange(12)[None] < torch.tensor([[12], [8]])
    target = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0)) * mask[..., None]
    batch = Batch(torch.zeros(2, 12, 5, 3), mask, torch.ones(2, 1, dtype=torch.long))
    squares = [
        chain[:n].sub(chain[:n].mean(0)).square().sum(1).mean() for chain, n in zip(target, (12, 8), strict=True)
    ]
    for factor, expected in ((1, 0.0), (2, float(sum(squares) / 2))):  # twice as large: the radius once more
        output = SimpleNamespace(target=target, reconstruction=factor * target)
        assert term.term(batch, output).item() == pytest.approx(expected, abs=1e-4)


def test_the_metric_of_the_how_to_is_what_it_says():
    page = (ROOT / "docs/how-to/new-metric.md").read_text(encoding="utf-8")
    names = {"np": np, "PreparedStructure": PreparedStructure}
    exec(re.findall(r"```python\n(.*?)```", page, re.S)[0], names)
    straight = np.zeros((1, 9, 5, 3))
    straight[0, :, :, 0] = 3.8 * np.arange(9)[:, None]
    found = [Backbone("x", "A" * size, straight[:, :size], tuple(map(str, range(size)))) for size in (9, 1)]
    values = [Metric("end_to_end", "ratio", "real", names["end_to_end"])(PreparedStructure.of(b, "")) for b in found]
    assert values[0] == pytest.approx(1)
    assert np.isnan(values[1])


def test_folders_become_classes_as_the_how_to_says(tmp_path):
    page = (ROOT / "docs/how-to/own-structures.md").read_text(encoding="utf-8")
    (labels,) = re.findall(r"no table is needed: `labels: (\{.+?\})`", page)
    for place, name in (("all beta", "my 1ubi (2).cif.gz"), ("small", "1ejg.v2.cif.gz")):
        (tmp_path / "structures" / place).mkdir(parents=True)
        source = "1ubi" if "1ubi" in name else "1ejg"
        shutil.copy(ROOT / f"tests/data/{source}.cif.gz", tmp_path / "structures" / place / name)
    told = yaml.safe_load(labels)
    rows = list(read_classification(LabelSettings(**told | {"table": str(tmp_path / told["table"])})))
    assert [(row.pdb_id[:5], row.chain, row.label) for row in rows] == [
        ("my_1u", "A", "all beta"),
        ("1ejg.", "A", "small"),
    ]
