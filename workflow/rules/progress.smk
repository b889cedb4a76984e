# One line a finished job, in place of Snakemake's several: "[7/22] cluster, 0:05: 31 clusters of 38 domains". A job's own
# last words follow where it ran elsewhere; on this machine they have been seen. `--quiet none` or a logger of your own
# brings Snakemake's back.

import logging
import time

from cvae_protein.core.progress import clock
from snakemake_interface_logger_plugins.common import LogEvent

NOISE = ("Select jobs to execute", "Execute ")


class OneLine(logging.Filter):
    """Turns what Snakemake says of a finished job into one line, and leaves out that it looks for the next."""

    def __init__(self):
        super().__init__()
        self.begun = (
            {}
        )  # job -> its name, its logs if it runs elsewhere, when it was started or sent off
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
        """Name, time and, of a job elsewhere, last words."""
        name, logs, started = self.begun.get(job, (f"job {job}", [], time.monotonic()))
        text = f"{name}, {clock(time.monotonic() - started)}"
        said = [last_lines(log, 1) for log in map(Path, logs) if log.is_file()]
        return ": ".join([text, *sum(said, [])])


if workflow.is_main_process and not any(
    word.startswith(("--logger", "--verbose")) for word in sys.argv
):
    logger.addFilter(OneLine())
