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


def run_name(number: int) -> str:
    """Return what a run is called."""
    return tr("Run {number}", number=number)


def date_in_words(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as the person's country writes it."""
    return QLocale().toString(QDateTime.fromSecsSinceEpoch(int(seconds)), QLocale.FormatType.ShortFormat)
