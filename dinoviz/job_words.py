"""Jobs as people read them: where one is, what it does now, how fast, and how long it will take."""

from dinoviz.jobs import Job
from dinoviz.words import time_roughly, tr


def state_in_words(job: Job) -> str:
    """Return where a job is, for people."""
    return {
        "waiting": tr("waiting"),
        "running": tr("running"),
        "stopping": tr("stopping"),
        "done": tr("done"),
        "partial": tr("done, but some were left out"),
        "stopped": tr("stopped"),
        "failed": tr("failed"),
    }[job.state]


def pace(job: Job) -> str:
    """Return what a job does now, how fast, and how long it will take."""
    told = job.progress
    if told is None:
        return tr("starting") if job.state == "running" else state_in_words(job)
    words = [told.what]
    if told.total:
        words.append(f"{told.done:,}/{told.total:,}")
    if told.rate:
        words.append(f"{told.rate:,.0f} {told.unit}/s" if told.rate >= 10 else f"{told.rate:.2g} {told.unit}/s")
    if told.eta_s is not None and told.done < told.total:
        words.append(tr("about {time} left", time=time_roughly(told.eta_s)))
    return " · ".join(words)
