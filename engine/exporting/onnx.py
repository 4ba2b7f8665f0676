"""A backbone as ONNX: pictures of any number and size in, [CLS] and patches out.

The position embedding is resampled inside the graph, by the same matrices that ``models.vit`` makes; they are built
from the size of the picture that is given, so that no size is fixed.

Letters after a name are its axes:
    B pictures · C channels · Y X pixels · H heads · P patches · D width
"""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engine.catalogue import VitShape
from engine.errors import BadRecipe, UserError
from engine.models import patch_of
from engine.models.vit import Block, VisionTransformer, resampling_matrix
from engine.models.weights import Backbone
from engine.provenance import KEY, Provenance

OPSET = 18
"""ONNX 1.13 of 2022: ONNX Runtime from 1.14 on reads it, and the exporter writes it without converting."""
LARGEST_FILE = 2**31 - 2**20
"""Bytes of weights that one file can hold: protobuf's limit of 2 GiB, less room for the graph."""
TRACED_PATCHES = (5, 7)
"""Rows and columns of the example that the graph is recorded with; any that differ from each other would do."""
TRACED_PICTURES = 2

Normalise = Literal["inside", "outside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxOptions:
    """What the graph does.

    Args:
        normalise: ``inside`` takes RGB from 0 to 1 and takes mean and deviation out itself; ``outside`` takes pictures
            that this was done to.
        has_attention: a third output, how much [CLS] of the last block looks at each patch, (B, H, P).
    """

    normalise: Normalise = "inside"
    has_attention: bool = False


class _AnySize(VisionTransformer):
    """A Vision Transformer whose grid of patches may be a symbol while it is recorded."""

    def _positions(self, rows: int, cols: int) -> Tensor:
        """Resample always; by a matrix of ones and zeros where the grid is the native one, which changes nothing."""
        side = self.shape.native_grid
        is_native = (torch.scalar_tensor(rows) == side) & (torch.scalar_tensor(cols) == side)
        to_rows, to_cols = (self._matrix(n, is_native) for n in (rows, cols))
        grid_YXD = self.pos_embed[0, 1:].view(side, side, -1)
        grid_YXD = to_cols @ (to_rows @ grid_YXD.flatten(1)).view(rows, side, -1)
        return torch.cat([self.pos_embed[:, :1], grid_YXD.reshape(1, rows * cols, -1)], dim=1)

    def _matrix(self, n: int, is_native: Tensor) -> Tensor:
        side = self.shape.native_grid
        # Past the cache, which cannot keep symbols.
        matrix = resampling_matrix.__wrapped__(n, side, self.shape.positions, self.pos_embed.device)
        unchanged = (torch.arange(n)[:, None] == torch.arange(side)).float()
        return torch.where(is_native, unchanged, matrix)


class _Graph(nn.Module):
    """What is recorded."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, options: OnnxOptions) -> None:
        super().__init__()
        self.model = _any_size(backbone)
        self.options = options
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1))

    def forward(self, images_BCYX: Tensor) -> tuple[Tensor, ...]:
        """Return [CLS] (B, D), patches (B, P, D) and, where asked for, attention (B, H, P)."""
        if self.options.normalise == "inside":
            images_BCYX = (images_BCYX - self.mean) / self.std
        if not isinstance(self.model, VisionTransformer):
            features = self.model(images_BCYX)
            return features.cls_BD, features.patches_BPD
        *blocks, last = self.model.blocks
        tokens_BND = self.model.embed(images_BCYX)
        for block in blocks:
            tokens_BND = block(tokens_BND)
        assert isinstance(last, Block)
        normed_BND = self.model.norm(last(tokens_BND))
        n_special = 1 + self.model.shape.registers
        outputs = normed_BND[:, 0], normed_BND[:, n_special:]
        if not self.options.has_attention:
            return outputs
        looks_BHN = last.attn.weights(last.norm1(tokens_BND), slice(0, 1))[:, :, 0]
        return *outputs, looks_BHN[:, :, n_special:]


def _any_size(backbone: Backbone) -> nn.Module:
    if not isinstance(backbone.shape, VitShape):
        return backbone.model.cpu().eval()
    with torch.device("meta"):
        model = _AnySize(backbone.shape)
    model.load_state_dict(backbone.model.cpu().state_dict(), assign=True)
    return model.eval()


def write_onnx(
    folder: Path, name: str, backbone: Backbone, about: Provenance, options: OnnxOptions, largest: int = LARGEST_FILE
) -> None:
    """Write ``name`` into a folder and, only where the weights do not fit into one file, ``name.data`` beside it.

    The input ``images`` is float32 (B, 3, height, width), sides whole patches.

    Raises:
        BadRecipe: attention is asked of a residual network.
        UserError: the packages for it are not installed.
    """
    if options.has_attention and not isinstance(backbone.shape, VitShape):
        raise BadRecipe("A residual network has no attention.", "Leave --attention out.")
    program = _recorded(backbone, options)
    program.model.metadata_props.update(_properties(backbone, about, options))
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the lines of source that made it, with folders of this computer
    size = sum(tensor.numel() * tensor.element_size() for tensor in backbone.model.state_dict().values())
    if size > largest:
        import onnx_ir

        onnx_ir.save(program.model, folder / name, external_data=f"{name}.data")
        return
    written = io.BytesIO()
    program.save(written)
    (folder / name).write_bytes(written.getbuffer())


def _properties(backbone: Backbone, about: Provenance, options: OnnxOptions) -> dict[str, str]:
    facts: dict[str, Any] = {
        "normalise": options.normalise,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "input": "RGB from 0 to 1" if options.normalise == "inside" else "(RGB from 0 to 1, less mean) / std",
    }
    return {KEY: json.dumps(about | facts), **{name: json.dumps(value) for name, value in facts.items()}}


def _recorded(backbone: Backbone, options: OnnxOptions) -> Any:
    """Return torch's ONNX program of a backbone."""
    patch = patch_of(backbone.shape)
    rows, cols = TRACED_PATCHES
    example = torch.zeros(TRACED_PICTURES, 3, rows * patch, cols * patch)
    sizes = {
        0: torch.export.Dim("pictures"),
        2: patch * torch.export.Dim("rows", min=1),
        3: patch * torch.export.Dim("cols", min=1),
    }
    names = ["cls", "patches", "attention"]
    with _quiet():
        try:
            return torch.onnx.export(
                _Graph(backbone, options).eval(),
                (example,),
                dynamic_shapes=(sizes,),
                input_names=["images"],
                output_names=names if options.has_attention else names[:2],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except ImportError as problem:
            raise UserError(
                f"ONNX files need packages that are not installed: {problem.name or problem}.",
                "Install them: pip install 'dinoviz[onnx]', or choose another --format.",
            ) from problem


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporter says about itself: packages it could use, its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
