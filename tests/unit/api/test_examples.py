"""The examples of the Python API run as they stand."""

import doctest
from importlib import import_module

import pytest

import cvae_protein as cvae

EXAMPLES = [
    (module, example)
    for module in ("api.info", "api.model", "api.score", "api.structures")
    for example in doctest.DocTestFinder(exclude_empty=True).find(import_module(f"cvae_protein.{module}"))
    if example.examples
]


@pytest.mark.parametrize("example", [pytest.param(found, id=found.name) for _, found in EXAMPLES])
def test_example(example, folder, model, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    example.globs |= {name: getattr(cvae, name) for name in cvae.__all__}
    if example.name.rpartition(".")[2] != "load":
        example.globs["load"] = lambda name: model  # loaded once for all
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE)
    with capsys.disabled():
        runner.run(example)
    assert runner.failures == 0


def test_every_public_function_has_an_example():
    shown = {example.name.rpartition(".")[2] for _, example in EXAMPLES}
    assert {"info", "load", "score", "read", "read_store", "featurize", "to"} <= shown
    assert {"sample", "around", "encode", "decode", "reconstruct", "interpolate", "folds"} <= shown
