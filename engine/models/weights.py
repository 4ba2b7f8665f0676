"""Weights: any file of a DINO or DINOv2 backbone in, a ready backbone out, and back again.

Loading is all or nothing: every tensor of the backbone is matched by name and shape, or the file
is refused and the differences are named. ``layouts`` knows the names, ``tensor_files`` the bytes,
``downloads`` the cache.
"""

import contextlib
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from engine.catalogue import (
    BUNDLED,
    IMAGENET_MEAN,
    IMAGENET_STD,
    WEIGHT_SUFFIXES,
    WEIGHTS,
    ResNetShape,
    Shape,
    VitShape,
    name_of,
)
from engine.errors import BadInput, BadRecipe, BadWeights
from engine.facts import BUNDLED_FILE, DESCRIPTION
from engine.models import layouts
from engine.models.adapters import merged
from engine.models.backbones import build_backbone
from engine.models.downloads import (
    cache_dir,
    check_name,
    check_recorded,
    fetch,
    sha256_of,
)
from engine.models.layouts import Colour, Layout, Role, Tensors
from engine.models.tensor_files import ARGUMENTS, TensorFile, open_tensors, read_contents, write_tensors
from engine.provenance import Provenance, of_model
from engine.store import write_atomically
from engine.weight_files import forget

__all__ = [
    "Backbone",
    "FileReport",
    "cache_dir",
    "check_file",
    "describe",
    "fetch",
    "import_file",
    "load_backbone",
    "read_backbone",
    "write_backbone",
]

CHECKPOINT_TEACHER = "model.safetensors"
CHECKPOINT_STATE = "train.safetensors"
"""The files of a checkpoint of ours that hold a teacher and both roles; see ``training.checkpoint``."""
MAX_CONFIG_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A backbone in eval mode and all that is needed to use it.

    ``mean`` and ``std`` normalise RGB pictures on a 0..1 scale. ``source`` is the name or path
    asked for, ``sha256`` that of the file read. ``recipe`` is what it was trained with, if the
    file says; ``about`` everything else it says.
    """

    model: nn.Module
    shape: Shape
    mean: Colour
    std: Colour
    source: str
    sha256: str
    layout: Layout
    recipe: dict[str, Any] | None
    about: dict[str, Any]
    notices: tuple[str, ...]

    def provenance(self, **more: Any) -> Provenance:
        """Return the facts about what this backbone saw or made; see ``engine.provenance.of_model``."""
        return of_model(self.source, self.sha256, name_of(self.shape), **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How the tensors of a file differ from those of the backbone it describes."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        parts = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.misshapen}
        return "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in parts.items() if names)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What a file holds, without loading it."""

    path: Path
    layout: Layout
    shape: Shape
    n_matched: int
    difference: Difference
    n_parameters: int
    sha256: str
    notices: tuple[str, ...]

    @property
    def is_loadable(self) -> bool:
        """Whether every tensor of the backbone is there and none is left over."""
        return not self.difference


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A backbone located in an open file."""

    names: Mapping[str, str]
    layout: Layout
    shape: Shape
    mean: Colour
    std: Colour
    recipe: dict[str, Any] | None
    about: dict[str, Any]
    notices: tuple[str, ...]

    def native(self, tensors: Tensors) -> Tensors:
        """Return tensors read under the file's full names, under native ones."""
        return layouts.to_native(self.layout, {bare: tensors[full] for bare, full in self.names.items()})


def read_backbone(path: Path, *, role: Role = "teacher", heads: int | None = None) -> Backbone:
    """Read the backbone in a file of weights of any layout in ``layouts``.

    Positions are resampled as the file's own library does, see ``layouts.infer_shape``.

    Args:
        path: .safetensors, or a PyTorch file, which is opened in a child process.
        role: which of the two to take from a training checkpoint.
        heads: number of attention heads where neither the file nor its config.json says it and
            they are not 64 wide.

    Raises:
        BadInput: there is no such file.
        BadWeights: it is damaged, or not exactly a backbone that we know.
        UnsafeFile: it would run code.
    """
    with open_tensors(path) as file, _naming(path):
        found = _locate(file, path, role, heads)
        with torch.device("meta"):
            model = build_backbone(found.shape)
        # Names and shapes first: a wrong file is refused before its gigabytes are read.
        _refuse(_compare(model, found.native(file.outline(found.names.values()))))
        tensors = found.native(file.read(found.names.values()))
        wanted = model.state_dict()
        model.load_state_dict({name: _fitting(name, tensors[name], wanted[name]) for name in wanted}, assign=True)
    return Backbone(
        model=model.eval(),
        shape=found.shape,
        mean=found.mean,
        std=found.std,
        source=str(path),
        sha256=sha256_of(path),
        layout=found.layout,
        recipe=found.recipe,
        about=found.about,
        notices=found.notices,
    )


def check_file(path: Path, *, role: Role = "teacher", heads: int | None = None) -> FileReport:
    """Say what a file of weights holds and whether it can be loaded; raises as ``read_backbone``."""
    with open_tensors(path) as file, _naming(path):
        found = _locate(file, path, role, heads)
        with torch.device("meta"):
            model = build_backbone(found.shape)
        tensors = found.native(file.outline(found.names.values()))
    difference = _compare(model, tensors)
    return FileReport(
        path=path,
        layout=found.layout,
        shape=found.shape,
        n_matched=len(tensors) - len(difference.unexpected) - len(difference.misshapen),
        difference=difference,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        sha256=sha256_of(path),
        notices=found.notices,
    )


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the file in front of what is wrong with it."""
    try:
        yield
    except BadWeights as exc:
        raise BadWeights(f"'{path.name}' cannot be used. {exc.message}", exc.hint) from exc


def _locate(file: TensorFile, path: Path, role: Role, heads: int | None) -> _Found:
    part = layouts.find_part(list(file.slots), role)
    outline = file.outline(part.names.values())
    tensors = {bare: outline[full] for bare, full in part.names.items()}
    described = _read_description(_metadata(file, path))
    if described is not None:
        shape, mean, std, about = described
        layout: Layout = "native"
    else:
        config = _read_config(path.with_name("config.json"))
        layout = layouts.recognise(tensors, config)
        shape = layouts.infer_shape(layouts.to_native(layout, tensors), layout, heads, config)
        mean, std = _read_colours(path, config)
        about = {"recipe": _read_arguments(file.metadata)}
    notices = part.notices
    if isinstance(shape, VitShape) and shape.has_mask_token and "mask_token" not in layouts.to_native(layout, tensors):
        shape = replace(shape, has_mask_token=False)  # needed for training with masks only
        notices += ("It has no mask token.",)
    recipe = about.get("recipe")
    return _Found(
        names=part.names,
        layout=layout,
        shape=shape,
        mean=mean,
        std=std,
        recipe=recipe if isinstance(recipe, dict) else None,
        about={key: value for key, value in about.items() if key != "recipe"},
        notices=notices,
    )


def _compare(model: nn.Module, tensors: Tensors) -> Difference:
    wanted = model.state_dict()
    return Difference(
        missing=tuple(name for name in wanted if name not in tensors),
        unexpected=tuple(name for name in tensors if name not in wanted),
        misshapen=tuple(
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ),
    )


def _refuse(difference: Difference) -> None:
    if difference:
        raise BadWeights(
            f"Its tensors are not those of the backbone it looks like: {difference}.",
            "It is another architecture, or damaged.",
        )


def _fitting(name: str, tensor: Tensor, wanted: Tensor) -> Tensor:
    """Return a tensor in the type that the model wants: float32, or a count of batches."""
    if tensor.is_floating_point() != wanted.is_floating_point():
        raise BadWeights(f"Tensor '{name}' holds {tensor.dtype}.", "Quantised weights cannot be read.")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise BadWeights(f"Tensor '{name}' holds values that are not numbers.", "The training had diverged.")
    return tensor.to(wanted.dtype)


def describe(
    shape: Shape, *, about: Mapping[str, Any], mean: Colour = IMAGENET_MEAN, std: Colour = IMAGENET_STD
) -> dict[str, str]:
    """Return the metadata that lets a safetensors file of native names be read back exactly.

    For backbones and for checkpoints whose names start ``teacher.backbone.`` and ``student.backbone.``.
    """
    family = "vit" if isinstance(shape, VitShape) else "resnet"
    content = {"family": family, "shape": asdict(shape), "mean": mean, "std": std, "about": dict(about)}
    return {"format": "pt", DESCRIPTION: json.dumps(content)}


def _metadata(file: TensorFile, path: Path) -> Mapping[str, str]:
    """Return the metadata of a file; what a run trains on is described by the backbone saved beside it."""
    exported = path.with_name(CHECKPOINT_TEACHER)
    if path.name == CHECKPOINT_STATE and DESCRIPTION not in file.metadata and exported.is_file():
        return read_contents(exported).metadata
    return file.metadata


def _read_description(metadata: Mapping[str, str]) -> tuple[Shape, Colour, Colour, dict[str, Any]] | None:
    if DESCRIPTION not in metadata:
        return None
    try:
        content = json.loads(metadata[DESCRIPTION])
        family: type[VitShape] | type[ResNetShape] = {"vit": VitShape, "resnet": ResNetShape}[content["family"]]
        newer = set(content["shape"]) - {field.name for field in fields(family)}
        shape: Shape = TypeAdapter(family).validate_python(content["shape"])
        mean, std = (TypeAdapter(Colour).validate_python(content[key]) for key in ("mean", "std"))
        about = TypeAdapter(dict[str, Any]).validate_python(content["about"])
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise BadWeights("Its description is damaged.") from exc
    if newer:
        raise BadWeights(
            f"It was written by a newer version, which knows {', '.join(sorted(newer))}.", "Update the program."
        )
    layouts.check_plausible(shape)
    return shape, mean, std, about


def _read_arguments(metadata: Mapping[str, str]) -> object:
    """Return the settings that a converted checkpoint was trained with."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(metadata.get(ARGUMENTS, "null"))
    return None


def _read_config(path: Path) -> dict[str, Any]:
    """Return a JSON table lying beside the weights; nothing if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= MAX_CONFIG_BYTES:
            content = json.loads(path.read_bytes())
            return content if isinstance(content, dict) else {}
    return {}


def _read_colours(path: Path, config: Mapping[str, Any]) -> tuple[Colour, Colour]:
    """Return mean and std as Hugging Face or timm write them beside the weights, else ImageNet's."""
    processor = _read_config(path.with_name("preprocessor_config.json"))
    pretrained = config.get("pretrained_cfg")
    timm = pretrained if isinstance(pretrained, dict) else {}
    stated = {
        "mean": processor.get("image_mean", timm.get("mean", IMAGENET_MEAN)),
        "std": processor.get("image_std", timm.get("std", IMAGENET_STD)),
    }
    with contextlib.suppress(ValidationError):
        colours = TypeAdapter(dict[str, Colour]).validate_python(stated)
        return colours["mean"], colours["std"]
    return IMAGENET_MEAN, IMAGENET_STD


def load_backbone(model: str, *, role: Role = "teacher") -> Backbone:
    """Return a backbone by the name that a person gives it.

    Args:
        model: ``bundled``, a name in ``catalogue.WEIGHTS`` that has been fetched, the folder of a run or of a
            Hugging Face or timm model, a file, or the name of an imported file or one fetched from an address.
        role: teacher or student; a student is only in checkpoints.

    Raises:
        BadInput: there is nothing of that name here.
        BadWeights, UnsafeFile: as ``read_backbone``.
    """
    if model == BUNDLED:
        return replace(read_backbone(BUNDLED_FILE), source=model)
    if model in WEIGHTS:
        return replace(read_backbone(_released_file(model)), source=model)
    path = Path(model)
    if path.is_dir():
        return read_backbone(_file_in_folder(path, role), role=role)
    if path.is_file():
        return read_backbone(path, role=role)
    if path.name == model and (kept := _kept_file(model)):
        return replace(read_backbone(kept), source=model)
    near = difflib.get_close_matches(model, [BUNDLED, *WEIGHTS], n=1)
    raise BadInput(
        f"There is no model '{model}'.",
        f"Did you mean '{near[0]}'?" if near else "Give the folder of a run, a file of weights or a released name.",
    )


def _released_file(name: str) -> Path:
    """Return the file of released weights in the cache.

    Raises:
        BadInput: they were not fetched.
        BadWeights: they are of another architecture.
    """
    kept = _kept_file(name, WEIGHTS[name].shape)
    if kept is None:
        raise BadInput(f"The weights '{name}' are not on this computer.", f"Get them with: engine models get {name}")
    return kept


def _kept_file(name: str, shape: Shape | None = None) -> Path | None:
    """Return the file that the cache has under a name, converted to safetensors on first use; None if there is none.

    The converted file takes the place of the downloaded one, so that a disk holds either.

    Raises:
        BadWeights: the file is not what it was the first time, or what was downloaded is not of the wanted shape.
    """
    folder = cache_dir()
    kept, *downloads = (folder / f"{name}{suffix}" for suffix in WEIGHT_SUFFIXES)
    downloaded = next((path for path in downloads if path.is_file()), None)
    if not kept.is_file():
        if downloaded is None:
            return None
        check_recorded(downloaded)
        backbone = read_backbone(downloaded)
        if shape not in (None, backbone.shape):
            raise BadWeights(f"'{downloaded}' holds another architecture than '{name}'.", "Delete it and get it again.")
        _write_imported(kept, backbone)
        downloaded.unlink()
    check_recorded(kept)
    return kept


def _file_in_folder(folder: Path, role: Role) -> Path:
    """Return the weights of a run, its exported backbone or newest checkpoint, or of a published model."""
    exported = [folder / "backbone.safetensors"] if role == "teacher" else []
    wanted = CHECKPOINT_TEACHER if role == "teacher" else CHECKPOINT_STATE
    # Not part folders, which are hidden and may be about to be removed.
    checkpoints = sorted(folder.glob(f"checkpoints/step-{'[0-9]' * 8}/{wanted}"), reverse=True)
    published = [folder / "model.safetensors", folder / "pytorch_model.bin"]
    for path in [*exported, *checkpoints, *published]:
        if path.is_file():
            return path
    raise BadInput(f"There are no weights in the folder '{folder}'.", "The run has not saved anything yet.")


def import_file(
    path: Path, *, name: str | None = None, role: Role = "teacher", heads: int | None = None, cache: Path | None = None
) -> Path:
    """Convert a file of any layout to ours, in the cache, and return it; ``load_backbone(name)`` finds it.

    Args:
        path: what to import; it is left as it is.
        name: what to call it; ``None`` for the file's own name.
        role: as ``read_backbone``.
        heads: as ``read_backbone``.
        cache: folder; ``None`` for ``cache_dir()``.

    Raises:
        BadInput: the name is taken by released weights or is no file name.
        BadWeights, UnsafeFile: as ``read_backbone``.
    """
    name = name or path.stem
    check_name(name)
    if name in WEIGHTS:
        raise BadInput(f"'{name}' is the name of weights that dinoviz knows.", "Choose another name.")
    target = (cache or cache_dir()) / f"{name}.safetensors"
    backbone = read_backbone(path, role=role, heads=heads)
    target.parent.mkdir(parents=True, exist_ok=True)
    _write_imported(target, backbone)
    return target


def _write_imported(target: Path, backbone: Backbone) -> None:
    origin = {"imported_from": Path(backbone.source).name, "sha256": backbone.sha256, "layout": backbone.layout}
    about = {**backbone.about, "recipe": backbone.recipe, **origin}
    forget(target)
    write_backbone(target, backbone.model, backbone.shape, about=about, mean=backbone.mean, std=backbone.std)
    check_recorded(target)


def write_backbone(
    path: Path,
    model: nn.Module,
    shape: Shape,
    *,
    about: Mapping[str, Any],
    layout: Literal["native", "hf", "timm"] = "native",
    dtype: torch.dtype = torch.float32,
    mean: Colour = IMAGENET_MEAN,
    std: Colour = IMAGENET_STD,
) -> None:
    """Write a backbone, whole or not at all.

    Args:
        path: a .safetensors file; for 'hf' and 'timm' a folder, made if need be, that the
            library opens as a local model.
        model: the backbone; adapters are folded into its weights.
        shape: its shape.
        about: anything JSON can hold; ``recipe`` is what it was trained with. Native only.
        layout: 'native' is read back exactly; the others as ``layouts.to_hf`` and ``to_timm`` say.
        dtype: of the stored floats; they are read back as float32.
        mean: of the RGB pictures it was trained on.
        std: the same.

    Raises:
        BadRecipe: the library has no model of this shape.
        BadWeights: a weight is not finite, or not any more in ``dtype``.
        DiskFull: there is no room.
    """
    tensors = {name: _stored(name, tensor, dtype) for name, tensor in merged(model).items()}
    if layout == "native":
        _write_file(path, tensors, describe(shape, about=about, mean=mean, std=std))
        return
    if not isinstance(shape, VitShape):
        raise BadRecipe("Only vision transformers are written for other libraries.", "Write native instead.")
    if layout == "hf":
        theirs, config = layouts.to_hf(tensors, shape), layouts.hf_config(shape)
    else:
        theirs, config = layouts.to_timm(tensors, shape), layouts.timm_config(shape, mean, std)
    path.mkdir(parents=True, exist_ok=True)
    _write_file(path / "model.safetensors", theirs, {"format": "pt"})
    _write_json(path / "config.json", config)
    if layout == "hf":
        _write_json(path / "preprocessor_config.json", layouts.hf_processor(shape, mean, std))


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(dtype)
    if not tensor.isfinite().all():
        raise BadWeights(f"Tensor '{name}' cannot be written as {dtype}: it holds values beyond its range.")
    return tensor


def _write_file(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    write_atomically(path, lambda file: write_tensors(file, tensors, metadata))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    encoded = json.dumps(content, indent=2, sort_keys=True).encode()
    write_atomically(path, lambda file: file.write(encoded))
