# One line per finished job instead of Snakemake's several: "[7/22] cluster, 0:05: 31 clusters of 38 domains". The last
# line of a job's log is added if it ran elsewhere; local output has been seen. `--quiet none` or your own logger
# restores Snakemake's messages.

import logging
import time

from cvae_protein.core.progress import clock
from snakemake_interface_logger_plugins.common import LogEvent

NOISE = ("Select jobs to execute", "Execute ")


class OneLine(logging.Filter):
    """Reduces Snakemake's messages on a finished job to one line, and drops those about selecting the next."""

    def __init__(self):
        super().__init__()
        self.begun = (
            {}
        )  # job -> its name, its logs if it runs elsewhere, when it was started or submitted
        self.finished = []

    def filter(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            name = " ".join([record.rule_name, *map(str, record.wildcards.values())])
            logs = [] if record.local or workflow.local_exec else record.log
            self.begun[record.jobid] = (name, logs, time.monotonic())
        elif event == LogEvent.JOB_FINISHED:
            self.finished.append(record.job_id)
            return False
        elif event == LogEvent.PROGRESS and self.finished:
            record.msg = "\n".join(
                f"[{record.done}/{record.total}] {self.line(job)}"
                for job in self.finished
            )
            record.event = None
            self.finished.clear()
        return not str(record.msg).startswith(NOISE)

    def line(self, job):
        """Name and time and, for a job elsewhere, the last line of its log."""
        name, logs, started = self.begun.get(job, (f"job {job}", [], time.monotonic()))
        text = f"{name}, {clock(time.monotonic() - started)}"
        said = [last_lines(log, 1) for log in map(Path, logs) if log.is_file()]
        return ": ".join([text, *sum(said, [])])


if workflow.is_main_process and not any(
    word.startswith(("--logger", "--verbose")) for word in sys.argv
):
    logger.addFilter(OneLine())
