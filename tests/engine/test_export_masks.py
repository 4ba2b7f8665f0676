"""Masks as other programs read them: pycocotools, OpenCV, Pillow, and by the rules of labelme and Ultralytics."""

import argparse
import json
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from engine.catalogue import formats_of
from engine.commands.export_looks import _listed, add_masks, sources_of
from engine.commands.scanning import open_project, scan_into
from engine.errors import BadInput, BadRecipe, Stopped
from engine.exporting.edited import Edits, cells_of_pixels, finer, path_of
from engine.exporting.mask_formats import MASK_FORMATS, IndexedPng, Labels16, MaskObject, Options, Spool
from engine.exporting.masks import MaskPlan, export_masks, mask_objects
from engine.exporting.pictures import Opened, Source
from engine.exporting.polygons import likeness, outlines, run_lengths
from engine.provenance import KEY
from engine.questions import Lattice
from engine.seeing.attention import AttentionMaps, attention_maps
from engine.seeing.grid import Grid
from engine.seeing.look import Gaze
from engine.seeing.masks import attention_mask
from tests.makers import photo, tiny_backbone, write_photos

# pycocotools 2.0.11 gives numpy 2 what it will no longer take some day
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

GAZE = Gaze(side=64)
GPS_TAG, ORIENTATION_TAG = 0x8825, 0x0112


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(source="/home/somebody/photos.dinoviz/runs/0001", width=48, heads=3)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Three pictures: one plain, one that EXIF turns and that tells where it was taken, one broken."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(photo(1, 90, 140)).save(folder / "plain.png")
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    exif.get_ifd(GPS_TAG)[1] = "N"
    exif[0x010F] = "Secret maker"
    Image.fromarray(photo(2, 90, 140)).save(folder / "turned.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return sources_of([folder])


def exported(backbone, sources, out, form, plan=None, options=None, gaze=GAZE):
    account, about = export_masks(backbone, sources, out, form, plan, options, gaze)
    rows = [json.loads(line) for line in (out / "pictures.jsonl").read_text().splitlines()]
    return account, about, {row["picture"]: row for row in rows}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def expected(backbone, source, plan=None, gaze=GAZE):
    """The masks of a picture, by the functions that look at it."""
    with Image.open(source.path) as image:
        exif = image.getexif().get(ORIENTATION_TAG, 1)
        stored = np.asarray(image.convert("RGB"))
    picture = np.ascontiguousarray(np.rot90(stored, -1)) if exif == 6 else stored
    maps = attention_maps(backbone, picture, side=gaze.side)
    return [mask.pixels for mask in mask_objects(maps, plan or MaskPlan(), picture.shape[:2])]


# --- outlines


def filled_by_coco(rings, size):
    return coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects([r.ravel().tolist() for r in rings], *size))) > 0


def filled_by_opencv(rings, size):
    """As Ultralytics does: whole pixels by cutting, then fillPoly."""
    canvas = np.zeros(size, np.uint8)
    for ring in rings:
        cv2.fillPoly(canvas, [ring.astype(np.int32)], 1)
    return canvas > 0


def filled_by_pillow(rings, size):
    """As labelme does."""
    image = Image.new("L", size[::-1])
    for ring in rings:
        ImageDraw.Draw(image).polygon([tuple(point) for point in ring.tolist()], outline=1, fill=1)
    return np.asarray(image) > 0


READERS = [filled_by_coco, filled_by_opencv, filled_by_pillow]
masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(masks, st.integers(1, 4))
def test_every_reader_fills_an_outline_to_the_same_mask(mask, scale):
    mask = np.kron(mask, np.ones((scale, scale), dtype=bool))
    rings = [outline.ring_V2 for outline in outlines(mask)]
    for reader in READERS if rings else ():
        np.testing.assert_array_equal(reader(rings, mask.shape), mask, err_msg=reader.__name__)
    assert likeness(run_lengths(mask), rings) == 1


@given(masks)
def test_filled_outlines_are_the_mask_without_its_holes(mask):
    found = outlines(mask, holes="fill")
    # a hole is background that cannot reach the border by edges, as parts of the mask connect by corners
    around = np.pad(mask, 1).astype(np.uint8)
    cv2.floodFill(around, None, (0, 0), 2)
    rings = [outline.ring_V2 for outline in found]
    for reader in READERS if rings else ():
        np.testing.assert_array_equal(reader(rings, mask.shape), around[1:-1, 1:-1] != 2, err_msg=reader.__name__)


def test_outlines_count_parts_and_holes():
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:12, 2:12] = True
    mask[4:6, 4:6] = mask[8:10, 8:10] = False
    mask[4:8, 20:24] = mask[8:10, 24:26] = True
    assert sorted((outline.n_holes, len(outline.ring_V2)) for outline in outlines(mask, holes="fill")) == [
        (0, 10),
        (2, 4),
    ]


def test_square_has_four_corners_a_quarter_of_a_pixel_inside():
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:5, 3:8] = True
    (outline,) = outlines(mask)
    assert sorted(map(tuple, outline.ring_V2.tolist())) == [(3.25, 2.25), (3.25, 4.75), (7.75, 2.25), (7.75, 4.75)]


def test_tolerance_takes_few_vertices_and_stays_like_the_mask():
    y, x = np.mgrid[:400, :500]
    mask = ((y - 200) / 150) ** 2 + ((x - 250) / 200) ** 2 < 1
    mask &= (y - 200) ** 2 + (x - 250) ** 2 > 50**2
    exact, simple = outlines(mask), outlines(mask, tolerance=1)
    assert len(simple[0].ring_V2) < len(exact[0].ring_V2) / 8
    assert likeness(run_lengths(mask), [simple[0].ring_V2]) >= 0.99


def test_likeness_is_that_of_the_pixels():
    mask = np.zeros((30, 40), dtype=bool)
    mask[5:25, 5:35] = True
    mask[10:20, 10:30] = False
    rings = [outline.ring_V2 for outline in outlines(mask, holes="fill")]
    assert likeness(run_lengths(mask), rings) == pytest.approx(mask.sum() / 600)
    assert likeness(run_lengths(mask), []) == 0
    assert likeness(run_lengths(mask & False), []) == 1


def test_run_lengths_of_ten_thousand_masks_decode_to_their_pixels():
    random = np.random.default_rng(0)
    for _ in range(10_000):
        mask = random.random(random.integers(1, 14, 2)) < random.random()
        encoded = run_lengths(mask)
        stored = json.loads(json.dumps({"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}))
        assert (coco_masks.decode(stored) == mask).all()


# --- masks


def maps_of(values_HRC, patch=4):
    _, rows, cols = values_HRC.shape
    grid = Grid(rows=rows, cols=cols, patch=patch, resized=(rows * patch, cols * patch))
    return AttentionMaps(maps_HRC=values_HRC.astype(np.float32), grid=grid, layer=0, query="cls")


@pytest.fixture(scope="module")
def maps():
    random = np.random.default_rng(3)
    return maps_of(random.random((3, 8, 10)) ** 3)


@pytest.mark.parametrize("head", ["mean", "union", 1])
def test_mask_holds_the_patches_of_the_attention(maps, head):
    masks_HRC = attention_mask(maps.maps_HRC, 0.5)
    wanted = {"mean": attention_mask(maps.mean[None], 0.5)[0], "union": masks_HRC.any(axis=0), 1: masks_HRC[1]}[head]
    (mask,) = mask_objects(maps, MaskPlan(keep=0.5, head=head), (32, 40))
    np.testing.assert_array_equal(mask.pixels, np.kron(wanted, np.ones((4, 4))))


def test_best_head_is_the_one_the_others_agree_with():
    values = np.full((3, 6, 6), 1e-6)
    values[0, 1:4, 1:4] = values[1, 1:4, 1:5] = values[2, 1:4, 3:6] = 1
    (mask,) = mask_objects(maps_of(values), MaskPlan(head="best", keep=0.99), (24, 24))
    assert mask.name == "head1"


def test_each_head_has_a_label_of_its_own(maps):
    plan = MaskPlan(head="each", label="dog")
    found = mask_objects(maps, plan, (32, 40))
    assert [mask.label for mask in found] == plan.labels(3) == ["dog-head0", "dog-head1", "dog-head2"]


@given(st.integers(0, 50))
@settings(max_examples=20)
def test_parts_make_up_the_mask_and_do_not_overlap(seed):
    maps = maps_of(np.random.default_rng(seed).random((1, 9, 9)) ** 4)
    (whole,) = mask_objects(maps, MaskPlan(), (36, 36))
    parts = mask_objects(maps, MaskPlan(has_parts=True), (36, 36))
    np.testing.assert_array_equal(sum(part.pixels.astype(int) for part in parts), whole.pixels)
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    areas = [part.n_pixels for part in parts]
    assert areas == sorted(areas, reverse=True)


def test_smooth_mask_holds_about_the_share_asked():
    y, x = np.mgrid[:12, :16]
    maps = maps_of(np.exp(-((y - 6) ** 2 + (x - 8) ** 2) / 12)[None])
    (mask,) = mask_objects(maps, MaskPlan(is_smooth=True, keep=0.7), (480, 640))
    held = maps.grid.spread_smoothly(maps.mean, (480, 640))
    assert held[mask.pixels].sum() / held.sum() == pytest.approx(0.7, abs=0.01)


def test_small_parts_are_left_out_of_smooth_masks_too():
    values = np.full((1, 12, 12), 1e-6)
    values[0, 2:6, 2:6] = 1
    values[0, 9, 9] = 1
    for smooth in (False, True):
        (mask,) = mask_objects(maps_of(values), MaskPlan(is_smooth=smooth, smallest=4, keep=0.9), (96, 96))
        assert mask.pixels[30, 30]
        assert not mask.pixels[60:, 60:].any()


# --- formats


def test_png_is_the_mask_in_the_size_of_the_upright_picture(backbone, sources, tmp_path):
    account, _, rows = exported(backbone, sources, tmp_path / "out", "png")
    for source in sources[1:]:
        (mask,) = expected(backbone, source)
        drawn = pixels(tmp_path / "out" / rows[source.name]["files"][0])
        assert drawn.dtype == np.uint8
        np.testing.assert_array_equal(drawn, mask * np.uint8(255))
    assert rows["turned.jpg"]["exif_orientation"] == 6
    assert (rows["turned.jpg"]["width"], rows["turned.jpg"]["height"]) == (90, 140)
    assert rows["broken.jpg"]["problem"] == "not a picture"
    assert (account.n_pictures, account.n_files, account.n_turned, len(account.left_out)) == (2, 2, 1, 1)


def test_masks_of_all_orientations_are_the_same(backbone, tmp_path):
    upright = photo(5, 60, 100)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    folder = tmp_path / "pictures"
    folder.mkdir()
    for orientation, picture in stored.items():
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{orientation}.png", exif=exif)
    exported(backbone, sources_of([folder]), tmp_path / "out", "png")
    first = pixels(tmp_path / "out" / "1.png")
    assert first.shape == (60, 100)
    for orientation in range(2, 9):
        np.testing.assert_array_equal(pixels(tmp_path / "out" / f"{orientation}.png"), first)


def as_object(mask, name="mean", part=None):
    return MaskObject(name, "object", part, run_lengths(mask))


def opened(size):
    return Opened(
        source=Source(path=None, name="a.png", id=1),
        stem="a",
        picture_YX3=np.zeros((*size, 3), np.uint8),
        orientation=1,
    )


@pytest.mark.parametrize(("form", "dtype"), [(IndexedPng, np.uint8), (Labels16, np.uint16)])
def test_label_map_survives_pillow_and_opencv(tmp_path, form, dtype):
    random = np.random.default_rng(0)
    numbers = random.integers(0, 200, (40, 50)).astype(dtype)
    objects = [as_object(numbers == number, part=number) for number in range(1, 200)]
    writer = form(tmp_path, tmp_path, ["object"], {"program": "dinoviz"}, Options())
    (path,), about = writer.write(opened((40, 50)), objects)
    with Image.open(path) as image:
        assert image.mode == {np.uint8: "P", np.uint16: "I;16"}[dtype]
        if image.mode == "P":
            assert image.getpalette()[: 3 * 4] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
            assert len(set(zip(*[iter(image.getpalette())] * 3, strict=True))) == 256
        found = np.asarray(image)
    np.testing.assert_array_equal(found, numbers)
    if dtype == np.uint16:
        as_cv = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        assert as_cv.dtype == np.uint16
        np.testing.assert_array_equal(as_cv, numbers)
    assert [mask["number"] for mask in about["masks"]] == list(range(1, 200))


def test_smaller_object_is_above_and_overlaps_are_counted(tmp_path):
    large, small = np.zeros((10, 10), dtype=bool), np.zeros((10, 10), dtype=bool)
    large[:8, :8] = True
    small[2:4, 2:4] = True
    writer = IndexedPng(tmp_path, tmp_path, ["object"], {}, Options())
    writer.write(opened((10, 10)), [as_object(small, "head0"), as_object(large, "head1")])
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.where(small, 1, 2 * large))
    assert writer.figures.counts["overlapping_pixels"] == 4


def test_indexed_png_keeps_the_largest_objects_and_counts_the_rest(tmp_path):
    numbers = np.arange(300).repeat(2)
    numbers = np.append(numbers, 299).reshape(1, -1)
    objects = [as_object(numbers == number, part=number + 1) for number in range(300)]
    writer = IndexedPng(tmp_path, tmp_path, ["object"], {}, Options())
    _, about = writer.write(opened((1, 601)), objects)
    assert pixels(tmp_path / "a.png").max() == len(about["masks"]) == 254
    assert about["masks"][-1]["part"] == 300
    assert writer.figures.counts["objects_left_out"] == 46


@pytest.mark.parametrize("form", ["coco", "coco-polygons"])
@pytest.mark.parametrize("plan", [MaskPlan(), MaskPlan(head="each", label="dog"), MaskPlan(has_parts=True)])
def test_coco_opens_and_decodes_to_the_masks(backbone, sources, tmp_path, form, plan, capsys):
    exported(backbone, sources, tmp_path / "out", form, plan)
    coco = COCO(tmp_path / "out" / "annotations.json")
    capsys.readouterr()
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == plan.labels(3)
    assert [row["file_name"] for row in coco.loadImgs(coco.getImgIds())] == ["plain.png", "turned.jpg"]
    for source in sources[1:]:
        wanted = expected(backbone, source, plan)
        rows = coco.loadAnns(coco.getAnnIds(imgIds=source.id))
        assert len(rows) == len(wanted)
        for row, mask in zip(rows, wanted, strict=True):
            np.testing.assert_array_equal(coco.annToMask(row), mask)
            y, x = np.nonzero(mask)
            assert row["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert row["area"] == mask.sum()
            assert row["iscrowd"] == (form == "coco")
    ids = [row["id"] for row in coco.dataset["annotations"]]
    assert ids == list(range(1, len(ids) + 1))


def test_coco_of_no_readable_picture_is_valid(backbone, sources, tmp_path):
    exported(backbone, sources[:1], tmp_path / "out", "coco")
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert content["images"] == content["annotations"] == []


def test_labelme_file_is_complete_and_fills_to_the_mask(backbone, sources, tmp_path):
    _, about, _ = exported(backbone, sources, tmp_path / "out", "labelme")
    for source in sources[1:]:
        content = json.loads((tmp_path / "out" / f"{source.path.stem}.json").read_text())
        needed = {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
        assert needed <= content.keys()
        assert content["imageData"] is None
        assert (tmp_path / "out" / content["imagePath"]).resolve() == source.path.resolve()
        (mask,) = expected(backbone, source)
        assert (content["imageHeight"], content["imageWidth"]) == mask.shape
        keys = {"label", "points", "group_id", "description", "shape_type", "flags", "mask"}
        assert all(shape.keys() == keys and shape["shape_type"] == "polygon" for shape in content["shapes"])
        assert len({shape["group_id"] for shape in content["shapes"]}) == 1
        rings = [np.array(shape["points"]) for shape in content["shapes"]]
        np.testing.assert_array_equal(filled_by_pillow(rings, mask.shape), mask)
    assert about["iou_least"] == 1


def read_yolo(path, size):
    """The rules that Ultralytics checks label files by."""
    rings = []
    for line in path.read_text(encoding="ascii").splitlines():
        number, *shares = line.split()
        points = np.array(shares, dtype=np.float32).reshape(-1, 2)
        assert number.isdecimal()
        assert len(points) >= 3
        assert 0 <= points.min() <= points.max() <= 1
        rings.append(points * (size[1], size[0]))
    return rings


def test_yolo_labels_follow_the_rules_and_fill_to_the_mask(backbone, sources, tmp_path):
    _, _, rows = exported(backbone, sources, tmp_path / "out", "yolo", options=Options(has_pictures=True))
    data = (tmp_path / "out" / "data.yaml").read_text()
    assert "train: images/train\nval: images/train\n" in data
    assert 'names:\n  0: "object"\n' in data
    for source in sources[1:]:
        labels, picture = (tmp_path / "out" / file for file in rows[source.name]["files"])
        assert picture.relative_to(tmp_path / "out" / "images").with_suffix(".txt") == labels.relative_to(
            tmp_path / "out" / "labels"
        )
        (mask,) = expected(backbone, source)
        assert pixels(picture).shape[:2] == mask.shape
        np.testing.assert_array_equal(filled_by_opencv(read_yolo(labels, mask.shape), mask.shape), mask)


def test_filled_holes_are_counted_and_their_loss_is_told(backbone, sources, tmp_path):
    plan, options = MaskPlan(keep=0.8), Options(holes="fill")
    _, about, rows = exported(backbone, sources, tmp_path / "out", "yolo", plan, options)
    losses = []
    for source in sources[1:]:
        (mask,) = expected(backbone, source, plan)
        filled = filled_by_opencv(read_yolo(tmp_path / "out" / rows[source.name]["files"][0], mask.shape), mask.shape)
        losses.append((mask & filled).sum() / (mask | filled).sum())
        assert rows[source.name]["masks"][0]["iou"] == pytest.approx(losses[-1], abs=1e-4)
    assert about["holes_filled"] == sum(row["masks"][0]["holes"] for row in rows.values() if "masks" in row) > 0
    assert about["iou_least"] == pytest.approx(min(losses), abs=1e-4)


def test_arrays_unpack_to_the_masks(backbone, sources, tmp_path):
    plan = MaskPlan(head="each")
    exported(backbone, sources, tmp_path / "out", "npz", plan)
    with np.load(tmp_path / "out" / "turned.npz", allow_pickle=False) as stored:
        masks_NYX = np.unpackbits(stored["packed"], axis=-1, count=stored["shape"][-1])
        assert stored["names"].tolist() == ["head0", "head1", "head2"]
        assert json.loads(str(stored["about"]))["keep"] == 0.6
    np.testing.assert_array_equal(masks_NYX, expected(backbone, sources[2], plan))


@pytest.mark.parametrize("form", MASK_FORMATS)
def test_every_format_says_what_made_it_and_nothing_about_the_camera(backbone, sources, tmp_path, form):
    out = tmp_path / "out"
    exported(backbone, sources, out, form, options=Options(has_pictures=True))
    stored = json.loads((out / "about.json").read_text())
    assert stored["program"].startswith("dinoviz ")
    assert stored["model_sha256"] == "ab" * 32
    assert (stored["layer"], stored["side_px"], stored["keep"], stored["head"]) == (1, 64, 0.6, "mean")
    assert (stored["pictures"], stored["left_out"], stored["stored_turned"]) == (2, 1, 1)
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"Secret maker" not in content
        assert b"/home/somebody" not in content
        assert b"Exif\0" not in content
    if form in ("png", "indexed", "labels16"):
        with Image.open(out / "plain.png") as image:
            assert json.loads(image.text[KEY])["model_sha256"] == "ab" * 32


def test_formats_are_those_of_the_catalogue():
    assert list(formats_of("masks")) == list(MASK_FORMATS)


# --- the whole export


def test_stopping_leaves_a_whole_export_of_what_was_done(backbone, sources, tmp_path):
    done = []
    account, about = export_masks(
        backbone,
        [*sources[1:], *sources[1:]],
        tmp_path / "out",
        "coco",
        gaze=GAZE,
        after_each=lambda: done.append(1),
        is_stopped=lambda: len(done) == 2,
    )
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [row["file_name"] for row in content["images"]] == ["plain.png", "turned.jpg"]
    assert account.is_stopped
    assert about["is_stopped_early"]


def test_failure_leaves_nothing(backbone, sources, tmp_path):
    def fail():
        raise Stopped

    with pytest.raises(Stopped):
        export_masks(backbone, sources, tmp_path / "out", "coco", gaze=GAZE, after_each=fail)
    assert list(tmp_path.iterdir()) == []


def test_export_is_not_replaced_unless_asked(backbone, sources, tmp_path):
    out = tmp_path / "out"
    exported(backbone, sources, out, "png", MaskPlan(head="each"))
    with pytest.raises(BadInput, match="not empty"):
        export_masks(backbone, sources, out, "png", gaze=GAZE)
    export_masks(backbone, sources, out, "png", gaze=GAZE, overwrite=True)
    assert {path.name for path in out.iterdir()} == {"plain.png", "turned.png", "about.json", "pictures.jsonl"}


def test_export_that_holds_the_pictures_is_not_replaced(backbone, sources, tmp_path):
    out = tmp_path / "out"
    exported(backbone, sources, out, "yolo", options=Options(has_pictures=True))
    with pytest.raises(BadInput, match="themselves lie"):
        export_masks(backbone, sources_of([out / "images"]), out, "png", gaze=GAZE, overwrite=True)


@pytest.mark.parametrize(
    ("plan", "gaze", "words"),
    [
        (MaskPlan(head=3), GAZE, "no head 3"),
        (MaskPlan(keep=0), GAZE, "cannot keep 0"),
        (MaskPlan(smallest=0), GAZE, "fewer than 0"),
        (MaskPlan(label="a\nb"), GAZE, "is no name"),
        (MaskPlan(), Gaze(side=64, layer=2), "no layer 2"),
        (MaskPlan(), Gaze(side=4), "no room"),
    ],
)
def test_values_that_cannot_be_are_refused_before_anything_is_written(backbone, sources, tmp_path, plan, gaze, words):
    with pytest.raises(BadRecipe, match=words):
        export_masks(backbone, sources, tmp_path / "out", "png", plan, gaze=gaze)
    assert list(tmp_path.iterdir()) == []


def test_patch_that_a_picture_has_not_is_the_matter_of_that_picture_only(backbone, sources, tmp_path):
    gaze = Gaze(side=64, query=(10, 0))
    account, _, rows = exported(backbone, sources[1:], tmp_path / "out", "png", gaze=gaze)
    assert [row.source.name for row in account.left_out] == ["plain.png"]
    assert "no patch at row 10" in rows["plain.png"]["problem"]
    assert rows["turned.jpg"]["files"] == ["turned.png"]


def test_lines_that_wait_are_not_in_memory(tmp_path):
    spool = Spool(tmp_path)
    tracemalloc.start()
    for number in range(20_000):
        spool.add({"id": number, "segmentation": "x" * 200})
    total = sum(len(line) for line in spool.listed())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 4_000_000
    assert peak < 500_000
    assert len(json.loads(b"[" + b"".join(spool.listed()) + b"]")) == 20_000
    spool.close()


# --- what is named


def test_project_gives_its_own_ids_names_and_splits(tmp_path):
    write_photos(tmp_path / "photos" / "train", 3)
    write_photos(tmp_path / "photos" / "val", 2)
    (tmp_path / "photos" / "val" / "broken.jpg").write_bytes(b"")
    with open_project(tmp_path / "photos", None, lambda _message: None) as project:
        scan_into(project, lambda _: None)
        known = {row.path: row for row in project.pictures()}
    found = sources_of([tmp_path / "photos.dinoviz"])
    assert {row.name: (row.id, row.split, row.problem) for row in found} == {
        path: (row.id, row.split, row.problem) for path, row in known.items()
    }
    assert [row.name for row in found if row.problem] == ["val/broken.jpg"]
    assert all(row.path.is_file() for row in found)


def test_several_folders_have_names_from_what_they_have_in_common(tmp_path):
    write_photos(tmp_path / "a", 1)
    write_photos(tmp_path / "b" / "c", 1)
    found = sources_of([tmp_path / "a", tmp_path / "b", tmp_path / "b" / "c" / "p00.jpg"])
    assert [row.name for row in found] == ["a/p00.jpg", "b/c/p00.jpg", "b/c/p00.jpg"]
    assert [row.id for row in found] == [1, 2, 3]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"no picture '.*nowhere.jpg'"):
        sources_of([tmp_path / "nowhere.jpg"])
    with pytest.raises(BadInput, match="no pictures there"):
        sources_of([tmp_path])


def test_wrong_words_on_the_command_line_are_refused(capsys):
    command = argparse.ArgumentParser()
    add_masks(command.add_subparsers())
    given = ["masks", "a.jpg", "--model", "m", "--out", "o", "--format"]
    arguments = command.parse_args([*given, "png", "--head", "2", "--query", "3,4"])
    assert (arguments.head, arguments.query) == (2, (3, 4))
    for words in (["bmp"], ["png", "--head", "two"], ["png", "--query", "3"], ["png", "--holes", "leave"]):
        with pytest.raises(SystemExit):
            command.parse_args([*given, *words])
    assert "is no head" in capsys.readouterr().err


def lattice_of(sources, name):
    maps = attention_maps(tiny_backbone(width=48, heads=3), np.asarray(Image.open(sources[name].path)), side=GAZE.side)
    grid = maps.grid
    return Lattice(rows=grid.rows, cols=grid.cols, patch=grid.patch, resized=grid.resized, picture=(90, 140))


def test_what_was_brushed_is_in_the_masks_and_marked_in_the_list(backbone, sources, tmp_path):
    plain = next(i for i, source in enumerate(sources) if source.name == "plain.png")
    none = Edits.none(lattice_of(sources, plain))
    edits = none.brushed((0, 0), (140, 0), 20, is_adding=True).brushed((0, 90), (140, 90), 20, is_adding=False)
    out = tmp_path / "out"
    export_masks(
        backbone, sources, out, "png", gaze=GAZE, edits=lambda source: edits if source.name == "plain.png" else None
    )
    export_masks(backbone, sources, tmp_path / "without", "png", gaze=GAZE)
    rows = {row["picture"]: row for row in map(json.loads, (out / "pictures.jsonl").read_text().splitlines())}
    assert rows["plain.png"].get("is_edited") is True
    assert "is_edited" not in rows["turned.jpg"]
    (file,) = out.rglob("plain*.png")
    mask, before = (np.asarray(Image.open(folder / file.relative_to(out))) for folder in (out, tmp_path / "without"))
    assert mask[0].min() == 255
    assert mask[-1].max() == 0
    np.testing.assert_array_equal(mask[40:50], before[40:50])


def test_edits_of_a_picture_that_has_another_size_by_now_are_left_out():
    lattice = Lattice(rows=2, cols=3, patch=8, resized=(16, 24), picture=(40, 60))
    edits = Edits.none(lattice).brushed((0, 0), (60, 40), 99, is_adding=True)
    assert edits.applied_to_pixels(np.zeros((40, 60), bool)).all()
    assert not edits.applied_to_pixels(np.zeros((41, 60), bool)).any()


def test_cells_lie_in_patches_as_the_engine_spreads_them():
    lattice = Lattice(rows=7, cols=9, patch=8, resized=(61, 75), picture=(123, 151))
    grid = Grid(rows=7, cols=9, patch=8, resized=(61, 75))
    mask_RC = np.random.default_rng(0).random((7, 9)) > 0.5
    rows_Y, cols_X = cells_of_pixels(lattice)
    np.testing.assert_array_equal(finer(mask_RC)[rows_Y[:, None], cols_X], grid.spread(mask_RC, lattice.picture))


def test_edits_come_back_from_their_file_and_damage_is_told(tmp_path):
    lattice = Lattice(rows=2, cols=3, patch=8, resized=(16, 24), picture=(40, 60))
    edits = Edits.none(lattice).brushed((5, 5), (9, 9), 3, is_adding=True)
    path = path_of(tmp_path, 7)
    assert Edits.read(path) is None
    edits.write(path)
    back = Edits.read(path)
    assert back.lattice == lattice
    np.testing.assert_array_equal(back.added_YX, edits.added_YX)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"edits in '7\.npz'"):
        Edits.read(path)


def test_masks_of_every_head_take_no_edits(backbone, sources, tmp_path):
    with pytest.raises(BadRecipe, match="no edits"):
        export_masks(backbone, sources, tmp_path / "out", "png", MaskPlan(head="each"), edits=lambda _source: None)


def test_list_chooses_pictures_of_a_project_by_their_paths(tmp_path, capsys):
    write_photos(tmp_path / "photos", 4)
    with open_project(tmp_path / "photos", tmp_path / "p.dinoviz", lambda _message: None) as project:
        scan_into(project, lambda _message: None)
    names = tmp_path / "names.txt"
    names.write_text("p02.jpg\np00.jpg\ngone.jpg\n")
    told = []
    chosen = _listed(sources_of([tmp_path / "p.dinoviz"]), names, told.append)
    assert [source.name for source in chosen] == ["p00.jpg", "p02.jpg"]
    assert "1 pictures of the list" in told[0].text
    names.write_text("gone.jpg\n")
    with pytest.raises(BadInput, match="None of the pictures"):
        _listed(sources_of([tmp_path / "p.dinoviz"]), names, told.append)
