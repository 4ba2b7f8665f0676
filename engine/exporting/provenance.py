"""Where an export comes from, as facts that every exported file carries.

Names the model by its digest and never by a path of this computer, so that an export can be given away.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine import __version__
from engine.catalogue import name_of
from engine.sets import FeatureSet

if TYPE_CHECKING:  # a set is exported without torch
    from engine.models.weights import Backbone

KEY = "dinoviz-export"
"""Name under which formats with room for metadata hold these facts, as JSON."""

Provenance = dict[str, Any]
"""Facts that JSON can hold."""


def of_set(features: FeatureSet, **more: Any) -> Provenance:
    """Return the facts about what is made of a set of features.

    Args:
        features: the set.
        more: further facts: the method of a map, the number of rows.
    """
    plan = features.plan
    facts = {
        "features": plan.kind,
        "view": plan.view,
        "side_px": plan.side,
        "patch_px": plan.patch,
        "precision": plan.precision,
        "set": features.folder.name,
        "set_key": features.key,
    }
    return _facts(plan.model, plan.model_sha256, plan.architecture, facts | more)


def of_backbone(backbone: "Backbone", **more: Any) -> Provenance:
    """Return the facts about a backbone, or about what it saw.

    Args:
        backbone: as loaded.
        more: further facts: side, layer, threshold.
    """
    return _facts(backbone.source, backbone.sha256, name_of(backbone.shape), more)


def _facts(model: str, sha256: str, architecture: str, more: Mapping[str, Any]) -> Provenance:
    return {
        "program": f"dinoviz {__version__}",
        "model": _without_folders(model),
        "model_sha256": sha256,
        "architecture": architecture,
        **more,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _without_folders(model: str) -> str:
    """Return the name of a model; of a path, the last two parts: ``runs/0001``."""
    return "/".join(model.replace("\\", "/").rstrip("/").split("/")[-2:])
