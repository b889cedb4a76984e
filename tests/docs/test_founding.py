"""The tables of the founding experiment that the documentation shows are those that its command prints."""

from importlib import import_module

import pytest
from reference import ROOT

from cvae_protein.score.verdicts import VERDICTS


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return import_module("founding_tables")


def test_statements_and_verdicts_in_the_history_are_those_of_the_recorded_results(tables, capsys):
    tables.main()
    printed = capsys.readouterr().out.splitlines()
    shown = (ROOT / "docs/history/founding.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in printed if line not in shown] == []
    told = {line.split(" | ")[0].removeprefix("| ") for line in printed}
    assert told >= VERDICTS.keys() | {each.claim for each in tables.STATEMENTS}


def test_a_setting_is_flagged_by_the_limits_of_the_package(tables):
    usual = {
        "active_held": 32.0,
        "units": 32.0,
        "information_held": 5.0,
        "permuted_held": 1.5,
        "leak_train": 0.0,
        "leak_held": 0.0,
        "class_swapped": 0.9,
        "coverage": 0.8,
        "coverage_real": 0.8,
        "error_held": 10.0,
        "error_train": 10.0,
    }
    faults = {
        "COLLAPSE": {"information_held": 0.4},
        "CONDITION-IGNORED": {"class_swapped": 0.6},
        "MODE-COLLAPSE": {"coverage": 0.3},
        "OVERFIT": {"error_train": 5.0},
        "LEAK": {"leak_held": 0.2},
    }
    said = {"form": "contacts", "design": "concat", "group": "", "seed": "0"}
    for name, fault in {"": {}, **faults}.items():
        rows = [{"row": said | {"change": name} | usual | fault} for _ in range(2)]
        (setting,) = tables.settings(rows)
        assert setting.verdicts == ((name,) if name else ())
        (alone,) = tables.settings(rows[:1])
        assert alone.verdicts == ((f"{name}?" if name == "LEAK" else name,) if name else ())
