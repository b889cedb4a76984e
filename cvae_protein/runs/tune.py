"""Search for settings by training: trials recorded in a journal and evaluated on the split `validation` alone."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from ..config.settings import Settings
from ..core.errors import UserError
from ..core.files import atomic_path, owned, read_table, sha256, write_table
from ..core.progress import say
from ..training.train import train
from .sweep import Choices, Range, changed, merged, space

SHOWN = ("validation_bound", "validation_rmsd", "validation_kl", "active_units", "step", "seconds")
FAILED = "failure"  # attribute of a trial whose training failed; one that was interrupted has none


def tune(store: Path, splits: Path, settings: Settings, output: Path) -> None:
    """Search `settings.tune.space`; write tune.tsv, a row per trial, and best.yaml, to lay over a config, to `output`.

    `study.journal` beside them records every trial: a later call resumes from it if nothing but `tune.trials` has
    changed, and otherwise begins another search in it. The same call makes the same trials, interrupted or not.
    Raises `UserError` if the space is empty or wrong, optuna is not installed, or no trial succeeds.
    """
    searched = space(settings)
    if not searched:
        raise UserError(
            "tune.space: expected keys with ranges or choices, such as train.kl.weight: [0.1, 10], got none"
        )
    with owned(output):
        output.mkdir(parents=True, exist_ok=True)
        study = _study(output / "study.journal", _origin(store, splits, settings))
        _take_up_interrupted(study)
        while (done := len(_finished(study))) < settings.tune.trials:
            _try(study, searched, store, splits, settings, output / "checkpoint.safetensors")
            _write(study, list(searched), settings, output)
            last = _finished(study)[-1]
            outcome = (
                f"{settings.tune.objective} {last.value:.3f}" if last.value is not None else last.user_attrs[FAILED]
            )
            values = ", ".join(f"{key} {value}" for key, value in last.params.items())
            say("tune", f"trial {done + 1} of {settings.tune.trials}: {outcome} at {values}")
        _write(study, list(searched), settings, output)
        if not _completed(study):
            raise UserError(f"tune: no trial succeeded; the last: {_finished(study)[-1].user_attrs[FAILED]}")


def _origin(store: Path, splits: Path, settings: Settings) -> str:
    """A name for the search, determined by its data, settings and space, but not by the number of trials."""
    facts = {
        "store": sha256(store),
        "splits": sha256(splits),
        "depth": settings.labels.depth,
        "model": asdict(settings.model),
        "train": asdict(settings.train),
        "tune": asdict(replace(settings.tune, trials=1)),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def is_of_another_search(store: Path, splits: Path, settings: Settings, output: Path) -> bool:
    """Whether a folder holds searches and none of them is this one."""
    if not (output / "study.journal").is_file():
        return False
    names = _storage(output / "study.journal").get_all_studies()
    return bool(names) and _origin(store, splits, settings) not in {study.study_name for study in names}


def _storage(journal: Path) -> Any:
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UserError(f"tune: needs optuna ({error}); pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.JournalStorage(JournalFileBackend(str(journal)))


def _study(journal: Path, name: str) -> Any:
    import optuna

    return optuna.create_study(storage=_storage(journal), study_name=name, direction="minimize", load_if_exists=True)


def _take_up_interrupted(study: Any) -> None:
    """Repeat the trials that a killed process left unfinished, from their checkpoint if it is there."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _finished(study: Any) -> list[Any]:
    """Trials with a value, and those whose training failed, in order."""
    return [trial for trial in study.get_trials() if trial.value is not None or FAILED in trial.user_attrs]


def _completed(study: Any) -> list[Any]:
    return [trial for trial in _finished(study) if trial.value is not None]


def _try(
    study: Any, searched: dict[str, Choices | Range], store: Path, splits: Path, settings: Settings, checkpoint: Path
) -> None:
    """One trial: values from the sampler, a training, the best row of its history."""
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    own = settings.tune
    study.sampler = TPESampler(seed=(own.seed + len(_finished(study))) % 2**32)  # as it is after a resumption
    trial = study.ask()
    values = {key: _suggest(trial, key, of) for key, of in searched.items()}
    tried = changed(settings, values)
    how = replace(tried.train, flow_steps=0)  # it is slow, and no objective depends on it
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            sections = (tried.model, how, tried.refine, tried.labels.depth)
            train(store, splits, own.variant, own.seed, folder, *sections, checkpoint)
            row = best_row(folder / "history.tsv", own.objective)
    except UserError as error:
        trial.set_user_attr(FAILED, str(error))
        study.tell(trial, state=TrialState.FAIL)
        return
    for name in SHOWN:
        trial.set_user_attr(name, row.get(name, ""))
    study.tell(trial, float(row[own.objective]))


def _suggest(trial: Any, key: str, of: Choices | Range) -> Any:
    if isinstance(of, Choices):
        return trial.suggest_categorical(key, of.values)
    if isinstance(of.low, int) and isinstance(of.high, int):
        return trial.suggest_int(key, of.low, of.high, log=of.log)
    return trial.suggest_float(key, of.low, of.high, log=of.log)


def best_row(history: Path, objective: str) -> dict[str, str]:
    """The row of a history whose weights were kept; `UserError` if it has no value of the objective."""
    rows = read_table(history)
    row = next((row for row in rows if row.get("best") == "1"), rows[-1])
    if objective not in row:
        raise UserError(f"tune: no {objective} in {', '.join(row)}; hold domains out for it by split.validation")
    if not math.isfinite(float(row[objective])):
        raise UserError(f"tune: {objective} is {row[objective]}")
    return row


def _write(study: Any, keys: list[str], settings: Settings, output: Path) -> None:
    """Write the table of trials and the best values found so far."""
    columns = ["trial", "state", *keys, *SHOWN, FAILED]
    rows = [
        {"trial": number, "state": "done" if trial.value is not None else "failed"}
        | {key: trial.params[key] for key in keys}
        | {name: trial.user_attrs.get(name, "") for name in (*SHOWN, FAILED)}
        for number, trial in enumerate(_finished(study))
    ]
    write_table(output / "tune.tsv", columns, rows)
    if not _completed(study):
        return
    best = min(_completed(study), key=lambda trial: trial.value)
    text = yaml.safe_dump(merged({}, {key: best.params[key] for key in keys}), sort_keys=False)
    said = f"# {settings.tune.objective} {best.value:.4f}, the least of {len(_completed(study))} trials (tune.tsv).\n"
    use = "# snakemake --configfile FILE... where this file is the last of them\n"
    with atomic_path(output / "best.yaml") as temporary:
        temporary.write_text(said + use + text, encoding="utf-8")
