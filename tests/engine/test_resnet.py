import torch

from engine.catalogue import ResNetShape
from engine.models.resnet import ResNet

# Names and shapes of torchvision.models.resnet50, without fc.
EXPECTED = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.running_mean": (64,),
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.conv3.weight": (256, 64, 1, 1),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.num_batches_tracked": (),
    "layer2.0.conv2.weight": (128, 128, 3, 3),
    "layer4.0.downsample.0.weight": (2048, 1024, 1, 1),
    "layer4.2.bn3.bias": (2048,),
}


def test_names_and_shapes_are_torchvisions():
    with torch.device("meta"):
        state = ResNet(ResNetShape()).state_dict()
    assert len(state) == 318
    assert {name: tuple(state[name].shape) for name in EXPECTED} == EXPECTED


def test_features_pool_the_last_map():
    torch.manual_seed(0)
    net = ResNet(ResNetShape(blocks=(1, 1, 1, 1), width=64)).eval()
    with torch.inference_mode():
        features = net(torch.randn(2, 3, 64, 96))
    assert (features.rows, features.cols) == (2, 3)
    assert features.patches_BPD.shape == (2, 6, 64)
    assert features.registers_BRD.shape == (2, 0, 64)
    assert torch.allclose(features.cls_BD, features.patches_BPD.mean(1), atol=1e-6)
