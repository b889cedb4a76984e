from collections import Counter
from dataclasses import replace

import pytest

from cvae_protein.core.files import write_table
from cvae_protein.report.results import Results
from cvae_protein.report.summary import demonstration, failures, judged, overfitted, summary, trust


def results_of(folder, steps=400, errors=(1.0, 1.2), kept=None, seeds=("0",)):
    """A run whose `concat` has a history of two rows, the first of them kept where `kept` gives its errors."""
    for seed in seeds:
        first, last = kept or errors, errors
        rows = [
            {"step": steps // 2, "rmsd": first[0], "validation_rmsd": first[1], "best": int(kept is not None)},
            {"step": steps, "rmsd": last[0], "validation_rmsd": last[1], "best": int(kept is None)},
        ]
        place = folder / f"models/concat/seed{seed}"
        place.mkdir(parents=True)
        write_table(place / "history.tsv", list(rows[0]), rows)
    return Results(folder, ["pca", "concat"], list(seeds))


def verdicts_of(**states):
    cells = {name: {"verdict": name, "state": state, "variant": "concat"} for name, state in states.items()}
    real = {"LEAK": {"verdict": "LEAK", "state": "flagged", "variant": "real"}}
    lines = [{"reference": False, "cells": cells}, {"reference": True, "cells": real}]
    return {"names": {"LEAK": "the code knows the class"}, "lines": lines}


@pytest.mark.parametrize(
    ("domains", "steps", "said"),
    [(156, 400, "156 training domains and 400 steps"), (5000, 400, "400 steps"), (156, 4000, "156 training domains")],
)
def test_a_run_of_few_domains_or_steps_is_a_demonstration(tmp_path, domains, steps, said):
    assert demonstration(results_of(tmp_path, steps), domains) == said


def test_a_run_of_many_domains_and_steps_is_none(tmp_path):
    assert demonstration(results_of(tmp_path, 4000), 5000) == ""


def test_a_training_that_learnt_by_heart_is_named_and_its_control_is_not(tmp_path):
    broken = overfitted(results_of(tmp_path / "broken", errors=(0.8, 2.4)))
    assert broken == ["concat 0.80 and 2.40 Å"]
    assert overfitted(results_of(tmp_path / "quiet", errors=(1.0, 1.3))) == []
    early = results_of(tmp_path / "early", errors=(0.5, 3.0), kept=(1.4, 1.6))
    assert overfitted(early) == []  # the weights of the earlier row are those that are kept
    assert overfitted(results_of(tmp_path / "unknown", errors=(0.8, float("nan")))) == []
    assert overfitted(results_of(tmp_path / "two", errors=(0.8, 2.4), seeds=("0", "1")))[1].startswith("concat 1 ")


def test_what_is_flagged_is_said_of_models_alone():
    given = verdicts_of(COLLAPSE="pass", LEAK="flagged", MEMORISATION="unknown", OVERFIT="not applicable")
    assert failures(given) == [{"verdict": "LEAK", "meaning": "the code knows the class", "models": "concat"}]
    assert judged(given) == "1 of 3 verdicts flagged, 1 unknown."
    assert failures(verdicts_of(COLLAPSE="pass")) == failures(None) == []
    assert judged(verdicts_of(COLLAPSE="pass")) == "0 of 1 verdicts flagged."
    assert judged(None) == "No verdicts were given."


def test_few_domains_one_seed_and_relatives_of_the_held_out_limit_trust():
    assert [said[:24] for said in trust(1, 41, 0, ["pretrained"])] == [
        "Every model was trained ",
        "41 held-out domains are ",
    ]
    assert trust(1, 400, 2, ["pretrained"])[1] == (
        "pretrained may have learnt from relatives of 2 of the domains held out here, which flatters it."
    )
    assert trust(1, 400, 2, ["pretrained", "the fold classifier"])[1] == (
        "pretrained and the fold classifier may have learnt from relatives of 2 of the domains held out here, "
        "which flatters them."
    )
    assert trust(2, 400, 2, []) == ["Every model was trained with 2 seeds."]


def test_the_head_says_what_was_run(tmp_path):
    head = {"domains": 7, "novelty": "that training lacks", "samples": 24, "splits": Counter(train=4, test=3)}
    found = summary(results_of(tmp_path, 400), head, None)
    assert found["ran"] == (
        "1 model (concat) trained on 4 domains for 400 steps, judged on 3 domains that training lacks; "
        "24 samples were drawn."
    )
    packaged = replace(results_of(tmp_path / "packaged"), variants=["pca", "pretrained"])
    assert summary(packaged, head, None)["ran"].startswith(
        "The package's trained model (pretrained), judged on 3 domains"
    )
    assert found["demonstration"] == "4 training domains and 400 steps"
    assert summary(results_of(tmp_path / "bare"), {"domains": 0, "splits": Counter()}, None)["ran"] == ""
