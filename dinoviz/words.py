"""Words a person reads, in one place for translators."""

from PySide6.QtCore import QCoreApplication, QDateTime, QLocale

CONTEXT = "dinoviz"
"""Context of every text in the translation files."""


def tr(text: str, /, **values: object) -> str:
    """Return a text in the person's language, with its ``{names}`` filled in.

    Args:
        text: a literal in English, so that it can be collected for translators.
        values: what stands for each name; numbers are written with thousands separators.
    """
    said = QCoreApplication.translate(CONTEXT, text)
    return said.format(**{name: spelt(value) for name, value in values.items()}) if values else said


def spelt(value: object) -> object:
    """Return whole numbers with separators, everything else as it is."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def counted(n: int, one: str, many: str = "") -> str:
    """Return a number and its noun: 1 picture, 2,345 pictures."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def time_roughly(seconds: float) -> str:
    """Return how long something will take, no finer than it can be known: 40 seconds, 35 minutes, 2 ½ hours."""
    if seconds < 5:
        return tr("a few seconds")
    if seconds < 55:
        return counted(_to_the_next(seconds, 5 if seconds < 20 else 10), tr("second"))
    minutes = seconds / 60
    if minutes < 57.5:
        return counted(_to_the_next(minutes, 1 if minutes < 9.5 else 5), tr("minute"))
    halves = round(minutes / 30)
    if halves < 20:
        half = " ½" if halves % 2 else ""
        return tr("{n}{half} hours", n=halves // 2, half=half) if halves > 2 else tr("1 hour")
    hours = round(minutes / 60)
    return counted(hours, tr("hour")) if hours < 36 else counted(round(hours / 24), tr("day"))


def _to_the_next(value: float, step: int) -> int:
    """Return a number rounded to whole steps, at least one."""
    return max(step, step * round(value / step))


def run_name(number: int) -> str:
    """Return what a run is called."""
    return tr("Run {number}", number=number)


def date_in_words(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as the person's country writes it."""
    return QLocale().toString(QDateTime.fromSecsSinceEpoch(int(seconds)), QLocale.FormatType.ShortFormat)
