"""ResNet-50, the convolutional backbone of DINO, without its classifier.

Names and shapes of the tensors are torchvision's ``resnet50``, which the released DINO file
uses. Letters after a name are its axes: B images · C channels · Y X pixels · D width · P places.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from engine.catalogue import ResNetShape
from engine.models.vit import Features

EXPANSION = 4
"""Width of a block's output over the width of its 3x3 convolution (He et al. 2015)."""
STEM_WIDTH = 64


class ResNet(nn.Module):
    """A residual network of bottleneck blocks; ``width`` of the shape is that of the last stage."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        self.shape = shape
        narrow = shape.width // EXPANSION // 8
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        first, second, third, fourth = shape.blocks
        self.layer1 = _stage(STEM_WIDTH, narrow, first, stride=1)
        self.layer2 = _stage(narrow * EXPANSION, narrow * 2, second, stride=2)
        self.layer3 = _stage(narrow * 2 * EXPANSION, narrow * 4, third, stride=2)
        self.layer4 = _stage(narrow * 4 * EXPANSION, narrow * 8, fourth, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_BCYX: Tensor) -> Features:
        """Return the pooled last map as CLS and its places as patches; there are no registers."""
        map_BDYX = self.maxpool(relu(self.bn1(self.conv1(images_BCYX))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            map_BDYX = stage(map_BDYX)
        rows, cols = map_BDYX.shape[-2:]
        patches_BPD = map_BDYX.flatten(2).transpose(1, 2)
        return Features(map_BDYX.mean(dim=(2, 3)), patches_BPD[:, :0], patches_BPD, rows, cols)

    def forward_views(
        self, views_BCYX: Sequence[Tensor], masks_BP: Sequence[Tensor | None] | None = None
    ) -> list[Features]:
        """Return the features of several batches, each of its own size; nothing can be masked."""
        assert masks_BP is None or not any(mask is not None for mask in masks_BP), "a residual network masks nothing"
        return [self(view) for view in views_BCYX]


def _stage(width_in: int, narrow: int, n_blocks: int, stride: int) -> nn.Sequential:
    wide = narrow * EXPANSION
    return nn.Sequential(
        Bottleneck(width_in, narrow, stride),
        *[Bottleneck(wide, narrow, 1) for _ in range(n_blocks - 1)],
    )


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions beside a shortcut."""

    def __init__(self, width_in: int, narrow: int, stride: int) -> None:
        super().__init__()
        wide = narrow * EXPANSION
        self.conv1 = nn.Conv2d(width_in, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or width_in != wide:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, wide, 1, stride=stride, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, map_BDYX: Tensor) -> Tensor:
        """Return the map after the block, (B, D, Y, X)."""
        branch = relu(self.bn1(self.conv1(map_BDYX)))
        branch = relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return relu(branch + self.downsample(map_BDYX))
