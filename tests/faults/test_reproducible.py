"""One seed gives the same bytes: the small run is done again, in another folder, from its manifest."""

import json
import shutil

from small_run import differences, make_project, stage


def test_run_from_its_manifest_gives_the_same_bytes(tmp_path, clean):
    folder = make_project(tmp_path / "another", results="unused")
    manifest = shutil.copy(clean / "results/ro-crate-metadata.json", tmp_path)
    (folder / "config/config.yaml").write_text("train: {steps: 7}\n")  # the manifest's settings are what counts
    code, said = stage(folder, "reproduce", manifest, "--output", "again", "--cores", "2")
    assert code == 0, said[-6000:]
    assert differences(folder / "again", clean / "results") == []
    entities = {
        entity["@id"]: entity for entity in json.loads((folder / "again/ro-crate-metadata.json").read_text())["@graph"]
    }
    jobs = [entity["name"] for entity in entities.values() if entity["@type"] == "CreateAction"]
    assert {"cvae-protein featurize", "cvae-protein train", "cvae-protein sample", "cvae-protein score"} <= set(jobs)
    weights = [name for name in entities if name.endswith("weights.safetensors")]
    assert len(weights) >= 3
