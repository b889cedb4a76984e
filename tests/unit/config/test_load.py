"""The configuration: what is read, and what is said of every kind of mistake."""

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import yaml

from cvae_protein.config import load, schema
from cvae_protein.config.settings import ScoreSettings, Settings, TermSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.variants import choices

ROOT = Path(__file__).parents[3]
SECTIONS = [field.name for field in fields(Settings) if is_dataclass(getattr(Settings(), field.name))]

MISTAKES = [
    ({"trian": {}}, "trian: unknown key; did you mean train?"),
    ({"oracle": {"steps": 3}}, "oracle: is now classifier"),
    ({"verdict": {"flip": 1}}, "verdict.flip: is now verdict.swap_followed"),
    ({"split": {"max_per_cluster": 2}}, "split.max_per_cluster: is now labels.max_per_cluster"),
    ({"variants": ["floor"]}, "got 'floor'; did you mean pca_flow?"),
    ({"train": {"stepz": 1}}, "train.stepz: unknown key; did you mean steps?"),
    ({"train": {"kl": {"wieght": 1}}}, "train.kl.wieght: unknown key; did you mean weight?"),
    ({"train": {"qqqq": 1}}, "train.qqqq: unknown key; no key is like it"),
    ({"train": {"steps": 0}}, "train.steps: expected a whole number ≥ 1 (optimiser steps), got 0"),
    ({"train": {"steps": "many"}}, "train.steps: expected a whole number ≥ 1 (optimiser steps), got 'many'"),
    ({"train": {"steps": 1.5}}, "got 1.5"),
    ({"train": {"steps": True}}, "got True"),
    ({"train": {"steps": None}}, "got None"),
    ({"train": {"learning_rate": 2}}, "train.learning_rate: expected a number > 0 and ≤ 1"),
    ({"train": {"kl": {"rate": float("inf")}}}, "train.kl.rate: expected a number > 0"),
    ({"model": {"dropout": "nan"}}, "model.dropout: expected a number ≥ 0 and < 1"),
    ({"model": []}, "model: expected a section of keys (size of the models), got []"),
    ({"train": "fast"}, "train: expected a section of keys (training of the variants), got 'fast'"),
    ({"train": '{"steps": '}, "train: expected a section of keys"),
    ({"labels": {"scheme": "caht"}}, "labels.scheme: expected one of cath, scope"),
    ({"labels": {"scheme": "caht"}}, "did you mean cath?"),
    ({"labels": {"classes": [1.5]}}, "labels.classes[0]: expected text"),
    ({"labels": {"classes": "1", "table": ""}}, "labels.table: expected text that is not empty"),
    (
        {"labels": {"min_length": 300, "max_length": 200}},
        "labels.min_length: expected at most max_length, got 300 > 200",
    ),
    ({"labels": {"classes": [1, 1]}}, "labels.classes: expected each class once, got 1"),
    ({"split": {"test": 0.7, "validation": 0.3}}, "split.test: expected test + validation < 1"),
    ({"refine": {"width": 10, "heads": 4}}, "refine.heads: expected a divisor of width"),
    ({"seeds": []}, "seeds: expected a list of 1 or more"),
    ({"seeds": 3}, "seeds: expected a list of 1 or more"),
    ({"seeds": [0, True]}, "seeds[1]: expected a whole number"),
    ({"seeds": [0, 0]}, "seeds: expected each seed once, got 0"),
    ({"seeds": [-1]}, "seeds: expected whole numbers ≥ 0 and ≤ 18446744073709551615, got -1"),
    ({"seeds": [0, 2**64]}, "≤ 18446744073709551615, got 18446744073709551616"),
    ({"score": {"seed": 2**64}}, "score.seed: expected a whole number ≥ 0 and ≤ 18446744073709551615"),
    ({"sample": {"per_class": 10**9}}, "sample.per_class: expected a whole number ≥ 1 and ≤ 1000000"),
    ({"sample": {"numbers": 999}}, "sample.numbers: expected at most model.latent, got 999 > 64"),
    ({"variants": ["concatt"]}, "did you mean concat?"),
    ({"variants": ["concat", "concat"]}, "variants: expected each variant once, got concat"),
    ({"variants": ["pretrained"], "labels": {"scheme": "scope", "classes": ["a"]}}, "expected no pretrained with"),
    ({"variants": ["pca"]}, "variants: pca is trained in every run"),
    ({"train": {"flow_steps": 0}}, "train.flow_steps: expected 1 or more with sample.prior flow"),
    (
        {"variants": ["flow_prior"], "train": {"flow_steps": 0}, "sample": {"prior": "model"}},
        "train.flow_steps: expected 1 or more with the variant flow_prior",
    ),
    ({"variants": ["decoder"]}, "variants: decoder is a second level, which `second_level` chooses"),
    ({"decoder": {"heads": 3}}, "decoder.heads: expected a divisor of width"),
    ({"decoder": {"stages": 4}}, "decoder.stages: expected a divisor of depth, got 4 stages for 6 blocks"),
    ({"variants": ["../concat"]}, "got '../concat'"),
    ({"results": ""}, "results: expected text that is not empty"),
]


@pytest.mark.parametrize(("given", "said"), MISTAKES)
def test_mistake_is_said_in_one_line(given, said):
    with pytest.raises(UserError) as caught:
        load.load(given)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("configuration: ")
    assert said in lines[0]


def test_every_mistake_has_its_line():
    with pytest.raises(UserError) as caught:
        load.load({"trian": {}, "train": {"steps": 0, "kl": {"kind": "ramps"}}})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("given", "path", "value"),
    [
        ({"seeds": "0,2"}, "seeds", (0, 2)),
        ({"seeds": "[0, 2]"}, "seeds", (0, 2)),
        ({"variants": "concat"}, "variants", ("concat",)),
        ({"train": '{"steps": "7"}'}, "train.steps", 7),
        ({"train": {"steps": "7", "learning_rate": "1e-4"}}, "train.steps", 7),
        ({"train": {"learning_rate": "1e-4"}}, "train.learning_rate", 1e-4),
        ({"train": {"steps": 7.0}}, "train.steps", 7),
        ({"train": {"learning_rate": 1}}, "train.learning_rate", 1.0),
        ({"fetch": '{"offline": "true"}'}, "fetch.offline", True),
        ({"train": None}, "train.steps", Settings().train.steps),
        ({"labels": {"classes": [1, "a"]}}, "labels.classes", ("1", "a")),
        ({"labels": {"classes": []}}, "labels.classes", ()),
    ],
)
def test_what_yaml_and_the_command_line_bring_is_understood(given, path, value):
    found = load.load(given)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_defaults_are_those_of_the_dataclasses():
    assert load.load({}) == Settings()


def test_users_file_says_the_defaults_but_what_it_takes_from_the_packages_model():
    plain = Settings()
    assert load.load(ROOT / "config/config.yaml") == replace(
        plain,
        variants=(*plain.variants, "fine_tuned"),
        split=replace(plain.split, unseen_first=True),
        refine=replace(plain.refine, start="pretrained", steps=0),
        classifier=replace(plain.classifier, start="pretrained"),
    )


@pytest.mark.parametrize("path", sorted((ROOT / "config/examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_valid_and_write_elsewhere(path):
    assert load.load(path).results != Settings().results


@pytest.mark.parametrize("name", SECTIONS)
def test_section_as_json_reads_back(name):
    assert load.section(name, load.as_json(getattr(Settings(), name))) == getattr(Settings(), name)


def test_section_from_a_file(tmp_path):
    (tmp_path / "c.yaml").write_text("score: {bootstrap: 50}\n")
    assert load.section("score", str(tmp_path / "c.yaml")) == ScoreSettings(bootstrap=50)


def test_section_names_its_path_in_a_mistake():
    with pytest.raises(UserError, match=r"settings: train\.kl\.kind: expected one of"):
        load.section("train", '{"kl": {"kind": 3}}')


@pytest.mark.parametrize("text", ["{", "{'a': 1}"])
def test_section_of_broken_json(text):
    with pytest.raises(UserError, match="score: expected JSON"):
        load.section("score", text)


@pytest.mark.parametrize("content", ["a: [", "- 1\n", "\xff"])
def test_unreadable_file_is_a_users_mistake(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"c\.yaml"):
        load.load(tmp_path / "c.yaml")


def test_absent_file_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="found no file"):
        load.load(tmp_path / "none.yaml")


def test_variants_are_the_files_of_the_folder_and_the_records_beside_them():
    files = {path.stem for path in (ROOT / "cvae_protein/model/variants").glob("[a-z]*.py")}
    assert files == {"adversarial", "branched", "concat", "literal_adversarial", "literal_branched", "literal_concat"}
    assert set(choices()) == files | {
        *("fine_tuned", "flow_prior", "pca_flow", "pretrained", "swapped_label", "training_copies")
    }
    assert set(Settings().variants) <= set(choices())


def test_schema_on_disk_is_in_step():
    assert (ROOT / "workflow/schemas/config.schema.yaml").read_text() == schema.schema_text(), "run `make schema`"
    guide = schema.guide(load.load(ROOT / "config/config.yaml"))
    assert (ROOT / "config/README.md").read_text() == guide, "run `make schema`"
    assert "| `1000`; in `config.yaml` `0` |" in next(row for row in guide.splitlines() if "`refine.steps`" in row)


def test_schema_judges_as_the_loader_does():
    import jsonschema

    described = yaml.safe_load(schema.schema_text())
    jsonschema.Draft202012Validator.check_schema(described)
    jsonschema.validate(yaml.safe_load((ROOT / "config/config.yaml").read_text()), described)
    for given in ({"trian": {}}, {"train": {"steps": 0}}, {"labels": {"scheme": "caht"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(given, described)


def test_schema_describes_every_key():
    def keys(node):
        for name, value in node.get("properties", {}).items():
            assert value.get("description"), name
            assert "default" in value, name

    described = schema.schema()
    for node in (described, *described["$defs"].values()):
        keys(node)
    json.dumps(described)


def test_a_frozen_split_comes_with_its_hash() -> None:
    with pytest.raises(UserError, match=r"split\.scheme: expected file and sha256 with the scheme file"):
        load.load({"split": {"scheme": "file", "file": "splits.tsv"}})
    frozen = {"scheme": "file", "file": "splits.tsv", "sha256": "0" * 64}
    assert load.load({"split": frozen}).split.file == "splits.tsv"


def test_a_ladder_does_not_depend_on_what_is_installed() -> None:
    assert load.load({"split": {"scheme": "ladder"}}).cluster.method == "kmer"
    with pytest.raises(UserError, match=r"cluster\.method: expected kmer or mmseqs with split\.scheme ladder"):
        load.load({"split": {"scheme": "ladder"}, "cluster": {"method": "auto"}})


def test_classes_found_by_clustering_are_not_held_out_whole() -> None:
    with pytest.raises(UserError, match=r"split\.scheme: expected sequence with labels\.scheme cluster"):
        load.load({"variants": ["concat"], "labels": {"scheme": "cluster"}})
    right = {"variants": ["concat"], "labels": {"scheme": "cluster"}, "split": {"scheme": "sequence"}}
    assert load.load(right).split.scheme == "sequence"


def test_terms_that_look_at_single_structures_do_not_compare_them() -> None:
    names = [field.name for field in fields(TermSettings) if field.name != "schedule"]
    alone = {name for name in names if not TermSettings(**{name: 1.0}).compare_structures}
    assert alone == {"fape", "step_length"}
    assert not TermSettings().compare_structures


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("split: {test: 0,2}\n", "split.2: unknown key"),
        ("train:\n  on: 1\n", "train.on: unknown key"),
        ("train:\n  ~: 1\n", "train.~: unknown key"),
        ("1.5: {}\n", "1.5: unknown key"),
        ("2020-01-02: {}\n", "2020-01-02: unknown key"),
        ("train:\n  ? [a, b]\n  : 1\n", "line 2, column 5: expected text as a key"),
        ("train: {steps: 1}\nseeds: [0]\ntrain: {crop: 1}\n", "line 3, column 1: train stands there twice, in line 1"),
        ("train:\n  steps: 10\n  steps: 20\n", "line 3, column 3: steps stands there twice, in line 2"),
        ("train: {steps: 1, steps: 1}\n", "column 19: steps stands there twice"),
        ("train: {steps: 0400}\n", "line 1, column 16: 0400 is a number of another base"),
        ("results: 007\n", "line 1, column 10: 007 is a number of another base"),
        ("report: {title: 12:30}\n", "12:30 is a number of another base"),
        ("report: {title: 12:30.5}\n", "12:30.5 is a number of base 60"),
        ("results: ~/r\n", "results: expected a path without"),
        ("results: $HOME/r\n", "results: expected a path without"),
        ("results: res{x}\n", "results: expected a path without"),
        ('results: "a\\nb"\n', "results: expected a path without"),
    ],
)
def test_what_yaml_takes_otherwise_than_it_stands_there_is_told(tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load.load(tmp_path / "c.yaml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"split": {2: None}}, "split.2"),
        ({"train": {True: 1}}, "train.true"),
        ({None: 1}, "null"),
        ({"sweep": {1: [2]}}, ""),
    ],
)
def test_keys_of_a_mapping_that_are_no_text(data, said):
    if said:
        with pytest.raises(UserError, match=f"{said}: unknown key"):
            load.load(data)
    else:
        assert load.load(data).sweep == {"1": [2]}


def test_what_yaml_reads_rightly_stays(tmp_path):
    text = "base: &b {steps: 10}\nresults: '007'\nreport: {title: '12:30'}\nseeds: [0, 10]\n"
    (tmp_path / "c.yaml").write_text("\ufeff" + text.split("\n", 1)[1], encoding="utf-8")
    settings = load.load(tmp_path / "c.yaml")
    assert (settings.results, settings.report.title, settings.seeds) == ("007", "12:30", (0, 10))
    (tmp_path / "d.yaml").write_text("train: {<<: {steps: 10}, crop: 0.5}\n")
    assert load.read_yaml(tmp_path / "d.yaml") == {"train": {"steps": 10, "crop": 0.5}}


def test_a_key_of_json_that_stands_there_twice_is_told():
    with pytest.raises(UserError, match="split: expected each key once, got test more than once"):
        load.section("split", '{"test": 0.2, "seed": 1, "test": 0.3}')
