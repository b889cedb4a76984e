"""Samples of any origin beside a reference: what is read, what is said of what is missing, and that nothing is lost."""

import gzip
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from score_synthetic import backbone, chain
from tmtools import tm_align

from cvae_protein.cli.main import run
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.io.write import write_each, write_mmcif, write_pdb
from cvae_protein.score.external import read_set
from cvae_protein.score.inputs import placed_oxygen, read_samples
from cvae_protein.similarity.nearest_structures import gathered, tm_align_score
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import write_store

FAST = '{"bootstrap": 20, "neighbours": 2}'


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A store of nine domains of the classes 1, 2 and 3, and a table that holds out every third of a class."""
    folder = tmp_path_factory.mktemp("reference")
    entries, rows = [], []
    for index in range(9):
        made = backbone(chain(44 + index % 4, index), f"d{index}")
        label = f"{index % 3 + 1}.10.{index}.10"
        entries.append(Entry(made, {"label": label}))
        split = "test" if index < 6 else "train"
        rows.append(
            {"domain_id": f"d{index}", "split": split, "label": label, "superfamily": label, "group": f"d{index}"}
        )
    write_store(folder / "domains.h5", entries, compression="gzip")
    write_table(folder / "splits.tsv", list(rows[0]), rows)
    return folder


def save(path, *chains, atoms=slice(0, 5)):
    """A PDB file of some chains, a model each, with part of their atoms."""
    kept = []
    for index, coords in enumerate(chains):
        part = np.full_like(coords, np.nan)
        part[:, atoms] = coords[:, atoms]
        kept.append(backbone(part, f"m{index}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pdb(kept, path)
    return path


def score(samples, reference, output, *options):
    """Exit code of the command, and the rows of scores.tsv by metric and fold."""
    arguments = ["--samples", samples, "--reference", reference / "domains.h5", "-o", output, "--settings", FAST]
    code = run([*map(str, ["score", *arguments, *options])])
    scores = output / "scores.tsv"
    rows = read_table(scores) if scores.is_file() else []
    return code, {(row["metric"], row["fold"]): row for row in rows}


def labels(path, **table):
    write_table(path, ["id", "label"], [{"id": name, "label": label} for name, label in table.items()])
    return path


# --- reading


def test_every_format_model_and_chain_is_a_sample(tmp_path):
    folder = tmp_path / "set"
    save(folder / "models.pdb", chain(40, 1), chain(52, 2), chain(40, 3))
    write_mmcif([backbone(chain(45, 4), "x")], folder / "below/one.cif")
    packed = save(tmp_path / "x.pdb", chain(46, 5)).read_bytes()
    (folder / "packed.pdb.gz").write_bytes(gzip.compress(packed))
    found = read_samples(folder)
    lengths = {sample.backbone.id: len(sample.structure) for sample in found.samples}
    assert lengths == {"models_m0001": 40, "models_m0002": 52, "models_m0003": 40, "below_one": 45, "packed": 46}
    assert not found.rejected


def test_ids_are_unlike_each_other_and_the_reference(tmp_path):
    for name in ("d1.pdb", "a b.pdb", "a_b.pdb", "d1.ent"):
        save(tmp_path / "x.pdb", chain(40, 1)).rename(tmp_path / name)
    assert sorted(sample.backbone.id for sample in read_samples(tmp_path, {"d1"}).samples) == [
        "a_b", "a_b-2", "d1-2", "d1-3",
    ]  # fmt: skip


def test_oxygen_is_placed_where_the_sampler_writes_none():
    coords = chain(40, 7)
    bare = coords.copy()
    bare[:, 3:] = np.nan
    placed = placed_oxygen(bare)
    assert np.linalg.norm(placed[:-1, 3] - coords[:-1, 3], axis=1).max() < 0.1
    assert np.isnan(placed[-1, 3]).all()
    assert np.array_equal(placed_oxygen(coords), coords)
    alone = np.full_like(coords, np.nan)
    alone[:, 1] = coords[:, 1]
    assert np.isnan(placed_oxygen(alone)[:, 3]).all()


def test_bare_backbone_has_the_secondary_structure_of_the_whole(tmp_path):
    whole = read_samples(save(tmp_path / "whole.pdb", chain(60, 3))).samples[0]
    bare = read_samples(save(tmp_path / "bare.pdb", chain(60, 3), atoms=slice(0, 3))).samples[0]
    assert bare.atoms == "backbone, O placed"
    same = np.mean([a == b for a, b in zip(whole.structure.ss, bare.structure.ss, strict=True)])
    assert same > 0.9
    assert "H" in bare.structure.ss


def test_atoms_behind_the_end_are_a_further_model(tmp_path):
    atoms = [row for row in save(tmp_path / "a.pdb", chain(40, 1)).read_text().splitlines() if row.startswith("ATOM")]
    (tmp_path / "a.pdb").write_text("\n".join([*atoms, "END", *atoms, "END", ""]))
    found = read_samples(tmp_path / "a.pdb")
    assert [sample.model for sample in found.samples] == [1, 2]
    assert not found.rejected


# --- scoring


def test_set_with_labels_and_splits(reference, tmp_path):
    folder = tmp_path / "designs"
    for index in range(6):
        save(folder / f"s{index}.pdb", chain(44 + index % 4, index))
    table = labels(tmp_path / "labels.tsv", **{f"s{index}": str(index % 3 + 1) for index in range(6)})
    code, rows = score(folder, reference, tmp_path / "out", "--splits", reference / "splits.tsv", "--targets", table)
    assert code == 0
    assert float(rows["nearest_same_class", "all"]["value"]) == 1  # they are the held-out domains
    assert float(rows["readable", "all"]["value"]) == 1
    assert np.isfinite(float(rows["training_tm", "all"]["value"]))
    assert {row["variant"] for row in rows.values()} == {"designs"}
    assert {row["label"] for row in read_table(tmp_path / "out/structures.tsv")} == {"1", "2", "3"}
    with Store(tmp_path / "out/samples.h5") as stored:
        assert len(stored.ids) == 6
        assert stored.fact("s1", "label") == "2"


def test_without_splits_novelty_has_a_reason_and_without_labels_the_class(reference, tmp_path):
    save(tmp_path / "set/a.pdb", chain(44, 50), chain(46, 51))
    code, rows = score(tmp_path / "set", reference, tmp_path / "out")
    assert code == 0
    assert rows["training_tm", "all"]["value"] == "nan"
    assert "--splits" in rows["training_tm", "all"]["note"]
    assert rows["nearest_same_class", "all"]["value"] == "nan"
    assert "--targets" in rows["nearest_same_class", "all"]["note"]
    assert float(rows["nearest_tm", "all"]["value"]) > 0.1
    assert rows["nearest_tm", "all"]["n"] == "2"


def test_alpha_carbons_alone_say_what_they_cannot_tell(reference, tmp_path):
    save(tmp_path / "set/ca.pdb", chain(44, 1), chain(48, 2), atoms=slice(1, 2))
    save(tmp_path / "set/full.pdb", chain(44, 3))
    code, rows = score(tmp_path / "set", reference, tmp_path / "out")
    assert code == 0
    for name in ("physically_valid", "overlaps", "helix", "bond_rmsz", "ramachandran_favoured"):
        assert rows[name, "all"]["n"] == "1", name
        assert "2 of 3 samples are CA alone" in rows[name, "all"]["note"], name
    assert rows["clashes", "all"]["n"] == "3"
    assert rows["nearest_tm", "all"]["n"] == "3"
    only = tmp_path / "only"
    save(only / "ca.pdb", chain(44, 1), atoms=slice(1, 2))
    code, rows = score(only, reference, tmp_path / "out2")
    assert code == 0
    assert rows["physically_valid", "all"]["value"] == "nan"
    assert "needs N, C and O" in rows["physically_valid", "all"]["note"]


def test_one_unreadable_file_stops_nothing_and_counts(reference, tmp_path):
    folder = tmp_path / "set"
    save(folder / "good.pdb", chain(44, 1))
    (folder / "text.pdb").write_text("no structure")
    (folder / "empty.cif").write_text("")
    (folder / "cut.pdb.gz").write_bytes(gzip.compress(b"ATOM")[:-6])
    save(folder / "short.pdb", chain(44, 1)[:3])
    table = labels(tmp_path / "labels.tsv", good="1", text="2", absent="3")
    code, rows = score(folder, reference, tmp_path / "out", "--targets", table)
    assert code == 0
    reasons = {row["domain_id"]: row["reason"] for row in read_table(tmp_path / "out/rejected.tsv")}
    assert reasons == {
        "text.pdb": "not_a_structure", "empty.cif": "empty_file", "cut.pdb.gz": "truncated", "short.pdb": "too_short",
    }  # fmt: skip
    assert float(rows["readable", "all"]["value"]) == 0.2
    assert rows["readable", "all"]["n"] == "5"
    assert float(rows["readable", "2"]["value"]) == 0
    assert rows["readable", "3"]["value"] == "nan"
    assert rows["readable", "3"]["note"] == "no structure of the class"


def test_nothing_usable_is_one_line_and_leaves_the_reasons(reference, tmp_path, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.pdb").write_text("no structure")
    code, _ = score(tmp_path / "set", reference, tmp_path / "out")
    assert code == 1
    assert "none of 1 structures" in capsys.readouterr().err
    assert len(read_table(tmp_path / "out/rejected.tsv")) == 1


def test_coordinates_that_are_no_numbers(reference, tmp_path):
    path = save(tmp_path / "set/a.pdb", chain(44, 1))
    lines = path.read_text().splitlines()
    torn = [line[:30] + "     nan     nan     nan" + line[54:] if line[22:26] == "  20" else line for line in lines]
    path.write_text("\n".join(torn) + "\n")
    far = chain(44, 2)
    far[30:] += 5000.0
    save(tmp_path / "set/far.pdb", far)
    same = chain(44, 3)
    same[:] = same[0, 0]
    save(tmp_path / "set/same.pdb", same)
    code, rows = score(tmp_path / "set", reference, tmp_path / "out")
    assert code == 0
    assert rows["physically_valid", "all"]["n"] == "3"
    assert float(rows["physically_valid", "all"]["value"]) == 0
    with Store(tmp_path / "out/samples.h5") as stored:
        assert stored.ids == ["a", "same"]  # the other reaches farther than a store holds, and is judged all the same


def test_copies_are_counted(reference, tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / f"set/{name}.pdb", chain(44, 1))
    save(tmp_path / "set/d.pdb", chain(45, 2))
    code, rows = score(tmp_path / "set", reference, tmp_path / "out")
    assert code == 0
    assert float(rows["repeated", "all"]["value"]) == 0.5
    copies = {row["id"]: row["duplicate_of"] for row in read_table(tmp_path / "out/samples.tsv")}
    assert copies == {"a": "", "b": "a", "c": "a", "d": ""}


def test_one_sample_has_values_without_intervals(reference, tmp_path):
    save(tmp_path / "one.pdb", chain(44, 1))
    table = labels(tmp_path / "labels.tsv", one="2")
    code, rows = score(tmp_path / "one.pdb", reference, tmp_path / "out", "--targets", table)
    assert code == 0
    row = rows["nearest_tm", "2"]
    assert np.isfinite(float(row["value"]))
    assert row["low"] == "nan"
    assert row["note"] == "too few for an interval"


def test_class_that_the_reference_lacks(reference, tmp_path):
    save(tmp_path / "one.pdb", chain(44, 1), chain(46, 2))
    table = labels(tmp_path / "labels.tsv", one="4")
    code, rows = score(tmp_path / "one.pdb", reference, tmp_path / "out", "--targets", table)
    assert code == 0
    assert rows["cov_p", "4"]["value"] == "nan"
    assert rows["cov_p", "4"]["note"] == "no held-out domain of the class"


def test_reference_of_one_class_or_none(tmp_path):
    save(tmp_path / "set/a.pdb", chain(44, 1), chain(46, 2))
    for name, facts in (("one", {"label": "1.10"}), ("none", {})):
        folder = tmp_path / name
        folder.mkdir()
        made = [backbone(chain(44 + k, 20 + k), f"d{k}") for k in range(3)]
        write_store(
            folder / "domains.h5",
            [Entry(b, facts) for b in made],
            compression="gzip",
        )
        code, rows = score(tmp_path / "set", folder, folder / "out", "--targets", labels(folder / "l.tsv", a="1"))
        assert code == 0
        assert rows["nearest_same_class", "1"]["value"] == ("1" if name == "one" else "0")


def test_hostile_file_names(reference, tmp_path):
    folder = tmp_path / "set"
    path = save(folder / "a.pdb", chain(44, 1))
    (folder / "tab\tand\nline.pdb").write_bytes(path.read_bytes())
    (folder / "--output.pdb").write_bytes(path.read_bytes())
    with open(os.fsencode(folder) + b"/\xff\xfe.pdb", "wb") as file:
        file.write(path.read_bytes())
    with open(os.fsencode(folder) + b"/\xff.cif", "wb") as file:
        file.write(b"nothing")
    code, _ = score(folder, reference, tmp_path / "out")
    assert code == 0
    rows = read_table(tmp_path / "out/samples.tsv")
    assert len(rows) == 4
    assert len({row["id"] for row in rows}) == 4
    assert len(read_table(tmp_path / "out/rejected.tsv")) == 1


# --- mistakes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--store", "x.h5"], "expected none of --store"),
        (["--real"], "expected none of --real"),
        (["--targets", "absent.tsv"], "absent.tsv"),
        (["--splits", "absent.tsv"], "absent.tsv"),
    ],
)
def test_mixed_forms_and_missing_files_are_one_line(reference, tmp_path, capsys, options, said):
    save(tmp_path / "set/a.pdb", chain(44, 1))
    code, _ = score(tmp_path / "set", reference, tmp_path / "out", *options)
    error = capsys.readouterr().err
    assert code == (2 if "none of" in said else 1)  # a wrong call, or a file that is not there
    assert said in error
    assert "Traceback" not in error


def test_the_form_of_a_run_refuses_what_belongs_to_the_other(tmp_path, capsys):
    given = ["score", "--store", "a.h5", "--splits", "s.tsv", "--targets", "l.tsv", "-o", str(tmp_path / "out")]
    assert run(given) == 2
    assert "expected none of --targets" in capsys.readouterr().err
    assert run(["score", "-o", str(tmp_path / "out")]) == 2
    assert "--reference" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["../x", "all", "3.40/1", "x" * 90 + "/"])
def test_labels_that_are_no_codes(reference, tmp_path, capsys, label):
    save(tmp_path / "a.pdb", chain(44, 1))
    code, _ = score(tmp_path / "a.pdb", reference, tmp_path / "out", "--targets", labels(tmp_path / "l.tsv", a=label))
    assert code == 1
    assert "expected labels such as" in capsys.readouterr().err


def test_the_tables_stay_where_the_page_cannot_be_written(reference, tmp_path, capsys, monkeypatch):
    save(tmp_path / "a.pdb", chain(44, 1))

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cvae_protein.report.page.write_report", fail)
    code, rows = score(tmp_path / "a.pdb", reference, tmp_path / "out", "--report", tmp_path / "page.html")
    assert code == 1
    assert rows
    assert "tables are in" in capsys.readouterr().err


def test_page(reference, tmp_path):
    save(tmp_path / "designs/a.pdb", chain(44, 1), chain(46, 2))
    table = labels(tmp_path / "l.tsv", a="1")
    page = tmp_path / "page.html"
    code, _ = score(tmp_path / "designs", reference, tmp_path / "out", "--targets", table, "--report", page)
    assert code == 0
    text = page.read_text()
    assert "designs" in text
    assert "real: " in text.split('id="leaderboard"')[1].split("</section>")[0]  # real domains, scored the same way


def test_two_sets_stand_side_by_side(reference, tmp_path):
    for name, seed in (("ours", 1), ("theirs", 5)):
        save(tmp_path / f"{name}/a.pdb", chain(44, seed), chain(46, seed + 1), chain(48, seed + 2))
    page = tmp_path / "page.html"
    more = ("--samples", tmp_path / "theirs", "--report", page)
    code, _ = score(tmp_path / "ours", reference, tmp_path / "out", *more)
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == [
        "differences.tsv",
        "ours",
        "theirs",
    ]
    rows = {row["metric"]: row for row in read_table(tmp_path / "out/differences.tsv")}
    assert {(row["first"], row["second"]) for row in rows.values()} == {("ours", "theirs")}
    means = [
        next(
            float(row["value"])
            for row in read_table(tmp_path / f"out/{name}/scores.tsv")
            if (row["metric"], row["fold"]) == ("nearest_tm", "all")
        )
        for name in ("ours", "theirs")
    ]
    assert float(rows["nearest_tm"]["difference"]) == pytest.approx(means[0] - means[1], abs=1e-4)
    section = page.read_text().split('id="differences"')[1].split("</section>")[0]
    assert "ours − theirs" in section
    code, _ = score(tmp_path / "ours", reference, tmp_path / "out2", *more, "--variant", "mine")
    assert code == 2


def test_classifier_that_could_not_see_one_sample(reference, tmp_path, monkeypatch):
    """A stand-in for the network: what is tested is that features find their structures."""

    def embed(classifier, stores, output):
        output.mkdir()
        for path in stores:
            with Store(path) as stored, h5py.File(output / path.name, "w") as file:
                labels = [str(stored.fact(name, "label")) for name in stored.ids]
                for name, words in (("id", stored.ids), ("label", labels)):
                    file.create_dataset(name, data=words, dtype=h5py.string_dtype())
                classes = np.array([int(label[0]) for label in labels])
                file["feature"] = np.eye(4)[classes] + 0.01 * np.arange(len(labels))[:, None]
                level = file.create_dataset("level1", data=np.eye(4)[classes][:, 1:])
                level.attrs.create("labels", ["1", "2", "3"], dtype=h5py.string_dtype())

    monkeypatch.setitem(sys.modules, "cvae_protein.model.fold_classifier", SimpleNamespace(embed=embed))
    far = chain(44, 2)
    far[30:] += 900.0
    save(tmp_path / "set/far.pdb", far)
    save(tmp_path / "set/near.pdb", chain(44, 1), chain(45, 2))
    table = labels(tmp_path / "l.tsv", far="1", near="2")
    options = ["--targets", table, "--classifier", tmp_path, "--splits", reference / "splits.tsv"]
    code, rows = score(tmp_path / "set", reference, tmp_path / "out", *options)
    assert code == 0
    assert rows["classifier_accuracy", "all"]["n"] == "2"
    assert rows["classifier_accuracy", "2"]["value"] == "1"
    predicted = {row["id"]: row["predicted_label"] for row in read_table(tmp_path / "out/structures.tsv")}
    assert predicted == {"far": "", "near_m0001": "2", "near_m0002": "2"}


def test_torn_chains_align_as_they_would_apart():
    torn, other = chain(44, 2)[:, 1], chain(45, 5)[:, 1]
    torn[30:] += 200.0
    whole = tm_align(torn, other, "A" * 44, "A" * 45).tm_norm_chain1
    assert tm_align_score(torn, other)[0] == pytest.approx(whole, abs=0.002)
    assert np.linalg.norm(np.diff(gathered(torn * 40), axis=0), axis=1).max() == pytest.approx(50)
    assert np.array_equal(gathered(other), other)


# --- folders of samplers


def test_trajectories_are_left_out_unless_asked_for(tmp_path, capsys):
    folder = tmp_path / "designs"
    save(folder / "design_0.pdb", chain(40, 1))
    for name in ("design_0_pX0_traj", "design_0_Xt-1_traj"):
        save(folder / "traj" / f"{name}.pdb", *(chain(40, seed) for seed in range(2, 7)))
    assert [sample.file for sample in read_samples(folder).samples] == ["design_0.pdb"]
    said = capsys.readouterr().err
    assert "2 files" in said
    assert "are left out: they are steps of a sampler, as RFdiffusion keeps them (traj); --include takes them" in said
    assert "several models" not in said
    assert len(read_samples(folder, include=["*"]).samples) == 11
    said = capsys.readouterr().err
    assert "3 of 3 files" in said
    assert "2 of 3 files hold several models: 10 of 11 samples" in said
    kept = read_samples(folder, include=["traj"], exclude=["*pX0*"]).samples
    assert {sample.file for sample in kept} == {"traj/design_0_Xt-1_traj.pdb"}
    assert "1 files" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["pdb.gz", "cif", "cif.gz"])
def test_trajectories_are_known_whatever_their_ending(tmp_path, ending):
    save(tmp_path / "design_0.pdb", chain(40, 1))
    (tmp_path / f"design_0_pX0_traj.{ending}").write_text("x")
    found = read_samples(tmp_path)
    assert ([sample.file for sample in found.samples], found.rejected) == (["design_0.pdb"], [])


def test_a_trajectory_alone_says_how_it_is_taken(tmp_path):
    (tmp_path / "x.xtc").write_bytes(b"frames")
    with pytest.raises(UserError, match=r"x\.xtc: a trajectory; `featurize --input .*x\.xtc --topology FILE"):
        read_samples(tmp_path / "x.xtc")


def test_a_folder_that_we_wrote_has_its_labels(reference, tmp_path, capsys):
    bodies = [replace(backbone(chain(44, seed)), id=f"s{seed}") for seed in (1, 2)]
    write_each([(body, {"label": f"my_{body.id}"}) for body in bodies], tmp_path / "set")
    found = read_set(tmp_path / "set", reference / "domains.h5", None, None).found
    assert [sample.structure.label for sample in found.samples] == ["my_s1", "my_s2"]
    assert "passed over" not in capsys.readouterr().err


def test_a_folder_of_nothing_but_trajectories_says_how_it_is_taken(tmp_path):
    save(tmp_path / "traj/design_0_pX0_traj.pdb", chain(40, 1))
    with pytest.raises(UserError, match=r"traj: all of its 1 files are left out, .*; --include '\*' takes the latter"):
        read_samples(tmp_path / "traj")
    assert len(read_samples(tmp_path / "traj", include=["*"]).samples) == 1


@pytest.mark.parametrize("pattern", ["drafts", "drafts/", "./drafts", "./drafts/d.pdb"])
def test_folders_to_leave_out_as_a_shell_completes_them(tmp_path, capsys, pattern):
    save(tmp_path / "a.pdb", chain(40, 1))
    save(tmp_path / "drafts/d.pdb", chain(40, 2))
    assert [sample.file for sample in read_samples(tmp_path, exclude=[pattern]).samples] == ["a.pdb"]
    assert "no file" not in capsys.readouterr().err


def test_patterns_that_fit_nothing_are_told(tmp_path, capsys):
    save(tmp_path / "drafts/d.pdb", chain(40, 2))
    save(tmp_path / "a.pdb", chain(40, 1))
    assert len(read_samples(tmp_path, exclude=["drafs"]).samples) == 2
    assert "fits --exclude drafs" in capsys.readouterr().err
    read_samples(tmp_path, exclude=["drafts", "*/d.pdb"])
    assert "fits --exclude" not in capsys.readouterr().err
    with pytest.raises(UserError, match="none of its 2 files fits --include drafs"):
        read_samples(tmp_path, include=["drafs"])


LAYOUTS = {
    "RFdiffusion": (["binder__0.pdb", "binder__1.pdb"], ["traj/binder__0_Xt-1_traj.pdb", "binder__0.trb"]),
    "Proteina": (["n_50_id_0/n_50_id_0.pdb", "samples_fid/3_fid.pdb"], ["results_search.csv"]),
    "foldingdiff": (
        ["sampled_pdb/generated_0.pdb"],
        ["sampled_pdb/sample_history/generated_0/generated_0_timestep_7.pdb", "sampled_angles/generated_0.csv.gz"],
    ),
    "Chroma": (["sample.pdb"], []),
    "Genie 2": (["pdbs/50_0.pdb", "motif=x/pdbs/x_0.pdb"], ["motif=x/motif_pdbs/x_0.pdb"]),
    "FrameDiff": (
        ["length_100/sample_0/sample_1.pdb"],
        ["length_100/sample_0/bb_traj_1.pdb", "length_100/sample_0/self_consistency/esmf/sample_0.pdb"],
    ),
    "FrameFlow": (
        ["length_60/sample_0/sample.pdb", "length_60/sample_1/sample.pdb"],
        ["length_60/sample_0/bb_traj.pdb"],
    ),
    "BindCraft": (
        ["Accepted/d_model1.pdb"],
        ["Accepted/Ranked/1_d_model1.pdb", "Trajectory/Relaxed/d.pdb", "Rejected/e.pdb", "MPNN/Relaxed/d.pdb"],
    ),
    "BoltzGen": (
        ["final_ranked_designs/final_2_designs/a.pdb"],
        ["intermediate_designs/a.pdb", "final_ranked_designs/intermediate_ranked_10_designs/a.pdb"],
    ),
}
"""What generators write, as their code and listings have it: designs, and what is none."""


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_designs_of_a_generators_folder_and_nothing_else(tmp_path, capsys, layout):
    designs, others = layout
    for seed, name in enumerate([*designs, *others]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".pdb"):
            save(tmp_path / name, chain(40, seed))
        else:
            (tmp_path / name).write_text("x")
    assert sorted(sample.file for sample in read_samples(tmp_path).samples) == sorted(designs)
    said = capsys.readouterr().err
    assert ("left out" in said or "passed over" in said) == bool(others)


def test_links_of_a_folder_of_samples(tmp_path):
    (tmp_path / "designs").mkdir()
    save(tmp_path / "real/r1.pdb", chain(40, 1))
    (tmp_path / "designs/staged").symlink_to(tmp_path / "real")
    (tmp_path / "designs/gone.pdb").symlink_to(tmp_path / "absent.pdb")
    (tmp_path / "designs/lost").symlink_to(tmp_path / "absent")  # a folder of designs, as far as its name tells
    (tmp_path / "designs/log.txt").symlink_to(tmp_path / "absent.txt")
    found = read_samples(tmp_path / "designs")
    assert [sample.file for sample in found.samples] == ["staged/r1.pdb"]
    assert [(row["domain_id"], row["reason"]) for row in found.rejected] == [
        ("gone.pdb", "not_found"),
        ("lost", "not_found"),
    ]


def test_samples_in_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="found a pipe or device"):
        read_samples(tmp_path / "pipe")


def test_free_amino_acids_have_a_row(tmp_path):
    save(tmp_path / "x.pdb", chain(40, 1))
    (tmp_path / "x.pdb").write_text(
        (tmp_path / "x.pdb").read_text().replace("END\n", "")
        + "".join(
            f"HETATM 9000  {name:<3} GLU B   1    {90 + place:8.3f}{90:8.3f}{90:8.3f}  1.00  0.00\n"
            for place, name in enumerate(("N", "CA", "C", "O"))
        )
        + "END\n"
    )
    found = read_samples(tmp_path)
    assert len(found.samples) == 1
    assert [(row["domain_id"], row["reason"]) for row in found.rejected] == [("x.pdb", "ligand")]
