"""Names of tensors: how each library calls the parts of the same backbone, both ways.

``native`` names are those of the released DINO and DINOv2 files. Everything here works on names,
shapes and whole tensors, real or on the meta device; nothing here reads files.

Sources: facebookresearch/dino and dinov2; the converters of Hugging Face transformers
(``convert_dinov2_to_hf.py``, ``convert_dino_to_pytorch.py``) and of timm (``_convert_dinov2``).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engine.catalogue import PositionRule, ResNetShape, Shape, VitShape
from engine.errors import BadRecipe, BadWeights

Layout = Literal["native", "dino", "dinov2", "torchvision", "hf-vit", "hf-dinov2", "timm"]
Role = Literal["teacher", "student"]
Tensors = dict[str, Tensor]
Colour = tuple[float, float, float]

TRANSPARENT = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Wrappers of torch (DDP, compile, FSDP, checkpointing) that may stand anywhere in a name."""
PREFIXES = {
    "teacher": "teacher",
    "teacher_embedding_model": "teacher",  # LightlyTrain
    "model_ema": "model_ema",
    "student": "student",
    "student_embedding_model": "student",
    "model": "model",
    "state_dict": "state_dict",
    "objective": "",  # our own checkpoints
    "backbone": "",
    "encoder": "",
    "wrapped_model": "",
    "_model": "",
    "vit": "",
    "dinov2": "",
    "dinov2_with_registers": "",
}
"""Words that may stand in front of a name, and the part of the checkpoint that they stand for."""
PARTS: dict[Role, tuple[str, ...]] = {
    "teacher": ("teacher", "model_ema", "student", "model", "state_dict", ""),
    "student": ("student", "model", "state_dict", ""),
}
"""Where to look for a role, best first."""
ANCHORS = {"cls_token", "embeddings.cls_token", "layer1.0.conv1.weight"}
"""Names that only a backbone has; one of them in a part says that it is there."""
NOT_BACKBONE = ("head.", "dino_head.", "ibot_head.", "pooler.", "classifier.", "fc.")
"""Heads and classifiers, left out with a notice."""
HEAD_WIDTH = 64
"""Width of one attention head in every released model; the files do not say the number of heads."""
MLP_RATIO = 4.0
MAX_WIDTH, MAX_DEPTH, MAX_SIDE = 16_384, 256, 8_192
"""Far beyond any model; a damaged or hostile file must not make us build more."""


@dataclass(frozen=True, slots=True)
class Part:
    """One backbone found in a file: its layout's names, and under which names the file holds them."""

    names: dict[str, str]
    notices: tuple[str, ...]


def find_part(names: list[str], role: Role) -> Part:
    """Choose the part of a checkpoint that plays ``role`` and strip what wraps its names.

    Raises:
        BadWeights: there is no backbone, none in that role, or two under the same name.
    """
    parts: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        part, bare = _unwrap(name)
        parts.setdefault(part, []).append((bare, name))
    usable = [part for part, pairs in parts.items() if ANCHORS & {bare for bare, _ in pairs}]
    if not usable:
        some = ", ".join(sorted(names)[:3]) or "nothing"
        raise BadWeights(
            f"There is no backbone that we know in it; it holds {len(names)} tensors: {some} …",
            "DINO and DINOv2 vision transformers and ResNet-50 can be read, also from Hugging Face and timm.",
        )
    chosen = next((part for part in PARTS[role] if part in usable), None)
    if chosen is None:
        raise BadWeights(f"It holds no {role}, only: {', '.join(usable)}.", "Ask for the other role.")
    pairs = parts[chosen]
    kept = {bare: name for bare, name in pairs if not bare.startswith(NOT_BACKBONE)}
    left_out = sorted({bare.partition(".")[0] for bare, _ in pairs if bare.startswith(NOT_BACKBONE)})
    if len(kept) + sum(bare.startswith(NOT_BACKBONE) for bare, _ in pairs) != len(pairs):
        raise BadWeights("Two of its tensors have the same name once their wrappers are stripped.")
    return Part(kept, tuple(f"Left out: {word}." for word in left_out))


def _unwrap(name: str) -> tuple[str, str]:
    """Return the part that a name belongs to and the name without wrappers, blocks counted through."""
    words = [word for word in name.split(".") if word not in TRANSPARENT]
    stood_for = set()
    while len(words) > 1 and words[0] in PREFIXES and words[:2] != ["encoder", "layer"]:
        stood_for.add(PREFIXES[words.pop(0)])
    part = next((part for part in PARTS["teacher"] if part in stood_for), "")
    return part, re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", ".".join(words))


def recognise(tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> Layout:
    """Return whose names these are; ``config`` is the config.json beside the file, if any.

    A timm conversion without registers has the names of the original. It is told by the
    ``architecture`` in its config.json, or by a missing mask token (all DINOv2 files have one).
    """
    if "layer1.0.conv1.weight" in tensors:
        return "torchvision"
    if "embeddings.cls_token" in tensors:
        return "hf-vit" if "encoder.layer.0.layernorm_before.weight" in tensors else "hf-dinov2"
    has_layer_scale = "blocks.0.ls1.gamma" in tensors
    if "reg_token" in tensors or "architecture" in config or (has_layer_scale and "mask_token" not in tensors):
        return "timm"
    return "dinov2" if has_layer_scale else "dino"


def infer_shape(
    tensors: Mapping[str, Tensor], layout: Layout, heads: int | None, config: Mapping[str, object]
) -> Shape:
    """Work a shape out of native tensors.

    The rule for resampling positions is the layout's own library's, so that pictures of other
    sizes give what that library gives, even if the weights are an official model's.

    Args:
        tensors: native names; may be on the meta device.
        layout: where they came from.
        heads: number of attention heads; ``None`` takes config.json's or width / 64.
        config: config.json beside the file.

    Raises:
        BadWeights: a tensor that decides is missing or impossible.
    """
    if layout == "torchvision":
        return _infer_resnet(tensors)
    width = _size(tensors, "cls_token", 3)[2]
    patch = _size(tensors, "patch_embed.proj.weight", 4)[3]
    side = math.isqrt(max(_size(tensors, "pos_embed", 3)[1] - 1, 0))
    blocks = [int(match[1]) for name in tensors if (match := re.match(r"blocks\.(\d{1,9})\.", name))]
    is_gated = "blocks.0.mlp.w12.weight" in tensors
    hidden = _size(tensors, "blocks.0.mlp.w3.weight" if is_gated else "blocks.0.mlp.fc2.weight", 2)[1]
    registers = _size(tensors, "register_tokens", 3)[1] if "register_tokens" in tensors else 0
    shape = VitShape(
        width=width,
        depth=1 + max(blocks, default=0),
        heads=heads or _heads(width, config),
        patch=patch,
        native_side=side * patch,
        mlp_ratio=_mlp_ratio(width, hidden, is_gated=is_gated),
        feed_forward="swiglu" if is_gated else "mlp",
        registers=registers,
        layer_scale=1.0 if "blocks.0.ls1.gamma" in tensors else None,
        has_mask_token="mask_token" in tensors,
        positions=_position_rule(layout, registers),
        norm_eps=_norm_eps(layout, config),
    )
    check_plausible(shape)
    if layout in ("hf-vit", "hf-dinov2", "timm"):
        _check_stated(shape, config)
    return shape


def _check_stated(shape: VitShape, config: Mapping[str, object]) -> None:
    """Compare with config.json what would otherwise vanish unnoticed: the last blocks, the registers."""
    arguments = config.get("model_args")
    stated = {**config, **arguments} if isinstance(arguments, Mapping) else config
    found = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_register_tokens": shape.registers,
        "embed_dim": shape.width,
        "depth": shape.depth,
        "reg_tokens": shape.registers,
        "patch_size": shape.patch,
    }
    for key, value in found.items():
        if isinstance(stated.get(key), int) and stated[key] != value:
            raise BadWeights(f"config.json says {key} = {stated[key]}, but its tensors {value}.", "Parts are missing.")


def check_plausible(shape: Shape) -> None:
    """Refuse a shape that cannot be built or would fill the memory.

    Raises:
        BadWeights: a size is outside what any model has.
    """
    if isinstance(shape, ResNetShape):
        is_plausible = 32 <= shape.width <= MAX_WIDTH and all(1 <= n <= MAX_DEPTH for n in shape.blocks)
    else:
        is_plausible = (
            1 <= shape.width <= MAX_WIDTH
            and 1 <= shape.depth <= MAX_DEPTH
            and shape.heads >= 1
            and shape.width % shape.heads == 0
            and 1 <= shape.patch <= shape.native_side <= MAX_SIDE
            and 0 <= shape.registers <= MAX_DEPTH
            and 0 < shape.mlp_ratio <= MAX_DEPTH
            and shape.hidden >= 1
            and 0 < shape.norm_eps < 1
        )
    if not is_plausible:
        raise BadWeights(f"No model has this shape: {shape}.", "The file is damaged, or give the number of heads.")


def _infer_resnet(tensors: Mapping[str, Tensor]) -> ResNetShape:
    counts = []
    for stage in range(1, 5):
        found = {int(match[1]) for name in tensors if (match := re.match(rf"layer{stage}\.(\d{{1,9}})\.", name))}
        counts.append(1 + max(found, default=-1))
    shape = ResNetShape(
        blocks=(counts[0], counts[1], counts[2], counts[3]),
        width=32 * _size(tensors, "layer1.0.conv1.weight", 4)[0],
    )
    check_plausible(shape)
    return shape


def _size(tensors: Mapping[str, Tensor], name: str, n_axes: int) -> tuple[int, ...]:
    if name not in tensors:
        raise BadWeights(f"It has no tensor '{name}'.", "It is another architecture, or a part of a model.")
    size = tuple(tensors[name].shape)
    if len(size) != n_axes or 0 in size:
        raise BadWeights(f"Tensor '{name}' has shape {size}.", "It is another architecture.")
    return size


def _heads(width: int, config: Mapping[str, object]) -> int:
    arguments = config.get("model_args")
    timm_arguments = arguments if isinstance(arguments, Mapping) else {}
    stated = config.get("num_attention_heads", timm_arguments.get("num_heads"))
    if isinstance(stated, int) and stated > 0:
        return stated
    if width % HEAD_WIDTH:
        raise BadWeights(
            f"The file does not say how many heads its width of {width} is divided among.",
            "Give the number of heads.",
        )
    return width // HEAD_WIDTH


def _mlp_ratio(width: int, hidden: int, *, is_gated: bool) -> float:
    """Return the ratio that gives ``hidden``, the usual 4 if it does."""
    usual = VitShape(width=width, depth=1, heads=1, patch=1, feed_forward="swiglu" if is_gated else "mlp")
    if usual.hidden == hidden:
        return MLP_RATIO
    if is_gated:
        return hidden * 1.5 / width
    # Half a unit more where the quotient is rounded down, because the product is cut to an integer.
    return hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width


def _position_rule(layout: Layout, registers: int) -> PositionRule:
    match layout:
        case "timm":
            return "sized-antialiased"
        case "hf-vit" | "hf-dinov2":
            return "sized-antialiased" if registers else "sized"
        case _:
            return "sized-antialiased" if registers else "scaled"


def _norm_eps(layout: Layout, config: Mapping[str, object]) -> float:
    stated = config.get("layer_norm_eps")
    if layout in ("hf-vit", "hf-dinov2") and isinstance(stated, float) and stated > 0:
        return stated
    return 1e-12 if layout == "hf-vit" else 1e-6  # the defaults of ViTConfig and of everybody else


def to_native(layout: Layout, tensors: Tensors) -> Tensors:
    """Return the same backbone under native names; names that are not known stay as they are."""
    match layout:
        case "hf-vit":
            return _from_hf(tensors, HF_VIT_BLOCK)
        case "hf-dinov2":
            return _from_hf(tensors, HF_DINOV2_BLOCK)
        case "timm":
            return _from_timm(tensors)
        case _:
            return tensors


HF_ROOT = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "pos_embed": "embeddings.position_embeddings",
    "register_tokens": "embeddings.register_tokens",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
HF_DINOV2_BLOCK = {
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.w12": "mlp.weights_in",
    "mlp.w3": "mlp.weights_out",
}
HF_VIT_BLOCK = {
    "attn.proj": "attention.output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
HF_CLASSES = {
    "vit": "ViTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
}
VIT_MASK_AXES = 3
"""ViTModel's mask token is (1, 1, D), everybody else's (1, D)."""
HF_QKV = [f"attention.attention.{word}" for word in ("query", "key", "value")]


def _from_hf(tensors: Tensors, block_names: Mapping[str, str]) -> Tensors:
    to_root = {theirs: ours for ours, theirs in HF_ROOT.items()}
    to_block = {theirs: ours for ours, theirs in block_names.items()}
    native: Tensors = {}
    for name, tensor in _with_joined_qkv(tensors).items():
        match = re.match(r"encoder\.layer\.(\d+)\.(.+)$", name)
        ours = f"blocks.{match[1]}.{_rename(match[2], to_block)}" if match else _rename(name, to_root)
        _put(native, ours, tensor)
    if "mask_token" in native and native["mask_token"].ndim == VIT_MASK_AXES:
        native["mask_token"] = native["mask_token"].squeeze(0)
    return native


def _with_joined_qkv(tensors: Tensors) -> Tensors:
    """Put queries, keys and values of a block into one tensor; incomplete ones stay and will be refused."""
    joined = dict(tensors)
    for name in tensors:
        match = re.match(rf"(encoder\.layer\.\d+\.){re.escape(HF_QKV[0])}\.(weight|bias)$", name)
        if not match:
            continue
        names = [f"{match[1]}{third}.{match[2]}" for third in HF_QKV]
        thirds = [tensors[third] for third in names if third in tensors]
        is_whole = len(thirds) == len(names) and len({third.shape for third in thirds}) == 1 and thirds[0].ndim > 0
        if is_whole:
            for third in names:
                del joined[third]
            _put(joined, f"{match[1]}attn.qkv.{match[2]}", torch.cat(thirds))
    return joined


def _put(tensors: Tensors, name: str, tensor: Tensor) -> None:
    """Add a tensor; two under one name would let one of them vanish unnoticed."""
    if name in tensors:
        raise BadWeights(f"It has '{name}' under the names of two libraries.", "It is damaged.")
    tensors[name] = tensor


def _rename(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return name


TIMM_GATED = {"w12": "fc1", "w3": "fc2"}


def _from_timm(tensors: Tensors) -> Tensors:
    first, second = tensors.get("blocks.0.mlp.fc1.weight"), tensors.get("blocks.0.mlp.fc2.weight")
    is_gated = first is not None and second is not None and first.shape[:1] == (2 * second.shape[-1:].numel(),)
    to_gated = {f"mlp.{theirs}": f"mlp.{ours}" for ours, theirs in TIMM_GATED.items()} if is_gated else {}
    native = _rename_in_blocks(tensors, to_gated)
    if "reg_token" not in native:
        return native
    _put(native, "register_tokens", native.pop("reg_token"))
    positions = native.get("pos_embed")
    if positions is not None and positions.ndim == 3 and math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]:
        # The position of CLS was added to its token (no_embed_class): it becomes 0 again.
        native["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    return native


def _rename_in_blocks(tensors: Tensors, table: Mapping[str, str]) -> Tensors:
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        match = re.match(r"(blocks\.\d+\.)(.+)$", name)
        _put(renamed, match[1] + _rename(match[2], table) if match else name, tensor)
    return renamed


def to_hf(tensors: Tensors, shape: VitShape) -> Tensors:
    """Return the tensors as ``save_pretrained`` writes them.

    transformers resamples positions by its own rule: at other than the native size its features
    differ slightly from ours.

    Raises:
        BadRecipe: Hugging Face has no model of this shape.
    """
    model_type = hf_model_type(shape)
    block_names = HF_VIT_BLOCK if model_type == "vit" else HF_DINOV2_BLOCK
    theirs: Tensors = {}
    for name, tensor in tensors.items():
        match = re.match(r"blocks\.(\d+)\.(.+)$", name)
        if not match:
            theirs[_rename(name, HF_ROOT)] = tensor
        elif match[2].startswith("attn.qkv."):
            kind = match[2].rpartition(".")[2]
            for word, third in zip(HF_QKV, tensor.chunk(3), strict=True):
                theirs[f"encoder.layer.{match[1]}.{word}.{kind}"] = third
        else:
            theirs[f"encoder.layer.{match[1]}.{_rename(match[2], block_names)}"] = tensor
    mask = "embeddings.mask_token"
    if model_type == "vit" and mask in theirs:
        theirs[mask] = theirs[mask].unsqueeze(0)
    if model_type == "dinov2_with_registers" and mask not in theirs:  # it always has one
        theirs[mask] = torch.zeros(1, shape.width)
    return theirs


def hf_model_type(shape: VitShape) -> str:
    """Return the model type of transformers that has this shape.

    Raises:
        BadRecipe: none has.
    """
    is_vit = shape.layer_scale is None
    if shape.stem != "patch" or (is_vit and (shape.registers or shape.feed_forward == "swiglu")):
        raise BadRecipe(
            "Hugging Face transformers has no model of this shape.",
            "Registers and SwiGLU need LayerScale there, and the stem must be plain; write timm or native instead.",
        )
    if is_vit:
        return "vit"
    return "dinov2_with_registers" if shape.registers else "dinov2"


def hf_config(shape: VitShape) -> dict[str, object]:
    """Return the config.json that makes transformers build this shape."""
    model_type = hf_model_type(shape)
    config: dict[str, object] = {
        "model_type": model_type,
        "architectures": [HF_CLASSES[model_type]],
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": shape.width,
        "image_size": shape.native_side,
        "initializer_range": 0.02,
        "layer_norm_eps": shape.norm_eps,
        "num_attention_heads": shape.heads,
        "num_channels": 3,
        "num_hidden_layers": shape.depth,
        "patch_size": shape.patch,
        "qkv_bias": True,
    }
    if model_type == "vit":
        return {**config, "intermediate_size": shape.hidden}
    is_whole = float(shape.mlp_ratio).is_integer()
    config |= {
        "apply_layernorm": True,
        "drop_path_rate": 0.0,
        "layerscale_value": shape.layer_scale,
        "mlp_ratio": int(shape.mlp_ratio) if is_whole else shape.mlp_ratio,
        "use_swiglu_ffn": shape.feed_forward == "swiglu",
    }
    if shape.registers:
        return {**config, "num_register_tokens": shape.registers}
    return {**config, "use_mask_token": shape.has_mask_token}


def hf_processor(shape: VitShape, mean: Colour, std: Colour) -> dict[str, object]:
    """Return the preprocessor_config.json that makes transformers prepare pictures for it."""
    side = {"height": shape.native_side, "width": shape.native_side}
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": mean,
        "image_std": std,
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "size": side,
    }


def to_timm(tensors: Tensors, shape: VitShape) -> Tensors:
    """Return the tensors as timm names them; the mask token is dropped.

    With registers, timm adds the position of CLS to its token. timm resamples positions by its
    own rule: at other than the native size its features may differ slightly from ours.

    Raises:
        BadRecipe: timm has no model of this shape.
    """
    if shape.stem != "patch":
        raise BadRecipe("timm has no such model with a convolutional stem.", "Write native instead.")
    theirs = _rename_in_blocks(tensors, {f"mlp.{ours}": f"mlp.{name}" for ours, name in TIMM_GATED.items()})
    theirs.pop("mask_token", None)
    if shape.registers:
        theirs["reg_token"] = theirs.pop("register_tokens")
        positions = theirs["pos_embed"]
        theirs["cls_token"] = theirs["cls_token"] + positions[:, :1]
        theirs["pos_embed"] = positions[:, 1:]
    return theirs


def timm_config(shape: VitShape, mean: Colour, std: Colour) -> dict[str, object]:
    """Return the config.json that makes timm build this shape from a local folder."""
    is_gated = shape.feed_forward == "swiglu"
    return {
        # Only the giant's entry point brings the gated layer; everything else is in the arguments.
        "architecture": "vit_giant_patch14_dinov2" if is_gated else "vit_base_patch16_224",
        "num_classes": 0,
        "num_features": shape.width,
        "model_args": {
            "img_size": shape.native_side,
            "patch_size": shape.patch,
            "embed_dim": shape.width,
            "depth": shape.depth,
            "num_heads": shape.heads,
            # timm's ratio counts both halves of the gated layer.
            "mlp_ratio": 2 * shape.hidden / shape.width if is_gated else shape.mlp_ratio,
            "init_values": shape.layer_scale,
            "reg_tokens": shape.registers,
            "no_embed_class": shape.registers > 0,
            "dynamic_img_size": True,
        },
        "pretrained_cfg": {
            "input_size": [3, shape.native_side, shape.native_side],
            "interpolation": "bicubic",
            "mean": mean,
            "std": std,
            "num_classes": 0,
        },
    }
