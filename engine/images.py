"""Find the pictures of a folder and decode them, in one way for everything that looks at pixels.

Scan, training, views and export all call ``open_rgb``; nothing else opens a picture, so none of them can see another
picture than the others. A picture is a file, or a member of a tar shard: ``photos/train-0001.tar/KEY.jpg``. What it
gives: the first frame, upright by its EXIF, RGB, transparency over white, more than 8 bits scaled and not clipped. A
file that cannot be decoded is an ``UnreadablePicture`` with a reason in plain words.

``probe_many`` decodes in processes of its own, since a hostile file can hang or kill a decoder. It relies on Pillow
alone, and on pillow-heif for HEIC where that is installed. It does not resize, cache or keep anything.
"""

import errno
import functools
import hashlib
import itertools
import math
import multiprocessing
import os
import re
import signal
import stat
import struct
import threading
import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from engine import shards
from engine.errors import BadInput, UnreadablePicture
from engine.shards import Member, opened, shard_of

# Pillow names. Left out on purpose: formats that run programs (EPS), that name other files, that have no magic bytes
# (TGA), and the rare ones behind most of Pillow's security fixes (FITS, FLI, PCX, SGI, …).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "AVIF", "HEIF", "JPEG2000", "QOI", "ICO", "PSD")
SUFFIX = re.compile(
    r"\.(jpe?g|jpe|jfif|mpo|a?png|webp|gif|tiff?|bmp|dib|p[bgnp]m|pfm|avifs?|hei[cf]s?|hif|jp[2cfx]|j2[ck]|qoi|ico|psd)\Z",
    re.IGNORECASE,
)
MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]|BM|P[1-7fF]\s|qoif|8BPS|\0\0\x01\0"
    rb"|....ftyp(avi[fs]|hei|hev|mif1|msf1)|\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    re.DOTALL,
)
HEIC_MAGIC = re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL)
MAGIC_BYTES = 16

SPLITS = {
    alias: split
    for split, aliases in {"train": "train training", "val": "val valid validation", "test": "test testing"}.items()
    for alias in aliases.split()
}

# The largest common sensors have 102 Mpx. This module holds 7 bytes a pixel (4 in Pillow, 3 in the result), so 0.84 GB;
# decoders that hold a picture of their own take more (WebP 16 bytes a pixel), hence the wider cap for a worker.
PIXEL_LIMIT = 120_000_000
MEMORY_LIMIT_BYTES = 2 << 30
STRIP_PIXELS = 1 << 20
TIME_LIMIT_S = 20.0  # failures.md A8, B2
START_LIMIT_S = 120.0  # a process that imports from a cold network disk
FILES_IN_HAND = 4  # queued per worker, so that none waits for us between two files
FILES_AHEAD = 4096  # outcomes held back, at most, while one file hangs

# The greatest values of 8, 12 and 16 bit sensors; all three are stored in 16-bit files.
SENSOR_TOPS = (255, 4095, 65535)

# EXIF orientation (tag 274) -> are rows and columns swapped, then steps along rows and along columns.
UPRIGHT = (False, 1, 1)
TURNS = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}

# What Pillow and its plugins were seen or are documented to raise on damaged files.
DECODER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError),
    *(SyntaxError, TypeError, ValueError, struct.error, zlib.error),
    *(Image.DecompressionBombError, ImageCms.PyCMSError),
)
TRUNCATED = re.compile("truncated|not enough|unexpected end|eof", re.IGNORECASE)
PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\.|pillow_heif\."), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file that may be a picture, not opened yet.

    Args:
        path: relative to the root, '/' between parts, bytes outside UTF-8 as surrogates (``os.fsdecode``).
        size_bytes: as the file system says.
        mtime_ns: time of last change, as the file system says.
        label: class, from the folders; see ``find_pictures``.
        split: 'train', 'val' or 'test', from the folders.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    label: str | None
    split: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A file or folder (its path ends in '/') that was not taken, and why, in plain words."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a folder holds; both rows are sorted by the bytes of the path."""

    pictures: tuple[Found, ...]
    passed_over: tuple[PassedOver, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one full decode of a file told: its upright size in pixels, and the hash of its bytes."""

    rows: int
    cols: int
    content_hash: str


Outcome = Probe | UnreadablePicture


def find_pictures(root: Path, only: Sequence[str] | None = None) -> Findings:
    """List the files under ``root`` that may be pictures, without opening them.

    A file is taken for its suffix, in capitals or not; one without suffix for its first bytes. Links are followed,
    after everything real, and never to something met before or to a folder above ``root``.

    The split is the first folder below ``root`` where that is named train, val or test (or training, valid, validation,
    testing). The label is the first folder below the root or the split; deeper folders say nothing, and a picture
    without such a folder has none. One label alone tells nothing apart: with fewer than two, all are None.

    Tar shards are looked into as if they were folders, but for their names, which are no labels. There, the label that
    lies beside a picture comes before that of a folder; see ``shards.label_of``. One picture of each sample is taken.

    Args:
        root: a folder.
        only: shards to look into, relative to it; None for everything.

    Raises:
        BadInput: ``root`` is no folder, or may not be listed.
    """
    walk = _Walk(_listable(root))
    if only is None:
        walk.run()
    else:
        walk.look_into_only(only)
    pictures = walk.pictures
    if len({picture.label for picture in pictures} - {None}) < 2:
        pictures = [replace(picture, label=None) for picture in pictures]
    return Findings(
        pictures=tuple(sorted(pictures, key=_path_bytes)),
        passed_over=tuple(sorted(walk.passed_over, key=_path_bytes)),
    )


def first_pictures(root: Path, most: int) -> tuple[Found, ...]:
    """Return some files as ``find_pictures`` lists them, without going through the whole tree.

    They are about the first by path; links are not followed, and labels are those of their folders.

    Raises:
        BadInput: as ``find_pictures``.
    """
    walk = _Walk(_listable(root))
    walk.run(most)
    return tuple(sorted(walk.pictures, key=_path_bytes)[:most])


def _listable(root: Path) -> Path:
    try:
        os.scandir(root).close()
    except OSError as error:
        raise BadInput(f"Cannot open the folder '{root}': {_in_words(error)}.", "Choose another folder.") from error
    return root


class _Walk:
    """One pass over a tree: the real entries first, so that no link takes the place of what it leads to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pictures: list[Found] = []
        self.passed_over: list[PassedOver] = []
        self._folders = [""]
        self._links: deque[str] = deque()
        self._met: set[tuple[int, int]] = set()
        for above in root.resolve().parents:
            with suppress(OSError):
                self._met.add(_identity(above.stat()))

    def run(self, most: int | None = None) -> None:
        """Go through everything, or the real entries until so many pictures are found."""
        while self._folders or (self._links and most is None):
            if self._folders:
                self._enter(self._folders.pop())
            else:
                self._follow(self._links.popleft())
            if most is not None and len(self.pictures) >= most:
                return

    def look_into_only(self, names: Sequence[str]) -> None:
        """Go through some shards."""
        for name in names:
            try:
                self._look_into(name, (self.root / name).stat())
            except OSError as error:
                self._pass_over(name, _in_words(error))

    def _enter(self, folder: str) -> None:
        """Sort out what a folder holds; ``folder`` is relative and ends in '/', or is empty for the root."""
        try:
            itself = (self.root / folder).stat()
            if _identity(itself) in self._met:
                self._pass_over(folder, "folder met before")
                return
            self._met.add(_identity(itself))
            with os.scandir(self.root / folder) as entries:
                in_order = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            self._pass_over(folder, f"unreadable folder: {_in_words(error)}")
            return
        n_folders = len(self._folders)
        for entry in in_order:
            try:
                self._sort_out(entry, folder + entry.name, itself.st_dev)
            except OSError as error:
                self._pass_over(folder + entry.name, _in_words(error))
        self._folders[n_folders:] = reversed(self._folders[n_folders:])  # the first by name is entered next

    def _sort_out(self, entry: os.DirEntry[str], path: str, device: int) -> None:
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.startswith(".") or entry.name.lower() in ("thumbs.db", "desktop.ini"):
            self._pass_over(path + "/" * is_folder, "hidden folder" if is_folder else "hidden file")
        elif entry.is_symlink():
            self._links.append(path)
        elif is_folder:
            self._folders.append(path + "/")
        else:
            # On Windows the stat of an entry has no inode; inode() does.
            self._examine(path, entry.stat(follow_symlinks=False), (device, entry.inode()))

    def _follow(self, path: str) -> None:
        try:
            target = (self.root / path).stat()
        except OSError:
            self._pass_over(path, "broken link")
            return
        if stat.S_ISDIR(target.st_mode):
            self._folders.append(path + "/")
        elif _identity(target) in self._met:
            self._pass_over(path, "link to a file met before")
        else:
            self._examine(path, target, _identity(target))

    def _examine(self, path: str, file: os.stat_result, identity: tuple[int, int]) -> None:
        if not stat.S_ISREG(file.st_mode):
            self._pass_over(path, "not a regular file")
        elif path.lower().endswith(shards.SUFFIX):
            self._met.add(identity)
            self._look_into(path, file)
        elif not self._may_be_picture(path):
            self._pass_over(path, "not a picture")
        else:
            self._met.add(identity)
            split, label = _split_and_label(path)
            self.pictures.append(
                Found(path=path, size_bytes=file.st_size, mtime_ns=file.st_mtime_ns, label=label, split=split)
            )

    def _look_into(self, path: str, file: os.stat_result) -> None:
        """Take one picture of each sample of a tar shard, with the label that lies beside it."""
        try:
            listing = shards.listing(self.root / path)
        except OSError as error:
            self._pass_over(path, _in_words(error))
            return
        for name, problem in listing.problems:
            self._pass_over(f"{path}/{name}" if name else path, problem)
        for _, members in itertools.groupby(listing.members, key=lambda member: member.key):
            sample = list(members)
            for member, problem in _passed_over_in(sample):
                self._pass_over(f"{path}/{member.name}", problem)
            for member in _pictures_in(sample):
                split, label = _told_in_shard(path, member)
                self.pictures.append(
                    Found(
                        path=f"{path}/{member.name}",
                        size_bytes=member.size_bytes,
                        mtime_ns=file.st_mtime_ns,
                        label=shards.label_of(sample) or label,
                        split=split,
                    )
                )

    def _may_be_picture(self, path: str) -> bool:
        has_suffix = "." in path.rpartition("/")[2]
        return bool(SUFFIX.search(path) if has_suffix else MAGIC.match(_first_bytes(self.root / path)))

    def _pass_over(self, path: str, reason: str) -> None:
        self.passed_over.append(PassedOver(path=path, reason=reason))


def _pictures_in(sample: Sequence[Member]) -> list[Member]:
    """Return the picture of a sample: KEY.jpg and not KEY.mask.png beside it; several where none is so plain.

    Where a sample has several plain ones, it is the first in the archive.
    """
    seen = [member for member in sample if SUFFIX.search(member.name) and not _is_hidden(member)]
    plain = [member for member in seen if "." not in member.field]
    return [min(plain, key=lambda member: member.offset)] if plain else seen


def _passed_over_in(sample: Sequence[Member]) -> list[tuple[Member, str]]:
    """Return the members of a sample that are not looked at; with a picture, only other pictures are worth a word."""
    taken = _pictures_in(sample)
    if not taken:
        return [(member, "hidden file" if _is_hidden(member) else "not a picture") for member in sample]
    left = [member for member in sample if member not in taken and SUFFIX.search(member.name)]
    return [(member, "hidden file" if _is_hidden(member) else "another picture of its sample") for member in left]


def _is_hidden(member: Member) -> bool:
    return any(part.startswith(".") for part in member.name.split("/"))


def _told_in_shard(path: str, member: Member) -> tuple[str | None, str | None]:
    """Return split and label that folders say, those in the shard first; a split also by a word of the shard's name."""
    split, label = _split_and_label(member.name)
    outer_split, outer_label = _split_and_label(path)
    words = re.split("[^a-z]+", path.rpartition("/")[2].lower())
    named = next((SPLITS[word] for word in words if word in SPLITS), None)
    return split or outer_split or named, label or outer_label


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _path_bytes(row: Found | PassedOver) -> bytes:
    return os.fsencode(row.path)


def _in_words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _first_bytes(path: Path) -> bytes:
    with opened(path) as file:
        return file.read(MAGIC_BYTES)


def _split_and_label(path: str) -> tuple[str | None, str | None]:
    folders = path.split("/")[:-1]
    split = SPLITS.get(folders[0].lower()) if folders else None
    classes = folders[1:] if split else folders
    # A label is text for people and tables; only a path has to keep bytes that are no UTF-8.
    return split, classes[0].encode(errors="backslashreplace").decode() if classes else None


def open_rgb(path: Path, *, at_least: int | None = None) -> NDArray[np.uint8]:
    """Decode a picture: first frame, upright, RGB.

    Transparency is laid over white. Grey of 16 bits is scaled from 0 to the top of the sensor that holds its greatest
    value (255, 4095 or 65535). Floats between 0 and 1 keep that range; other floats, and integers outside 16 bits, are
    scaled from their own least to their greatest finite value. NaN is black.

    Args:
        path: a file of one of ``FORMATS``, whatever its suffix.
        at_least: the shorter side that is needed, in pixels. A larger JPEG is then decoded at 1/2, 1/4 or 1/8,
            several times quicker, and never below this; other formats come in full.

    Returns:
        Array of (rows, cols, 3), uint8, contiguous.

    Raises:
        UnreadablePicture: the file cannot be decoded in full, or has more than ``PIXEL_LIMIT`` pixels.
    """
    return _decode(path, at_least)[0]


def probe(path: Path) -> Probe:
    """Decode a picture in full to learn its upright size, and that ``open_rgb`` will give it.

    Of a JPEG every byte is read too, but only every eighth pixel is computed.

    Raises:
        UnreadablePicture: as ``open_rgb``.
    """
    _, (rows, cols) = _decode(path, at_least=1)
    return Probe(rows=rows, cols=cols, content_hash=content_hash(path))


def thumbnail(path: Path, side: int) -> NDArray[np.uint8]:
    """Decode a picture as (rows, cols, 3) uint8 that fits in ``side`` x ``side`` pixels; small ones stay as they are.

    Raises:
        UnreadablePicture: as ``open_rgb``.
    """
    picture = Image.fromarray(open_rgb(path, at_least=side))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.array(picture)


def content_hash(path: Path) -> str:
    """Return the BLAKE2b hash, 16 bytes in hexadecimal, of the bytes of a file.

    Raises:
        UnreadablePicture: the file cannot be read.
    """
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, functools.partial(hashlib.blake2b, digest_size=16)).hexdigest()
    except OSError as error:
        raise UnreadablePicture(_in_words(error)) from error


def exif_orientation(path: Path) -> int:
    """Return how a picture lies in its file, by EXIF: 1 is upright, 2 to 8 is turned or mirrored; see ``TURNS``.

    Raises:
        UnreadablePicture: the file cannot be opened as a picture.
    """
    _ignore_pillow_warnings()
    try:
        with opened(path) as file, Image.open(file, formats=_formats()) as picture:
            orientation = _orientation(picture)
    except DECODER_ERRORS as error:
        raise UnreadablePicture(_problem(error, path)) from error
    return orientation if orientation in TURNS else 1


def upright_size(path: Path) -> tuple[int, int]:
    """Return the upright rows and columns of a picture that can be read, from its header alone.

    Raises:
        UnreadablePicture: the file cannot be opened as a picture.
    """
    _ignore_pillow_warnings()
    try:
        with opened(path) as file, Image.open(file, formats=_formats()) as picture:
            (cols, rows), orientation = picture.size, _orientation(picture)
    except DECODER_ERRORS as error:
        raise UnreadablePicture(_problem(error, path)) from error
    is_swapped = TURNS.get(orientation, UPRIGHT)[0]
    return (cols, rows) if is_swapped else (rows, cols)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """When and with what a picture was taken, as its EXIF says; empty where it does not."""

    taken: str = ""
    camera: str = ""


def shot(path: Path) -> Shot:
    """Return when (2026-05-17 14:03) and with what a picture was taken; reads no pixels, and damaged EXIF is none.

    Raises:
        UnreadablePicture: the file cannot be opened as a picture.
    """
    _ignore_pillow_warnings()
    try:
        with opened(path) as file, Image.open(file, formats=_formats()) as picture:
            exif = picture.getexif()
            details = exif.get_ifd(ExifTags.IFD.Exif)
    except DECODER_ERRORS as error:
        raise UnreadablePicture(_problem(error, path)) from error
    taken = re.match(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d)", _text(details.get(ExifTags.Base.DateTimeOriginal)))
    maker, model = _text(exif.get(ExifTags.Base.Make)), _text(exif.get(ExifTags.Base.Model))
    return Shot(
        taken="{}-{}-{} {}".format(*taken.groups()) if taken else "",
        camera=model if model.startswith(maker.split(" ")[0]) else f"{maker} {model}".strip(),
    )


def _text(value: object) -> str:
    return value.strip("\0 ") if isinstance(value, str) else ""


def _decode(path: Path, at_least: int | None) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the upright pixels, and the upright (rows, cols) that a decode in full has."""
    _ignore_pillow_warnings()
    try:
        if not shard_of(path) and not stat.S_ISREG(path.stat().st_mode):
            raise UnreadablePicture("not a regular file")
        stored, (cols, rows), orientation = _decode_as_stored(path, at_least)
    except DECODER_ERRORS as error:
        raise UnreadablePicture(_problem(error, path)) from error
    is_swapped, row_step, col_step = TURNS.get(orientation, UPRIGHT)
    if is_swapped:
        stored, rows, cols = stored.swapaxes(0, 1), cols, rows
    return np.ascontiguousarray(stored[::row_step, ::col_step]), (rows, cols)


def _decode_as_stored(path: Path, at_least: int | None) -> tuple[NDArray[np.uint8], tuple[int, int], int]:
    """Return the pixels as they lie in the file, the full (cols, rows) and the EXIF orientation."""
    # Not by path, as Pillow may map that into memory: it then garbles rotated TIFFs of 8 bits (seen with 13.0), and a
    # file that shrinks meanwhile is a bus error.
    with opened(path) as file, Image.open(file, formats=_formats()) as picture:
        full_size = picture.size
        if math.prod(full_size) > PIXEL_LIMIT:
            raise UnreadablePicture(_too_large(math.prod(full_size)))
        # For HEIC a draft would be the thumbnail in the file, which need not show the same.
        if at_least is not None and isinstance(picture, JpegImageFile):
            picture.draft(None, (at_least, at_least))
            picture.load()
        else:
            picture.load()
            full_size = picture.size  # that of TIFF and ICO is sure only now
        return _to_rgb(picture), full_size, _orientation(picture)


def _ignore_pillow_warnings() -> None:
    """Silence warnings about metadata and size, on which this module has its own word.

    The filter stays, as ``warnings.catch_warnings`` would undo the filters of other threads.
    """
    if warnings.filters[:1] != [PILLOW_WARNINGS]:
        warnings.filterwarnings("ignore", module=PILLOW_WARNINGS[3].pattern)


@functools.cache
def _formats() -> tuple[str, ...]:
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation; damaged EXIF counts as upright."""
    with suppress(*DECODER_ERRORS):
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Return (rows, cols, 3); made in strips, so that no second picture of full size is in memory."""
    is_wide = picture.mode in ("I", "F") or picture.mode.startswith("I;16")
    low, high = _value_range(picture) if is_wide else (0.0, 0.0)
    rgb = np.empty((picture.height, picture.width, 3), np.uint8)
    for rows, strip in _strips(picture):
        if is_wide:
            rgb[rows] = _to_grey(strip, low, high)[:, :, None]
        elif strip.has_transparency_data:
            white = Image.new("RGBA", strip.size, "white")
            rgb[rows] = np.asarray(Image.alpha_composite(white, strip.convert("RGBA")))[:, :, :3]
        else:
            rgb[rows] = np.asarray(strip.convert("RGB"))
    return rgb


def _strips(picture: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    n_rows = max(1, STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, n_rows):
        bottom = min(top + n_rows, picture.height)
        yield slice(top, bottom), picture.crop((0, top, picture.width, bottom))


def _value_range(picture: Image.Image) -> tuple[float, float]:
    """Return the values that become black and white; the rule is told in ``open_rgb``."""
    low, high = math.inf, -math.inf
    for _, strip in _strips(picture):
        values = _values(strip)
        finite = values[np.isfinite(values)]
        low = float(finite.min(initial=low))
        high = float(finite.max(initial=high))
    if picture.mode == "F":
        return (low, high) if low < 0 or high > 1 else (0.0, 1.0)
    if low < 0 or high > SENSOR_TOPS[-1]:
        return low, high
    return 0.0, float(next(top for top in SENSOR_TOPS if high <= top))


def _values(strip: Image.Image) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # signalling NaNs warn when cast
        return np.asarray(strip, np.float64)


def _to_grey(strip: Image.Image, low: float, high: float) -> NDArray[np.uint8]:
    share = (_values(strip) - low) / ((high - low) or 1.0)
    return np.rint(255 * np.clip(np.nan_to_num(share, nan=0.0), 0, 1)).astype(np.uint8)


def _problem(error: Exception, path: Path) -> str:
    """Say in plain words why a file could not be decoded."""
    match error:
        case MemoryError():
            return "needs too much memory"
        case Image.DecompressionBombError():
            n_pixels = re.search(r"\d+", str(error))
            return _too_large(int(n_pixels[0])) if n_pixels else "too large"
        case OSError(errno=int(number)) if number != errno.EINVAL:  # which is a seek to before the file
            return _in_words(error)
    first_bytes = b""
    with suppress(OSError):
        first_bytes = _first_bytes(path)
    if not first_bytes:
        return "empty file"
    if HEIC_MAGIC.match(first_bytes) and "HEIF" not in _formats():
        return 'HEIC needs the extra: pip install "dinoviz[heif]"'
    if not MAGIC.match(first_bytes):
        return "not a picture"
    return "truncated" if TRUNCATED.search(str(error)) else "damaged"


def _too_large(n_pixels: int) -> str:
    return f"too large: {n_pixels / 1e6:,.0f} million pixels, the limit is {PIXEL_LIMIT / 1e6:,.0f} million"


def probe_many(
    paths: Iterable[Path],
    *,
    workers: int,
    time_limit_s: float = TIME_LIMIT_S,
    decode: Callable[[Path], Probe] = probe,
) -> Iterator[Outcome]:
    """Probe files side by side, and give what became of each, in the order of ``paths``.

    A file that hangs its decoder, kills it twice or asks for too much memory costs its own outcome and no other. The
    paths are taken as they are needed. On systems other than Linux a worker's memory has no cap but the pixel limit.

    Args:
        paths: files, of any number.
        workers: processes to use; with 0 all is done here, without limits of time and memory.
        time_limit_s: seconds that one file may take.
        decode: what is done to each file; the workers import it, so it must be at the top of a module.
    """
    if workers == 0:
        yield from (_attempt(decode, path) for path in paths)
        return
    crew = [_Worker(decode, time_limit_s) for _ in range(workers)]
    early: dict[int, Outcome] = {}
    n_given = 0
    try:
        for number, outcome in _as_they_finish(crew, paths):
            early[number] = outcome
            while n_given in early:
                yield early.pop(n_given)
                n_given += 1
    finally:
        for worker in crew:
            worker.stop()


def _as_they_finish(crew: "list[_Worker]", paths: Iterable[Path]) -> Iterator[tuple[int, Outcome]]:
    """Keep the crew busy and yield each file's number and outcome, never ``FILES_AHEAD`` before the slowest file."""
    jobs = enumerate(paths)
    job = next(jobs, None)
    while job or any(worker.in_hand for worker in crew):
        slowest = min((worker.in_hand[0][0] for worker in crew if worker.in_hand), default=math.inf)
        while job and job[0] - slowest < FILES_AHEAD:
            worker = min(crew, key=lambda worker: len(worker.in_hand))
            if len(worker.in_hand) == FILES_IN_HAND:
                break
            worker.take(*job)
            job = next(jobs, None)
        busy = [worker for worker in crew if worker.in_hand]
        next_deadline = min(worker.deadline for worker in busy)
        wait([worker.pipe for worker in busy], max(0.0, next_deadline - time.monotonic()))
        for worker in busy:
            yield from worker.outcomes()


class _Worker:
    """A process that decodes one file after the other, and can be killed without harm to the rest."""

    pipe: Connection

    def __init__(self, decode: Callable[[Path], Probe], time_limit_s: float) -> None:
        self.in_hand: deque[tuple[int, Path]] = deque()  # numbered files; the first is being decoded
        self.deadline = 0.0
        self._process: BaseProcess | None = None
        self._is_ready = False
        self._n_crashes = 0
        self._decode = decode
        self._time_limit_s = time_limit_s

    def take(self, number: int, path: Path) -> None:
        """Queue a file."""
        if not self.in_hand:
            self.deadline = time.monotonic() + (self._time_limit_s if self._is_ready else START_LIMIT_S)
        self.in_hand.append((number, path))
        if self._process is None:
            self._start()
        else:
            self._send(path)

    def outcomes(self) -> list[tuple[int, Outcome]]:
        """Return what became of the files that are done with since the last call, by number."""
        done: list[tuple[int, Outcome]] = []
        try:
            while self.in_hand and self.pipe.poll():
                answer: Outcome | None = self.pipe.recv()
                self.deadline = time.monotonic() + self._time_limit_s
                self._is_ready = True
                if answer is not None:
                    done.append(self._finish(answer))
        except (EOFError, ConnectionError):
            self._n_crashes += 1
            if self._n_crashes > 1:
                done.append(self._fail("crashed the decoder"))
            else:  # may be the system short of memory, or someone's kill
                self.stop()
                self._start()
        if self.in_hand and time.monotonic() >= self.deadline:
            done.append(self._fail(f"took longer than {self._time_limit_s:g} s"))
        return done

    def _finish(self, outcome: Outcome) -> tuple[int, Outcome]:
        self._n_crashes = 0
        return self.in_hand.popleft()[0], outcome

    def _fail(self, problem: str) -> tuple[int, Outcome]:
        """Blame the file in hand, and go on with the next in a new process."""
        if not self._is_ready:
            raise RuntimeError("a process for decoding could not start")
        self.stop()
        failed = self._finish(UnreadablePicture(problem))
        if self.in_hand:
            self._start()
        return failed

    def _start(self) -> None:
        # Not fork, as locks that other threads hold stay locked in the copy for ever; not a fork server, as that keeps
        # our standard output open after us.
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, self._decode), daemon=True)
        self._process.start()
        far_end.close()
        self._is_ready = False
        self.deadline = time.monotonic() + START_LIMIT_S
        for _, path in self.in_hand:
            self._send(path)

    def _send(self, path: Path) -> None:
        with suppress(ConnectionError):  # where the process is gone, outcomes() will see that too
            self.pipe.send(os.fspath(path))

    def stop(self) -> None:
        """Kill the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
            self.pipe.close()


def _serve(pipe: Connection, decode: Callable[[Path], Probe]) -> None:
    """Decode the files that are sent until the pipe closes; runs in the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)  # libtiff and others write there what is wrong with a file; we have a sentence of our own
    _limit_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe.send(None)
    with suppress(EOFError):
        while True:
            pipe.send(_attempt(decode, Path(pipe.recv())))


def _attempt(decode: Callable[[Path], Probe], path: Path) -> Outcome:
    try:
        return decode(path)
    except UnreadablePicture as error:
        # A new one, since the traceback of the old one keeps the pixels alive.
        return UnreadablePicture(error.message, error.hint)


def _limit_memory() -> None:
    """Cap the address space of this process, where the system has such caps."""
    try:
        import resource
    except ImportError:
        return
    limit = psutil.Process().memory_info().vms + MEMORY_LIMIT_BYTES
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
