"""Recipes as they were published, by name: what `settle` would otherwise fill is asked for as in the source.

Literal rows and nothing else. What a row leaves open (device, precision, workers, …) is settled as ever. Numbers are
those of facebookresearch/dino README and main_dino.py, and of facebookresearch/dinov2 configs/train and
ssl_default_config.yaml; batches are those of all GPUs together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.settings import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A published recipe."""

    says: str
    source: str
    asked: Mapping[str, Value]


_DINO: dict[str, Value] = {
    "objective": "dino",
    "start": "published",
    "stem": "patch",
    "global_side": 224,
    "local_side": 96,
    "local_crops": 8,
    "scale_min": 0.05,
    "scale_split": 0.4,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.2,
    "hue": 0.1,
    "prototypes": 65_536,
    "head_width": 2048,
    "head_norm": "none",
    "koleo": 0.0,
    "optimiser": "adamw",
    "learning_rate": 5e-4,
    "warmup_epochs": 10,
    "weight_decay_end": 0.4,
    "freeze_last_layer": 1,
    "momentum": 0.996,
    "teacher_temperature_start": 0.04,
    "drop_path": 0.1,
}
_VANILLA: dict[str, Value] = {
    **_DINO,
    "model": "vit-small/16",
    "epochs": 100,
    "batch": 512,
    "norm_last_layer": True,
    "teacher_temperature": 0.04,
    "teacher_warmup_epochs": 0,
}
_BOOSTED: dict[str, Value] = {
    **_VANILLA,
    "epochs": 300,
    "batch": 1024,
    "norm_last_layer": False,
    "teacher_temperature": 0.07,
    "teacher_warmup_epochs": 30,
}
_RESNET: dict[str, Value] = {
    **_DINO,
    "model": "resnet-50",
    "epochs": 100,
    "batch": 512,
    "optimiser": "sgd",
    "learning_rate": 0.03,
    "weight_decay": 1e-4,
    "weight_decay_end": 1e-4,
    "scale_split": 0.14,
    "norm_last_layer": True,
    "teacher_temperature": 0.07,
    "teacher_warmup_epochs": 30,
}
_V2: dict[str, Value] = {
    **{name: value for name, value in _DINO.items() if name not in ("scale_split", "learning_rate")},
    "objective": "dinov2",
    "scale_split": 0.32,
    "blur": "as_released",
    "dino_weight": 1.0,
    "ibot_weight": 1.0,
    "koleo": 0.1,
    "layer_scale": 1e-5,
    "drop_path_by": "leaving_out",
    "norm_last_layer": False,
    "teacher_temperature": 0.07,
    "teacher_warmup_epochs": 30,
    "rate_scaling": "root_1024",
    "patch_embed_rate": 0.2,
    "clip_by": "network",
}
_V2_SHORT: dict[str, Value] = {
    **_V2,
    "epochs": 100,
    "batch": 2048,
    "centring": "ema",
    "separate_heads": False,
    "learning_rate": 4e-3,
    "layer_decay": 0.9,
    "momentum": 0.992,
    "drop_path": 0.3,
}
_V2_LONG: dict[str, Value] = {
    **_V2,
    "epochs": 500,
    "local_side": 98,
    "centring": "sinkhorn",
    "separate_heads": True,
    "prototypes": 131_072,
    "ibot_prototypes": 131_072,
    "bottleneck": 384,
    "ibot_bottleneck": 256,
    "learning_rate": 2e-4,
    "layer_decay": 1.0,
    "warmup_epochs": 80,
    "weight_decay_end": 0.2,
    "momentum": 0.994,
    "drop_path": 0.4,
}
_SMALLER = "the numbers of vit-large; the released small and base networks were distilled from vit-giant"

PRESETS: dict[str, Preset] = {
    "dino-vits16": Preset(says="DINO, ViT-S/16, 100 epochs", source="dino README, vanilla", asked=_VANILLA),
    "dino-vits16-boosted": Preset(says="DINO, ViT-S/16, 300 epochs", source="dino README, boosted", asked=_BOOSTED),
    "dino-resnet50": Preset(says="DINO, ResNet-50, 100 epochs", source="dino README, ResNet-50", asked=_RESNET),
    **{
        f"vit{letter}{patch}-short": Preset(
            says=f"DINOv2's short recipe, {size}/{patch}, 100 epochs",
            source="dinov2 vitl16_short.yaml" if letter == "l" else f"dinov2 vitl16_short.yaml: {_SMALLER}",
            asked={
                **_V2_SHORT,
                "model": f"{size}/{patch}",
                "local_side": 96 if patch == 16 else 98,
                "drop_path": 0.3 if letter == "l" else 0.1,
            },
        )
        for letter, size in (("s", "vit-small"), ("b", "vit-base"), ("l", "vit-large"))
        for patch in (16, 14)
    },
    **{
        f"vit{letter}14": Preset(
            says=f"DINOv2's long recipe, {size}/14, 500 epochs",
            source=f"dinov2 {told}",
            asked={
                **_V2_LONG,
                "model": f"{size}/14",
                "batch": batch,
                "drop_path": 0.4 if letter in "lg" else 0.1,
                "feed_forward": "swiglu" if letter in "lg" else "mlp",
            },
        )
        for letter, size, batch, told in (
            ("s", "vit-small", 2048, f"vitl14.yaml: {_SMALLER}"),
            ("b", "vit-base", 2048, f"vitl14.yaml: {_SMALLER}"),
            ("l", "vit-large", 2048, "vitl14.yaml; the released network has an mlp in place of swiglu"),
            ("g", "vit-giant", 3072, "vitg14.yaml"),
        )
    },
}
"""Every published recipe by name, as ``engine train --preset`` takes it."""
