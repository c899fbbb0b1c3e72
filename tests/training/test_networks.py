import copy

import torch
from torch import nn

from faceproof.training.networks import FaceNetwork, high_pass, load_imagenet, widen_depthwise


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


def test_the_high_pass_is_what_a_mean_leaves_over():
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(high_pass(flat), torch.zeros_like(flat), atol=1e-5, rtol=0)
    dot = flat.clone()
    dot[0, :, 4, 4] += 16 / 127.5  # sixteen grey levels: two steps, of which a ninth goes to the mean
    torch.testing.assert_close(high_pass(dot)[0, 0, 4, 4], torch.tensor(2 * 8 / 9))
    assert high_pass(torch.randn(2, 3, 16, 16) * 10).abs().max() <= 4


def test_imagenet_weights_fill_the_colours_and_leave_the_high_pass():
    torch.manual_seed(0)
    published = FaceNetwork("tf_efficientnet_lite0")
    network = FaceNetwork("tf_efficientnet_lite0", high_pass=True)
    before = network.backbone.conv_stem.weight[:, 3:].clone()
    load_imagenet(network, published.backbone.state_dict())
    torch.testing.assert_close(network.backbone.conv_stem.weight[:, :3], published.backbone.conv_stem.weight)
    torch.testing.assert_close(network.backbone.conv_stem.weight[:, 3:], before)
    assert network.eval()(torch.zeros(1, 3, 64, 64)).heatmap.shape == (1, 8, 8)
