import copy

import torch
from torch import nn

from faceproof.training.networks import FaceNetwork, widen_depthwise


def test_wide_depthwise_layers_change_neither_keys_nor_results():
    torch.manual_seed(0)
    plain = FaceNetwork("tf_efficientnet_lite0").eval()
    wide = copy.deepcopy(plain)
    widen_depthwise(wide)
    widen_depthwise(wide)  # twice is once
    assert list(wide.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(wide(x).logit, plain(x).logit)
    wide(x).logit.sum().backward()
    assert all(p.grad is not None for n, p in wide.named_parameters() if "mask" not in n)


def test_a_copy_of_a_wide_network_uses_its_own_weights():
    torch.manual_seed(0)
    wide = FaceNetwork("tf_efficientnet_lite0").eval()
    widen_depthwise(wide)
    twin = copy.deepcopy(wide)
    x = torch.randn(1, 3, 64, 64)
    before = twin(x).logit
    with torch.no_grad():
        for layer in wide.modules():
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                layer.weight.mul_(2)
    torch.testing.assert_close(twin(x).logit, before)
    assert not torch.allclose(wide(x).logit, before)


def test_depthwise_layers_stay_wide_under_autocast():
    seen = []
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    widen_depthwise(layer)
    layer.weight.register_hook(lambda g: seen.append(g.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(1, 8, 8, 8).bfloat16().requires_grad_())
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert seen == [torch.float32]
