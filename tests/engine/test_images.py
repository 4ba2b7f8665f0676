"""Finding pictures, decoding them in one way, and doing so in processes that may hang or die."""

import io
import os
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from engine.errors import BadInput, UnreadablePicture
from engine.images import (
    FILES_AHEAD,
    Probe,
    Shot,
    content_hash,
    find_pictures,
    open_rgb,
    probe,
    probe_many,
    shot,
    thumbnail,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def make(tmp_path):
    """Give a maker of files below tmp_path that hold a 2x3 PNG, or the bytes given."""
    with io.BytesIO() as file:
        Image.new("RGB", (3, 2), (1, 2, 3)).save(file, "PNG")
        png = file.getvalue()

    def make_file(name, content=png):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return make_file


def names(root):
    return [picture.path for picture in find_pictures(root).pictures]


def labels(root):
    return {picture.path: (picture.split, picture.label) for picture in find_pictures(root).pictures}


def reasons(root):
    return {row.path: row.reason for row in find_pictures(root).passed_over}


# ── find ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_are_found_in_the_order_of_their_bytes(tmp_path, make):
    for name in ("b.JPG", "a/z.png", "a.tiff", "a b.webp", "é.gif", "雪.jpeg", "Z.Heic", "a/ü 🌸/x.jp2"):
        make(name)
    assert names(tmp_path) == ["Z.Heic", "a b.webp", "a.tiff", "a/z.png", "a/ü 🌸/x.jp2", "b.JPG", "é.gif", "雪.jpeg"]


def test_found_file_has_its_size_and_time(tmp_path, make):
    info = make("a.png").stat()
    (picture,) = find_pictures(tmp_path).pictures
    assert (picture.size_bytes, picture.mtime_ns) == (info.st_size, info.st_mtime_ns)


def test_file_without_suffix_is_judged_by_its_first_bytes(tmp_path, make):
    make("photo")
    make("Makefile", b"all:\n")
    make("photo.txt")
    assert names(tmp_path) == ["photo"]
    assert reasons(tmp_path) == {"Makefile": "not a picture", "photo.txt": "not a picture"}


def test_hidden_files_are_counted(tmp_path, make):
    for name in (".a.jpg", "._b.jpg", "c/Thumbs.db", ".git/d.png", "e.png"):
        make(name)
    assert names(tmp_path) == ["e.png"]
    assert reasons(tmp_path) == {
        ".a.jpg": "hidden file",
        "._b.jpg": "hidden file",
        ".git/": "hidden folder",
        "c/Thumbs.db": "hidden file",
    }


def test_folder_named_as_a_picture_is_a_folder(tmp_path, make):
    make("folder.jpg/inner.jpg")
    assert names(tmp_path) == ["folder.jpg/inner.jpg"]


def test_no_folder_is_bad_input(tmp_path, make):
    for path in (tmp_path / "nowhere", make("file.png")):
        with pytest.raises(BadInput):
            find_pictures(path)


def test_link_loop_ends_and_gives_each_file_once(tmp_path, make):
    make("root/a/x.png")
    root = tmp_path / "root"
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to("self")
    (root / "0").symlink_to(root / "a", target_is_directory=True)
    (root / "above").symlink_to(tmp_path)
    assert names(root) == ["a/x.png"]
    assert reasons(root) == {
        "0/": "folder met before",
        "a/self": "broken link",
        "a/up/": "folder met before",
        "above/": "folder met before",
    }


def test_links_out_of_the_tree_are_followed_once(tmp_path, make):
    make("store/x.png")
    make("root/real.png")
    root = tmp_path / "root"
    (root / "a.png").symlink_to(tmp_path / "store" / "x.png")
    (root / "b.png").symlink_to(tmp_path / "store" / "x.png")
    (root / "c.png").symlink_to("real.png")
    (root / "d.png").symlink_to("nowhere.png")
    assert names(root) == ["a.png", "real.png"]
    assert reasons(root) == {
        "b.png": "link to a file met before",
        "c.png": "link to a file met before",
        "d.png": "broken link",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_special_files_are_passed_over_and_refused(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "b")
    with socket.socket(socket.AF_UNIX) as server, suppress(OSError):
        server.bind(str(tmp_path / "c.png"))
    assert names(tmp_path) == []
    assert set(reasons(tmp_path).values()) == {"not a regular file"}
    with pytest.raises(UnreadablePicture, match="not a regular file"):
        open_rgb(tmp_path / "a.jpg")


@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be on Windows")
def test_any_name_is_found_and_opened(tmp_path, make):
    odd = ["new\nline.png", " .png", "trailing. .png", "שלום.png", "e\u0301.png", '"quoted" & $HOME.png', "a\\b.png"]
    if sys.platform == "linux":
        odd.append(os.fsdecode(b"caf\xe9.png"))
    for name in odd:
        make(name)
    assert set(names(tmp_path)) == set(odd)
    for outcome in probe_many([tmp_path / name for name in odd], workers=1):
        assert isinstance(outcome, Probe)


def test_path_above_260_characters_is_found_and_opened(tmp_path, make):
    make("/".join(["a folder of thirty characters"] * 12) + "/x.png")
    (name,) = names(tmp_path)
    assert len(name) > 260
    assert open_rgb(tmp_path / name).shape == (2, 3, 3)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_is_reported(tmp_path, make):
    make("a/x.png")
    make("b/x.png")
    (tmp_path / "a").chmod(0)
    assert names(tmp_path) == ["b/x.png"]
    assert reasons(tmp_path) == {"a/": "unreadable folder: permission denied"}


def test_fifty_thousand_files_are_found_quickly(tmp_path):
    for folder in range(50):
        (tmp_path / f"{folder}").mkdir()
        for file in range(1000):
            os.close(os.open(tmp_path / f"{folder}" / f"{file}.jpg", os.O_CREAT))
    began = time.process_time()
    assert len(names(tmp_path)) == 50_000
    assert time.process_time() - began < 5


# ── labels ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_label_is_the_first_folder(tmp_path, make):
    for name in ("cat/1.png", "cat/deep/er/2.png", "dog/3.png", "4.png"):
        make(name)
    (tmp_path / "an empty class").mkdir()
    assert labels(tmp_path) == {
        "4.png": (None, None),
        "cat/1.png": (None, "cat"),
        "cat/deep/er/2.png": (None, "cat"),
        "dog/3.png": (None, "dog"),
    }


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_label_is_text_where_the_folder_is_not(tmp_path, make):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    make(folder / "1.png")
    make(tmp_path / "dog/2.png")
    assert {found.label for found in find_pictures(tmp_path).pictures} == {"caf\\udce9", "dog"}


def test_label_is_the_first_folder_below_the_split(tmp_path, make):
    for name in ("Training/cat/1.png", "validation/dog/a/2.png", "valid/dog/3.png", "test/4.png"):
        make(name)
    assert labels(tmp_path) == {
        "Training/cat/1.png": ("train", "cat"),
        "test/4.png": ("test", None),
        "valid/dog/3.png": ("val", "dog"),
        "validation/dog/a/2.png": ("val", "dog"),
    }


@pytest.mark.parametrize("folder", ["", "photos/", "photos/2021/"])
def test_one_folder_alone_is_no_label(tmp_path, make, folder):
    make(folder + "1.png")
    make(folder + "2.png")
    assert set(labels(tmp_path).values()) == {(None, None)}


def test_one_class_alone_keeps_its_split(tmp_path, make):
    make("train/cat/1.png")
    assert labels(tmp_path) == {"train/cat/1.png": ("train", None)}


# ── decode ────────────────────────────────────────────────────────────────────────────────────────────────────────────

ROWS, COLS = 12, 17
# How upright pixels lie in a file of each EXIF orientation, from the standard's words: 6 is "the 0th row is the visual
# right-hand side, the 0th column is the visual top".
AS_STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
FORMATS_OF_MODE = {
    "1": ("PNG", "TIFF"),
    "L": ("PNG", "TIFF"),
    "LA": ("PNG", "TIFF"),
    "P": ("PNG", "TIFF"),
    "RGB": ("PNG", "TIFF", "WEBP"),
    "RGBA": ("PNG", "TIFF", "WEBP"),
    "I;16": ("PNG", "TIFF"),
    "I;16B": ("TIFF",),
    "I": ("TIFF",),
    "F": ("TIFF",),
    "CMYK": ("TIFF",),
    "YCbCr": ("TIFF",),
    "LAB": ("TIFF",),
}
CASES = [(mode, form) for mode, forms in FORMATS_OF_MODE.items() for form in forms]


def noise(mode):
    """Return an upright picture of noise in a mode, and its right RGB by another way than the module's."""
    random = np.random.default_rng(7)
    wide = random.integers(0, 65536, (ROWS, COLS))
    rgba = random.integers(0, 256, (ROWS, COLS, 4), np.uint8)
    match mode:
        case "I;16" | "I;16B":
            grey = np.rint(wide / 257).astype(np.uint8)
            return Image.fromarray(wide.astype("<u2" if mode == "I;16" else ">u2")), np.dstack([grey] * 3)
        case "I":
            wide = wide * 10 - 200_000
            grey = np.rint((wide - wide.min()) / np.ptp(wide) * 255).astype(np.uint8)
            return Image.fromarray(wide.astype(np.int32)), np.dstack([grey] * 3)
        case "F":
            return Image.fromarray((wide / 65535).astype(np.float32)), np.dstack(
                [np.rint(wide / 257).astype(np.uint8)] * 3
            )
        case "LA" | "RGBA":
            picture = Image.fromarray(rgba if mode == "RGBA" else np.ascontiguousarray(rgba[:, :, 2:]))
            colour = rgba[:, :, :3] if mode == "RGBA" else np.dstack([rgba[:, :, 2]] * 3)
            share = rgba[:, :, 3:] / 255
            return picture, np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)
        case "LAB" | "CMYK" | "YCbCr":
            depth = len(Image.getmodebands(mode) * "x")
            picture = Image.frombytes(mode, (COLS, ROWS), np.ascontiguousarray(rgba[:, :, :depth]).tobytes())
            return picture, np.asarray(picture.convert("RGB"))
        case _:
            picture = Image.fromarray(rgba[:, :, :3]).convert(mode)
            return picture, np.asarray(picture.convert("RGB"))


def as_stored(picture, orientation):
    """Return the picture as it lies in a file of an orientation; Pillow's own transposes are not asked."""
    columns, rows = np.meshgrid(np.arange(picture.width), np.arange(picture.height))
    rows, columns = (AS_STORED[orientation](index) for index in (rows, columns))
    stored = Image.new(picture.mode, rows.shape[::-1])
    if picture.mode == "P":
        stored.putpalette(picture.getpalette())
    for row, col in np.ndindex(rows.shape):
        stored.putpixel((col, row), picture.getpixel((int(columns[row, col]), int(rows[row, col]))))
    return stored


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", AS_STORED)
@pytest.mark.parametrize(("mode", "form"), CASES)
def test_every_mode_is_exact_in_every_orientation(tmp_path, mode, form, orientation):
    picture, rgb = noise(mode)
    path = tmp_path / "picture"
    lossless = {"lossless": True, "exact": True} if form == "WEBP" else {}
    as_stored(picture, orientation).save(path, form, exif=exif_of(orientation), **lossless)
    np.testing.assert_array_equal(open_rgb(path), rgb)
    assert (probe(path).rows, probe(path).cols) == (ROWS, COLS)


@pytest.mark.parametrize("orientation", AS_STORED)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_turns_with_every_orientation(tmp_path, mode, orientation):
    path, plain = tmp_path / "turned.jpg", tmp_path / "plain.jpg"
    stored = as_stored(noise(mode)[0], orientation)
    stored.save(plain)
    stored.save(path, exif=exif_of(orientation))
    np.testing.assert_array_equal(AS_STORED[orientation](open_rgb(path)), open_rgb(plain))


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
def test_damaged_exif_leaves_the_picture(tmp_path, exif):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (30, 20), "red").save(path, exif=exif)
    assert open_rgb(path).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        (np.array([[0, 255]], np.uint16), [0, 255]),
        (np.array([[0, 256]], np.uint16), [0, 16]),
        (np.array([[0, 4095]], np.uint16), [0, 255]),
        (np.array([[0, 4096]], np.uint16), [0, 16]),
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[0, 4095]], np.int32), [0, 255]),
        (np.array([[-10, 0, 10]], np.int32), [0, 128, 255]),
        (np.array([[0, 100_000]], np.int32), [0, 255]),
        (np.array([[0.2, 0.6]], np.float32), [51, 153]),
        (np.array([[1, 2, 3]], np.float32), [0, 128, 255]),
        (np.array([[7, 7]], np.float32), [0, 0]),
        (np.array([[np.nan, 1, 0.5]], np.float32), [0, 255, 128]),
        (np.array([[-np.inf, 0, 2, np.inf]], np.float32), [0, 0, 255, 255]),
        (np.array([[np.nan, np.nan]], np.float32), [0, 0]),
        (np.array([[0x7FA00000, 0x3F800000]], np.uint32).view(np.float32), [0, 255]),  # a signalling NaN, and 1
    ],
    ids=str,
)
def test_more_than_eight_bits_are_scaled(tmp_path, values, greys):
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    assert open_rgb(path)[0, :, 0].tolist() == greys


def test_large_picture_in_strips_is_exact(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (1500, 1501, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png", compress_level=1)
    Image.fromarray(rgba[:, :, :3]).save(tmp_path / "b.png", compress_level=1)
    share = rgba[:, :, 3:] / 255
    np.testing.assert_array_equal(open_rgb(tmp_path / "a.png"), np.rint(rgba[:, :, :3] * share + 255 * (1 - share)))
    np.testing.assert_array_equal(open_rgb(tmp_path / "b.png"), rgba[:, :, :3])


def test_first_frame_is_taken(tmp_path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        path = tmp_path / form
        more = {"lossless": True} if form == "WEBP" else {}
        frames[0].save(path, form, save_all=True, append_images=frames[1:], **more)
        assert open_rgb(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(640, 480), (479, 641), (3000, 16)])
@pytest.mark.parametrize("at_least", [1, 16, 60, 61, 224, 240, 481])
def test_scaled_jpeg_is_never_smaller_than_needed(tmp_path, size, at_least, orientation):
    path = tmp_path / "a.jpg"
    Image.radial_gradient("L").resize(size).save(path, exif=exif_of(orientation))
    full, scaled = open_rgb(path), open_rgb(path, at_least=at_least)
    assert min(scaled.shape[:2]) >= min(at_least, *size)
    assert full.shape[0] / full.shape[1] == pytest.approx(scaled.shape[0] / scaled.shape[1], rel=0.6 / min(size) * 8)
    assert full.mean() == pytest.approx(scaled.mean(), abs=3)
    assert (probe(path).rows, probe(path).cols) == full.shape[:2]


def test_thumbnail_fits_and_is_never_enlarged(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (640, 480), "teal").save(path, exif=exif_of(8))
    assert thumbnail(path, 64).shape == (64, 48, 3)
    assert thumbnail(path, 2000).shape == (640, 480, 3)
    Image.new("RGB", (3000, 2)).save(path)
    assert thumbnail(path, 64).shape == (1, 64, 3)


def test_content_hash_is_of_the_bytes(make):
    empty = make("a.png", b"")
    assert content_hash(empty) == "cae66941d9efbd404e4d88758ea67670"  # BLAKE2b-128 of nothing, from b2sum -l 128
    assert content_hash(make("b.png")) == content_hash(make("c.jpg")) == probe(make("d.png")).content_hash
    with pytest.raises(UnreadablePicture, match="no such file"):
        content_hash(empty.with_name("nowhere.png"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty file"),
        (b"Dear all, here are the pictures.", "not a picture"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"P6 50000 50000 255\n", "too large: 2,500 million pixels, the limit is 120 million"),
        (b"P6 12000 12000 255\n", "too large: 144 million pixels, the limit is 120 million"),
        (b"P6 12 12 255\nabc", "truncated"),
    ],
    ids=str,
)
def test_problem_is_said_in_plain_words(make, content, problem):
    with pytest.raises(UnreadablePicture) as caught:
        open_rgb(make("a.png", content))
    assert caught.value.message == problem


def test_heic_is_never_taken_from_its_thumbnail(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / "a.heic"
    Image.radial_gradient("L").convert("RGB").save(path, thumbnails=[64])
    assert open_rgb(path, at_least=16).shape == (256, 256, 3)


def test_threads_agree_with_one_another(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        Image.new("RGBA", (50, 40), (number, 0, 0, 0)).save(path)
    with ThreadPoolExecutor(4) as threads:
        assert all((picture == 255).all() for picture in threads.map(open_rgb, paths))


def test_missing_file_is_a_problem_too(tmp_path):
    with pytest.raises(UnreadablePicture, match="no such file or directory"):
        open_rgb(tmp_path / "nowhere.png")


def test_heic_without_its_extra_says_what_to_install(make):
    path = make("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    run = run_python(
        f"""
        import sys
        sys.modules["pillow_heif"] = None
        from pathlib import Path
        from engine.images import open_rgb
        open_rgb(Path({str(path)!r}))
        """
    )
    assert 'HEIC needs the extra: pip install "dinoviz[heif]"' in run.stderr


# ── hostile bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
HEADS = (
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"GIF89a",
    b"RIFF\0\1\0\0WEBPVP8 ",
    b"II*\0\x08\0\0\0",
    b"BM",
)
HEADS += (
    b"P6 9 9 255\n",
    b"\0\0\0\x1cftypavif",
    b"\0\0\0\x18ftypheic",
    b"\0\0\x01\0\1\0",
    b"8BPS\0\1",
    b"qoif\0\0\0\2",
)


def refuses_or_decodes(path):
    verdicts = []
    for decode in (open_rgb, probe):
        try:
            assert decode(path) is not None
            verdicts.append(None)
        except UnreadablePicture as error:
            verdicts.append(error.message)
    assert verdicts[0] == verdicts[1]


@HOSTILE
@given(head=st.sampled_from((b"", *HEADS)), tail=st.binary(max_size=300))
def test_random_bytes_are_refused_in_order(tmp_path, head, tail):
    path = tmp_path / "random"
    path.write_bytes(head + tail)
    refuses_or_decodes(path)


def encoded(form, **options):
    picture = Image.radial_gradient("L").resize((96, 64)).convert("RGB")
    with io.BytesIO() as file:
        picture.save(file, form, exif=exif_of(6), **options)
        return file.getvalue()


WHOLE = {
    "baseline": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "png": encoded("PNG"),
    "webp": encoded("WEBP"),
    "tiff": encoded("TIFF", compression="tiff_lzw"),
}


@HOSTILE
@given(kind=st.sampled_from(sorted(WHOLE)), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=9))
def test_flipped_bits_are_refused_in_order(tmp_path, kind, flips):
    content = bytearray(WHOLE[kind])
    for place, bits in flips:
        content[int(place * (len(content) - 1))] ^= bits
    path = tmp_path / "flipped"
    path.write_bytes(content)
    refuses_or_decodes(path)


@HOSTILE
@given(kind=st.sampled_from(["baseline", "progressive", "png", "webp"]), share=st.floats(0, 0.97))
def test_cut_file_is_never_half_a_picture(tmp_path, kind, share):
    path = tmp_path / "cut"
    path.write_bytes(WHOLE[kind][: int(share * len(WHOLE[kind]))])
    for decode in (open_rgb, probe):
        with pytest.raises(UnreadablePicture):
            decode(path)


# ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def act_by_name(path: Path) -> Probe:
    """Do to a worker what the name of the file says."""
    match path.stem.split()[0]:
        case "hang":
            time.sleep(1000)
        case "die":
            os._exit(3)
        case "die_once" if not path.exists():
            path.touch()
            os._exit(3)
        case "eat":
            try:
                np.ones(8 << 30, np.uint8)
            except MemoryError:
                raise UnreadablePicture("needs too much memory") from None
        case "refuse":
            raise UnreadablePicture("refused", "Try another.")
        case "slow":
            time.sleep(0.05)
    return Probe(rows=os.getpid(), cols=0, content_hash=path.name)


def run_python(code, **options):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=REPOSITORY, check=False, **options)


def outcomes(paths, **options):
    """Return, per file, its name where it was decoded, else its problem."""
    done = probe_many([Path(path) for path in paths], decode=act_by_name, **options)
    return [one.content_hash if isinstance(one, Probe) else one.message for one in done]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_outcomes_come_in_order(workers):
    paths = [f"{'slow' if number % 7 == 0 else 'refuse' if number % 5 == 0 else 'go'} {number}" for number in range(90)]
    expected = ["refused" if path.startswith("refuse") else path for path in paths]
    assert outcomes(paths, workers=workers) == expected


def test_hint_travels_with_the_problem():
    (refused,) = probe_many([Path("refuse")], workers=1, decode=act_by_name)
    assert isinstance(refused, UnreadablePicture)
    assert refused.hint == "Try another."


def test_nothing_to_do_starts_nothing():
    assert list(probe_many([], workers=2)) == []


def test_hanging_file_is_named_and_the_others_go_on():
    began = time.monotonic()
    assert outcomes(["a", "hang", "b", "hang 2", "c"], workers=2, time_limit_s=1) == [
        "a",
        "took longer than 1 s",
        "b",
        "took longer than 1 s",
        "c",
    ]
    assert time.monotonic() - began < 30


def test_crashing_file_is_named_and_the_others_go_on():
    assert outcomes(["a", "die", "b", "die 2", "c"], workers=2) == [
        "a",
        "crashed the decoder",
        "b",
        "crashed the decoder",
        "c",
    ]


def test_one_crash_is_no_verdict(tmp_path):
    assert outcomes([tmp_path / "die_once", "a"], workers=1) == ["die_once", "a"]


def test_killed_worker_loses_nothing():
    paths = [Path(f"slow {number}") for number in range(40)]
    killed, done = set(), []
    for outcome in probe_many(paths, workers=2, decode=act_by_name):
        done.append(outcome.content_hash)
        if len(done) % 10 == 0 and outcome.rows not in killed:
            killed.add(outcome.rows)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(outcome.rows).kill()
    assert done == [path.name for path in paths]
    assert killed


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such cap")
def test_worker_has_a_cap_on_memory():
    assert outcomes(["eat", "a"], workers=1) == ["needs too much memory", "a"]


def test_few_outcomes_are_held_back_while_one_file_hangs():
    taken = []

    def endless():
        yield Path("hang")
        while True:
            taken.append(Path("go"))
            yield taken[-1]

    done = probe_many(endless(), workers=2, time_limit_s=3, decode=act_by_name)
    assert isinstance(next(done), UnreadablePicture)
    done.close()
    assert len(taken) <= FILES_AHEAD


def test_worker_that_cannot_start_is_our_fault():
    with pytest.raises(RuntimeError, match="could not start"):
        list(probe_many([Path("a")], workers=1, decode=Unloadable()))


class Unloadable:
    def __reduce__(self):
        return os._exit, (1,)


def test_stopping_early_leaves_no_process():
    assert outcomes(["a"], workers=1) == ["a"]  # starts the resource tracker of multiprocessing, which stays
    before = set(psutil.Process().children())
    done = probe_many([Path("a"), *[Path("hang")] * 9], workers=2, decode=act_by_name)
    next(done)
    done.close()
    assert set(psutil.Process().children()) <= before


PROBE_HANGING = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_images import act_by_name, probe_many
if __name__ == "__main__":
    for outcome in probe_many(map(Path, ["a", "hang"]), workers=2, decode=act_by_name):
        print(outcome.rows, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_workers_die_with_their_parent():
    command = [sys.executable, "-c", PROBE_HANGING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=REPOSITORY) as parent:
        assert int(parent.stdout.readline()) > 0
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def print_and_read(path: Path) -> Probe:
    os.write(1, b"noise")
    os.write(2, b"noise")
    return Probe(rows=len(os.read(0, 10)), cols=0, content_hash=path.name)


def test_workers_leave_standard_input_output_and_error_alone():
    run = run_python(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_images import print_and_read, probe_many
        print([outcome.rows for outcome in probe_many([Path("a"), Path("b")], workers=1, decode=print_and_read)])
        print(sys.stdin.read())
        """,
        input="for the parent",
    )
    assert run.stdout.split("\n") == ["[0, 0]", "for the parent", ""]
    assert run.stderr == ""


def test_when_and_with_what_a_picture_was_taken_is_read_from_its_exif(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "NIKON CORPORATION", "NIKON D750"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:17 14:03:11"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert shot(tmp_path / "a.jpg") == Shot(taken="2024-05-17 14:03", camera="NIKON D750")
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Apple\0", "iPhone 12"
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg", exif=exif)
    assert shot(tmp_path / "b.jpg").camera == "Apple iPhone 12"


def test_without_exif_or_with_nonsense_in_it_nothing_is_told_of_how_it_was_taken(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert shot(tmp_path / "a.png") == Shot()
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "yesterday"
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg", exif=exif)
    assert shot(tmp_path / "b.jpg") == Shot()
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    with pytest.raises(UnreadablePicture):
        shot(tmp_path / "c.jpg")
