"""Every odd or broken file gives the right picture or a named reason, in bounded time and memory.

A part of the files lies in tests/data/odd; the rest, with their sources, in the developers' data next to the
repository, and their tests are skipped without it.
"""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UnreadablePicture
from engine.images import PIXEL_LIMIT, Probe, open_rgb, probe, probe_many

REPOSITORY = Path(__file__).parents[2]
HERE = REPOSITORY / "tests" / "data" / "odd"
DEVELOPERS = REPOSITORY.parent / "shared" / "data" / "odd"

# What must come of each file: its mean red, green and blue, or the problem. The means agree with those that the
# manifest of the developers' data has from Pillow and OpenCV, but where a plain convert("RGB") is wrong (transparency,
# 16 bits, floats; worked out by hand) or where Pillow refuses (HEIC, from pillow-heif).
EXPECTED: dict[str, str | tuple[float, float, float]] = {
    "jpeg/pil_sample_cmyk.jpg": (30.2, 5.4, 7.4),
    "jpeg/hopper_gray.jpg": (84.7, 84.7, 84.7),
    "jpeg/hopper_16bit_qtables.jpg": (90.1, 80.3, 94.8),
    "jpeg/junk_jpeg_header.jpg": (117.1, 115.8, 116.8),
    "jpeg/jpeg_ff00_header.jpg": (116.4, 78.9, 77.2),
    "jpeg/truncated_jpeg.jpg": "truncated",
    "jpeg/truncated_app14.jpg": (28.0, 4.5, 3.5),
    "jpeg/exif_typeerror.jpg": (160.5, 159.6, 141.7),
    "jpeg/hopper_bad_exif.jpg": (125.5, 125.5, 125.5),
    "jpeg/broken_exif_dpi.jpg": (0.0, 128.0, 1.0),
    "jpeg/multiple_exif.jpg": (0.0, 0.0, 0.0),
    "jpeg/empty_gps_ifd.jpg": (5.9, 3.9, 6.9),
    "jpeg/invalid-exif.jpg": (92.1, 92.1, 92.1),
    "jpeg/orientation_rectangle.jpg": (254.0, 0.0, 0.0),
    "jpeg/sugarshack.mpo": (120.5, 108.9, 99.1),
    "jpeg/ultrahdr.jpg": "truncated",
    "exif_orientation/Landscape_1.jpg": (98.3, 115.6, 134.0),
    "exif_orientation/Landscape_2.jpg": (98.4, 115.7, 134.1),
    "exif_orientation/Landscape_3.jpg": (98.4, 115.7, 134.1),
    "exif_orientation/Landscape_4.jpg": (98.4, 115.7, 134.1),
    "exif_orientation/Landscape_5.jpg": (98.4, 115.7, 134.1),
    "exif_orientation/Landscape_6.jpg": (98.4, 115.7, 134.2),
    "exif_orientation/Landscape_7.jpg": (98.3, 115.6, 134.1),
    "exif_orientation/Landscape_8.jpg": (98.4, 115.8, 134.2),
    "exif_orientation/Portrait_1.jpg": (144.4, 155.7, 163.0),
    "exif_orientation/Portrait_6.jpg": (144.5, 155.8, 163.1),
    "png/1_trns.png": (124.1, 124.1, 124.1),
    "png/l_trns.png": (123.9, 123.9, 123.9),
    "png/rgb_trns.png": (127.9, 176.3, 162.7),
    "png/p_trns_single.png": (127.9, 176.3, 162.7),
    "png/tRNS_null_1x1.png": (255.0, 255.0, 255.0),
    "png/transparent.png": (211.0, 202.7, 204.1),
    "png/broken.png": "damaged",
    "png/broken_data_stream.png": "damaged",
    "png/truncated_image.png": "truncated",
    "png/truncated_end_chunk.png": "truncated",
    "png/png_decompression_dos.png": "damaged",
    "png/unknown_compression_method.png": "damaged",
    "png/hopper_idat_after_image_end.png": (89.7, 80.1, 95.4),
    "png/exif_imagemagick_orientation.png": (144.5, 142.6, 143.1),
    "png/dispose_op_background.png": (255.0, 0.0, 0.0),
    "png/L_16__128x128.png": (127.5, 127.5, 127.5),
    "png/RGB_16__128x128.png": (127.0, 127.0, 128.0),
    "png/RGBA_16__128x128.png": (190.9, 169.6, 191.4),
    "png/LA_16__128x128.png": (127.9, 127.9, 127.9),
    "gif_webp/chi.gif": (249.7, 250.9, 247.0),
    "gif_webp/dispose_bgnd.gif": (72.5, 169.1, 246.9),
    "gif_webp/no_palette.gif": (0.0, 0.0, 0.0),
    "gif_webp/zero_width.gif": "damaged",
    "gif_webp/decompression_bomb.gif": "too large: 4,365 million pixels, the limit is 120 million",
    "gif_webp/transparent.gif": (211.0, 202.7, 204.1),
    "gif_webp/iss634.webp": (134.6, 136.6, 90.2),
    "gif_webp/transparent.webp": (210.9, 202.7, 204.2),
    "gif_webp/hopper.webp": (89.8, 80.1, 95.5),
    "tiff_bmp/16bit.cropped.tif": (23.9, 23.9, 23.9),
    "tiff_bmp/16_bit_noise.tif": (11.1, 11.1, 11.1),
    "tiff_bmp/tiff_16bit_RGB.tiff": (41.8, 28.8, 21.6),
    "tiff_bmp/hopper.Lab.tif": (88.8, 80.0, 95.3),
    "tiff_bmp/multipage.tiff": (0.0, 128.0, 0.0),
    "tiff_bmp/g4_orientation_5.tif": (226.7, 226.7, 226.7),
    "tiff_bmp/tiff_strip_cmyk_jpeg.tif": (30.2, 5.4, 7.4),
    "tiff_bmp/10ct_32bit_128.tiff": (133.9, 133.9, 133.9),
    "tiff_bmp/crash-0da013a13571cc8eb457a39fee8db18f8a3c7127.tif": (254.9, 254.9, 254.9),
    "tiff_bmp/oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "damaged",
    "tiff_bmp/total-pages-zero.tif": (249.6, 249.6, 249.6),
    "tiff_bmp/tiff_wrong_bits_per_sample.tiff": (201.2, 201.1, 206.0),
    "tiff_bmp/shortfile.bmp": "truncated",
    "tiff_bmp/reallybig.bmp": "too large: 6,000,000 million pixels, the limit is 120 million",
    "tiff_bmp/pal8.bmp": (119.4, 116.9, 120.5),
    "tiff_bmp/rgba32.bmp": (121.5, 116.4, 120.9),
    "heif_avif/hopper.avif": (89.8, 79.8, 95.6),
    "heif_avif/star.avifs": (254.5, 248.5, 223.2),
    "heif_avif/rot1mir0.avif": (130.5, 137.6, 97.2),
    "heif_avif/RGB_8__128x128.heif": (128.0, 128.0, 128.0),
    "heif_avif/zPug_3.heic": (67.3, 67.3, 67.3),
    "heif_avif/corrupted.heic": "damaged",
    "heif_avif/truncated.heic": (126.5, 12.0, 126.5),
    "heif_avif/samplefilehub.heif": (62.8, 51.1, 43.6),
    "other/hopper.ico": (42.6, 31.0, 46.9),
    "other/decompression_bomb.ico": "too large: 4,295 million pixels, the limit is 120 million",
    "other/test-card-lossless.jp2": (98.8, 44.7, 99.7),
    "other/hopper.psd": (89.7, 80.1, 95.4),
    "other/hopper.qoi": (89.7, 80.1, 95.4),
    "other/hopper.ppm": (89.7, 80.1, 95.4),
    "other/ukbench09268_corrupt.jpg": "not a picture",
    "other/ukbench09380.png": (147.9, 139.8, 129.1),
    "near_dup/ukbench00120.jpg": (61.2, 115.1, 137.3),
    "near_dup/ukbench00120_hflip.jpg": (61.2, 115.1, 137.3),
    "near_dup/ukbench00120_resize.jpg": (61.3, 115.1, 137.4),
    "near_dup/ukbench00120_rotation.jpg": (52.1, 98.8, 116.0),
    "near_dup/ukbench00120_gray.jpg": (101.0, 101.0, 101.0),
    "near_dup/ukbench09268.jpg": (72.8, 75.6, 85.9),
    "near_dup/ukbench09380.jpg": (147.9, 139.8, 129.1),
    "near_dup/ukbench09348.jpg": (80.4, 74.8, 68.9),
    "generated/zero_bytes.jpg": "empty file",
    "generated/text.jpg": "not a picture",
    "generated/html_error_page.png": "not a picture",
    "generated/only_soi.jpg": "damaged",
    "generated/cut_half.jpg": "truncated",
    "generated/cut_tail.jpg": "truncated",
    "generated/bit_rot.jpg": (142.3, 153.9, 156.2),
    "generated/png_bytes.jpg": (158.7, 151.9, 145.9),
    "generated/jpeg_bytes.png": (158.9, 151.8, 145.9),
    "generated/no_extension": (135.2, 124.4, 119.5),
    "generated/UPPER.JPG": (135.2, 124.4, 119.5),
    "generated/two words & (1).jpeg": (193.4, 189.0, 188.2),
    "generated/unicode_naïve_雪_🌸.jpg": (193.4, 189.0, 188.2),
    "generated/.hidden.jpg": (193.4, 189.0, 188.2),
    "generated/._resource_fork.jpg": "not a picture",
    "generated/one_pixel.jpg": (151.0, 146.0, 140.0),
    "generated/thin_3x2000.png": (155.6, 149.2, 143.6),
    "generated/wide_3000x2.jpg": (133.5, 122.3, 118.0),
    "generated/tiny_8x8.png": (158.7, 152.0, 145.9),
    "generated/flat_black.jpg": (0.0, 0.0, 0.0),
    "generated/flat_white.png": (255.0, 255.0, 255.0),
    "generated/bomb_1bit_40000x40000.png": "too large: 1,600 million pixels, the limit is 120 million",
    "generated/bomb_lying_header.png": "too large: 4,225 million pixels, the limit is 120 million",
    "generated/big_6000x4000.jpg": (158.9, 152.0, 146.1),
    "generated/grey_alpha.png": (127.1, 127.1, 127.1),
    "generated/alpha_gradient.png": (224.0, 221.7, 221.6),
    "generated/palette_64.png": (158.8, 151.9, 145.7),
    "generated/cmyk.jpg": (135.1, 124.4, 119.5),
    "generated/rotated_exif6.jpg": (193.4, 189.0, 188.4),
    "generated/exif_orientation_9.jpg": (193.4, 189.0, 188.4),
    "generated/float_nan.tif": (150.6, 150.6, 150.6),
    "generated/uint16.tif": (153.3, 153.3, 153.3),
    "generated/anim_3.webp": (158.6, 152.1, 146.1),
    "generated/anim_3.gif": (158.7, 151.9, 145.9),
    "generated/Thumbs.db": "not a picture",
    "generated/folder.jpg/inner.jpg": (135.0, 124.6, 119.2),
}


def picture_at(name: str) -> Path:
    for folder in (HERE, DEVELOPERS):
        if (folder / name).is_file():
            return folder / name
    return pytest.skip("only in the developers' data")


@pytest.mark.parametrize("name", EXPECTED)
def test_odd_file_gives_its_picture_or_a_reason(name):
    path, expected = picture_at(name), EXPECTED[name]
    if path.suffix in (".heic", ".heif"):
        pytest.importorskip("pillow_heif")
    if isinstance(expected, str):
        for decode in (open_rgb, probe):
            with pytest.raises(UnreadablePicture) as caught:
                decode(path)
            assert caught.value.message == expected
    else:
        rgb = open_rgb(path)
        seen = probe(path)
        assert rgb.dtype == np.uint8
        assert rgb.flags.c_contiguous
        assert rgb.shape == (seen.rows, seen.cols, 3)
        assert rgb.mean((0, 1)) == pytest.approx(expected, abs=1.5)


@pytest.mark.skipif(not DEVELOPERS.exists(), reason="only in the developers' data")
def test_every_odd_file_is_in_the_table():
    with (DEVELOPERS / "MANIFEST.csv").open(encoding="utf-8") as rows:
        assert {row["path"].removeprefix("odd/") for row in csv.DictReader(rows)} == set(EXPECTED)


def test_the_eight_orientations_are_one_picture():
    pictures = [open_rgb(picture_at(f"exif_orientation/Landscape_{n}.jpg"), at_least=90) for n in range(1, 9)]
    assert {picture.shape for picture in pictures} == {(150, 225, 3)}
    for picture in pictures[1:]:
        assert np.abs(picture.astype(int) - pictures[0]).mean() < 2


def test_workers_agree_with_the_table():
    names = [name for name in EXPECTED if (HERE / name).is_file()]
    for name, outcome in zip(names, probe_many((HERE / name for name in names), workers=2), strict=True):
        assert isinstance(outcome, Probe) is not isinstance(EXPECTED[name], str), name


DECODE_ALL_AND_MEASURE = r"""
import contextlib, re, resource, sys
from pathlib import Path
from engine.errors import UnreadablePicture
from engine.images import open_rgb
for path in Path(sys.argv[1]).rglob("*"):
    with contextlib.suppress(UnreadablePicture):
        open_rgb(path)
# On Linux ru_maxrss begins with what the parent held when it forked; VmHWM begins anew with the program.
status = Path("/proc/self/status")
here = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
print(1024 * int(here[1]) if here else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_bytes(folder: Path) -> int:
    """Return the greatest memory that decoding every file of a folder takes, the interpreter included."""
    pytest.importorskip("resource")
    command = [sys.executable, "-W", "error", "-c", DECODE_ALL_AND_MEASURE, str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=200, cwd=REPOSITORY).stdout)


@pytest.mark.parametrize("folder", [HERE, DEVELOPERS], ids=["here", "developers"])
def test_no_odd_file_takes_a_gigabyte(folder):
    if not folder.exists():
        pytest.skip("only in the developers' data")
    assert peak_bytes(folder) < 1e9


@pytest.mark.slow
def test_the_largest_picture_takes_less_than_a_gigabyte(tmp_path):
    from PIL import Image

    side = int(PIXEL_LIMIT**0.5)
    Image.new("RGBA", (side, side), (10, 20, 30, 40)).save(tmp_path / "large.png", compress_level=1)
    assert peak_bytes(tmp_path) < 1e9
