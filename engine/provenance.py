"""Where a file comes from, as facts that everything written carries: drawings, arrays, palettes, exports.

Names the model by its digest and never by a path of this computer, so that a file can be given away.
"""

import time
from typing import Any

from engine import __version__
from engine.sets import FeatureSet, short_name

KEY = "dinoviz"
"""Name under which formats with room for metadata hold these facts, as JSON."""
Provenance = dict[str, Any]
"""Facts that JSON can hold."""


def of_program(**facts: Any) -> Provenance:
    """Return facts between what program wrote them and when."""
    return {
        "program": f"dinoviz {__version__}",
        **facts,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def of_model(source: str, sha256: str, architecture: str, **more: Any) -> Provenance:
    """Return the facts about what a model saw or made.

    Args:
        source: name or path of the model.
        sha256: of its file.
        architecture: its name.
        more: further facts: side, layer, threshold.
    """
    facts = {"model": short_name(source), "model_sha256": sha256, "architecture": architecture}
    return of_program(**(facts | more))


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
    return of_model(plan.model, plan.model_sha256, plan.architecture, **(facts | more))
