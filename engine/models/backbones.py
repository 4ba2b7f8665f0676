"""From a shape to the module it describes, so that nobody else asks which architecture it is."""

from typing import assert_never

from torch import nn

from engine.catalogue import RESNET_STRIDE, ResNetShape, Shape, Start, VitShape
from engine.models.resnet import ResNet
from engine.models.vit import DropPathBy, VisionTransformer


def build_backbone(
    shape: Shape,
    *,
    drop_path: float = 0.0,
    drop_path_is_uniform: bool = False,
    drop_path_by: DropPathBy = "masking",
    packing: bool = False,
    checkpointing: bool = False,
    start: Start = "published",
) -> nn.Module:
    """Return a new backbone whose ``forward(images_BCYX)`` gives ``Features``, and ``forward_views`` a list of them.

    The arguments are those of ``VisionTransformer``; residual networks drop no paths and have one start.
    """
    match shape:
        case VitShape():
            return VisionTransformer(
                shape,
                drop_path=drop_path,
                drop_path_is_uniform=drop_path_is_uniform,
                drop_path_by=drop_path_by,
                packing=packing,
                checkpointing=checkpointing,
                start=start,
            )
        case ResNetShape():
            return ResNet(shape)
        case _:
            assert_never(shape)


def patch_of(shape: Shape) -> int:
    """Return the side of a patch in pixels; of a residual network, of a place of its last map."""
    return shape.patch if isinstance(shape, VitShape) else RESNET_STRIDE


def feature_width(shape: Shape) -> int:
    """Return D, the width of the features of one picture."""
    return shape.width
