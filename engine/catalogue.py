"""What there is to choose from: architectures, released weights, objectives.

Literal tables and nothing else: no torch, no files, no network. One row adds a choice; the
command line, the form of the window and the help are built from these rows.
"""

from dataclasses import dataclass, replace
from typing import Literal, cast

from engine.errors import BadRecipe

PositionRule = Literal["scaled", "sized", "sized-antialiased"]
"""How a position embedding is resampled to another grid of patches.

``scaled`` uses the coordinates of the scale factor ``(n + 0.1) / side`` (DINO, DINOv2 without
registers), ``sized`` those of the size (Hugging Face's ViT and Dinov2), ``sized-antialiased`` the
same with antialiasing (DINOv2 with registers, timm). Sources: facebookresearch/dino
``interpolate_pos_encoding``; facebookresearch/dinov2 ``hubconf`` arguments.
"""
Stem = Literal["patch", "conv"]
FeedForward = Literal["mlp", "swiglu"]
Sharding = Literal["none", "fsdp"]
ObjectiveName = Literal["dino", "dinov2", "ibot", "distillation", "supervised", "byol", "moco", "swav"]
Start = Literal["published", "contrasting"]
"""How new weights begin. ``published``: normal of 0.02, as both references. In it the [CLS] of different pictures are
almost one vector, which the diversity of ImageNet overcomes and a small, uniform folder does not (the loss stays at
ln K). ``contrasting``: each layer keeps the variance of its input, so that pictures differ from the first step.
"""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB mean and standard deviation of ImageNet on a 0..1 scale, used by DINO and DINOv2 alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VitShape:
    """Everything that determines the tensors of a Vision Transformer.

    ``native_side`` is the side, in pixels, of the square picture its position embedding was made
    for; ``layer_scale`` the starting value of LayerScale, ``None`` for none.
    """

    width: int
    depth: int
    heads: int
    patch: int
    native_side: int = 224
    mlp_ratio: float = 4.0
    feed_forward: FeedForward = "mlp"
    registers: int = 0
    layer_scale: float | None = None
    has_mask_token: bool = False
    positions: PositionRule = "scaled"
    stem: Stem = "patch"
    norm_eps: float = 1e-6

    @property
    def native_grid(self) -> int:
        """Patches along one side of the native picture."""
        return self.native_side // self.patch

    @property
    def hidden(self) -> int:
        """Width inside the feed-forward layer; for SwiGLU two thirds, rounded up to 8 (dinov2 swiglu_ffn.py)."""
        hidden = int(self.width * self.mlp_ratio)
        return (int(hidden * 2 / 3) + 7) // 8 * 8 if self.feed_forward == "swiglu" else hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetShape:
    """A residual network of bottleneck blocks (He et al. 2015); DINO's ResNet-50 is (3, 4, 6, 3)."""

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 2048


Shape = VitShape | ResNetShape

RESNET_STRIDE = 32
"""Pixels for one place of a residual network's last map."""

VIT_SIZES: dict[str, tuple[int, int, int, FeedForward]] = {
    # name: width, depth, heads, feed-forward. DINO tab. 1 and vision_transformer.py; DINOv2 app. D, tab. 17.
    "vit-tiny": (192, 12, 3, "mlp"),
    "vit-small": (384, 12, 6, "mlp"),
    "vit-base": (768, 12, 12, "mlp"),
    "vit-large": (1024, 24, 16, "mlp"),
    "vit-giant": (1536, 40, 24, "swiglu"),
}


def shape_of(name: str) -> Shape:
    """Return the shape that a name such as ``vit-small/16`` or ``resnet-50`` stands for.

    Raises:
        BadRecipe: the name is not ``SIZE/PATCH`` with a known size and a whole patch side in pixels.
    """
    if name == "resnet-50":
        return ResNetShape()
    size, _, patch = name.partition("/")
    if size not in VIT_SIZES or not patch.isdecimal() or int(patch) < 1:
        raise BadRecipe(
            f"There is no architecture '{name}'.",
            f"Write SIZE/PATCH, for example vit-tiny/16; the sizes are {', '.join(VIT_SIZES)}; or resnet-50.",
        )
    width, depth, heads, feed_forward = VIT_SIZES[size]
    side = int(patch)
    return VitShape(
        width=width, depth=depth, heads=heads, patch=side, feed_forward=feed_forward, native_side=224 // side * side
    )


def name_of(shape: Shape) -> str:
    """Return the name of a shape, ``SIZE/PATCH`` where the width has a name, else with the width itself."""
    if isinstance(shape, ResNetShape):
        return "resnet-50"
    sizes = {width: name for name, (width, *_) in VIT_SIZES.items()}
    return f"{sizes.get(shape.width, f'vit-{shape.width}')}/{shape.patch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveAbout:
    """What a network can learn by: in words, and the sections of settings that it heeds besides those of every run."""

    name: ObjectiveName
    says: str
    source: str
    sections: tuple[str, ...]


OBJECTIVES: dict[ObjectiveName, ObjectiveAbout] = {
    row.name: row
    for row in (
        ObjectiveAbout(
            name="dino",
            says="The student learns to answer as its own moving average does, from other crops of the same picture.",
            source="Caron et al. 2021",
            sections=("dino",),
        ),
        ObjectiveAbout(
            name="dinov2",
            says="DINO on whole pictures, iBOT on masked patches, and a term that spreads pictures apart: better "
            "patch features for more computation.",
            source="Oquab et al. 2023",
            sections=("dino", "ibot"),
        ),
        ObjectiveAbout(
            name="ibot",
            says="DINO on whole pictures and the teacher's answers guessed for masked patches, through one head.",
            source="Zhou et al. 2021",
            sections=("dino", "ibot"),
        ),
        ObjectiveAbout(
            name="distillation",
            says="A small student learns to answer as a frozen, larger teacher does.",
            source="Oquab et al. 2023 §5; Fang et al. 2021 (SEED)",
            sections=("dino", "distillation"),
        ),
        ObjectiveAbout(
            name="supervised",
            says="Backbone and classifier learn the labels of folders; how well is told for pictures held out.",
            source="Touvron et al. 2021 (DeiT) tab. 9; DINO tab. 6",
            sections=("supervised",),
        ),
        ObjectiveAbout(
            name="byol",
            says="The student predicts what its own moving average says of another crop; nothing is told apart.",
            source="Grill et al. 2020",
            sections=("projector", "follower", "byol"),
        ),
        ObjectiveAbout(
            name="moco",
            says="Two crops of a picture are found among those of many earlier pictures.",
            source="He et al. 2020; Chen et al. 2020 (MoCo-v2)",
            sections=("projector", "follower", "moco"),
        ),
        ObjectiveAbout(
            name="swav",
            says="Pictures are spread over prototypes evenly, and each crop tells where the others went.",
            source="Caron et al. 2020",
            sections=("projector", "swav"),
        ),
    )
}
SELF_DISTILLED: tuple[ObjectiveName, ...] = ("dino", "dinov2", "ibot")
"""Objectives whose teacher is the mean of the student, and of nothing else: those whose state can be split."""
OF_EVERY_RUN = ("model", "crops", "optimiser", "tuning", "run")
"""Sections of settings that every objective heeds."""


def heeded(objective: str) -> tuple[str, ...]:
    """Return the sections of settings that an objective heeds."""
    return (*OF_EVERY_RUN, *OBJECTIVES[cast("ObjectiveName", objective)].sections)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedWeights:
    """One released backbone. ``knn`` and ``linear`` are its published ImageNet top-1 percentages."""

    name: str
    address: str
    shape: Shape
    n_parameters: int
    licence: str
    about: str
    knn: float | None = None
    linear: float | None = None

    @property
    def size_bytes(self) -> int:
        """Size of the float32 tensors; the file is a few kilobytes larger."""
        return 4 * self.n_parameters


_DINO = "https://dl.fbaipublicfiles.com/dino/"
_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2/"


def _dino(
    name: str, stem: str, shape: Shape, n_parameters: int, knn: float | None, linear: float | None, about: str
) -> ReleasedWeights:
    return ReleasedWeights(
        name=name,
        address=f"{_DINO}{stem}_pretrain/{stem}_pretrain.pth",
        shape=shape,
        n_parameters=n_parameters,
        licence="Apache-2.0",
        knn=knn,
        linear=linear,
        about=about,
    )


def _dinov2(letter: str, size: str, counts: tuple[int, int], scores: tuple[float, ...]) -> list[ReleasedWeights]:
    plain = shape_of(f"{size}/14")
    assert isinstance(plain, VitShape)
    plain = replace(plain, native_side=518, layer_scale=1.0, has_mask_token=True)
    with_registers = replace(plain, registers=4, positions="sized-antialiased")
    rows = []
    for i, (suffix, tail, shape) in enumerate([("", "", plain), ("_reg", "_reg4", with_registers)]):
        stem = f"dinov2_vit{letter}14"
        rows.append(
            ReleasedWeights(
                name=stem + suffix,
                address=f"{_DINOV2}{stem}/{stem}{tail}_pretrain.pth",
                shape=shape,
                n_parameters=counts[i],
                licence="Apache-2.0",
                knn=scores[2 * i],
                linear=scores[2 * i + 1],
                about=f"DINOv2 {size}, patch 14, LVD-142M" + (", 4 registers" if i else ""),
            )
        )
    return rows


# Addresses, sizes and scores: README and hubconf of facebookresearch/dino and facebookresearch/dinov2.
# vit-tiny has no released weights (facebookresearch/dino#67).
_ROWS = [
    _dino(
        "dino_vits16",
        "dino_deitsmall16",
        shape_of("vit-small/16"),
        21_665_664,
        74.5,
        77.0,
        "DINO vit-small/16, ImageNet",
    ),
    _dino(
        "dino_vits8", "dino_deitsmall8", shape_of("vit-small/8"), 21_670_272, 78.3, 79.7, "DINO vit-small/8, ImageNet"
    ),
    _dino(
        "dino_vits8_300ep",
        "dino_deitsmall8_300ep",
        shape_of("vit-small/8"),
        21_670_272,
        None,
        None,
        "DINO vit-small/8, 300 epochs: the paper's figures",
    ),
    _dino(
        "dino_vitb16", "dino_vitbase16", shape_of("vit-base/16"), 85_798_656, 76.1, 78.2, "DINO vit-base/16, ImageNet"
    ),
    _dino("dino_vitb8", "dino_vitbase8", shape_of("vit-base/8"), 85_807_872, 77.4, 80.1, "DINO vit-base/8, ImageNet"),
    _dino(
        "dino_vits16_landmarks",
        "dino_vitsmall16_googlelandmark",
        shape_of("vit-small/16"),
        21_665_664,
        None,
        None,
        "DINO vit-small/16, Google Landmarks v2: for retrieval",
    ),
    _dino("dino_resnet50", "dino_resnet50", shape_of("resnet-50"), 23_508_032, 67.5, 75.3, "DINO ResNet-50, ImageNet"),
    *_dinov2("s", "vit-small", (22_056_576, 22_058_112), (79.0, 81.1, 79.1, 80.9)),
    *_dinov2("b", "vit-base", (86_580_480, 86_583_552), (82.1, 84.5, 82.0, 84.6)),
    *_dinov2("l", "vit-large", (304_368_640, 304_372_736), (83.5, 86.3, 83.8, 86.7)),
    *_dinov2("g", "vit-giant", (1_136_480_768, 1_136_486_912), (83.5, 86.5, 83.7, 87.1)),
]
WEIGHTS: dict[str, ReleasedWeights] = {row.name: row for row in _ROWS}

BUNDLED = "bundled"
"""Name of the small backbone that comes with the program; how it was trained stands in README and in the file."""

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
"""Files of PyTorch, which are opened in a process of their own."""
WEIGHT_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
"""Files of weights that can be imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One format that something can be taken away in. ``ending`` is that of a file; a folder has none."""

    what: str
    format: str
    ending: str
    about: str


def _exports(what: str, *rows: tuple[str, str, str]) -> list[Export]:
    return [Export(what=what, format=name, ending=ending, about=about) for name, ending, about in rows]


# One row a format: the choices and the help of ``engine export WHAT --format`` are made of these.
EXPORTS = [
    *_exports(
        "embeddings",
        ("npy", "", "folder: vectors.npy, ids.npy, pictures.jsonl"),
        ("npz", ".npz", "one NumPy file"),
        ("parquet", ".parquet", "a table for pyarrow, pandas, DuckDB, R; vectors as fixed-size lists"),
        ("csv", ".csv", "text; large, for spreadsheets and old programs"),
        ("projector", "", "folder for TensorBoard's Embedding Projector, with thumbnails"),
        ("atlas", ".parquet", "for Embedding Atlas: map, neighbours, thumbnails"),
        ("fiftyone", "", "folder with a script that makes a FiftyOne dataset"),
    ),
    *_exports(
        "patches",
        ("npz", "", "folder: one NumPy file a picture"),
        ("zarr", ".zarr", "one Zarr store, a chunk a picture"),
    ),
    *_exports(
        "map",
        ("csv", ".csv", "text: id, path, label, x, y"),
        ("parquet", ".parquet", "a table: id, path, label, x, y"),
        ("png", ".png", "a picture"),
        ("svg", ".svg", "a drawing; every point says which picture it is"),
    ),
    *_exports(
        "labels",
        ("csv", ".csv", "text: path, label, and what the folder said where it was corrected"),
    ),
    *_exports(
        "masks",
        ("png", "", "8-bit PNG a mask: 0 and 255"),
        ("indexed", "", "8-bit PNG a picture with a palette: the number of the object; 0 is none, at most 254"),
        ("labels16", "", "16-bit PNG a picture: the number of the object; 0 is none, at most 65,535"),
        ("coco", "", "annotations.json of COCO with run lengths: exact; many trainers skip these (iscrowd 1)"),
        ("coco-polygons", "", "annotations.json of COCO with polygons: for training, CVAT, FiftyOne"),
        ("labelme", "", "a JSON a picture with polygons: for labelme and X-AnyLabeling"),
        ("yolo", "", "a text file a picture with polygons, and data.yaml: for Ultralytics"),
        ("npz", "", "a NumPy file a picture: packed bits of all masks"),
    ),
    *_exports(
        "attention",
        ("npz", "", "a NumPy file a picture: float16 (heads, rows, columns of patches)"),
        ("overlay", "", "PNG: the attention drawn over the picture"),
    ),
    *_exports(
        "backbone",
        ("safetensors", ".safetensors", "ours, read back exactly"),
        ("hf", "", "folder that Hugging Face transformers opens"),
        ("timm", "", "folder that timm opens"),
        ("hub", "", "folder: the names of the released DINO and DINOv2 files, for their own code"),
        ("onnx", ".onnx", "for ONNX Runtime and others; pictures of any size and number"),
    ),
]


def formats_of(what: str) -> dict[str, Export]:
    """Return the formats of one thing that can be exported, by name."""
    return {row.format: row for row in EXPORTS if row.what == what}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapMethod:
    """One way to lay pictures out in the plane; ``engine.finding.projections`` has the sources."""

    name: str
    title: str
    about: str
    needs_neighbours: bool


MAP_METHODS: dict[str, MapMethod] = {
    row.name: row
    for row in (
        MapMethod(
            name="tsne",
            title="t-SNE",
            about="keeps neighbours together; distances between groups mean little",
            needs_neighbours=True,
        ),
        MapMethod(
            name="umap",
            title="UMAP",
            about="denser groups, more of how they lie to each other",
            needs_neighbours=True,
        ),
        MapMethod(
            name="pca",
            title="PCA",
            about="at once; the two directions in which pictures differ most",
            needs_neighbours=False,
        ),
    )
}
