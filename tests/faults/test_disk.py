"""A full disk and a read-only folder, at every stage: one line says why, and later come the bytes of the clean run."""

import pytest
from small_run import facts, stage
from small_run import left_behind as left

CONFIG = "config/config.yaml"
STORE = ("--store", "results/domains.h5", "--splits", "results/splits.tsv")
MODEL = ("--model", "results/models/concat/seed0", "--refiner", "results/models/refiner/seed0")
# Name of the output in the results folder -> the command, less its output; {disk} is where it writes.
STAGES = {
    "domains.tsv": ("select", "--settings", CONFIG, "--rejected", "{disk}/rejected/select.tsv"),
    "fold_names.tsv": ("fold-names", "--domains", "results/domains.tsv", "--settings", CONFIG),
    "entries.tsv": (
        *("fetch", "--domains", "results/domains.tsv", "--settings", CONFIG),
        *("--rejected", "{disk}/rejected/fetch.tsv", "--lock", "{disk}/sources.lock.tsv"),
    ),
    "shards/0.h5": (
        *(
            "featurize",
            "--domains",
            "results/domains.tsv",
            "--entries",
            "results/entries.tsv",
            "--batch",
            "0/{batches}",
        ),
        *("--settings", CONFIG, "--rejected", "{disk}/rejected/batch0.tsv"),
    ),
    "domains.h5": ("merge", "{parts}", "--settings", CONFIG, "--rejected", "{disk}/rejected.tsv"),
    "clusters.tsv": ("cluster", "--store", "results/domains.h5", "--settings", CONFIG),
    "splits.tsv": (
        *("split", "--store", "results/domains.h5", "--clusters", "results/clusters.tsv", "--settings", CONFIG),
    ),
    "leak_audit.tsv": ("leak-audit", *STORE),
    "models/concat/seed0": (
        *(
            "train",
            "--variant",
            "concat",
            "--seed",
            "0",
            "--depth",
            "1",
            "--settings",
            CONFIG,
            "--refine-settings",
            "{{}}",
        ),
        *STORE,
        *("--checkpoint", "{disk}/checkpoints/concat/seed0.safetensors"),
    ),
    "models/refiner/seed0": (
        *(
            "train",
            "--variant",
            "refiner",
            "--seed",
            "0",
            "--model-settings",
            '{{"coefficients": 16}}',
            "--refine-settings",
            CONFIG,
        ),
        *STORE,
        *("--checkpoint", "{disk}/checkpoints/refiner/seed0.safetensors"),
    ),
    "models/classifier": (
        "train-classifier",
        *STORE,
        "--settings",
        CONFIG,
        "--checkpoint",
        "{disk}/checkpoints/classifier.safetensors",
    ),
    "features/real": ("embed", "results/domains.h5", "--classifier", "results/models/classifier"),
    "samples/concat/seed0": ("sample", *MODEL, "--seed", "0", *STORE, "--settings", CONFIG),
    "scores/concat/seed0": (
        *("score", *STORE, "--audit", "results/leak_audit.tsv", "--samples", "results/samples/concat/seed0"),
        *("--variant", "concat", "--model-seed", "0", "--settings", CONFIG),
        *("--features", "results/features/concat/seed0", "--real-features", "results/features/real/domains.h5"),
    ),
    "scores.tsv": (
        *("collect", "results/scores/real/scores.tsv", "results/scores/concat/seed0/scores.tsv"),
        "results/scores/pca/seed0/scores.tsv",
    ),
    "report.html": ("report", "--results", "results", "--variants", "concat,pca", "--settings", CONFIG),
}
QUICK = ("domains.tsv", "domains.h5")


def arguments(clean, disk, output):
    """The command of the stage that makes `output`, writing to `disk`."""
    shards = sorted((clean / "results/shards").glob("*.h5"))
    tables = ["select.tsv", "fetch.tsv", *(f"batch{number}.tsv" for number in range(len(shards)))]
    words = []
    for word in STAGES[output]:
        if word == "{parts}":
            words += [*shards, *(clean / "results/rejected" / name for name in tables)]
        else:
            words.append(word.format(disk=disk.folder, batches=len(shards)))
    return [*words, "--output", disk.folder / output]


def expect(clean, output):
    """What the clean run made of `output`: the file, or the files below the folder."""
    return {name: fact for name, fact in facts(clean / "results").items() if f"{name}/".startswith(f"{output}/")}


def each_stage(test):
    """The test for every stage, most of them only where the long tests are asked for."""
    marked = [name if name in QUICK else pytest.param(name, marks=pytest.mark.faults) for name in STAGES]
    return pytest.mark.parametrize("output", marked)(test)


def check_refusal(code, said, words, disk, output):
    """A stage that could not write: one line says why, and nothing of its output is there."""
    assert code == 1, said[-3000:]
    assert said.strip().splitlines()[-1].startswith("error: ")
    assert words in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not (disk.folder / output).exists()
    assert left(disk.folder) == []


@each_stage
def test_disk_full(clean, disk, output):
    wanted = expect(clean, output)
    assert wanted
    size = (clean / "results" / output).stat().st_size if len(wanted) == 1 else 0
    disk.fill(left=size // 2)
    command = arguments(clean, disk, output)
    check_refusal(*stage(clean, *command), "No space left on device", disk, output)
    disk.clear()
    code, said = stage(clean, *command)
    assert code == 0, said[-3000:]
    assert expect_on(disk, output) == wanted


@each_stage
def test_read_only_folder(clean, disk, output):
    disk.set_read_only(True)
    command = arguments(clean, disk, output)
    check_refusal(*stage(clean, *command), "Read-only file system", disk, output)
    disk.set_read_only(False)
    code, said = stage(clean, *command)
    assert code == 0, said[-3000:]
    assert expect_on(disk, output) == expect(clean, output)


def expect_on(disk, output):
    """What a stage made on the disk."""
    return {name: fact for name, fact in facts(disk.folder).items() if f"{name}/".startswith(f"{output}/")}
