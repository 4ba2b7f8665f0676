"""The rules that settle what was not asked for: each gives a value and the reason shown beside it.

A rule is a pure function of the facts and of the values settled above it in `RULES`, and nothing else.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.catalogue import RESNET_STRIDE, SELF_DISTILLED, VitShape, name_of, shape_of
from engine.scaling import Head, Learning, state_bytes
from engine.settings import Facts, Value

Rule = Callable[[Facts, Mapping[str, Value]], tuple[Value, str]]

STATE_SHARE = 0.4  # of a device's memory: as much again for what passes keep, and some to spare
LARGE_FOLDER = 500_000  # from here the settings of large networks pay
SMALL_FOLDER = 20_000  # below this the paper's settings, made for 1.3 million pictures, do not learn
TINY_FOLDER = 1000
GPU_PICTURES_SEEN = 30_000_000  # 100 epochs of the paper are 128 million; small folders stop gaining earlier
CPU_PICTURES_SEEN = 300_000  # about 70 minutes of one core at 48 px
# Measured on 3,068 photos of clothing, README "Learning from few pictures".
SMALL_PEAK_RATE = 5e-4
START_PEAK_RATE = 2e-4
# Measured on 767 photos of clothing, 138 steps: 49 % of 372 named right, 37 % with a peak of 2e-4.
LABELLED_PEAK_RATE = 1e-3
DEPTH_OF_SMALL_SIZES = 12
LARGE_WIDTH = 1024  # vit-large and vit-giant
CPU_SIDE = 48
SINKHORN_BATCH = 256  # README: on a batch of 32 its answers are too soft to learn from
SUPERVISED_SCALE = 0.25
FINE_TUNING_DECAY = 0.75  # Bao et al. 2021 (BEiT) tab. 9, He et al. 2021 (MAE) tab. 9: 0.65 to 0.75
DISTILLED_PROTOTYPES = 4096
LIKENESS_TEMPERATURE = 0.04
PUBLISHED_MOMENTUM = 0.996  # DINO §3.1; BYOL §3.3
PUBLISHED_QUEUE = 65_536  # MoCo §4.1
SHORTEST_QUEUE = 16
RELEASED_PEAK_RATE = 5e-5  # for 1,024 pictures, growing with the square root; a guess that the guard watches over
RELEASED_WIDTH = 384  # the narrowest released network
HEADS_RATE = 1e-3  # twice that of a run from noise: what moves has nothing to lose
ADAPTER_PEAK_RATE = 1e-3  # more than for whole weights, as adapters begin at nothing; not tuned
MOST_MEASURED = 5120  # training/gauge.py
HEADS_EPOCHS, HEADS_STEPS, HEADS_SHARE = 5, 1000, 0.3
HALF_LIVES = 10  # of the teacher in a run that fine-tunes
TUNING_DROP_PATH = 0.1
TUNING_TEMPERATURE = 0.04  # DINO §3.1, without its rise
TUNING_DECAY_END = 0.2  # dinov2 vitl14.yaml, vitg14.yaml
LOOKS, LOOK_SHARE = 20, 2.5  # of the guard in a run; pictures looked at for each one learnt from: a quarter of the time
TINY_SIDE = 64  # below it a crop has a few dozen patches at most
# Memory of one picture with 2 x 224 and 10 x 96 px crops in half precision: DINO tab. 8, 15.4 GB for 64 (vit-small).
BYTES_PER_PICTURE_VIT_SMALL = 240 * 2**20


def _is_small(facts: Facts) -> bool:
    return facts.n_pictures < SMALL_FOLDER


def _is_tuning(facts: Facts, values: Mapping[str, Value]) -> bool:
    """Tell whether weights that know something learn on without labels: nothing they know is to be lost."""
    return facts.start is not None and not _is_supervised(values) and not _is_distillation(values)


def _is_v2(values: Mapping[str, Value]) -> bool:
    """Tell whether patches are learnt from, too."""
    return values["objective"] in ("dinov2", "ibot")


def _is_supervised(values: Mapping[str, Value]) -> bool:
    """Tell whether labels are learnt: the settings of DeiT."""
    return values["objective"] == "supervised"


def _is_distillation(values: Mapping[str, Value]) -> bool:
    """Tell whether the teacher is frozen."""
    return values["objective"] == "distillation"


def _is_published_v2(facts: Facts, values: Mapping[str, Value]) -> bool:
    """Tell whether DINOv2's own settings apply: enough pictures for them, and patches learnt from."""
    return _is_v2(values) and not _is_small(facts)


def _vit(facts: Facts, values: Mapping[str, Value]) -> VitShape | None:
    """Return the transformer that the run starts from or that was named, None for a residual network."""
    shape = facts.start or shape_of(str(values["model"]))
    return shape if isinstance(shape, VitShape) else None


FROM_START = "that of the weights it starts from"
NO_TRANSFORMER = "a residual network has none"


def _model(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.start is not None:
        return name_of(facts.start), FROM_START
    if facts.device == "cpu":
        return "vit-tiny/8", "the smallest transformer, with patches that fit small crops: this runs on the CPU"
    patch = 14 if _is_published_v2(facts, values) else 16  # the convolutional stem makes powers of two
    if facts.n_pictures >= LARGE_FOLDER and facts.device_memory_bytes >= 40 * 2**30:
        return f"vit-base/{patch}", "enough pictures and memory for the larger network"
    return f"vit-small/{patch}", "the paper's network for one GPU"


def _depth(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is None:
        return 1, NO_TRANSFORMER
    if facts.start is not None:
        return vit.depth, FROM_START
    if facts.device == "cpu" and _is_small(facts) and vit.depth == DEPTH_OF_SMALL_SIZES:
        return vit.depth // 2, "half the blocks, twice the steps in the same time"
    return vit.depth, f"{values['model']} has {vit.depth} blocks"


def _heads(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is None:
        return 1, NO_TRANSFORMER
    return vit.heads, FROM_START if facts.start is not None else "64 numbers a head, as in every released model"


def _registers(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is None:
        return 0, NO_TRANSFORMER
    return vit.registers, FROM_START if facts.start is not None else "small models have no need of them"


def _stem(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is not None and facts.start is not None:
        return vit.stem, FROM_START
    if vit is not None and _is_small(facts) and vit.patch & (vit.patch - 1) == 0:
        return "conv", "under 20,000 pictures one linear map learns edges too slowly"
    return "patch", "as published"


def _start(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return "contrasting", "with the published start the [CLS] of similar pictures are alike and nothing is learnt"
    return "published", "as published"


def _feed_forward(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is None:
        return "mlp", NO_TRANSFORMER
    return vit.feed_forward, FROM_START if facts.start is not None else f"that of every {values['model']}"


def _layer_scale(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is None:
        return 0.0, NO_TRANSFORMER
    if facts.start is not None:
        return vit.layer_scale or 0.0, FROM_START
    if _is_published_v2(facts, values):
        return 1e-5, "DINOv2's; steadies deep networks"
    if _is_v2(values):
        return 0.0, "in a short run branches that begin at almost nothing learn too slowly"
    return 0.0, "DINO has none"


def _drop_path(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_distillation(values):
        return 0.0, "DINOv2 §5: off where the teacher is frozen"
    if facts.device == "cpu":
        return 0.0, "a short run has no need of it"
    vit = _vit(facts, values)
    if _is_published_v2(facts, values) and vit is not None and vit.width >= LARGE_WIDTH:
        if _is_tuning(facts, values):
            return TUNING_DROP_PATH, "no more than that: it is the network as a whole that knows something"
        return 0.4, "DINOv2's for large networks"
    return 0.1, "as published"


def _drop_path_by(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_v2(values):
        return "leaving_out", "DINOv2's: what is left out is not computed"
    return "masking", "DINO's"


def _global_side(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    wanted = CPU_SIDE if facts.device == "cpu" else 224
    vit = _vit(facts, values)
    patch = vit.patch if vit else RESNET_STRIDE
    side = max(2 * patch, min(wanted, facts.median_side) // patch * patch)
    if side < wanted // patch * patch:
        return side, f"half of the pictures are smaller than {wanted} px"
    return side, "steps that a CPU takes in a fraction of a second" if facts.device == "cpu" else "as published"


def _local_side(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    patch = vit.patch if vit else RESNET_STRIDE
    side = max(patch, round(int(values["global_side"]) * 96 / 224 / patch) * patch)
    return side, "96 / 224 of the large crops, in whole patches, as published"


def _local_crops(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_supervised(values):
        return 0, "a label is learnt from one large crop"
    if values["objective"] in ("byol", "moco"):
        return 0, "two large crops, as published"
    if facts.device == "cpu":
        return 4, "more would slow the CPU more than it teaches"
    return 8, "as published"


def _scale_split(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _vit(facts, values) is None:
        return 0.14, "the paper's value for ResNet-50"
    if _is_supervised(values):
        return SUPERVISED_SCALE, "a crop must show enough of what its label names"
    if int(values["global_side"]) < TINY_SIDE:
        return 0.5, "large crops this small must show enough to be recognised"
    if values["objective"] == "byol" and not values["local_crops"]:
        return 0.08, "BYOL's"
    if values["objective"] == "moco" and not values["local_crops"]:
        return 0.2, "MoCo's"
    if _is_published_v2(facts, values):
        return 0.32, "DINOv2's"
    return 0.4, "the paper's value for vision transformers"


def _scale_min(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if int(values["global_side"]) < TINY_SIDE:
        return 0.15, f"less of a picture in {values['local_side']} px shows nothing"
    return 0.05, "as published"


def _last_side(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    patch = vit.patch if vit else RESNET_STRIDE
    side = round(int(values["global_side"]) * 518 / 224 / patch) * patch
    if not values["last_epochs"]:
        return side, "not used: last_epochs is 0"
    return side, "518 / 224 of the large crops, in whole patches, as published"


def _grey(_: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_supervised(values):
        return 0.0, "colour tells classes apart; DeiT turns none grey"
    return 0.2, "as published"


def _blur(_: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_supervised(values):
        return "off", "DeiT blurs none"
    return "paper", "as published"


def _jitter(small: float, published: float) -> Rule:
    def rule(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
        if _is_supervised(values):
            return published, "in the place of DeiT's RandAugment"
        if _is_small(facts):
            return small, "few pictures can be told apart by colours alone; that way out is closed"
        return published, "as published"

    return rule


def _prototypes(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_distillation(values) and facts.teacher is not None and facts.teacher.prototypes:
        return facts.teacher.prototypes, "those of the teacher's head"
    if _is_distillation(values):
        return max(16, min(DISTILLED_PROTOTYPES, facts.n_pictures)), "pictures whose features the teacher's are told by"
    # Steps by folder size: as lightly-train scales its output; DINO tab. 13 loses 2 % from 65,536 to 1,024.
    if facts.n_pictures < TINY_FOLDER:
        return 256, f"fewer than {TINY_FOLDER:,} pictures cannot fill more prototypes"
    for limit, length in ((SMALL_FOLDER, 1024), (50_000, 2048), (100_000, 4096), (200_000, 16_384), (500_000, 32_768)):
        if facts.n_pictures <= limit:
            return length, f"few pictures cannot fill more prototypes: {length} up to {limit:,} pictures"
    return 65_536, "as published"


def _head_width(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return 512, "a smaller head for fewer prototypes"
    return 2048, "as published"


def _head_norm(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return "batch", "the [CLS] of similar pictures start alike; normalising over the batch keeps them apart"
    return "none", "as published"


def _bottleneck(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_distillation(values) and facts.teacher is not None:
        return facts.teacher.width, "the teacher's width: the student is compared with the very same prototypes"
    return 256, "as published"


def _centring(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_distillation(values) and facts.teacher is not None and facts.teacher.prototypes:
        return facts.teacher.centring, "that of the teacher's own run"
    if _is_distillation(values):
        return "none", "a frozen teacher cannot collapse"
    if values["objective"] == "dinov2" and int(values["batch"]) >= SINKHORN_BATCH:
        return "sinkhorn", "DINOv2's for its large networks: no centre that lags behind"
    if values["objective"] == "dinov2":
        return "ema", f"an equal share for every prototype needs {SINKHORN_BATCH} pictures a step or more"
    return "ema", "as published"


def _separate_heads(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if values["objective"] == "dinov2" and facts.n_pictures >= LARGE_FOLDER:
        return True, "DINOv2 §4: at scale two heads are better"
    return False, "one head for both learns from fewer pictures"


def _ibot_prototypes(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if not values["separate_heads"]:
        return values["prototypes"], "the one head's"
    return values["prototypes"], "as many as for whole pictures, as published"


def _projector_layers(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if values["objective"] == "moco":
        return 3, "better than MoCo-v2's two: DINO app. B"
    return 2, "as published"


def _projector_width(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return 512, "a smaller head for few pictures"
    return 4096 if values["objective"] == "byol" else 2048, "as published"


def _projector_out(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    return 128 if values["objective"] == "swav" else 256, "as published"


def _predictor_width(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return 512, "that of the projection head"
    return 4096, "as published"


def _queue(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    # An older key of the same picture counts as another picture's. Within a quarter of an epoch few come twice.
    longest = max(SHORTEST_QUEUE, facts.n_pictures // 4)
    if longest >= PUBLISHED_QUEUE:
        return PUBLISHED_QUEUE, "as published"
    return 2 ** (longest.bit_length() - 1), "a quarter of the pictures at most, so that few of them meet themselves"


def _swav_prototypes(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return _prototypes(facts, values)
    return 3000, "as published"


def _epsilon(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return 0.02, "higher spreads every picture over all prototypes where the batch is small"
    return 0.05, "as published"


def _norm_last_layer(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_published_v2(facts, values):
        return False, "DINOv2 lets them learn their length"
    return True, "steadier; the reference's default"


def _student_temperature(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_distillation(values) and not (facts.teacher and facts.teacher.prototypes):
        return 0.2, "SEED's, for answers that are likenesses"
    return 0.1, "as published"


def _teacher_side(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    teacher = facts.teacher
    if teacher is None:
        return values["global_side"], "that of the large crops"
    if teacher.fixed_side:
        return teacher.fixed_side, "the only side the teacher takes"
    side = math.ceil(int(values["global_side"]) / teacher.multiple) * teacher.multiple
    return side, f"that of the large crops, in whole patches of the teacher, {teacher.multiple} px"


def _teacher_temperature(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_distillation(values) and facts.teacher is not None and facts.teacher.prototypes:
        return facts.teacher.temperature, "that of the teacher's own run"
    if _is_distillation(values):
        return LIKENESS_TEMPERATURE, "likenesses of pictures lie close together"
    if _is_tuning(facts, values):
        return TUNING_TEMPERATURE, "low and steady: features that know something need no sharper teacher"
    if _is_small(facts):
        return 0.02, "higher leaves the teacher unsure on few pictures"
    return 0.07, "the paper's longest and best runs"


def _teacher_temperature_start(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    return min(0.04, float(values["teacher_temperature"])), "a sharper teacher at first, as published"


def _teacher_warmup_epochs(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if values["teacher_temperature"] == values["teacher_temperature_start"]:
        return 0, "the temperature does not change"
    return min(30, int(values["epochs"]) * 3 // 10), "30 of 100 epochs or more, as published"


def _momentum(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    # facebookresearch/dino#104 raises it for small batches; lightly-train and dino#246 lower it for small folders.
    steps = int(values["epochs"]) * max(1, facts.n_pictures // int(values["batch"]))
    if _is_tuning(facts, values):
        steps = round(steps * (1 - int(values["heads_first_epochs"]) / int(values["epochs"])))
        half_life = max(69.0, min(1386.0, steps / HALF_LIVES))
        momentum = round(1 - math.log(2) / half_life, 5)
        return momentum, f"a teacher that remembers: half-life {half_life:,.0f} of the {steps:,} steps"
    if steps < 20_000:
        return 0.99, f"in {steps:,} steps the teacher must be able to follow: half-life 69 steps"
    return PUBLISHED_MOMENTUM, "as published: half-life 173 steps"


def _follower_momentum(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    momentum, reason = _momentum(facts, values)
    if momentum == PUBLISHED_MOMENTUM and values["objective"] == "moco":
        return 0.999, "as published: half-life 693 steps"
    return momentum, reason


def _follower_momentum_end(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if values["objective"] == "moco":
        return values["follower_momentum"], "as published: it stays"
    return 1.0, "as published"


def _koleo(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_distillation(values):
        return 0.0, "the teacher's features are spread already"
    if _is_small(facts):
        return 0.2, "spreads similar pictures apart"
    if values["objective"] == "dinov2":
        return 0.1, "DINOv2's"
    if values["objective"] == "ibot":
        return 0.0, "iBOT as published"
    return 0.0, "DINO as published"


def _learning_rate(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    batch = int(values["batch"])
    if values["optimiser"] != "adamw":
        return (0.003, "a tenth of the reference's") if _is_tuning(facts, values) else (0.03, "the reference's rate")
    vit = _vit(facts, values)
    if _is_supervised(values) and facts.start is not None:
        peak = LABELLED_PEAK_RATE
        return peak * 256 / batch, f"a peak of {peak}: labels say what is right, and first blocks move less"
    if _is_tuning(facts, values) and values["lora_rank"]:
        return ADAPTER_PEAK_RATE * 256 / batch, f"a peak of {ADAPTER_PEAK_RATE}: adapters begin at nothing"
    if _is_tuning(facts, values) and vit is not None and vit.width >= RELEASED_WIDTH:
        peak = RELEASED_PEAK_RATE * math.sqrt(batch / 1024)
        return peak * 256 / batch, f"a peak of {peak:.2g}: what the released weights know is moved with care"
    # Linear scaling with the batch is made for large ones; AdamW takes larger steps with small ones well.
    peak = START_PEAK_RATE if facts.start is not None else SMALL_PEAK_RATE
    if facts.start is not None:
        return peak * 256 / int(values["batch"]), f"a peak of {peak}: weights that know something are moved with care"
    if _is_small(facts):
        return peak * 256 / int(values["batch"]), f"a peak of {peak} whatever the batch"
    if _is_supervised(values):
        return 2.5e-4, "DeiT's: 5e-4 for 512"
    if values["rate_scaling"] == "root_1024":
        return 4e-3, "DINOv2's short recipe"
    return 5e-4, "as published"


def _rate_scaling(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_published_v2(facts, values) and facts.start is None:
        return "root_1024", "DINOv2's"
    return "linear_256", "DINO's"


def _layer_decay(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _vit(facts, values) is None:
        return 1.0, NO_TRANSFORMER
    if _is_supervised(values) and facts.start is not None:
        return FINE_TUNING_DECAY, "first blocks know what is common to all pictures; BEiT's and MAE's for fine-tuning"
    if _is_tuning(facts, values) and values["lora_rank"]:
        return 1.0, "adapters of all blocks begin at nothing"
    vit = _vit(facts, values)
    if _is_tuning(facts, values) and vit is not None:
        if vit.width >= LARGE_WIDTH:
            return FINE_TUNING_DECAY, "first blocks know what is common to all pictures; lower for large networks"
        return 0.9, "first blocks know what is common to all pictures"
    if _is_published_v2(facts, values):
        return 0.9, "DINOv2's short recipe"
    return 1.0, "every block has to learn as much"


def _patch_embed_rate(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _vit(facts, values) is None:
        return 1.0, NO_TRANSFORMER
    if _is_tuning(facts, values):
        return 0.2, "pixels are the same everywhere: it moves last"
    if _is_published_v2(facts, values):
        return 0.2, "DINOv2's: it moves last"
    return 1.0, "it has to learn as much as the rest"


def _clip_by(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_v2(values):
        return "network", "DINOv2's"
    return "tensor", "DINO's"


def _optimiser(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _vit(facts, values) is None:
        return "sgd", "the reference's choice for ResNet-50"
    return "adamw", "as published"


def _warmup_epochs(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_supervised(values):
        return min(5, int(values["epochs"]) // 10), "a tenth of the run, 5 epochs at most, as DeiT"
    if _is_tuning(facts, values):
        epochs = int(values["epochs"]) - int(values["heads_first_epochs"])
        return min(10, math.ceil(epochs / 10)), "a tenth of the time in which the backbone learns"
    return min(10, int(values["epochs"]) // 10), "a tenth of the run, 10 epochs at most, as published"


def _freeze_last_layer(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_supervised(values) or _is_distillation(values):
        return 0, "what is to be answered is known from the first step"
    return min(1, int(values["epochs"]) - 1), "the first epoch, as published, unless it is the only one"


def _weight_decay(_: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_supervised(values):
        return 0.05, "DeiT's"
    return 0.04, "as published"


def _weight_decay_end(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_supervised(values):
        return values["weight_decay"], "DeiT's stays the same"
    if _is_tuning(facts, values):
        return max(TUNING_DECAY_END, float(values["weight_decay"])), "DINOv2's for long runs of large networks"
    return max(0.4, float(values["weight_decay"])), "as published"


def _epochs(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    wanted = CPU_PICTURES_SEEN if facts.device == "cpu" else GPU_PICTURES_SEEN
    epochs = max(1 if facts.device == "cpu" else 100, min(800, wanted // facts.n_pictures))
    seen = epochs * facts.n_pictures
    return epochs, f"{seen / 1e6:.1f} million pictures seen" if seen >= 1e5 else f"{seen:,} pictures seen"


def _fitting(facts: Facts, values: Mapping[str, Value]) -> int:
    """Pictures that fit the device at once, a power of two."""
    vit = _vit(facts, values)
    tokens = (int(values["global_side"]) / 16) ** 2 * 2 + (int(values["local_side"]) / 16) ** 2 * int(
        values["local_crops"]
    )
    share = tokens / (2 * 14**2 + 10 * 6**2)
    share *= 1.0 if vit is None else vit.width / 384 * (16 / vit.patch) ** 2
    room = facts.device_memory_bytes * 0.8 / (BYTES_PER_PICTURE_VIT_SMALL * share)
    return int(2 ** max(0, int(math.log2(max(1.0, room)))))


def _batch(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    wanted = 32 if facts.device == "cpu" else 512
    batch = wanted
    while batch > facts.processes and batch * 2 > facts.n_pictures:  # at least 2 steps an epoch
        batch //= 2
    batch = max(batch - batch % facts.processes, facts.processes)
    if batch < wanted:
        return batch, f"{facts.n_pictures} pictures give few steps an epoch with more"
    return batch, "as many steps as possible in the time" if facts.device == "cpu" else "the paper: larger gains little"


def _accumulation(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    each = max(1, int(values["batch"]) // facts.processes)
    fits = each if facts.device == "cpu" else _fitting(facts, values)
    parts = 1
    while each / parts > fits and each % (2 * parts) == 0:
        parts *= 2
    if parts == 1:
        return 1, "the batch fits the memory"
    return parts, f"about {fits} pictures fit the memory at once"


def _device(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    return facts.device, {"cpu": "no GPU was found", "cuda": "a CUDA GPU was found", "mps": "an Apple GPU was found"}[
        facts.device
    ]


FROM_NOISE = "not used: the run starts from noise"


def _heads_first_epochs(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.start is None:
        return 0, FROM_NOISE
    if not _is_tuning(facts, values):
        return 0, "what the head is to answer is known from the first step"
    epochs = int(values["epochs"])
    steps_per_epoch = max(1, facts.n_pictures // int(values["batch"]))
    enough = max(HEADS_EPOCHS, math.ceil(HEADS_STEPS / steps_per_epoch))
    if epochs == 1:
        return 0, "there is one epoch only"
    first = min(enough, max(1, int(epochs * HEADS_SHARE)))
    if first == enough:
        return first, "new heads move at random at first: 5 epochs, and 1,000 steps, or they drag the backbone along"
    return first, "new heads move at random at first; three tenths of the run at most"


def _heads_rate(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if not values["heads_first_epochs"]:
        return values["learning_rate"], "not used: heads_first_epochs is 0"
    if values["optimiser"] != "adamw":
        return 0.03, "the reference's rate"
    return HEADS_RATE * 256 / int(values["batch"]), f"a peak of {HEADS_RATE}: nothing is lost by new heads"


def _guard(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.start is None:
        return False, FROM_NOISE
    if not _is_tuning(facts, values):
        return False, "the labels, or the teacher, say what is right"
    return True, "what the weights know can be lost within a few hundred steps (facebookresearch/dinov2#204)"


def _guard_every(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    batch = int(values["batch"])
    if not values["guard"]:
        return 1, "not used: there is no guard"
    steps = (int(values["epochs"]) - int(values["heads_first_epochs"])) * max(1, facts.n_pictures // batch)
    by_cost = math.ceil(min(facts.n_pictures, MOST_MEASURED) / (LOOK_SHARE * batch))
    if by_cost > math.ceil(steps / LOOKS):
        return by_cost, "as often as a quarter of the time allows"
    return max(1, math.ceil(steps / LOOKS)), f"{LOOKS} looks"


def _lora_rank(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.start is None:
        return 0, FROM_NOISE
    return 0, "all weights learn, first blocks the least"


def _precision(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.has_bf16:
        return "bf16", "the device multiplies bf16 fastest"
    if facts.device == "cuda":
        return "fp16", "an older GPU: half precision with a scaled loss"
    return "fp32", "the device has no fast half precision"


def _packing(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _vit(facts, values) is None:
        return False, NO_TRANSFORMER
    if facts.device == "cuda":
        return True, "one kernel for all crops keeps a GPU busy"
    return False, "on this device it is no faster"


def _checkpointing(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is not None and facts.device == "cuda" and vit.width >= LARGE_WIDTH:
        return True, "a network this large leaves little room for what its blocks keep"
    return False, "there is room for what the blocks keep"


def _sharding(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if facts.processes == 1:
        return "none", "one device has nobody to share with"
    if facts.device != "cuda":
        return "none", "processes of one machine share its memory anyway"
    if vit is None or values["objective"] not in SELF_DISTILLED or values["lora_rank"] or values["guard"]:
        return "none", "a network is split only where it learns whole, from a teacher of its own"
    state = state_bytes(_learning(vit, values))
    told = f"{state / 1e9:,.1f} GB of weights, gradients and averages"
    if state > STATE_SHARE * facts.device_memory_bytes:
        return "fsdp", f"{told} leave too little of {facts.device_memory_bytes / 1e9:,.0f} GB for pictures"
    return "none", f"{told} fit each device: nothing has to be gathered"


def _learning(vit: VitShape, values: Mapping[str, Value]) -> Learning:
    """Return what holds parameters: the backbone and its heads."""
    width, layers = int(values["head_width"]), int(values["head_layers"])
    head = Head(int(values["prototypes"]), int(values["bottleneck"]), width, layers)
    shape = replace(vit, depth=int(values["depth"]))
    if not (_is_v2(values) and values["separate_heads"]):
        return Learning(shape=shape, head=head)
    patch_head = Head(int(values["ibot_prototypes"]), int(values["ibot_bottleneck"]), width, layers)
    return Learning(shape=shape, head=head, patch_head=patch_head)


def _workers(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.device == "cpu":
        return 1, "one process crops while the others compute"
    workers = max(1, min(16, facts.cores // facts.processes - 1))
    return workers, f"{facts.cores} cores"


def _prepare(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if values["renderer"] == "exact":
        return False, "exact crops are cut from the pictures themselves"
    side = 2 * int(values["global_side"])
    need = facts.n_pictures * side * side * 4
    if int(values["epochs"]) > 2 and need < facts.disk_free_bytes // 10 and need < 200 * 2**30:
        return True, f"{need / 2**20:,.0f} MB of cache save decoding every picture {values['epochs']} times"
    return False, "the copies would not pay for their room"


def _measure_epochs(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    return max(1, int(values["epochs"]) // 20), "20 points on the curve"


RULES: dict[str, Rule] = {
    "device": _device,
    "model": _model,
    "depth": _depth,
    "heads": _heads,
    "registers": _registers,
    "stem": _stem,
    "start": _start,
    "feed_forward": _feed_forward,
    "layer_scale": _layer_scale,
    "drop_path": _drop_path,
    "drop_path_by": _drop_path_by,
    "global_side": _global_side,
    "local_side": _local_side,
    "local_crops": _local_crops,
    "scale_split": _scale_split,
    "scale_min": _scale_min,
    "last_side": _last_side,
    "grey": _grey,
    "blur": _blur,
    "brightness": _jitter(0.6, 0.4),
    "contrast": _jitter(0.6, 0.4),
    "saturation": _jitter(0.6, 0.2),
    "hue": _jitter(0.2, 0.1),
    "prototypes": _prototypes,
    "head_width": _head_width,
    "bottleneck": _bottleneck,
    "head_norm": _head_norm,
    "norm_last_layer": _norm_last_layer,
    "projector_layers": _projector_layers,
    "projector_width": _projector_width,
    "projector_out": _projector_out,
    "predictor_width": _predictor_width,
    "queue": _queue,
    "swav_prototypes": _swav_prototypes,
    "epsilon": _epsilon,
    "batch": _batch,
    "epochs": _epochs,
    "heads_first_epochs": _heads_first_epochs,
    "guard": _guard,
    "guard_every": _guard_every,
    "lora_rank": _lora_rank,
    "checkpointing": _checkpointing,
    "accumulation": _accumulation,
    "centring": _centring,
    "separate_heads": _separate_heads,
    "ibot_prototypes": _ibot_prototypes,
    "student_temperature": _student_temperature,
    "teacher_side": _teacher_side,
    "teacher_temperature": _teacher_temperature,
    "teacher_temperature_start": _teacher_temperature_start,
    "teacher_warmup_epochs": _teacher_warmup_epochs,
    "momentum": _momentum,
    "follower_momentum": _follower_momentum,
    "follower_momentum_end": _follower_momentum_end,
    "koleo": _koleo,
    "optimiser": _optimiser,
    "rate_scaling": _rate_scaling,
    "learning_rate": _learning_rate,
    "heads_rate": _heads_rate,
    "layer_decay": _layer_decay,
    "patch_embed_rate": _patch_embed_rate,
    "clip_by": _clip_by,
    "warmup_epochs": _warmup_epochs,
    "freeze_last_layer": _freeze_last_layer,
    "weight_decay": _weight_decay,
    "weight_decay_end": _weight_decay_end,
    "precision": _precision,
    "packing": _packing,
    "sharding": _sharding,
    "workers": _workers,
    "prepare": _prepare,
    "measure_epochs": _measure_epochs,
}
