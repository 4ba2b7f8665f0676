"""The table of the README: S, B, L and g on 1 to 64 GPUs, computed: ``python -m tests.bench.bench_scaling``."""

from dataclasses import replace

from engine.catalogue import shape_of
from engine.scaling import H100, Head, Learning, cores_to_crop, fit

BATCH = 1024
CROPS_PER_S = 381  # one core, ten crops of a 500 x 375 JPEG: bench_crops.py
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


def main() -> None:
    print("| model | GPUs | sharding | passes of | memory a GPU, of it state | pictures/s | talking | cores to crop |")
    print("|---|---|---|---|---|---|---|---|")
    for name in DROP_PATHS:
        for gpus in (1, 8, 64):
            found = fit(learning_of(name), H100, gpus=gpus, batch=BATCH)
            assert found is not None
            how = {"none": "copies", "fsdp": "FSDP2"}[found.sharding] + ", again" * found.checkpointing
            state = f"{found.memory.total / 1e9:.0f} GB, {found.memory.state / 1e9:.1f} GB"
            talking = f"{found.pace.communicating_s / found.pace.step_s:.0%}"
            speed = found.pace.pictures_per_s
            cores = cores_to_crop(speed, CROPS_PER_S)
            passes = f"{found.accumulation} x {found.pictures}"
            print(f"| {name} | {gpus} | {how} | {passes} | {state} | {speed:,.0f} | {talking} | {cores} |")


if __name__ == "__main__":
    main()
