"""The training loop: what it keeps, when it stops, what it survives, and that several processes are one training."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import write_chains

from cvae_protein.config.settings import DecoderSettings, ModelSettings, RefineSettings, Schedule, TrainSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.model.batch import SHORTEST_CROP, Batch, DomainSet, LengthBuckets, crop, in_pieces, training_batch
from cvae_protein.model.cvae import CVAE, Output
from cvae_protein.model.representation import PrincipalComponents
from cvae_protein.model.spec import Spec, load_tensors, save_tensors
from cvae_protein.training import loop
from cvae_protein.training.checkpoint import TrainingState
from cvae_protein.training.distributed import Ranks, SharedNoise
from cvae_protein.training.loop import MAX_ROLLBACKS, Task, minimise
from cvae_protein.training.train import train
from cvae_protein.training.validation import selection_score

MODEL = ModelSettings(
    latent=5, coefficients=12, width=24, depth=1, decoder_width=16, decoder_depth=1, inference_steps=2, dropout=0.1
)
REFINE = RefineSettings(width=16, depth=1, heads=2, crop=24, steps=6, batch_size=5)
DECODER = DecoderSettings(width=16, depth=2, stages=2, heads=2, longest=60, steps=6, batch_size=5)
SECOND_LEVELS = {"refiner": REFINE, "decoder": DECODER}
TRAIN = TrainSettings(
    steps=12, flow_steps=2, batch_size=6, bucket=3, report_every=2, checkpoint_seconds=1e9, kl=Schedule(steps=4)
)


def write_data(folder: Path, with_validation: bool = True) -> tuple[Path, Path]:
    """A store of 16 chains, one of them with two conformations, and its split."""
    rng, chains = np.random.default_rng(0), []
    for index in range(16):
        length, models = int(rng.integers(42, 90)), 2 if index == 3 else 1
        ca = np.cumsum(rng.normal(0, 2.2, (models, length, 1, 3)), axis=1)
        coords = ca + rng.normal(0, 1.2, (models, 1, 5, 3))
        chains.append((coords, "validation" if index > 12 and with_validation else "train", f"{index % 3 + 1}.10"))
    return write_chains(folder, chains)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_data(tmp_path_factory.mktemp("data"))


class Toy:
    """A parameter that is drawn to 3, and what a test wants to happen on the way."""

    def __init__(self, steps: int, scores: list[float] | None = None, faults: tuple[int, ...] = ()) -> None:
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.module.weight)
        self.scores, self.faults, self.calls = scores, faults, 0
        self.seen: list[float] = []
        optimizer = torch.optim.AdamW(self.module.parameters(), 0.1, fused=True)
        self.generator = torch.Generator()
        self.state = TrainingState(self.module.named_parameters(), optimizer, self.generator, np.random.default_rng(0))
        score = (lambda row: row["watched"]) if scores else (lambda row: -row["step"])
        self.task = Task("toy", self.module, self.losses, self.watch, steps, 0.1, {}, score=score)

    def losses(self, step: int, ranks: Ranks) -> tuple[loop.Losses, float]:
        self.calls += 1
        value = (self.module.weight - 3).square().sum() + 0.01 * torch.randn((), generator=self.generator)
        return {"square": (value * (np.nan if self.calls in self.faults else 1.0), 1.0)}, 1.0

    def watch(self) -> dict[str, float]:
        self.seen.append(self.module.weight.item())
        return {"watched": self.scores[len(self.seen) - 1] if self.scores else 0.0}


def settings(**given: object) -> TrainSettings:
    return replace(TrainSettings(report_every=1), **given)


def test_the_weights_of_the_best_row_are_kept() -> None:
    toy = Toy(5, scores=[5.0, 3.0, 2.0, 2.0, 4.0])
    rows = minimise(toy.task, toy.state, settings())
    assert [row["best"] for row in rows] == [0, 0, 1, 0, 0]
    assert toy.module.weight.item() == toy.seen[2] != toy.seen[4]


def test_progress_tells_no_loss_before_the_first_step() -> None:
    rows = [{"step": 0, "loss": math.nan, "validation_rmsd": 2.0}, {"step": 2, "loss": 3.5, "validation_rmsd": 1.0}]
    assert [loop._note(rows[:end]) for end in range(3)] == [
        "",
        "validation_rmsd 2.00",
        "loss 3.50, validation_rmsd 1.00",
    ]


def test_a_checkpoint_of_another_training_is_told_and_kept_until_it_fits_again(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, kept = tmp_path / "c.safetensors", tmp_path / "c.former.safetensors"

    def toy(steps: int, store: str) -> Toy:
        one = Toy(steps)
        spec = {"origin": {"store": store, "train": {"steps": steps}}, "model": {"latent": 4}}
        one.task = replace(one.task, checkpoint=path, identity={"spec": json.dumps(spec)})
        return one

    def steps_of(file: Path) -> int:
        return json.loads(load_tensors(file)[1]["identity"]["spec"])["origin"]["train"]["steps"]

    first = toy(6, "5" * 64)
    first.state.step = 3
    first.state.save(path, first.task.identity)
    other = toy(4, "7" * 64)
    minimise(other.task, other.state, settings())
    said = capsys.readouterr().err
    assert f"{path} is of another training (store is another, train.steps 6, now 4): begins anew" in said
    assert f"keeps it as {kept}" in said
    assert (steps_of(path), steps_of(kept)) == (4, 6)
    again = toy(6, "5" * 64)
    minimise(again.task, again.state, settings())
    assert f"resumed at step 3 of 6 from {kept}" in capsys.readouterr().err
    assert (steps_of(path), steps_of(kept)) == (6, 4)
    whole = toy(6, "5" * 64)
    minimise(whole.task, whole.state, settings())
    assert "another training" not in capsys.readouterr().err


def test_without_a_score_the_last_weights_are_kept() -> None:
    toy = Toy(5)
    rows = minimise(toy.task, toy.state, settings(patience=1))
    assert [row["best"] for row in rows] == [0, 0, 0, 0, 1]
    assert toy.module.weight.item() == toy.seen[4]


@pytest.mark.parametrize(
    ("patience", "scores", "rows"),
    [
        (1, [9.0, 5.0, 4.0, 4.5, 3.0], 4),
        (2, [9.0, 5.0, 4.0, 4.5, 3.0, 3.0, 3.5], 7),
        (2, [9.0, 5.0, 5.0, 5.0, 1.0], 4),
        (0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 9),
    ],
)
def test_training_stops_after_rows_without_a_gain(patience: int, scores: list[float], rows: int) -> None:
    toy = Toy(9, scores)
    assert len(minimise(toy.task, toy.state, settings(patience=patience))) == rows


def test_a_row_whose_score_is_no_number_is_never_the_best(data: tuple[Path, Path]) -> None:
    score = selection_score(TRAIN, {"train": [], "validation": []})
    assert score({"step": 4, "validation_bound": np.nan, "validation_kl": 1.0}) == np.inf
    early, late = ({"step": s, "validation_bound": 1e5 - s, "validation_kl": 1.0} for s in (2, 4))
    assert score(early) > 1e9 > score(late)
    double = selection_score(replace(TRAIN, kl=Schedule(kind="constant", weight=2.0)), {"train": [], "validation": []})
    assert double({"step": 1, "validation_bound": 10.0, "validation_kl": 4.0}) == 14.0
    steered = selection_score(replace(TRAIN, kl=Schedule(kind="target_rate")), {"train": [], "validation": []})
    assert steered({"step": 5}) < steered({"step": 4})


def test_one_loss_that_is_no_number_takes_the_training_back(capsys: pytest.CaptureFixture[str]) -> None:
    toy = Toy(6, faults=(4,))
    rows = minimise(toy.task, toy.state, settings(report_every=2))
    assert [(row["step"], row["rollbacks"]) for row in rows] == [(2, 0), (4, 1), (6, 1)]
    assert toy.calls == 6 + 2  # the step that failed and the one before it, which was lost
    assert np.isfinite(toy.module.weight.item())
    assert "the loss is nan at step 3; back to step 2 with half the learning rate" in capsys.readouterr().err
    assert toy.state.optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * lr_of(5, 6))


def lr_of(step: int, steps: int) -> float:
    """Warm-up over 100 steps and a cosine to 2 %, at a peak of 0.1."""
    return 0.1 * (step + 1) / 100 * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))


def test_a_gradient_that_is_not_finite_is_no_step(capsys: pytest.CaptureFixture[str]) -> None:
    toy = Toy(3)
    toy.module.weight.register_hook(lambda gradient: gradient * (np.inf if toy.calls == 2 else 1.0))
    minimise(toy.task, toy.state, settings())
    assert toy.state.rollbacks == 1
    assert "the gradient of the loss is" in capsys.readouterr().err


def test_losses_that_are_never_numbers_end_with_advice() -> None:
    toy = Toy(20, faults=tuple(range(3, 100)))
    with pytest.raises(
        UserError, match=r"toy: the loss is nan at step 1, .*5 times in a row.*lower train\.learning_rate"
    ):
        minimise(toy.task, toy.state, settings())
    assert toy.calls == 2 + MAX_ROLLBACKS + 1


def test_a_state_that_fails_at_once_is_not_gone_back_to_twice() -> None:
    toy = Toy(6, faults=(5, 6))
    rows = minimise(toy.task, toy.state, settings(report_every=2))
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert [row["rollbacks"] for row in rows] == [0, 2, 2]  # the row of step 4 was made again
    assert toy.calls == 6 + 4


def test_gradients_are_clipped_and_weights_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    toy, sizes = Toy(4), []
    clip = loop.nn.utils.clip_grad_norm_

    def spy(parameters: object, most: float) -> torch.Tensor:
        found = clip(toy.module.parameters(), most)
        sizes.append(toy.module.weight.grad.abs().item())
        return found

    monkeypatch.setattr(loop.nn.utils, "clip_grad_norm_", spy)
    weights = []
    toy.task = replace(toy.task, observe=lambda values: weights.append(toy.module.weight.item()))
    minimise(toy.task, toy.state, settings(ema=0.5))
    assert sizes == pytest.approx([loop.GRADIENT_NORM] * 4, abs=1e-5)  # of gradients of about 6
    expected = 0.0
    for step, weight in enumerate(weights):
        decay = min(0.5, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * weight
    assert toy.module.weight.item() == pytest.approx(expected)
    assert toy.state.optimizer.param_groups[0]["lr"] == pytest.approx(lr_of(3, 4))


class TestBuckets:
    LENGTHS = np.random.default_rng(1).integers(30, 300, 50)

    def buckets(self, pool: int = 8, crop: float = 0.5, chance: np.ndarray | None = None) -> LengthBuckets:
        chance = np.full(50, 1 / 50) if chance is None else chance
        return LengthBuckets(self.LENGTHS, chance, 16, crop, pool, np.random.default_rng(2))

    def test_stretches_lie_within_their_chains(self) -> None:
        start, stop = crop(np.tile(self.LENGTHS, 40), 0.5, np.random.default_rng(0))
        whole = np.tile(self.LENGTHS, 40)
        assert (start >= 0).all()
        assert (stop <= whole).all()
        is_cut = stop - start < whole
        assert (stop - start)[is_cut].min() == SHORTEST_CROP
        assert not is_cut[whole <= SHORTEST_CROP].any()
        assert is_cut[whole > SHORTEST_CROP].mean() == pytest.approx(0.5, abs=0.05)

    def test_chains_beyond_the_longest_are_always_cut(self) -> None:
        whole = np.tile(self.LENGTHS, 40)
        start, stop = crop(whole, 0.0, np.random.default_rng(0), 100)
        size = stop - start
        assert (start >= 0).all()
        assert (stop <= whole).all()
        assert (size == whole)[whole <= 100].all()
        assert size[whole > 100].min() == SHORTEST_CROP
        assert size[whole > 100].max() == 100
        buckets = LengthBuckets(self.LENGTHS, np.full(50, 1 / 50), 16, 0.5, 8, np.random.default_rng(2), 100)
        assert max(np.diff(buckets.draw()[:, 1:]).max() for _ in range(64)) == 100

    def test_less_is_padding(self) -> None:
        def efficiency(pool: int) -> float:
            buckets, found = self.buckets(pool), []
            for _ in range(64):
                size = np.diff(buckets.draw()[:, 1:])[:, 0]
                found.append((size.sum(), size.max() * len(size)))
            return float(np.divide(*np.sum(found, axis=0)))

        assert efficiency(1) < 0.6
        assert efficiency(8) > 0.85

    def test_every_domain_is_drawn_as_its_chance_says(self) -> None:
        chance = np.where(np.arange(50) % 2, 1.0, 0.5)  # two conformations count half
        chance /= chance.sum()
        for pool in (1, 8):
            buckets = self.buckets(pool, chance=chance)
            rows = np.concatenate([buckets.draw()[:, 0] for _ in range(2000)])
            counts = np.bincount(rows, minlength=50)
            expected = chance * len(rows)
            assert (((counts - expected) ** 2 / expected).sum() - 49) / np.sqrt(2 * 49) < 4  # chi-square, 4 sigma

    def test_the_order_goes_on_from_what_waits(self) -> None:
        straight, other = self.buckets(), self.buckets()
        for _ in range(3):
            straight.draw()
            other.draw()
        waiting, state = other.waiting.copy(), other.rng.bit_generator.state
        resumed = self.buckets()
        resumed.waiting, resumed.rng.bit_generator.state = waiting, state
        for _ in range(12):
            assert np.array_equal(straight.draw(), resumed.draw())

    def test_lengths_of_successive_batches_are_in_no_order(self) -> None:
        buckets = self.buckets(crop=0.0)
        size = np.array([np.diff(buckets.draw()[:, 1:]).mean() for _ in range(400)])
        assert abs(np.corrcoef(size[:-1], size[1:])[0, 1]) < 0.2


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_processes_take_their_rows_of_one_noise(rank: int) -> None:
    whole = torch.randn(11, 3, generator=torch.Generator().manual_seed(7))
    ranks, generator = Ranks(rank, 3), torch.Generator().manual_seed(7)
    own = len(range(11)[ranks.rows])
    with SharedNoise(ranks, generator, 11):
        drawn = torch.randn((own, 3), generator=generator)
        assert torch.randn(own + 1, 2, generator=generator).shape == (own + 1, 2)
        assert torch.rand(own, generator=generator).shape == (own,)
    assert torch.equal(drawn, whole[ranks.rows])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "weights.safetensors")[0]


def test_history_names_the_row_that_is_kept(data: tuple[Path, Path], tmp_path: Path) -> None:
    train(*data, "concat", 0, tmp_path / "a", MODEL, TRAIN, REFINE, 1)
    rows = read_table(tmp_path / "a/history.tsv", ["rollbacks", "best", "validation_bound"])
    assert [row["step"] for row in rows] == ["2", "4", "6", "8", "10", "12"]
    after_ramp = [float(row["validation_bound"]) for row in rows[1:]]
    assert [row["best"] for row in rows].index("1") == 1 + int(np.argmin(after_ramp))


def test_without_validation_the_last_row_is_kept(tmp_path: Path) -> None:
    train(*write_data(tmp_path, False), "concat", 0, tmp_path / "a", MODEL, replace(TRAIN, patience=1), REFINE, 1)
    assert [row["best"] for row in read_table(tmp_path / "a/history.tsv")] == ["0"] * 5 + ["1"]


def best_at_step_4(*_: object) -> object:
    """In place of `selection_score`: a training that gains nothing after its second row."""
    return lambda row: abs(row["step"] - 4)


PROGRAM = """
import os, signal, sys
sys.path[:0] = {here!r}
import test_loop as t
from pathlib import Path
from cvae_protein.cli import main as cli; from cvae_protein.training import train
from cvae_protein.training import loop
if {patience}:
    train.score_of = t.best_at_step_4
clip, calls = loop.nn.utils.clip_grad_norm_, []
def interrupt(*given):
    calls.append(1)
    if len(calls) == {step}:
        os.kill(os.getpid(), {number})
    return clip(*given)
loop.nn.utils.clip_grad_norm_ = interrupt
sys.argv = ["cvae-protein", *{arguments!r}]
cli.main()
"""


def command(data: tuple[Path, Path], folder: Path, name: str, checkpoint: Path, own: TrainSettings) -> list[str]:
    return [
        *("train", "--variant", name, "--store", str(data[0]), "--splits", str(data[1]), "--output", str(folder)),
        *("--checkpoint", str(checkpoint), "--settings", json.dumps(asdict(own))),
        *("--model-settings", json.dumps(asdict(MODEL)), "--refine-settings", json.dumps(asdict(REFINE))),
        *("--decoder-settings", json.dumps(asdict(DECODER))),
    ]


@pytest.mark.parametrize(
    ("number", "code", "name", "patience"),
    [
        (signal.SIGTERM, 143, "adversarial", 0),
        (signal.SIGINT, 130, "concat", 2),
        (signal.SIGUSR1, 138, "refiner", 0),  # as Slurm's --signal sends
        (signal.SIGTERM, 143, "decoder", 0),
    ],
)
def test_a_signal_saves_a_checkpoint_and_the_rest_is_the_same(
    number: signal.Signals,
    code: int,
    name: str,
    patience: int,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = replace(TRAIN, patience=patience)
    if patience:
        monkeypatch.setattr(sys.modules[train.__module__], "selection_score", best_at_step_4)
    checkpoint = tmp_path / "checkpoint.safetensors"
    arguments = command(data, tmp_path / "out", name, checkpoint, own)
    step = 5
    here = [str(Path(__file__).parents[place]) for place in (0, 2)]
    program = PROGRAM.format(here=here, step=step, number=int(number), arguments=arguments, patience=patience)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert run.returncode == code, run.stderr
    assert f"stopped by {number.name} at step {step} of" in run.stderr
    assert "run the same command again to go on" in run.stderr
    assert load_tensors(checkpoint)[1]["step"] == step
    assert not (tmp_path / "out").exists()
    refine = SECOND_LEVELS.get(name, REFINE)
    train(*data, name, 0, tmp_path / "out", MODEL, own, refine, 1, checkpoint)
    train(*data, name, 0, tmp_path / "straight", MODEL, own, refine, 1)
    resumed, straight = weights_of(tmp_path / "out"), weights_of(tmp_path / "straight")
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)
    rows = [read_table(tmp_path / f"{folder}/history.tsv") for folder in ("out", "straight")]
    for row in rows[0] + rows[1]:
        del row["seconds"]
    assert rows[0] == rows[1]
    assert len(rows[0]) == (4 if patience else SECOND_LEVELS.get(name, own).steps // own.report_every)


def test_event_files_hold_the_history(data: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(*data, "concat", 0, tmp_path / "a", MODEL, TRAIN, REFINE, 1, tmp_path / "checkpoint.safetensors")
    found = EventAccumulator(str(tmp_path / "checkpoint.events")).Reload()
    rows = read_table(tmp_path / "a/history.tsv")
    curve = {event.step: event.value for event in found.Scalars("validation_bound")}
    assert curve == pytest.approx({int(row["step"]): float(row["validation_bound"]) for row in rows}, rel=1e-5)


def test_training_needs_no_tensorboard(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorboard" else find(name))
    train(*data, "concat", 0, tmp_path / "a", MODEL, TRAIN, REFINE, 1, tmp_path / "checkpoint.safetensors")
    assert not (tmp_path / "checkpoint.events").exists()


@pytest.mark.parametrize("name", ["adversarial", "refiner", "decoder"])
def test_two_processes_train_as_one_does(name: str, data: tuple[Path, Path], tmp_path: Path) -> None:
    model = replace(MODEL, dropout=0.0)
    arguments = command(data, tmp_path / "two", name, tmp_path / "checkpoint.safetensors", TRAIN)
    arguments[arguments.index("--model-settings") + 1] = json.dumps(asdict(model))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*launch, "-m", "cvae_protein.cli.main", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("done in") <= 2  # one process speaks, of the training and of the fit of codes
    train(*data, name, 0, tmp_path / "one", model, TRAIN, SECOND_LEVELS.get(name, REFINE), 1)
    one, two = (read_table(tmp_path / f"{folder}/history.tsv") for folder in ("one", "two"))
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        fitted = {
            column for column in a if "flow" in column or column.endswith("nats")
        }  # to codes that differ a little
        for column in a.keys() - {"seconds"} - fitted:
            assert float(b[column]) == pytest.approx(float(a[column]), abs=2e-3, rel=1e-4), column
    single, double = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for key, value in single.items():
        if not key.startswith(("flow.", "aggregate.")):
            torch.testing.assert_close(double[key], value, atol=1e-4, rtol=1e-3)


def make_memory_short(most: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that suffices for `most` structures in a training step."""
    whole = CVAE.forward

    def forward(model: CVAE, batch: Batch, generator: torch.Generator) -> Output:
        if len(batch.mask) > most:
            raise error
        return whole(model, batch, generator)

    monkeypatch.setattr(CVAE, "forward", forward)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[...] DefaultCPUAllocator: can't allocate memory: ..."),
    ],
    ids=["gpu", "host"],
)
def test_short_memory_means_parts_and_the_same_training(
    error: Exception,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, settings = replace(MODEL, dropout=0.0), replace(TRAIN, batch_size=6)
    arguments = (model, settings, REFINE, 2)
    train(*data, "concat", 0, tmp_path / "whole", *arguments)
    make_memory_short(2, error, monkeypatch)
    train(*data, "concat", 0, tmp_path / "parts", *arguments)
    said = capsys.readouterr().err
    assert said.count("memory does not suffice; a step's 6 structures follow in 4 parts of 2") == 1
    whole, _ = load_tensors(tmp_path / "whole/weights.safetensors")
    parts, _ = load_tensors(tmp_path / "parts/weights.safetensors")
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-4)


def test_too_little_memory_for_one_structure_ends_with_advice() -> None:
    toy = Toy(3)

    def fail(step: int, ranks: Ranks) -> tuple[loop.Losses, float]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UserError, match="does not suffice for one structure"):
        minimise(replace(toy.task, losses=fail, structures=8), toy.state, replace(TRAIN, steps=3))
    assert toy.state.parts == 8


def test_work_goes_on_in_halves_and_other_errors_pass(capsys: pytest.CaptureFixture[str]) -> None:
    def work(rows: np.ndarray) -> np.ndarray:
        if len(rows) > 3:
            raise MemoryError
        return rows * 2

    rows = np.arange(10)
    pieces = in_pieces(work, rows, "relax")
    assert np.concatenate([piece for piece, _ in pieces]).tolist() == rows.tolist()
    assert np.concatenate([made for _, made in pieces]).tolist() == (rows * 2).tolist()
    assert "relax: memory does not suffice for 10 structures at once; going on with 5" in capsys.readouterr().err

    def broken(rows: np.ndarray) -> np.ndarray:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        in_pieces(broken, rows, "relax")


def test_a_flipped_byte_of_weights_is_found_or_changes_nothing(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.tensor(2.0)}
    save_tensors(tmp_path / "w.safetensors", tensors, {"step": 3})
    whole = (tmp_path / "w.safetensors").read_bytes()
    found = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "d.safetensors").write_bytes(damaged)
        with suppress(UserError):
            read, facts = load_tensors(tmp_path / "d.safetensors")
            assert facts == {"step": 3}
            assert {name: value.tolist() for name, value in read.items()} == {n: v.tolist() for n, v in tensors.items()}
            continue
        found += 1
    assert found > 0.9 * len(whole)


def test_jitter_and_hidden_labels_of_training_batches() -> None:
    coords = tuple(np.zeros((50, 5, 3), np.float32) for _ in range(4))
    domains = DomainSet(coords, tuple("abcd"), ("1",) * 4, np.ones(4))
    spec = Spec("concat", 0, MODEL, REFINE, (("1",),), {"1": (50,)}, {})
    crops = np.array([[0, 0, 50], [1, 5, 45], [2, 0, 50], [3, 0, 49]])
    batch = training_batch(domains, spec, crops, 0.3, np.random.default_rng(0))
    assert batch.labels[:, 0].tolist() == [1, 0, 1, 0]
    assert batch.lengths.tolist() == [50, 40, 50, 49]
    assert batch.coords[batch.mask].std().item() == pytest.approx(0.3, rel=0.05)


def test_principal_components_of_many_structures_are_made_of_some(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with the set; a set below the limit is taken whole."""
    seen: list[int] = []
    fit = PrincipalComponents.fit

    def count(linear: PrincipalComponents, flat: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        seen.append(len(flat))
        assert len(flat) == len(weights)
        return fit(linear, flat, weights)

    monkeypatch.setattr(PrincipalComponents, "fit", count)
    for most in (1 << 15, 10):
        monkeypatch.setattr("cvae_protein.training.train.MOST_LINEAR", most)
        monkeypatch.setattr("cvae_protein.training.second_level.MOST_LINEAR", most)
        train(*data, "pca", 0, tmp_path / f"pca{most}", MODEL, TRAIN, REFINE, 2)
        train(*data, "refiner", 0, tmp_path / f"refiner{most}", MODEL, TRAIN, replace(REFINE, steps=1), 1)
    assert seen == [4 * 14, 14, 10, 10]
