"""Which part of a map is seen, and how one gets from there to another part: no Qt, no clock of its own."""

from dataclasses import replace

from dinoviz.widgets.scatter.splat import View, between

MARGIN = 0.06  # of the window's shorter side around a map that fits
CLOSEST = 4000.0  # times as near as a map that fits: where 32-bit positions are still exact to a pixel
FARTHEST = 0.5
GLIDE_MS = 130  # that a movement takes; longer feels late
LEAST_SPAN = 1e-3  # of the unit square, that a map is taken to be wide and high

Bounds = tuple[float, float, float, float]


class Camera:
    """What is seen through a window of a size, in logical pixels.

    Every movement sets ``target``; ``view`` follows at the next ``step``, or at once where the movement says so.
    """

    def __init__(self) -> None:
        self.view = self.target = View()
        self.is_fitted = True
        """The whole map is seen, and stays so when the window changes."""
        self.margin = MARGIN
        self._from = View()
        self._begun_ms = 0.0
        self._bounds: Bounds = (0.0, 0.0, 1.0, 1.0)
        self._size = (1, 1)
        self._fitting = View()

    @property
    def fitting(self) -> View:
        """The view that shows the whole map."""
        return self._fitting

    @property
    def is_moving(self) -> bool:
        """The target is not reached yet."""
        return self.view != self.target

    def look_at(self, bounds: Bounds) -> None:
        """Take another map: left, top, right and bottom of it in the unit square."""
        self._bounds = bounds
        self._fit_again(keeps_zoom=False)

    def resize(self, width: int, height: int) -> None:
        """Take another window; the same part of the map is seen in it."""
        self._size = (max(1, width), max(1, height))
        self._fit_again(keeps_zoom=True)

    def _fit_again(self, *, keeps_zoom: bool) -> None:
        before, self._fitting = self._fitting, self._fitted()
        if self.is_fitted:
            self.view = self.target = self._fitting
        elif keeps_zoom:
            scale = self.target.scale * self._fitting.scale / before.scale
            self.view = self.target = replace(self.target, scale=scale)

    def _fitted(self) -> View:
        (left, top, right, bottom), (width, height) = self._bounds, self._size
        margin = self.margin * min(width, height) * (1 - 2 * self.margin)
        across, down = max(right - left, LEAST_SPAN), max(bottom - top, LEAST_SPAN)
        scale = min((width - 2 * margin) / across, (height - 2 * margin) / down)
        return View((left + right) / 2, (top + bottom) / 2, max(1.0, scale))

    def fit(self) -> None:
        """Show the whole map."""
        self.is_fitted = True
        self.target = self._fitting

    def zoom(self, factor: float, x: float, y: float) -> None:
        """Come nearer by a factor, towards a place in the window, which stays where it is."""
        (width, height), target = self._size, self.target
        scale = min(max(target.scale * factor, self._fitting.scale * FARTHEST), self._fitting.scale * CLOSEST)
        map_x, map_y = target.to_map(x, y, width, height)
        self.is_fitted = False
        self.target = View(map_x - (x - width / 2) / scale, map_y - (y - height / 2) / scale, scale)

    def pan(self, dx: float, dy: float) -> None:
        """Move what is seen by pixels."""
        target = self.target
        self.is_fitted = False
        self.target = replace(target, x=target.x - dx / target.scale, y=target.y - dy / target.scale)

    def centre(self, x: float, y: float) -> None:
        """Bring a point of the unit square to the middle."""
        self.is_fitted = False
        self.target = replace(self.target, x=x, y=y)

    def seen(self) -> tuple[float, float, float] | None:
        """Return the middle of what is seen and how many times nearer than the whole map it is; None for the whole."""
        return None if self.is_fitted else (self.target.x, self.target.y, self.target.scale / self._fitting.scale)

    def see(self, x: float, y: float, zoom: float) -> None:
        """Show a part of the map, as ``seen`` said it."""
        self.is_fitted = False
        self.target = View(x, y, self._fitting.scale * zoom)

    def begin(self, now_ms: float) -> None:
        """Set out for the target."""
        self._from, self._begun_ms = self.view, now_ms

    def arrive(self) -> None:
        """Be at the target."""
        self.view = self.target

    def step(self, now_ms: float) -> None:
        """Go on towards the target, slower and slower."""
        share = min(1.0, (now_ms - self._begun_ms) / GLIDE_MS)
        self.view = self.target if share >= 1 else between(self._from, self.target, 1 - (1 - share) ** 3)
