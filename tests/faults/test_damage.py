"""Files that are damaged between stages, and a worker that is killed while it writes one."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from small_run import differences, environment, finish, left_behind, make_project, stage

from cvae_protein.core.errors import UserError
from cvae_protein.core.files import sha256
from cvae_protein.store.write import merge_stores

WRITER = """
import itertools, sys
from cvae_protein.store.read import Store; from cvae_protein.store.write import write_store
entries = list(Store(sys.argv[1]).entries())
print("writing", flush=True)
write_store(sys.argv[2], itertools.chain.from_iterable(itertools.repeat(entries)), compression="gzip")
"""


def flip(path, chance):
    """Invert one bit of a file."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(path, chance):
    """Cut a file short."""
    os.truncate(path, chance.randrange(path.stat().st_size))


def refusal(shards, output):
    """What `merge` says where it refuses; empty where it does not."""
    try:
        merge_stores(shards, output)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("damage", [flip, truncate])
@pytest.mark.parametrize("moments", [5, pytest.param(200, marks=pytest.mark.faults)])
def test_damaged_shard_is_named_or_changes_nothing(tmp_path, clean, damage, moments):
    shards = [shutil.copy(path, tmp_path) for path in sorted((clean / "results/shards").glob("*.h5"))]
    shards = [tmp_path / os.path.basename(path) for path in shards]
    merge_stores(shards, tmp_path / "clean.h5")
    wanted, whole, chance = sha256(tmp_path / "clean.h5"), shards[0].read_bytes(), random.Random(0)
    named = 0
    for _ in range(moments):
        damage(shards[0], chance)
        said = refusal(shards, tmp_path / "merged.h5")
        if said:
            assert str(shards[0]) in said
            assert not (tmp_path / "merged.h5").exists()
            named += 1
        else:
            assert sha256(tmp_path / "merged.h5") == wanted
            (tmp_path / "merged.h5").unlink()
        shards[0].write_bytes(whole)
    assert named > moments / 2
    assert left_behind(tmp_path) == []


@pytest.mark.faults
@pytest.mark.parametrize(
    "damaged",
    ["shards/0.h5", "domains.h5", "models/concat/seed0/weights.safetensors", "samples/concat/seed0/samples.h5"],
)
def test_run_stops_at_a_damaged_file_and_goes_on_without_it(tmp_path, clean, damaged):
    """The file is damaged when its maker is done; the run names it, and comes to the clean end once it is removed."""
    folder = make_project(tmp_path / "run")
    for part in ("results", ".snakemake"):
        shutil.copytree(clean / part, folder / part, symlinks=True)
    path, moment = folder / "results" / damaged, time.time()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    os.utime(path, (moment, moment))
    code, said = finish(folder)
    assert code != 0
    assert str(path.relative_to(folder)) in said
    assert "Go on with the same command" in said
    path.unlink()
    code, said = finish(folder)
    assert code == 0, said[-4000:]
    assert differences(folder / "results", clean / "results") == []


def test_worker_killed_while_it_writes_a_store(tmp_path, clean):
    """SIGKILL leaves no store, and the scratch file goes with the next writer."""
    output = tmp_path / "0.h5"
    command = [sys.executable, "-c", WRITER, str(clean / "results/domains.h5"), str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(clean), text=True) as process:
        assert process.stdout.readline() == "writing\n"
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 100_000 for path in left_behind(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert left_behind(tmp_path), "it was killed before it wrote"
    assert not output.exists()
    parts = sorted((clean / "results/shards").glob("*.h5"))
    tables = sorted((clean / "results/rejected").glob("*.tsv"))
    code, said = stage(clean, "merge", *parts, *tables, "--output", output, "--rejected", tmp_path / "rejected.tsv")
    assert code == 0, said
    assert sha256(output) == sha256(clean / "results/domains.h5")
    assert left_behind(tmp_path) == []
