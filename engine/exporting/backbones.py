"""A backbone for other programs: our own file, Hugging Face, timm, the original code, ONNX.

Only safetensors, JSON and ONNX are written. ``models.layouts`` knows the names of the tensors.
"""

import tempfile
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import Literal

import torch

from engine.catalogue import PositionRule, ResNetShape, Shape, VitShape
from engine.errors import BadRecipe
from engine.exporting.onnx import OnnxOptions, write_onnx
from engine.exporting.targets import check_file, encoded, whole_folder
from engine.models.tensor_files import write_tensors
from engine.models.weights import Backbone, describe, write_backbone
from engine.provenance import Provenance
from engine.store import replace, sync_file, write_atomically

Format = Literal["safetensors", "hf", "timm", "hub", "onnx"]
LIBRARIES = {"hf": "Hugging Face transformers", "timm": "timm", "hub": "the original code"}
HUB_EPS = 1e-6
"""Added to the variance by the layer norms of DINOv2's code, which cannot be told another."""
HUB_README = """These are the weights of a backbone under the names of {code}.

    from safetensors.torch import load_file
    model = {constructor}
    model.load_state_dict(load_file("{file}"), strict=True)

where {where}.
Pictures are RGB from 0 to 1, less {mean}, divided by {std}.
"""
HUB_FILE = "backbone.safetensors"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what a user of it should know."""

    files: tuple[Path, ...]
    notices: tuple[str, ...] = ()


def export_backbone(
    backbone: Backbone,
    how: Format,
    out: Path,
    about: Provenance,
    *,
    overwrite: bool = False,
    options: OnnxOptions | None = None,
) -> Exported:
    """Write a backbone in one of the formats of ``catalogue.EXPORTS``.

    Raises:
        BadRecipe: the library has no model of this shape.
        BadInput: ``out`` is taken.
        DiskFull: there is no room.
        UserError: packages for it are not installed.
    """
    check_shape(backbone.shape, how)
    match how:
        case "safetensors":
            files = _write_native(backbone, out, about, overwrite=overwrite)
        case "onnx":
            files = _write_onnx(backbone, out, about, options or OnnxOptions(), overwrite=overwrite)
        case _:
            files = _write_folder(backbone, how, out, about, overwrite=overwrite)
    return Exported(tuple(files), _notices(backbone.shape, how))


def check_shape(shape: Shape, how: Format) -> None:
    """Refuse what the library has no model of.

    Raises:
        BadRecipe: it says which formats can hold the backbone.
    """
    if how not in LIBRARIES:
        return
    what = None
    if isinstance(shape, ResNetShape):
        what = None if how == "hub" else "residual networks"
    elif shape.stem == "conv":
        what = "a convolutional stem"
    elif how == "hub" and is_dinov2(shape) and shape.norm_eps != HUB_EPS:
        what = f"layer norms with an epsilon of {shape.norm_eps}"
    if what is not None:
        raise BadRecipe(
            f"{what.capitalize()} cannot be written for {LIBRARIES[how]}, which has no such model.",
            "Choose --format safetensors or onnx, which can hold it.",
        )


def _notices(shape: Shape, how: Format) -> tuple[str, ...]:
    if how not in LIBRARIES or not isinstance(shape, VitShape) or shape.positions == _rule(shape, how):
        return ()
    return (
        f"At other sizes than {shape.native_side} px {LIBRARIES[how]} resamples positions in its own way: "
        "its features differ slightly from ours there.",
    )


def _rule(shape: VitShape, how: Format) -> PositionRule:
    """Return how a library resamples positions of a model of this shape; DINOv2's code can be told, and is."""
    match how:
        case "hf":
            return "sized-antialiased" if shape.registers else "sized"
        case "timm":
            return "sized-antialiased"
        case _:
            return shape.positions if is_dinov2(shape) else "scaled"


def _write_native(backbone: Backbone, out: Path, about: Provenance, *, overwrite: bool) -> list[Path]:
    check_file(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_backbone(
        out,
        backbone.model,
        backbone.shape,
        about={**backbone.about, "recipe": backbone.recipe, "export": about},
        mean=backbone.mean,
        std=backbone.std,
    )
    beside = out.with_name(f"{out.name}.about.json")
    write_atomically(beside, lambda file: file.write(encoded(about)))
    return [out, beside]


def _write_onnx(
    backbone: Backbone, out: Path, about: Provenance, options: OnnxOptions, *, overwrite: bool
) -> list[Path]:
    """Make the graph beside its place and rename it there, weights that it names before it."""
    check_file(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent) as folder:
        write_onnx(Path(folder), out.name, backbone, about, options)
        made = sorted(Path(folder).iterdir(), key=lambda path: path.name == out.name)
        for path in made:
            sync_file(path)
            replace(path, out.with_name(path.name))
    return [out.with_name(path.name) for path in reversed(made)]


def _write_folder(backbone: Backbone, how: Format, out: Path, about: Provenance, *, overwrite: bool) -> list[Path]:
    with whole_folder(out, about, overwrite=overwrite) as folder:
        if how == "hub":
            _write_hub(backbone, folder)
        else:
            assert how in ("hf", "timm")
            write_backbone(
                folder, backbone.model, backbone.shape, about={}, layout=how, mean=backbone.mean, std=backbone.std
            )
    return sorted(out.iterdir())


def _write_hub(backbone: Backbone, folder: Path) -> None:
    """Write the weights under the names of the original code, which are ours, and how to load them there.

    DINOv2's models always have a mask token: where there is none, it is zero, as at the start of a training.
    """
    shape, tensors = backbone.shape, dict(backbone.model.state_dict())
    if isinstance(shape, VitShape) and is_dinov2(shape) and not shape.has_mask_token:
        shape = replaced(shape, has_mask_token=True)
        tensors["mask_token"] = torch.zeros(1, shape.width)
    metadata = describe(shape, about={}, mean=backbone.mean, std=backbone.std)
    write_atomically(folder / HUB_FILE, lambda file: write_tensors(file, tensors, metadata))
    code, where, constructor = _original_code(shape)
    readme = HUB_README.format(
        code=code, where=where, constructor=constructor, file=HUB_FILE, mean=backbone.mean, std=backbone.std
    )
    (folder / "README.txt").write_text(readme, encoding="utf-8")


def is_dinov2(shape: VitShape) -> bool:
    """Tell whether only DINOv2's code can build a shape; what DINO's can is left to DINO's."""
    return (
        shape.layer_scale is not None or shape.registers > 0 or shape.feed_forward == "swiglu" or shape.has_mask_token
    )


def _original_code(shape: Shape) -> tuple[str, str, str]:
    """Return whose code builds a shape, where that is, and the call."""
    if isinstance(shape, ResNetShape):
        return (
            "torchvision, which facebookresearch/dino uses",
            "the classifier is taken off before: model.fc = torch.nn.Identity()",
            "torchvision.models.resnet50()",
        )
    sizes = f"patch_size={shape.patch}, embed_dim={shape.width}, depth={shape.depth}, num_heads={shape.heads}"
    sizes += f", mlp_ratio={shape.mlp_ratio}"
    if not is_dinov2(shape):
        norm = f"norm_layer=functools.partial(torch.nn.LayerNorm, eps={shape.norm_eps})"
        return (
            "facebookresearch/dino",
            "VisionTransformer is the class in its vision_transformer.py",
            f"VisionTransformer(img_size=[{shape.native_side}], {sizes}, qkv_bias=True, {norm})",
        )
    gated = "swiglufused" if shape.feed_forward == "swiglu" else "mlp"
    positions = (
        f"interpolate_offset={0.1 if shape.positions == 'scaled' else 0.0}, "
        f"interpolate_antialias={shape.positions == 'sized-antialiased'}"
    )
    return (
        "facebookresearch/dinov2",
        "DinoVisionTransformer is the class in its dinov2/models/vision_transformer.py",
        f"DinoVisionTransformer(img_size={shape.native_side}, {sizes}, ffn_layer={gated!r}, block_chunks=0, "
        f"init_values={shape.layer_scale}, num_register_tokens={shape.registers}, {positions})",
    )
