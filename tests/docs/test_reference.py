"""The reference that is written by hand has what the code has, and nothing else. Files: tests/workflow/test_run.py."""

import pkgutil
import re
from dataclasses import fields
from importlib import import_module

import pytest
from reference import NAMES, ROOT, documented_metrics, metrics_of, rows_of

from cvae_protein.config.settings import VerdictSettings
from cvae_protein.score.verdicts import VERDICTS, Case, Score

MODULES = [
    import_module(f"{package}.{found.name}")
    for package in ("cvae_protein.score", "cvae_protein.score.metrics")
    for found in pkgutil.iter_modules(import_module(package).__path__)
]


def test_every_metric_is_defined_with_its_unit_and_direction():
    documented = documented_metrics()
    computed = {metric.name: (metric.unit, metric.better) for module in MODULES for metric in metrics_of(module)}
    assert len(computed) > 80
    assert {name: documented.get(name) for name in computed} == computed


def test_no_metric_is_defined_that_is_not_computed():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cvae_protein/score").rglob("*.py"))
    quoted = set(re.findall(r'"([a-z]\w*)', code))  # of f"kl_{column}" the beginning, which ends in _ or level
    ways = (r"$", r"\d+$", r"_level\d$", r"(?<=_)[a-zA-Z]+$")
    unknown = [name for name in documented_metrics() if not {re.sub(way, "", name) for way in ways} & quoted]
    assert unknown == []


@pytest.fixture
def any_case():
    """A model whose numbers are all known, beside the default limits."""
    scores = dict.fromkeys(documented_metrics(), Score(0.5, 0.1, 0.9, 100))
    return Case("concat", scores, scores, scores, VerdictSettings())


def test_verdicts_are_defined_with_the_limits_that_they_have(any_case):
    defined = {NAMES.findall(name)[0]: flagged for name, flagged in rows_of("metrics.md", "verdict", "flagged where")}
    assert list(defined) == list(VERDICTS)
    metrics = documented_metrics().keys()
    for name, (function, _) in VERDICTS.items():
        threshold = function(any_case).threshold
        numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?", threshold)
        named = metrics & set(re.findall(r"\w+", threshold))
        assert numbers, name
        assert set(numbers) <= set(re.findall(r"\d+(?:\.\d+)?", defined[name])), name
        assert named <= set(NAMES.findall(defined[name])), name


def test_every_limit_of_a_verdict_says_whose_it_is():
    described = {
        field.name: field.metadata["description"] for field in fields(VerdictSettings) if field.name != "fail_run"
    }
    assert {said.split(":")[0] for said in described.values()} <= VERDICTS.keys()
