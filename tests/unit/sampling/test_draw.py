"""Draws of any size: the same samples however many are asked for, in one go, in batches, or cut off on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import MODEL, REFINE, TRAIN, write_domains

from cvae_protein.cli import main
from cvae_protein.config.settings import SampleSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, sha256
from cvae_protein.core.labels import own_code
from cvae_protein.model.batch import read_domain
from cvae_protein.model.spec import Spec
from cvae_protein.sampling import draw as drawing
from cvae_protein.sampling.draw import FIRST, USUAL, blocks_of
from cvae_protein.sampling.sample import check_asked, draw_samples, sample_around, sample_folds
from cvae_protein.sampling.sampler import load_sampler
from cvae_protein.score.inputs import read_samples
from cvae_protein.store.read import Store
from cvae_protein.store.write import merge_stores
from cvae_protein.training.train import train

QUICK = SampleSettings(per_class=2, refine_steps=1, relax_steps=2)
QUICK_JSON = ["--settings", json.dumps({"refine_steps": 1, "relax_steps": 2})]


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store and a table of splits."""
    return write_domains(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def models(domains: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a model and of a refiner, trained for a few steps."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("refiner", "concat"):
        train(*domains, name, 0, folder / name / "seed0", MODEL, TRAIN, REFINE, 2)
    return folder / "concat/seed0", folder / "refiner/seed0"


def coordinates(path: Path) -> dict[str, bytes]:
    with Store(path) as store:
        return {name: store.backbone(name).coords.tobytes() for name in store.ids}


def test_blocks_are_the_same_however_many_samples_are_asked_for() -> None:
    few, many = blocks_of(["2", "1", "2"], 20, 7), blocks_of(["1", "2"], 200, 7)
    assert [block.wanted for block in few] == [16, 4, 16, 4]
    assert {block[:3] + block[4:] for block in few} < {block[:3] + block[4:] for block in many}
    assert sum(block.wanted for block in many) == 400
    assert {block.size for block in many} == {FIRST, USUAL}
    assert len({block.origin for block in many}) == len(many)


def test_first_samples_of_a_larger_draw_are_those_of_a_smaller_one_to_the_last_bit(models: tuple[Path, Path]) -> None:
    sampler, settings = load_sampler(*models), replace(QUICK, relax_steps=25)  # relaxation makes rounding grow
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        many = draw_samples(sampler, ["2", "1"], None, replace(settings, per_class=34), 5)
        known = dict(zip(many.names, zip(many.raw, many.relaxed, strict=True), strict=True))
        for count, threads in ((1, 1), (17, 2)):
            torch.set_num_threads(threads)
            few = draw_samples(sampler, ["1", "2"], None, replace(settings, per_class=count), 5)
            assert len(few.names) == 2 * count
            for name, raw, relaxed in zip(few.names, few.raw, few.relaxed, strict=True):
                np.testing.assert_array_equal(raw, known[name][0])
                np.testing.assert_array_equal(relaxed, known[name][1])
    finally:
        torch.set_num_threads(before)
    assert len({atoms.tobytes() for atoms in many.relaxed}) == 68


def test_more_numbers_than_a_code_has_cannot_be_kept(models: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    words = ["sample", "--model", str(models[0]), "--fold", "2", "--length", "45", "-n", "1", *QUICK_JSON]
    assert main.run([*words, "--keep", "5", "-o", str(tmp_path / "all.pdb")]) == 0
    for more in ([], ["--valid"]):
        assert main.run([*words, *more, "--keep", "6", "-o", str(tmp_path / "more.pdb")]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == "error: keep: expected 1 to 5 numbers of a code, got 6"
    assert not (tmp_path / "more.pdb").exists()


def test_text_that_has_another_code_is_told_it(models: tuple[Path, Path]) -> None:
    spec = replace(Spec.read(models[0] / "spec.json"), lengths={own_code("mixed ones"): (50,)})
    with pytest.raises(UserError, match="fold: 'mixed ones' has the code mixed_ones-3346e57d in the model; give that"):
        check_asked(spec, ["mixed ones"], None)


def test_batches_of_an_array_of_jobs_are_the_whole_draw_when_merged(models: tuple[Path, Path], tmp_path: Path) -> None:
    def sample(output: str, *more: str) -> None:
        arguments = [
            "--model",
            str(models[0]),
            "--fold",
            "2",
            "--length",
            "45",
            "-n",
            "150",
            "--seed",
            "3",
            *QUICK_JSON,
        ]
        assert main.run(["sample", *arguments, *more, "-o", str(tmp_path / output)]) == 0

    sample("whole.h5")
    parts = [f"part{number}.h5" for number in range(8)]
    for number, part in enumerate(parts):
        sample(part, "--batch", f"{number}/8")
    sizes = [len(coordinates(tmp_path / part)) for part in parts]
    assert sum(sizes) == 150
    assert 0 in sizes  # six blocks for eight jobs
    merged = ["merge", *(str(tmp_path / part) for part in parts), "-o", str(tmp_path / "all.h5")]
    assert main.run([*merged, "--rejected", str(tmp_path / "no.tsv")]) == 0
    assert (tmp_path / "all.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_draws_of_several_seeds_are_joined_and_say_what_drew_them(models: tuple[Path, Path], tmp_path: Path) -> None:
    parts = [tmp_path / f"seed{seed}.h5" for seed in (1, 2, 2**64 - 1)]
    for seed, part in zip((1, 2, 2**64 - 1), parts, strict=True):
        sample_folds(*models, ["2"], [50], replace(QUICK, temperature=0.5), seed, part)
    merge_stores(parts, tmp_path / "all.h5")
    with Store(tmp_path / "all.h5") as store:
        assert store.file.attrs["kind"] == b"samples"
        assert [store.fact(name, "draw_seed") for name in store.ids] == [1, 1, 2, 2, 2**64 - 1, 2**64 - 1]
        facts = {name: store.fact(store.ids[0], name) for name in ("seed", "temperature", "guidance", "prior")}
        assert facts == {"seed": 0, "temperature": 0.5, "guidance": QUICK.guidance, "prior": "flow"}
        assert store.fact(store.ids[0], "weights") == sha256(models[0] / "weights.safetensors")[:16]
    with pytest.raises(UserError, match=r"seed1\.h5: the domain concat-0-2-1-0000 is in"):
        merge_stores([parts[0], parts[0]], tmp_path / "x.h5")


CUT_OFF = """
import os, signal
from pathlib import Path
from cvae_protein.cli import main as cli
from cvae_protein.sampling import draw
store = draw.Draw._store
def store_and_stop(self, samples, output, raw):
    store(self, samples, output, raw)
    if len(list(Path(output).parent.glob("*.h5"))) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
draw.Draw._store = store_and_stop
cli.main()
"""


@pytest.mark.parametrize(
    ("what", "suffix"), [(("--fold", "2", "--fold", "1", "--length", "45"), "h5"), (("--around", "d20"), "pdb")]
)
def test_a_draw_that_was_cut_off_goes_on_from_its_parts(
    models: tuple[Path, Path],
    domains: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    what: tuple[str, ...],
    suffix: str,
) -> None:
    output, per_name = tmp_path / f"x.{suffix}", 100
    arguments = ["sample", "--model", str(models[0]), *what, "-n", str(per_name), *QUICK_JSON]
    arguments += ["--store", str(domains[0])] if "--around" in what else []
    total = per_name * (2 if "--fold" in what else 1)
    command = [sys.executable, "-c", CUT_OFF, *arguments, "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert done.returncode == 143
    parts = tmp_path / f".x.{suffix}.parts"
    assert f"stopped; 96 of {total} samples are kept in {parts}" in done.stderr
    kept = sorted(path.name for path in parts.glob("*.h5"))
    assert len(kept) == 2
    assert not output.exists()

    computed = list[int]()
    store = drawing.Draw._store

    def counted(self: drawing.Draw, samples: drawing.Samples, *paths: Path | None) -> None:
        computed.append(len(samples.names))
        store(self, samples, *paths)

    monkeypatch.setattr(drawing.Draw, "_store", counted)
    assert main.run([*arguments, "-o", str(output)]) == 0
    assert f"goes on from the parts in {parts}" in capsys.readouterr().err
    assert sum(computed) == total - 96
    assert {path.name for path in tmp_path.iterdir()} == {output.name, f".x.{suffix}.made.json"}
    assert main.run([*arguments, "-o", str(tmp_path / f"straight.{suffix}")]) == 0
    assert (tmp_path / f"straight.{suffix}").read_bytes() == output.read_bytes()


def test_parts_of_another_draw_are_not_taken_up(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    settings = replace(QUICK, per_class=65)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "merge_stores", stop)
        with pytest.raises(KeyboardInterrupt):
            sample_folds(*models, ["2"], [45], settings, 1, tmp_path / "x.h5")
    sample_folds(*models, ["2"], [45], settings, 2, tmp_path / "x.h5")
    assert "holds parts of another draw; they are removed" in capsys.readouterr().err
    with Store(tmp_path / "x.h5") as store:
        assert set(store.columns["draw_seed"].tolist()) == {2}


@pytest.mark.parametrize("spread", [None, 2.0])
def test_conformations_around_a_domain_are_the_same_however_many(
    models: tuple[Path, Path], domains: tuple[Path, Path], tmp_path: Path, spread: float | None
) -> None:
    for count in (2, 20):
        settings = replace(QUICK, per_class=count, relax_steps=25)
        output = tmp_path / f"{count}.h5"
        sample_around(*models, read_domain(domains[0], None, "d20"), settings, 0, output, spread=spread)
    few, many = coordinates(tmp_path / "2.h5"), coordinates(tmp_path / "20.h5")
    assert len(many) == 20
    assert few.items() < many.items()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--fold", "2", "--spread", "2"], "with --fold: expected no --spread"),
        (["--fold", "2", "--drawn", "x"], "with --fold: expected no --drawn"),
        (["--around", "x", "--length", "45"], "with --around: expected no --length"),
        (["--length", "45"], "with neither --fold nor --around: expected no --length"),
        (["--fold", "2", "--valid", "--batch", "0/2"], "sample --valid: expected no --batch"),
        (["--fold", "2", "--batch", "2/2"], "--batch: expected I/N with 0 ≤ I < N"),
    ],
)
def test_options_that_a_form_does_not_use_are_refused(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture, given: list[str], said: str
) -> None:
    assert main.run(["sample", "--model", str(models[0]), *given, "-o", str(tmp_path / "x.h5")]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("x*"))


def test_a_folder_has_a_file_a_sample_which_others_and_we_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of the package's model: one that hardly trained leaves atoms on each other, and we reject such a file."""
    import gemmi
    import mdtraj
    from Bio.PDB import PDBParser
    from biotite.structure.io.pdb import PDBFile

    folder = tmp_path / "designs"
    arguments = ["sample", "--model", "pretrained", "--fold", "2", "--fold", "3", "-n", "3"]
    own = ["--length", "45", "--length", "60"]
    assert main.run([*arguments, *own, "-o", str(folder)]) == 0
    rows = read_table(folder / "samples.tsv", ("id", "file", "length", "label", "draw_seed", "weights"))
    assert {path.name for path in folder.iterdir()} == {"samples.tsv", *(row["file"] for row in rows)}
    assert [row["label"] for row in rows] == ["2"] * 3 + ["3"] * 3
    for row in rows:
        path, length = folder / row["file"], int(row["length"])
        assert row["file"] == f"{row['id']}.pdb"
        assert len(gemmi.read_structure(str(path))[0][0]) == length
        assert len(PDBFile.read(path).get_structure(model=1)) == 5 * length
        assert mdtraj.load(str(path)).n_residues == length
        assert len(list(PDBParser(QUIET=True).get_structure("x", path).get_residues())) == length
    stored = ["featurize", "--input", str(folder), "-o", str(tmp_path / "x.h5"), "--rejected", str(tmp_path / "no.tsv")]
    assert main.run([*stored, "--label-settings", '{"min_length": 10}']) == 0
    with Store(tmp_path / "x.h5") as store:
        assert sorted(store.lengths.tolist()) == sorted(int(row["length"]) for row in rows)
    assert len(read_samples(folder).samples) == 6
    assert "passed over" not in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["pdb", "cif", "xtc"])
def test_a_file_of_samples_of_several_lengths_is_refused_before_any_is_drawn(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str
) -> None:
    for given in ([], ["--length", "60-80"], ["--length", "60", "--length", "61"]):
        call = ["sample", "--model", str(models[0]), "--fold", "2", *given, "-o", str(tmp_path / f"x.{suffix}")]
        assert main.run(call) == 2
        assert "x/ for a file a sample" in capsys.readouterr().err
