"""The table of the README: S, B, L and g on 1 to 64 GPUs, computed: ``python -m tests.bench.bench_scaling``."""

from dataclasses import replace

from engine.catalogue import shape_of
from engine.estimates import CROPS_PER_S
from engine.scaling import H100, Head, Learning, Pace, cores_to_crop, fit, memory, pace, parameters

BATCH, TOGETHER = 2048, 16
GPUS = (1, 8, 64)
DROP_PATHS = {"vit-small/14": 0.1, "vit-base/14": 0.2, "vit-large/14": 0.4, "vit-giant/14": 0.4}


def learning_of(name: str) -> Learning:
    """DINOv2 as its large runs were: both heads, 131,072 prototypes."""
    return Learning(
        shape=replace(shape_of(name), layer_scale=1e-5, has_mask_token=True),
        local_side=98,
        head=Head(prototypes=131_072, bottleneck=384),
        patch_head=Head(prototypes=131_072),
        drop_path=DROP_PATHS[name],
    )


def row(name: str) -> str:
    """Return the row of a model: its size, memory by sharding, speed by number of GPUs."""
    learning = learning_of(name)
    held = [memory(learning, gpus=8, sharding="none", pictures=TOGETHER)]
    held += [memory(learning, gpus=gpus, sharding="fsdp", pictures=TOGETHER) for gpus in GPUS[1:]]
    slim = memory(replace(learning, checkpointing=True), gpus=64, sharding="fsdp", pictures=TOGETHER)
    fits = [fit(learning, H100, gpus=gpus, batch=BATCH) for gpus in GPUS]
    speeds = [found.pace.pictures_per_s for found in fits if found]
    talking = " / ".join(f"{_share(pace(learning, H100, gpus=64, sharding=how, pictures=32)):.0%}" for how in HOW)
    cells = [
        name,
        f"{parameters(learning) / 1e6:,.0f} M",
        *(f"{(one.state + one.gradients) / 1e9:.1f} + {one.kept / 1e9:.0f}: {one.total / 1e9:.0f}" for one in held),
        f"{slim.total / 1e9:.0f}",
        *(f"{speed:,.0f}" for speed in speeds),
        talking,
        f"{cores_to_crop(speeds[-1], CROPS_PER_S)}",
    ]
    return f"| {' | '.join(cells)} |"


HOW = ("none", "fsdp")


def _share(speed: Pace) -> float:
    return speed.communicating_s / speed.step_s


def main() -> None:
    print("| model | parameters | copies | FSDP2 on 8 | on 64 | computed again | 1 GPU | 8 | 64 | talking | cores |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in DROP_PATHS:
        print(row(name))


if __name__ == "__main__":
    main()
