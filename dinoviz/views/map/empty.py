"""What is in place of a map that is not there: what it is, and the one thing to do; or how far that has come."""

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import button, label, pixmap
from dinoviz.jobs import Job
from dinoviz.views.map.work import sentence
from dinoviz.watching import follow
from dinoviz.words import tr

ICON_PX, TEXT_PX = 40, 440
LEAST_CLASSES = 4  # as ``engine.finding.class_maps.LEAST``
WHAT = {
    "tsne": "It puts pictures that are alike next to each other. You can watch it being laid out.",
    "umap": "It puts pictures that are alike into dense groups. It takes longer, and is shown when it is done.",
    "pca": "It shows the two directions in which the pictures differ most. It takes a moment.",
    "classes": "It shows each label as one place, by the mean of its pictures: which classes are near, which mix.",
}


class MapEmpty(QWidget):
    """The page; ``make`` is called by its button."""

    def __init__(self, make: Callable[[], object]) -> None:
        super().__init__()
        self._icon = QLabel()
        self._title = label("", "heading")
        self._text = label("", "muted", wraps=True)
        self._text.setFixedWidth(TEXT_PX)
        self._text.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.button: QPushButton = button(tr("Make the map"), make, kind="primary")
        self._bar = QProgressBar()
        self._bar.setFixedWidth(TEXT_PX // 2)
        self._bar.setTextVisible(False)
        self._bar.setAccessibleName(tr("Progress of the map"))
        column = QVBoxLayout(self)
        column.setSpacing(theme.SPACE)
        column.addStretch(2)
        for part in (self._icon, self._title, self._text):
            column.addWidget(part, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(theme.SPACE)
        column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addWidget(self._bar, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(3)
        follow(self, theme.changed, self._draw)
        self._draw()

    def show_state(
        self,
        name: str,
        method: str,
        *,
        is_read: bool,
        has_features: bool,
        model: str,
        n_labels: int,
        job: Job | None,
    ) -> None:
        """Say what there is to do.

        Args:
            name: of the map, for people.
            method: of the map.
            is_read: it is known that there is none; nothing is said before.
            has_features: there is a set of features.
            model: the backbone that would compute them, as it is called.
            n_labels: different labels of the pictures.
            job: what works on it now.
        """
        for part in (self._icon, self._title, self._text):
            part.setVisible(is_read or job is not None)
        lacks_labels = method == "classes" and n_labels < LEAST_CLASSES
        self.button.setVisible(is_read and job is None and not lacks_labels)
        self._bar.setVisible(job is not None)
        if job is not None:
            self._say_job(job)
            return
        self._title.setText(tr("No {name} map yet", name=name) if has_features else tr("No map yet"))
        text = tr(WHAT[method])
        if lacks_labels:
            text = tr(
                "A map of classes takes {n} labels or more; labels are the names of sub-folders, or what you type into "
                "the inspector.",
                n=LEAST_CLASSES,
            )
        elif not has_features:
            text += " " + tr(
                "First the features of all pictures are computed ({model}); you can go on meanwhile.",
                model=model,
            )
        self._say(text)
        self.button.setText(tr("Make the map") if has_features else tr("Make the features and the map"))
        self.button.setAccessibleName(self.button.text())

    def _say_job(self, job: Job) -> None:
        progress = job.progress
        self._title.setText(job.title)
        waiting = tr("Waiting for its turn") if job.state == "waiting" else ""
        parts = [sentence(progress.what) if progress else waiting]
        if progress and progress.total:
            parts.append(f"{progress.done:,} of {progress.total:,} {progress.unit}".rstrip())
        self._say(" · ".join(part for part in parts if part))
        self._bar.setRange(0, 1000 if job.share is not None else 0)
        self._bar.setValue(round(1000 * (job.share or 0)))

    def _say(self, text: str) -> None:
        """Write a text; a layout gives a label that wraps too little height in a width that is fixed."""
        self._text.setText(text)
        self._text.setMinimumHeight(self._text.heightForWidth(TEXT_PX))

    def _draw(self) -> None:
        self._icon.setPixmap(pixmap(theme.icon("map-trifold", "faint"), ICON_PX, self))
