"""Verdicts from score tables: what is flagged, what passes, what cannot be known, and the exit code."""

import re
from pathlib import Path

import pytest

from cvae_protein.cli import main
from cvae_protein.config.settings import Settings, VerdictSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.variants import choices
from cvae_protein.score.verdicts import VERDICT_COLUMNS, VERDICTS, judge, write_verdicts

COLUMNS = ("variant", "seed", "split", "fold", "metric", "value", "low", "high", "n", "unit", "better")
REAL = {"coverage": (0.9, 0.85, 0.95), "training_tm": (0.47, 0.44, 0.5), "memorisation_ratio": (1.02, 1.0, 1.05)}
IDEAL = {"coverage": (0.92, 0.87, 0.97), "training_tm": (0.6, 0.55, 0.65), "memorisation_ratio": (1.3, 1.2, 1.4)}
COPIED = {"coverage": (0.9, 0.85, 0.95), "training_tm": (1.0, 1.0, 1.0), "memorisation_ratio": (1.5, 1.4, 1.6)}
SOUND = {
    "active_share": (1.0, 1.0, 1.0),
    "mutual_information": (5.8, 5.7, 5.9),
    "mutual_information_bound": (5.9, 5.9, 5.9),
    "permuted_code_ratio": (8.0, 7.5, 8.5),
    "class_leakage": (0.04, 0.01, 0.06),
    "class_leakage_level2": (0.03, -0.01, 0.07),
    "class_leakage_level3": (0.02, -0.02, 0.06),
    "swap_followed": (0.9, 0.85, 0.95),
    "swap_followed_chance": (0.33, 0.33, 0.33),
    "coverage": (0.8, 0.7, 0.9),
    "training_tm": (0.55, 0.5, 0.6),
    "memorisation_ratio": (1.2, 1.15, 1.25),
    "prior_gain": (6.0, 4.0, 8.0),
    "generalisation_ratio": (1.2, 1.1, 1.3),
}
NAN = float("nan")
LIMITS = VerdictSettings()


def rows_of(variant, seed, scores, **other):
    return [
        {
            "variant": variant,
            "seed": seed,
            "split": "test",
            "fold": "all",
            "metric": metric,
            "unit": "",
            "better": "none",
        }
        | {"value": value, "low": low, "high": high, "n": 48}
        | other
        for metric, (value, low, high) in scores.items()
    ]


REFERENCES = rows_of("real", "", REAL) + rows_of("new_member", "", IDEAL)


@pytest.fixture
def found(tmp_path):
    """A function: changes to sound scores (None leaves a row out) -> rows of the verdicts by name."""

    def verdicts(changes=(), variant="concat", real=REAL, limits=LIMITS, ideal=IDEAL):
        scores = {name: value for name, value in (SOUND | dict(changes)).items() if value is not None}
        rows = rows_of("real", "", real) + rows_of("new_member", "", ideal) + rows_of(variant, "0", scores)
        write_table(tmp_path / "scores.tsv", COLUMNS, rows)
        return {row["verdict"]: row for row in judge(tmp_path / "scores.tsv", limits) if row["variant"] == variant}

    return verdicts


def states(rows):
    return {name: row["state"] for name, row in rows.items()}


def test_a_sound_model_is_quiet_and_says_why(found):
    rows = found()
    assert list(rows) == [
        "COLLAPSE",
        "LEAK",
        "CONDITION-IGNORED",
        "MODE-COLLAPSE",
        "MEMORISATION",
        "PRIOR-OVERFIT",
        "OVERFIT",
    ]
    assert set(states(rows).values()) == {"pass"}
    assert all(row["evidence"] and row["threshold"] and not row["remedy"] for row in rows.values())
    assert rows["LEAK"]["evidence"].startswith("class_leakage = 0.04 (0.01 to 0.06), n = 48; class_leakage_level2 = ")
    assert "real: coverage = 0.9" in rows["MODE-COLLAPSE"]["evidence"]


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        ("COLLAPSE", {"active_share": (0.09, 0.0, 0.2)}),
        ("COLLAPSE", {"mutual_information": (0.4, 0.3, 0.5)}),
        ("COLLAPSE", {"permuted_code_ratio": (1.01, 0.99, 1.03)}),
        ("COLLAPSE", {"permuted_code_ratio": (1.0, 1.0, 1.0), "active_share": None}),
        ("LEAK", {"class_leakage": (0.12, 0.02, 0.2)}),
        ("LEAK", {"class_leakage": (0.08, 0.06, 0.1)}),
        ("LEAK", {"class_leakage_level2": (0.4, 0.3, 0.5)}),
        ("LEAK", {"noise_leakage": (0.4, 0.3, 0.5)}),
        ("LEAK", {"class_leakage_level3": (0.4, 0.3, 0.5), "class_leakage": (NAN, NAN, NAN)}),
        ("CONDITION-IGNORED", {"swap_followed": (0.4, 0.3, 0.5)}),
        ("MODE-COLLAPSE", {"coverage": (0.44, 0.4, 0.5)}),
        ("MEMORISATION", {"training_tm": (0.9, 0.87, 0.93)}),
        ("MEMORISATION", {"memorisation_ratio": (1.9, 1.8, 2.0)}),
        ("PRIOR-OVERFIT", {"prior_gain": (-12.0, -15.0, -9.0)}),
        ("OVERFIT", {"generalisation_ratio": (2.2, 1.9, 2.5)}),
    ],
)
def test_each_sign_fires_its_verdict_alone(found, verdict, changes):
    rows = found(changes)
    assert {name for name, state in states(rows).items() if state == "flagged"} == {verdict}
    telling = [name for name, value in changes.items() if value is not None and value[0] == value[0]]
    assert any(name in rows[verdict]["evidence"] for name in telling)
    assert rows[verdict]["remedy"] == VERDICTS[verdict][1]


@pytest.mark.parametrize(
    ("verdict", "changes", "said"),
    [
        ("COLLAPSE", {"permuted_code_ratio": None}, "permuted_code_ratio: no row in the score table"),
        ("COLLAPSE", {"mutual_information": (NAN, NAN, NAN)}, "mutual_information: undefined (n = 48)"),
        (
            "COLLAPSE",
            {"mutual_information": (0.0, NAN, NAN), "mutual_information_bound": (0.0, 0.0, 0.0)},
            "can show no more than 0 nat",
        ),
        ("LEAK", {"class_leakage": (NAN, NAN, NAN)}, "class_leakage: undefined"),
        ("LEAK", {"class_leakage": (0.3, -0.1, 0.6)}, "too few domains, the interval reaches 0"),
        ("CONDITION-IGNORED", {"swap_followed": None}, "swap_followed: no row"),
        (
            "CONDITION-IGNORED",
            {"swap_followed": (0.1, 0.0, 0.2), "swap_followed_chance": None},
            "swap_followed_chance: no row",
        ),
        ("MODE-COLLAPSE", {"coverage": None}, "coverage: no row"),
        ("MEMORISATION", {"training_tm": (0.9, NAN, NAN)}, "too few for an interval"),
        ("PRIOR-OVERFIT", {"prior_gain": None}, "prior_gain: no row"),
        ("PRIOR-OVERFIT", {"prior_gain": (-1.0, -3.0, 1.0)}, "the interval holds 0"),
        ("PRIOR-OVERFIT", {"prior_gain": (5.0, NAN, NAN)}, "or there is none"),
        ("OVERFIT", {"generalisation_ratio": None}, "generalisation_ratio: no row"),
        ("OVERFIT", {"generalisation_ratio": (1.6, 1.4, 1.8)}, "the interval holds 1.5"),
        ("OVERFIT", {"generalisation_ratio": (1.2, NAN, NAN)}, "or there is none"),
    ],
)
def test_what_is_missing_is_unknown_and_never_quiet(found, verdict, changes, said):
    rows = found(changes)
    assert rows[verdict]["state"] == "unknown"
    assert said in rows[verdict]["evidence"]
    assert not rows[verdict]["remedy"]
    assert {state for name, state in states(rows).items() if name != verdict} == {"pass"}


def test_chance_is_of_as_many_classes_as_there_are(tmp_path):
    chance = rows_of("concat", "0", {"swap_followed_chance": SOUND["swap_followed_chance"]}, n=3)
    write_table(tmp_path / "scores.tsv", COLUMNS, rows_of("concat", "0", SOUND) + chance)
    found = {row["verdict"]: row["state"] for row in judge(tmp_path / "scores.tsv", LIMITS)}
    assert found["CONDITION-IGNORED"] == "pass"


@pytest.mark.parametrize("value", [1.0, 8.0])
def test_a_sign_needs_five_domains(tmp_path, value):
    """Neither a flag nor a pass rests on fewer; the number of a class's only domain may be anything."""
    for count, state in ((4, "unknown"), (5, "flagged" if value == 1 else "pass")):
        rows = REFERENCES + rows_of("concat", "0", SOUND)
        few = rows_of("concat", "0", {"permuted_code_ratio": (value, value, value)}, n=count)
        write_table(tmp_path / "scores.tsv", COLUMNS, rows + few)
        found = {r["verdict"]: r for r in judge(tmp_path / "scores.tsv", LIMITS) if r["variant"] == "concat"}
        assert found["COLLAPSE"]["state"] == state
        assert ("n = 4: 5 or more are needed" in found["COLLAPSE"]["evidence"]) == (state == "unknown")


def test_real_domains_too_few_to_compare_with_flag_nothing(tmp_path):
    rows = (
        rows_of("real", "", REAL, n=4)
        + rows_of("new_member", "", IDEAL, n=4)
        + rows_of("concat", "0", SOUND | {"coverage": (0.1, 0.1, 0.1)})
    )
    write_table(tmp_path / "scores.tsv", COLUMNS, rows)
    found = {r["verdict"]: r for r in judge(tmp_path / "scores.tsv", LIMITS) if r["variant"] == "concat"}
    assert found["MODE-COLLAPSE"]["state"] == found["MEMORISATION"]["state"] == "unknown"


def test_training_domains_as_they_are_are_copies_and_new_members_of_their_superfamilies_are_none(tmp_path):
    """The ideal sampler lies further above `real` than a margin of a quarter, which had called it a copier."""
    rows = REFERENCES + rows_of("training", "", COPIED)
    write_table(tmp_path / "scores.tsv", COLUMNS, rows)
    found = {}
    for row in judge(tmp_path / "scores.tsv", LIMITS):
        found.setdefault(row["variant"], {})[row["verdict"]] = row["state"]
    assert {name for name, state in found["training"].items() if state == "flagged"} == {"MEMORISATION"}
    for variant in ("real", "new_member"):
        assert set(found[variant].values()) == {"pass", "not applicable"}
    assert IDEAL["training_tm"][1] > REAL["training_tm"][2] * 1.05


def test_without_new_members_no_one_is_called_a_copier(found):
    rows = found(COPIED, ideal={})
    assert rows["MEMORISATION"]["state"] == "unknown"
    assert "new_member: training_tm: no row" in rows["MEMORISATION"]["evidence"]


def test_without_real_domains_what_is_set_against_them_is_unknown(found):
    rows = found(real={}, ideal={})
    assert {name for name, state in states(rows).items() if state == "unknown"} == {"MODE-COLLAPSE", "MEMORISATION"}
    assert "real: coverage: no row" in rows["MODE-COLLAPSE"]["evidence"]


@pytest.mark.parametrize(
    ("nearest", "rebuilt", "flagged"),
    [
        ((0.7, 0.68, 0.72), 0.7, "flagged"),  # a copy, as good as this decoder makes one
        ((0.7, 0.68, 0.72), 0.9, "pass"),  # new members of trained superfamilies
        ((0.62, 0.6, 0.64), 0.3, "pass"),  # a bad decoder, and no nearer to training than real domains
        ((0.7, 0.68, 0.72), NAN, "unknown"),
    ],
)
def test_a_copy_through_a_coarse_decoder_is_told(found, nearest, rebuilt, flagged):
    rows = found({"training_tm": nearest, "tm_score": (rebuilt, rebuilt, rebuilt)})
    assert rows["MEMORISATION"]["state"] == flagged


def test_where_real_domains_cover_nothing_no_model_is_blamed(found):
    rows = found({"coverage": (0.0, 0.0, 0.0)}, real=REAL | {"coverage": (0.01, -0.02, 0.04)})
    assert rows["MODE-COLLAPSE"]["state"] == "unknown"
    assert "cover next to nothing" in rows["MODE-COLLAPSE"]["evidence"]


def test_the_reason_of_the_table_is_passed_on(tmp_path):
    rows = rows_of("concat", "0", SOUND, note="")
    rows += rows_of("concat", "0", {"coverage": (NAN, NAN, NAN)}, note="5 or more a class are needed")
    write_table(tmp_path / "scores.tsv", (*COLUMNS, "note"), rows)
    row = next(row for row in judge(tmp_path / "scores.tsv", VerdictSettings()) if row["verdict"] == "MODE-COLLAPSE")
    assert "coverage: undefined (n = 48, 5 or more a class are needed)" in row["evidence"]


def test_fewer_samples_cannot_cover_as_much(tmp_path):
    real = rows_of("real", "", REAL, n=48)
    for count, flagged in ((48, "flagged"), (24, "pass")):  # 0.44 is below half of 0.9, and above a quarter of it
        few = rows_of("concat", "0", SOUND | {"coverage": (0.44, 0.3, 0.5)}, n=count)
        write_table(tmp_path / "scores.tsv", COLUMNS, real + few)
        rows = [row for row in judge(tmp_path / "scores.tsv", LIMITS) if row["variant"] == "concat"]
        assert {row["state"] for row in rows if row["verdict"] == "MODE-COLLAPSE"} == {flagged}


@pytest.mark.parametrize(
    ("flip", "chance", "flagged"),
    [
        (0.8, 0.5, "pass"),
        (0.7, 0.5, "flagged"),
        (0.65, 1 / 3, "flagged"),
        (0.68, 1 / 3, "pass"),
        (0.3, 0.1, "pass"),
        (1.0, 1.0, "unknown"),
    ],
)
def test_twice_chance_is_asked_for_where_that_is_possible(found, flip, chance, flagged):
    rows = found({"swap_followed": (flip, flip, flip), "swap_followed_chance": (chance, chance, chance)})
    assert rows["CONDITION-IGNORED"]["state"] == flagged


def test_levels_that_could_not_be_probed_are_passed_over(found):
    rows = found({"class_leakage_level3": None})
    assert rows["LEAK"]["state"] == "pass"
    assert "class_leakage_level3: too few superfamilies" in rows["LEAK"]["evidence"]


def test_levels_that_the_model_is_not_told_do_not_leak(found):
    deep = {"class_leakage_level2": (0.3, 0.2, 0.4), "class_leakage_level3": (0.4, 0.3, 0.5)}
    quiet = found(deep | {"given_levels": (1, 1, 1)})["LEAK"]
    assert quiet["state"] == "pass"
    assert "class_leakage_level3: a level that the model is not conditioned on" in quiet["evidence"]
    fires = found(deep | {"given_levels": (2, 2, 2)})["LEAK"]
    assert fires["state"] == "flagged"
    assert "class_leakage_level2 = 0.3" in fires["evidence"]
    assert found(deep | {"given_levels": (NAN, NAN, NAN)})["LEAK"]["state"] == "flagged"


def test_a_block_that_is_meant_to_know_the_label_does_not_leak(found):
    known = {
        "class_leakage": (0.9, 0.8, 1.0),
        "class_leakage_level2": (0.9, 0.8, 1.0),
        "class_leakage_fold": (0.9, 0.8, 1.0),
    }
    quiet = found(known | {"class_leakage_shape": (0.02, -0.02, 0.05)}, "branched")
    assert quiet["LEAK"]["state"] == "pass"
    assert found(known | {"class_leakage_shape": (0.6, 0.5, 0.7)}, "branched")["LEAK"]["state"] == "flagged"
    assert found(known, "branched")["LEAK"]["state"] == "unknown"


@pytest.mark.parametrize("variant", ["pca", "pca_flow", "swapped_label", "training_copies"])
def test_models_without_a_label_are_not_asked_about_it(found, variant):
    rows = found({"class_leakage": (0.9, 0.8, 1.0), "swap_followed": None}, variant)
    assert {name for name, state in states(rows).items() if state == "not applicable"} == {"LEAK", "CONDITION-IGNORED"}
    assert rows["CONDITION-IGNORED"]["evidence"] == "the decoder is given no label"


def test_structures_of_someone_else_have_no_code_to_judge(found):
    of_a_model = [name for name in SOUND if name not in REAL]
    rows = found(dict.fromkeys(of_a_model) | {"coverage": (0.2, 0.1, 0.3)}, "theirs")
    assert states(rows) == {
        "COLLAPSE": "not applicable",
        "LEAK": "not applicable",
        "CONDITION-IGNORED": "not applicable",
        "MODE-COLLAPSE": "flagged",
        "MEMORISATION": "pass",
        "PRIOR-OVERFIT": "not applicable",
        "OVERFIT": "not applicable",
    }


def test_real_domains_are_judged_too_and_stay_quiet_and_ceilings_are_not(tmp_path):
    rows = REFERENCES + rows_of("real_shuffled", "", REAL | {"coverage": (0.1, 0.1, 0.1)})
    rows += rows_of("concat", "0", {"coverage": (0.1, 0.1, 0.1)}, fold="1")
    write_table(tmp_path / "scores.tsv", COLUMNS, rows)
    found = judge(tmp_path / "scores.tsv", VerdictSettings())
    assert {row["variant"] for row in found} == {"real", "new_member"}
    assert {row["state"] for row in found} == {"not applicable", "pass"}


def test_thresholds_are_settings(found):
    lax = VerdictSettings(
        leak=0.9, leak_margin=0.9, coverage=0.1, memorisation=1.0, swap_followed=0.5, active=0.0, overfit=9.0
    )
    broken = {"class_leakage": (0.5, 0.4, 0.6), "coverage": (0.2, 0.1, 0.3), "swap_followed": (0.2, 0.1, 0.3)}
    broken |= {"training_tm": (0.9, 0.85, 0.95), "active_share": (0.05, 0.0, 0.1)}
    broken |= {"generalisation_ratio": (3.0, 2.5, 3.5)}
    assert {name for name, state in states(found(broken)).items() if state == "pass"} == {"PRIOR-OVERFIT"}  # no limit
    assert set(states(found(broken, limits=lax)).values()) == {"pass"}
    assert "skill > 0.9" in found(broken, limits=lax)["LEAK"]["threshold"]


def test_remedies_name_settings_and_variants_that_exist():
    for name, (_, remedy) in VERDICTS.items():
        keys = re.findall(r"\b(?:labels|model|train|sample)(?:\.\w+)+", remedy)
        assert keys, name
        for key in keys:
            value = Settings()
            for part in key.split("."):
                value = value() if isinstance(value, type) else value
                assert hasattr(value, part), f"{name}: {key}"
                value = getattr(value, part)
        for variant in re.findall(r"the variant (\w+)", remedy):
            assert variant in choices()


def test_a_remedy_is_what_the_findings_show_and_nothing_that_they_refute():
    history = Path(__file__).parents[3] / "docs/history"
    texts = [path.read_text(encoding="utf-8") for path in history.glob("*.md")]
    sections = dict(part.split("\n", 1) for text in texts for part in text.split("\n## ")[1:])
    for name, (_, remedy) in VERDICTS.items():
        quoted = re.findall(r"\(findings: ([^)]+)\)", remedy)
        assert quoted, name
        assert set(quoted) <= set(sections), name
        shown = " ".join(sections[title] for title in quoted)
        for key in re.findall(r"\b(?:train\.terms|train\.kl|sample)\.(\w+)", remedy):
            assert key in ("kind", "rate", "weight") or key in shown, f"{name}: {key}"
        useless = "label_seeking mode_seeking variance_floor free_bits flow_steps patience jitter crop dropout"
        assert not [word for word in useless.split() if word in remedy], name


def test_a_table_that_is_no_score_table_is_refused(tmp_path):
    write_table(tmp_path / "a.tsv", ("variant", "seed"), [])
    with pytest.raises(UserError, match=r"a\.tsv: expected the columns .* fold"):
        judge(tmp_path / "a.tsv", VerdictSettings())
    write_table(tmp_path / "b.tsv", COLUMNS, rows_of("concat", "0", {"coverage": ("much", 0, 1)}))
    with pytest.raises(UserError, match=r"b\.tsv: expected numbers in value, low, high and n of concat 0 coverage"):
        judge(tmp_path / "b.tsv", VerdictSettings())


def test_an_empty_table_gives_an_empty_table(tmp_path):
    write_table(tmp_path / "scores.tsv", COLUMNS, [])
    assert write_verdicts(tmp_path / "scores.tsv", LIMITS, tmp_path / "verdicts.tsv") == []
    assert (tmp_path / "verdicts.tsv").read_text() == "\t".join(VERDICT_COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("variant", "coverage", "arguments", "code"),
    [
        ("concat", 0.1, ["--fail-on-verdict"], 3),
        ("concat", 0.1, [], 0),
        ("concat", 0.8, ["--fail-on-verdict"], 0),
        ("concat", 0.1, ["--fail-on-verdict", "--settings", '{"coverage": 0.05}'], 0),
        ("pca", 0.1, ["--fail-on-verdict"], 0),  # in every run without being asked for
    ],
)
def test_the_exit_code_is_set_after_the_table_is_written(tmp_path, capsys, variant, coverage, arguments, code):
    scores = SOUND | {"coverage": (coverage, coverage, coverage)}
    write_table(tmp_path / "scores.tsv", COLUMNS, REFERENCES + rows_of(variant, "0", scores))
    command = ["verdicts", "--scores", str(tmp_path / "scores.tsv"), "-o", str(tmp_path / "verdicts.tsv")]
    assert main.run([*command, *arguments]) == code
    rows = read_table(tmp_path / "verdicts.tsv", VERDICT_COLUMNS)
    assert len(rows) == 3 * len(VERDICTS)
    said = capsys.readouterr().err
    assert ("exit code 3, for these flagged: concat 0 MODE-COLLAPSE" in said) == (code == 3)
