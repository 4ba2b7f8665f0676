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


def size_in_words(n_bytes: float) -> str:
    """Return a size as people read it, in decimal units: 340 kB, 1.5 GB."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while n_bytes >= 1000 and len(units) > 1:
        n_bytes /= 1000
        del units[0]
    unit = units[0]
    return f"{n_bytes:.0f} {unit}" if n_bytes >= 10 or unit == "bytes" else f"{n_bytes:.1f} {unit}"


def date_in_words(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as the person's country writes it."""
    return QLocale().toString(QDateTime.fromSecsSinceEpoch(int(seconds)), QLocale.FormatType.ShortFormat)


def time_in_words(seconds: float) -> str:
    """Return seconds as people read them: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
