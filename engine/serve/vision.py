"""The vision service: backbones and the tokens of the last pictures are kept, so that most answers are slices.

The first question about a picture takes it through the network; later ones about any head, layer, token, threshold or
components are answered from what that pass left, see ``seeing.tokens``. Kept are as many of the last pictures as fit in
a number of bytes. A picture that changes on the disk is seen anew.

Letters after a name are its axes:
    H heads · R C rows and columns of patches · D width · Y X pixels · 3 colours, RGB
"""

import gc
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from engine import questions as q
from engine.catalogue import VitShape
from engine.errors import BadInput, BadRecipe, NotLoaded, OutOfMemory, UnreadablePicture
from engine.images import open_rgb
from engine.machine import make_cpu_fast
from engine.models import patch_of
from engine.models.weights import Backbone, load_backbone
from engine.seeing.attention import AttentionMaps, check_head
from engine.seeing.grid import Grid
from engine.seeing.look import masks_of
from engine.seeing.look_matches import Choice, matches_between
from engine.seeing.matches import likeness_maps
from engine.seeing.palette import Palette, PatchStyle
from engine.seeing.patch_features import PatchGaze
from engine.seeing.seers import backbone_of
from engine.seeing.tokens import SeenPicture, pass_bytes, see
from engine.serve.answers import AnswerFiles
from engine.serve.loop import Outdated
from engine.serve.set_seeing import SetSeeing
from engine.sets import SetPlan
from engine.settings import CropSettings
from engine.training.crops import GLOBALS, View, draw_views, render_views

ROOM_BYTES = 1 << 30
"""Tokens kept: some 40 pictures of a ViT-S/16 at 480 px, 3 : 2; a tenth of the memory where that is less."""
ROOM_SHARE = 0.1
MOST_MODELS = 8
MOST_PALETTES = 32
"""Palettes kept; each is some 10 kB."""
READS = 3
"""Times that a picture is read which changes while it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """What a pass depends on. ``stamp`` is the time of last change and the size of the file."""

    backbone: int
    path: Path
    stamp: tuple[int, int]
    side: int
    is_square: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Patches:
    """The features of one of several pictures."""

    picture: Path
    key: _Key
    grid: Grid
    lattice: q.Lattice
    features_RCD: NDArray[np.float32]


class Vision:
    """Answers questions about pictures; a ``Service``.

    Args:
        model: the backbone that questions mean which name none.
        device: where to compute: cpu, cuda or mps.
        files: where the arrays of answers go.
        pictures_folder: what relative paths of pictures are relative to; the working folder where absent.
        is_outdated: asked between the pictures of one question; see ``Channel.is_outdated``.
        room_bytes: of the tokens kept.

    Raises:
        BadInput: there is no such model.
        BadWeights: it cannot be used.
    """

    def __init__(
        self,
        model: str,
        device: str,
        files: AnswerFiles,
        *,
        pictures_folder: Path | None = None,
        is_outdated: Callable[[], bool] = lambda: False,
        room_bytes: int | None = None,
    ) -> None:
        self._files = files
        self._folder = pictures_folder or Path.cwd()
        self._is_outdated = is_outdated
        self._room_bytes = room_bytes or min(ROOM_BYTES, int(ROOM_SHARE * psutil.virtual_memory().total))
        self._first_device = device
        self._device = device
        self._first_model = model
        self._models: dict[str, Backbone] = {}
        self._seen: OrderedDict[_Key, SeenPicture] = OrderedDict()
        self._palettes: OrderedDict[object, Palette] = OrderedDict()
        self._as_in_sets = SetSeeing(
            files, self._folder, self._backbone_of_set, lambda: torch.device(self._device), _stamp
        )
        self._prepare_device()
        threadpool_limits(1, user_api="blas")  # NumPy's threads wait by spinning, too; see commands.serve
        self._load(model)

    def answer(self, question: object) -> object:
        """Return the answer to one of ``questions.VISION``; raises as ``Service.answer``."""
        assert isinstance(question, q.VisionQuestion)
        match question:
            case q.Attention():
                return self._attention(question)
            case q.Mask():
                return self._mask(question)
            case q.Colours():
                return self._colours(question)
            case q.Likeness():
                return self._likeness(question)
            case q.Matches():
                return self._matches(question)
            case q.Where():
                return self._where(question)
            case q.Crops():
                return self._crops(question)
            case q.Describe():
                return self._as_in_sets.vectors(question)
            case q.ShowPart():
                return self._as_in_sets.part(question)
            case q.Explain():
                return self._as_in_sets.explained(question)
            case q.Load(model=model):
                return self._load(model)
            case q.Forget(model=model):
                self._forget(model)
            case q.Release():
                self._move("cpu")
            case q.Reclaim():
                self._move(self._first_device)
            case q.Status():
                return self._state()
            case q.Ping():
                pass
            case _:
                assert_never(question)
        return q.Done()

    def make_room(self) -> None:
        """Drop all that was seen."""
        self._seen.clear()
        self._palettes.clear()
        self._as_in_sets.drop()
        _give_back()

    def check(self) -> None:
        """Raise where the GPU no longer answers: after a fault of its own, every further call fails."""
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _attention(self, question: q.Attention) -> q.Maps:
        seen = self._see(question, question.picture)
        maps = _maps(seen, question)
        n_heads = len(maps.maps_HRC)
        heads = tuple(range(n_heads)) if question.heads is None else question.heads
        for head in heads:
            check_head(head, n_heads)
        return q.Maps(
            path=self._files.write(maps.maps_HRC[list(heads)]),
            lattice=_lattice(seen),
            layer=maps.layer,
            heads=heads,
        )

    def _mask(self, question: q.Mask) -> q.MaskMade:
        seen = self._see(question, question.picture)
        maps = _maps(seen, question)
        if isinstance(question.of, int):
            check_head(question.of, len(maps.maps_HRC))
        name = f"head{question.of}" if isinstance(question.of, int) else question.of
        mask_RC = masks_of(maps, question.keep, question.smallest)[name]
        return q.MaskMade(
            path=self._files.write(mask_RC),
            lattice=_lattice(seen),
            patches=int(mask_RC.sum()),
            share=float(mask_RC.mean()),
        )

    def _colours(self, question: q.Colours) -> q.Coloured:
        backbone = self._backbone(question.model)
        seen = list(self._features(question, (question.picture, *question.together), question.layer))
        palette = Palette.read(question.palette) if question.palette else self._palette(question, seen)
        width = seen[0].features_RCD.shape[-1]
        if palette.width != width:
            raise BadRecipe(
                f"The palette is for features of width {palette.width}; those of '{backbone.source}' have {width}.",
                "Use one that was made with this model.",
            )
        if question.save:
            palette.write(question.save)
        return q.Coloured(
            pictures=tuple(self._of_one(one, palette.colour(one.features_RCD).colours_RC3) for one in seen),
            rule=palette.rule,
            threshold=palette.foreground.threshold if palette.foreground else None,
        )

    def _palette(self, question: q.Colours, seen: Sequence[_Patches]) -> Palette:
        """Return the palette fitted on some pictures: kept, as views ask for the same again and again."""
        style = PatchStyle(
            name=question.style,
            foreground=question.foreground,
            is_flipped=question.is_flipped,
            is_opened=question.is_opened,
        )
        key = (tuple(one.key for one in seen), question.layer, style)
        if key not in self._palettes:
            backbone = self._backbone(question.model)
            gaze = PatchGaze(side=question.side, layer=question.layer, is_square=question.is_square)
            about = backbone.provenance(**gaze.facts(backbone), pictures=len(seen))
            self._palettes[key] = Palette.fit([one.features_RCD for one in seen], style, about)
        self._palettes.move_to_end(key)
        while len(self._palettes) > MOST_PALETTES:
            self._palettes.popitem(last=False)
        return self._palettes[key]

    def _likeness(self, question: q.Likeness) -> q.Likenesses:
        seen = list(self._features(question, (question.picture, *question.others), question.layer))
        seen[0].grid.check_patch(*question.patch)
        maps = likeness_maps(seen[0].features_RCD[question.patch], [one.features_RCD for one in seen])
        return q.Likenesses(pictures=tuple(self._of_one(*pair) for pair in zip(seen, maps, strict=True)))

    def _matches(self, question: q.Matches) -> q.Matched:
        first, second = self._features(question, (question.picture, question.other), question.layer)
        choice = Choice(most=question.most, least=question.least, is_foreground=question.is_foreground)
        found = matches_between(first.features_RCD, second.features_RCD, choice)
        table_M5 = np.column_stack([found.drawn.first_M2, found.drawn.second_M2, found.drawn.cosine_M])
        return q.Matched(
            path=self._files.write(table_M5.astype(np.float32)),
            lattice=first.lattice,
            other=second.lattice,
            mutual=len(found.every.cosine_M),
            fit=len(found.fit.cosine_M),
        )

    def _where(self, question: q.Where) -> q.Place:
        seen = self._see(question, question.picture)
        height, width = seen.size
        if question.y >= height or question.x >= width:
            raise BadRecipe(
                f"There is no pixel at row {question.y:,}, column {question.x:,}.",
                f"The picture has {height:,} rows and {width:,} columns.",
            )
        row, col = seen.grid.patch_at(question.y, question.x, seen.size)
        return q.Place(row=row, col=col, lattice=_lattice(seen))

    def _crops(self, question: q.Crops) -> q.Cropped:
        """Draw and render crops by the functions that training draws and renders them by."""
        settings = _crop_settings(question.settings)
        picture_YX3 = self._read(self._folder / question.picture)
        rows, cols = picture_YX3.shape[:2]
        views = draw_views(settings, rows, cols, seed=question.seed, epoch=question.epoch, sample=question.sample)
        large_VYX3, small_VYX3 = render_views(picture_YX3, views, settings)
        return q.Cropped(
            large=self._files.write(large_VYX3),
            small=self._files.write(small_VYX3),
            drawn=tuple(_drawn(view, is_large=index < GLOBALS) for index, view in enumerate(views)),
            size=(rows, cols),
        )

    def _features(self, question: q.OfPicture, pictures: Sequence[Path], layer: int) -> Iterator[_Patches]:
        """Give the patches of several pictures; their tokens need not all be kept."""
        for picture in pictures:
            if self._is_outdated():
                raise Outdated
            key = self._kept(question, picture)
            seen = self._seen[key]
            yield _Patches(
                picture=picture, key=key, grid=seen.grid, lattice=_lattice(seen), features_RCD=seen.patches(layer)
            )

    def _of_one(self, patches: _Patches, array: NDArray[np.generic]) -> q.OfOne:
        return q.OfOne(picture=str(patches.picture), path=self._files.write(array), lattice=patches.lattice)

    def _see(self, question: q.OfPicture, picture: Path) -> SeenPicture:
        return self._seen[self._kept(question, picture)]

    def _kept(self, question: q.OfPicture, picture: Path) -> _Key:
        """See a picture, unless it is kept, and return its key; it is the newest of what is kept afterwards.

        Raises:
            BadInput: it is not there or cannot be read.
            OutOfMemory: it would not fit.
        """
        backbone = self._backbone(question.model)
        path = self._folder / picture
        for _ in range(READS):
            key = _Key(
                backbone=id(backbone),
                path=path,
                stamp=_stamp(path),
                side=question.side,
                is_square=question.is_square,
            )
            if key not in self._seen:
                self._take_in(key, backbone)
            self._seen.move_to_end(key)
            if _stamp(path) == key.stamp:
                return key
            del self._seen[key]  # replaced while it was read: which of the two this is, nobody knows
        raise BadInput(f"The picture '{path}' is being written.", "Ask again when it is complete.")

    def _take_in(self, key: _Key, backbone: Backbone) -> None:
        """See a picture and keep it, in place of those that nobody asked about for longest."""
        picture_YX3 = self._read(key.path)
        if self._device == "cpu":
            self._make_sure_it_fits(backbone, picture_YX3, key)
        seen = see(backbone, picture_YX3, side=key.side, is_square=key.is_square)
        self._seen[key] = seen
        kept = self._kept_bytes()
        while kept > self._room_bytes and len(self._seen) > 1:
            kept -= self._seen.popitem(last=False)[1].n_bytes

    def _read(self, path: Path) -> NDArray[np.uint8]:
        try:
            return open_rgb(path)
        except UnreadablePicture as problem:
            raise BadInput(f"The picture '{path}' cannot be read: {problem.message}.", problem.hint) from problem

    def _make_sure_it_fits(self, backbone: Backbone, picture_YX3: NDArray[np.uint8], key: _Key) -> None:
        """Make room for a pass, or say no: when memory runs out Linux ends a process instead of saying so.

        Raises:
            OutOfMemory: the pass would take more than there is.
        """
        grid = Grid.of(picture_YX3.shape[:2], patch=patch_of(backbone.shape), side=key.side, is_square=key.is_square)
        needed = pass_bytes(backbone, grid)
        free = psutil.virtual_memory().available
        if needed <= free:
            return
        if needed > free + self._kept_bytes():
            raise OutOfMemory(
                f"At {key.side:,} px this picture has {grid.rows * grid.cols:,} patches, which take about "
                f"{needed / 1e9:,.1f} GB; {free / 1e9:,.1f} GB are free.",
                "Ask for a smaller side, or use a model with larger patches.",
            )
        self.make_room()

    def _kept_bytes(self) -> int:
        return sum(seen.n_bytes for seen in self._seen.values())

    def _backbone(self, model: str) -> Backbone:
        name = model or self._first_model
        if name not in self._models:
            raise NotLoaded(
                f"The model '{name}' is not loaded.", f"Load it first. There are: {', '.join(self._models)}."
            )
        return self._models[name]

    def _backbone_of_set(self, plan: SetPlan) -> Backbone:
        """Return the backbone that a set was made with: one that is loaded, where it is the same to the byte."""
        if plan.role == "teacher":  # which the others were loaded as
            for backbone in self._models.values():
                if backbone.sha256 == plan.model_sha256:
                    return backbone
        return backbone_of(plan)

    def _load(self, model: str) -> q.Model:
        """Load a backbone, or load it again; what the old one saw is dropped, unless it is the same to the byte."""
        if model not in self._models and len(self._models) >= MOST_MODELS:
            raise BadRecipe(f"{MOST_MODELS} models are loaded already.", "Forget one of them first.")
        backbone = load_backbone(model)
        old = self._models.get(model)
        if old is None or old.sha256 != backbone.sha256:
            backbone.model.to(self._device)
            self._drop_seen_by(old)
            self._models[model] = backbone
        return _about(model, self._models[model])

    def _forget(self, model: str) -> None:
        if model == self._first_model:
            raise BadRecipe(f"The service began with '{model}', which stays.", "End the service instead.")
        self._drop_seen_by(self._backbone(model))
        del self._models[model]

    def _drop_seen_by(self, backbone: Backbone | None) -> None:
        for key in [key for key, seen in self._seen.items() if seen.backbone is backbone]:
            del self._seen[key]
        self._palettes.clear()

    def _move(self, device: str) -> None:
        """Go on with another device, or with the CPU where that has no room; what was seen goes along."""
        try:
            self._move_all(device)
        except RuntimeError:
            self.make_room()
            self._move_all("cpu")
            raise

    def _move_all(self, device: str) -> None:
        self._device = device
        self._as_in_sets.drop()
        for backbone in self._models.values():
            backbone.model.to(device)
        for key, seen in self._seen.items():
            self._seen[key] = seen.moved(device)
        self._prepare_device()
        _give_back()

    def _prepare_device(self) -> None:
        """Make a CPU fast; what makes it fast would make the products of a GPU coarse."""
        if self._device == "cpu":
            for line in make_cpu_fast():
                sys.stderr.write(f"{line}\n")
        else:
            torch.set_float32_matmul_precision("highest")

    def _state(self) -> q.State:
        return q.State(
            device=self._device,
            models=tuple(_about(name, backbone) for name, backbone in self._models.items()),
            pictures=len(self._seen),
            kept_bytes=self._kept_bytes(),
            room_bytes=self._room_bytes,
        )


def _give_back() -> None:
    """Return what is free to the GPU, for other programs."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _about(name: str, backbone: Backbone) -> q.Model:
    shape = backbone.shape
    if not isinstance(shape, VitShape):
        return q.Model(model=name, sha256=backbone.sha256, width=shape.width, depth=0, heads=0, registers=0, patch=0)
    return q.Model(
        model=name,
        sha256=backbone.sha256,
        width=shape.width,
        depth=shape.depth,
        heads=shape.heads,
        registers=shape.registers,
        patch=shape.patch,
    )


def _maps(seen: SeenPicture, question: q.Attention | q.Mask) -> AttentionMaps:
    if question.layer == "rollout":
        return seen.rollout(question.query)
    return seen.attention(question.layer, question.query)


def _lattice(seen: SeenPicture) -> q.Lattice:
    grid = seen.grid
    return q.Lattice(rows=grid.rows, cols=grid.cols, patch=grid.patch, resized=grid.resized, picture=seen.size)


def _crop_settings(fields: Mapping[str, str | int | float | bool]) -> CropSettings:
    try:
        return CropSettings.model_validate(dict(fields))
    except ValidationError as problem:
        wrong = problem.errors()[0]
        told = ".".join(str(part) for part in wrong["loc"])
        raise BadRecipe(f"No crops can be drawn by these settings: {told} {wrong['msg'].lower()}.") from problem


def _drawn(view: View, *, is_large: bool) -> q.CropDrawn:
    return q.CropDrawn(
        top=view.top,
        left=view.left,
        height=view.height,
        width=view.width,
        is_large=is_large,
        is_flipped=view.flip,
        is_jittered=view.jitter is not None,
        is_grey=view.grey,
        is_blurred=view.blur_radius > 0,
        is_solarized=view.solarize,
    )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        told = path.stat()
    except OSError as problem:
        raise BadInput(f"The picture '{path}' cannot be opened: {problem.strerror}.", "Check the path.") from problem
    return told.st_mtime_ns, told.st_size
