"""Other programs that are asked something, such as git or Slurm's: for a limited time, since some never answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from .errors import UserError

LONGEST = 60.0  # seconds; a busy Slurm answers within some


def ask(*command: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """What a program answers; `UserError` where it cannot be started or does not answer in time.

    without : variables of the environment that it does not get
    """
    kept: Mapping[str, str] = {name: value for name, value in os.environ.items() if name not in without}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=LONGEST, env=kept
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{' '.join(command)}: no answer within {LONGEST:.0f} s") from error
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be started ({error.strerror})") from error
