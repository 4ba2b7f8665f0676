"""Backbones of other families, opened through timm where it is installed, to teach a network of ours.

A name says where the weights are, all of them on this computer; nothing is ever downloaded:

    timm:vit_small_patch16_224.dino            fetched before: by ``engine models get``, or by timm itself
    timm:vit_small_patch16_224.dino=FILE       in a file, whatever was fetched
    timm:FOLDER                                a local timm model: config.json and its weights

A foreign backbone answers as ours do, with ``Features``. It is frozen: it has no gradient and stays in eval mode.

Letters after a name are its axes:
    B pictures · C Y X channels and pixels · N tokens · P patches · D width

Source: timm ``create_model``, ``forward_features``, ``forward_head`` and the ``pretrained_cfg`` of each model.
"""

import contextlib
import difflib
import importlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from engine.catalogue import WEIGHT_SUFFIXES
from engine.errors import BadInput, BadRecipe, BadWeights
from engine.models.downloads import cache_dir, check_recorded, sha256_of
from engine.models.layouts import TRANSPARENT, Colour
from engine.models.tensor_files import open_tensors, write_tensors
from engine.models.vit import Features
from engine.store import write_atomically

SCHEME = "timm:"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights in a repository of the Hugging Face hub, best first; timm ``_hub.py``."""
WHERE_FROM = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "architecture")
"""What a ``pretrained_cfg`` says of where its weights are, and the name that stands above it in config.json."""
WRAPPING_PARTS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Parts of a training checkpoint that hold the network, best first; timm ``_helpers.py``."""


def is_foreign(name: str) -> bool:
    """Return whether a name is that of a backbone for timm."""
    return name.startswith(SCHEME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A frozen backbone of any family and all that is needed to use it.

    ``width`` is that of its vector of a picture, ``patch_width`` of those of patches, which some families have
    different. ``mean`` and ``std`` normalise RGB pictures on a 0..1 scale. ``multiple`` divides the sides, in
    pixels, of the pictures it takes; ``fixed_side`` is the only side it takes, ``None`` where it takes any.
    ``source`` is the name asked for, ``sha256`` that of the weights read.
    """

    model: "ForeignBackbone"
    architecture: str
    width: int
    patch_width: int
    mean: Colour
    std: Colour
    multiple: int
    fixed_side: int | None
    source: str
    sha256: str


class ForeignBackbone(nn.Module):
    """A network of timm that answers with ``Features``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self._n_special = int(getattr(network, "num_prefix_tokens", 0))
        self._is_channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: what teaches neither drops paths nor moves the statistics of its batch norms."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, images_BCYX: Tensor) -> Features:
        """Return the features of pictures, normalised by its own ``mean`` and ``std``.

        ``cls_BD`` is what timm would give its classifier: the [CLS] token, the mean patch or the pooled map,
        whichever the family was trained with.

        Raises:
            BadInput: its answer is neither tokens nor a map.
        """
        network = cast("Any", self.network)
        answer = network.forward_features(images_BCYX)
        cls_BD = network.forward_head(answer, pre_logits=True)
        if not isinstance(answer, Tensor) or answer.ndim not in (3, 4) or cls_BD.ndim != 2:
            raise BadInput(f"A {type(network).__name__} of timm answers with neither tokens nor a map.")
        if answer.ndim == 4:
            map_BYXD = answer if self._is_channels_last else answer.permute(0, 2, 3, 1)
            rows, cols = map_BYXD.shape[1:3]
            patches_BPD = map_BYXD.flatten(1, 2)
            return Features(cls_BD, patches_BPD[:, :0], patches_BPD, rows, cols)
        patches_BPD = answer[:, self._n_special :]
        n_patches, (height, width) = patches_BPD.shape[1], images_BCYX.shape[2:]
        rows = max(1, round(math.sqrt(n_patches * height / width)))
        if n_patches % rows:
            raise BadInput(f"The {n_patches} tokens of a {type(network).__name__} of timm are no grid of patches.")
        registers_BRD = answer[:, 1 : max(1, self._n_special)]
        return Features(cls_BD, registers_BRD, patches_BPD, rows, n_patches // rows)


def load_foreign(name: str) -> Foreign:
    """Return the backbone of a name that starts with ``timm:``.

    Raises:
        BadInput: timm knows no such model, or its weights are not on this computer.
        BadRecipe: timm is not installed, or does not start.
        BadWeights: the weights are not those of the model.
        UnsafeFile: they are in a file that would run code.
    """
    timm = _timm()
    asked = name.removeprefix(SCHEME)
    architecture, _, file = asked.partition("=")
    if Path(asked).is_dir():
        path = _file_in_folder(Path(asked))
        network = _create(timm, f"local-dir:{asked}")
    else:
        _check_known(timm, architecture)
        network = _create(timm, architecture)
        path = Path(file) if file else _kept_file(architecture, network.pretrained_cfg)
    _fill(network, path)
    config = cast("Mapping[str, Any]", network.pretrained_cfg)
    multiple, fixed_side = _sides(network, config)
    model = ForeignBackbone(network)
    # Asked, not read: families name their widths differently, and what answers wrongly is refused at once.
    side = int(config["input_size"][-1])
    answer = model(torch.zeros(1, 3, side, side))
    return Foreign(
        model=model,
        architecture=str(config.get("architecture", architecture)),
        width=answer.cls_BD.shape[1],
        patch_width=answer.patches_BPD.shape[2],
        mean=_colour(config["mean"]),
        std=_colour(config["std"]),
        multiple=multiple,
        fixed_side=fixed_side,
        source=name,
        sha256=sha256_of(path),
    )


def write_foreign(folder: Path, foreign: Foreign) -> None:
    """Write a backbone so that ``timm:FOLDER`` opens it, whatever becomes of the cache it came from.

    Raises:
        DiskFull: there is no room.
    """
    network = cast("Any", foreign.model.network)
    local = Path(foreign.source.removeprefix(SCHEME))
    if local.is_dir():
        config = (local / "config.json").read_bytes()
    else:
        about = {name: value for name, value in network.pretrained_cfg.items() if name not in WHERE_FROM}
        content = {"architecture": foreign.architecture, "num_classes": 0, "pretrained_cfg": about | {"num_classes": 0}}
        config = json.dumps(content, indent=1).encode()
    tensors = network.state_dict()
    write_atomically(folder / HUB_FILES[0], lambda file: write_tensors(file, tensors, {"format": "pt"}))
    write_atomically(folder / "config.json", lambda file: file.write(config))


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as problem:
        raise BadRecipe(
            f"A teacher of timm was asked for, but timm is not installed: {problem}.",
            'Install it with: pip install "dinoviz[timm]".',
        ) from problem
    except RuntimeError as problem:  # a torchvision built for another torch says so when it is imported
        raise BadRecipe(
            f"timm does not start: {problem}.",
            "torch and torchvision must be builds for each other: install both from the same place.",
        ) from problem


def _check_known(timm: Any, architecture: str) -> None:
    if timm.is_model(architecture):
        return
    near = difflib.get_close_matches(architecture, [*timm.list_models(), *timm.list_pretrained()], n=1)
    raise BadInput(
        f"timm {timm.__version__} knows no model '{architecture}'.",
        f"Did you mean 'timm:{near[0]}'?" if near else "Its names are listed by timm.list_pretrained().",
    )


def _create(timm: Any, architecture: str) -> Any:
    """Build a network without weights, that takes pictures of any size where its family can."""
    with contextlib.suppress(TypeError):
        return timm.create_model(architecture, pretrained=False, num_classes=0, dynamic_img_size=True)
    return timm.create_model(architecture, pretrained=False, num_classes=0)


def _sides(network: Any, config: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return what divides the sides of the pictures it takes, and the only side it takes, if there is one."""
    native = int(config["input_size"][-1])
    embedding = getattr(network, "patch_embed", None)
    takes_any = getattr(embedding, "strict_img_size", True) is False or not config.get("fixed_input_size")
    stages = getattr(network, "feature_info", ())
    if takes_any and config.get("pool_size") and stages:
        return int(stages[-1]["reduction"]), None
    if takes_any and hasattr(embedding, "patch_size"):
        return int(embedding.patch_size[0]), None
    return native, native


def _colour(values: Any) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _file_in_folder(folder: Path) -> Path:
    for name in HUB_FILES:
        if (folder / "config.json").is_file() and (folder / name).is_file():
            return folder / name
    raise BadInput(
        f"The folder '{folder}' holds no model of timm.", f"It needs config.json and {' or '.join(HUB_FILES)}."
    )


def _kept_file(architecture: str, config: Mapping[str, Any]) -> Path:
    """Return weights that were fetched before: in our cache, then in those of timm.

    Raises:
        BadInput: they were not.
    """
    for suffix in WEIGHT_SUFFIXES:
        path = cache_dir() / (architecture + suffix)
        if path.is_file():
            check_recorded(path)
            return path
    found = next(_in_caches_of_timm(config), None)
    if found is not None:
        return found
    hub = config.get("hf_hub_id")
    address = f"https://huggingface.co/{hub}/resolve/main/{HUB_FILES[0]}" if hub else config.get("url") or "ADDRESS"
    raise BadInput(
        f"The weights of 'timm:{architecture}' are not on this computer.",
        f"Get them with: engine models get {architecture} --address {address}; "
        f"or name a file: timm:{architecture}=FILE.",
    )


def _in_caches_of_timm(config: Mapping[str, Any]) -> Iterator[Path]:
    if config.get("hf_hub_id"):
        with contextlib.suppress(ImportError):
            from huggingface_hub import try_to_load_from_cache

            for name in HUB_FILES:
                path = try_to_load_from_cache(str(config["hf_hub_id"]), name)
                if isinstance(path, str):
                    yield Path(path)
    if config.get("url"):
        path_of_url = Path(torch.hub.get_dir()) / "checkpoints" / str(config["url"]).rpartition("/")[2]
        if path_of_url.is_file():
            yield path_of_url


def _fill(network: Any, path: Path) -> None:
    """Load weights, all or nothing but for a classifier.

    Raises:
        BadInput, UnsafeFile: as ``open_tensors``.
        BadWeights: they are not those of the network.
    """
    with open_tensors(path) as file:
        tensors = _bare(file.read(file.slots))
    # Each family of timm translates the names of its released files with a function of this name.
    translate = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        tensors = translate(tensors, network) if translate else tensors
        result = network.load_state_dict(tensors, strict=False)
    except (RuntimeError, KeyError, ValueError, AttributeError) as problem:
        raise BadWeights(
            f"'{path.name}' cannot be used as a {type(network).__name__} of timm: {str(problem)[:200]}.",
            "Name the model that the weights are of.",
        ) from problem
    classifiers = network.pretrained_cfg.get("classifier") or ()
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    unexpected = [name for name in result.unexpected_keys if not name.startswith(tuple(f"{h}." for h in heads))]
    if result.missing_keys or unexpected:
        raise BadWeights(
            f"'{path.name}' is not of a {type(network).__name__} of timm: {len(result.missing_keys)} tensors are "
            f"missing, {len(unexpected)} left over: {', '.join([*result.missing_keys, *unexpected][:3])} …",
            "Name the model that the weights are of.",
        )


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take a network's tensors out of a checkpoint and the words that wrap its names off."""
    part = next((part for part in WRAPPING_PARTS if any(name.startswith(f"{part}.") for name in tensors)), None)
    if part is not None:
        tensors = {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
    return {".".join(word for word in name.split(".") if word not in TRANSPARENT): t for name, t in tensors.items()}
