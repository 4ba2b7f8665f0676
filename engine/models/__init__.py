"""Backbones and heads: architectures that give ``Features``, and the files their weights come in.

    vit       Vision Transformers of DINO and DINOv2, their attention
    packing   several sizes of pictures as one sequence; branches computed for some pictures
    adapters  learning by small matrices beside frozen ones (LoRA)
    resnet    ResNet-50, the convolutional backbone of DINO
    heads     the projection head used in training
    weights   reading, converting, writing and fetching weights
    unpickle  the child process that opens pickled files

Nothing here knows about data sets or training.
"""

from engine.models.backbones import build_backbone, feature_width, patch_of

__all__ = ["build_backbone", "feature_width", "patch_of"]
