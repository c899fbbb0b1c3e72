"""The documented networks: keys, shapes and counts of the originals, and their numbers against other formulations."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from faceproof.errors import OptionError
from faceproof.training.importing.layouts import LAYOUTS, rename_parts
from faceproof.training.systems import ARCHITECTURES, CrossSettings, build, count_parameters, plan_of
from faceproof.training.systems.efficientnet import AttentionTrunk, fix_padding

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, tuple[int, ...]]:
    rows = (line.split() for line in (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines())
    return {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in rows}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_keys_and_shapes_are_those_of_the_original(name: str) -> None:
    with torch.device("meta"):
        entries = LAYOUTS[name].entries(build(name))
    expected = golden(name)
    if name == "efficientnet-b7-dfdc":
        expected = {key.removeprefix("module."): shape for key, shape in expected.items()}
    assert {key: entry.shape for key, entry in entries.items()} == expected


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("efficientnet-b7-dfdc", 63_786_960 + 2_561),  # B7's features and fc
        ("efficientnet-b4-mobile", 17_548_616 + 983_809),
        ("efficientnet-b4-keras", 17_548_616 + 923_137),
        ("cross-efficient-vit", 101_377_610),
        ("efficientnet-b4-224", 17_548_616 + 920_066),
    ],
)
def test_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build(name)) == count


def test_keras_counts_of_phase_one() -> None:
    """Keras counts running statistics, and the three entries of its Normalization, as frozen parameters."""
    with torch.device("meta"):
        net = build("efficientnet-b4-keras")
    trainable = count_parameters(net.head)
    statistics = sum(
        b.numel()
        for k, b in net.named_buffers()
        if k.endswith(("running_mean", "running_var", ".mean", ".variance", ".count"))
    )
    assert trainable == 923_137
    assert count_parameters(net.trunk) + statistics == 17_678_431


def test_b7_has_55_blocks() -> None:
    with torch.device("meta"):
        trunk = build("efficientnet-b7-dfdc").trunk
    assert [len(stage) for stage in trunk.blocks] == [4, 7, 7, 10, 10, 13, 4]


@pytest.mark.parametrize("name", ["efficientnet-b7-dfdc", "efficientnet-b4-keras", "efficientnet-b4-224"])
def test_heatmap_splits_the_logit_over_the_places(name: str, enliven) -> None:
    """The head's gradient is exact: the places' logits average to the logit, and match autograd's gradient."""
    torch.manual_seed(1)
    x = torch.rand(4, 3, 96, 96) * (255 if name.endswith("keras") else 1)
    net = enliven(build(name, {"encoder": "tf_efficientnet_b0"}), x).double()
    x = x.double()
    # Keep the places' logits where a sigmoid can be undone.
    net.head[-1].weight.data *= 0.02
    logit, heat = net(x)
    assert logit.std() > 1e-3
    fake = (logit @ net.direction) if logit.ndim == 2 else logit * net.direction
    assert heat.shape == (4, 3, 3)
    torch.testing.assert_close(torch.logit(heat).mean((1, 2)), fake, atol=1e-6, rtol=1e-6)

    features = net.trunk(net.scaling(x) if net.scaling else x).detach().requires_grad_()
    score = (net.head(features.mean((2, 3))) @ net.direction).sum()
    (gradient,) = torch.autograd.grad(score, features)
    cam = (features * gradient).sum(1) * features[0, 0].numel()
    difference = torch.logit(heat) - cam
    torch.testing.assert_close(difference, difference[:, :1, :1].expand_as(difference), atol=1e-6, rtol=1e-6)


@pytest.fixture(params=["b0", "b4"])
def pair(request: pytest.FixtureRequest, enliven) -> tuple[str, nn.Module, nn.Module]:
    """The same weights in efficientnet_pytorch's network and in timm's, in double precision."""
    package = pytest.importorskip("efficientnet_pytorch")
    variant = request.param
    theirs = package.EfficientNet.from_name(f"efficientnet-{variant}", drop_connect_rate=0.0)
    theirs = enliven(theirs, torch.randn(4, 3, 128, 128))
    mine = timm.create_model(f"tf_efficientnet_{variant}").eval()
    state = theirs.state_dict()
    names = {part: other for part, other, _ in rename_parts(mine)}
    mine.load_state_dict({k: state[f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}"] for k in mine.state_dict()})
    return variant, theirs.double(), mine.double()


def test_timm_and_efficientnet_pytorch_agree(pair: tuple[str, nn.Module, nn.Module]) -> None:
    """B0 agrees at both depths that Cross-Efficient-ViT cuts it; B4 once it is padded for 380 px as theirs always is."""
    variant, theirs, mine = pair
    x = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.extract_features(x)
        assert expected.std() > 0.1
        if variant == "b4":
            assert (mine.forward_features(x) - expected).abs().max() > 0.01
            fix_padding(mine, 380)
        else:
            shallow = theirs._swish(theirs._bn0(theirs._conv_stem(x)))
            for block in theirs._blocks[:3]:
                shallow = block(shallow)
            assert shallow.shape == (1, 24, 56, 56)
            torch.testing.assert_close(mine.blocks[1](mine.blocks[0](mine.bn1(mine.conv_stem(x)))), shallow)
        torch.testing.assert_close(mine.forward_features(x), expected)


def test_attention_after_block_nine_weights_its_output() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_b4", num_classes=0, global_pool="").eval()
    trunk = AttentionTrunk(plain, 9).eval()
    assert trunk.attention.in_channels == 56
    nn.init.zeros_(trunk.attention.weight)
    nn.init.constant_(trunk.attention.bias, 50.0)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(trunk(x), plain(x))


def test_torchvision_and_timm_agree_on_b4(enliven) -> None:
    """An independent formulation of the mobile detector's features: the same tensors, in order, in timm's B4."""
    mobile = enliven(build("efficientnet-b4-mobile"), torch.randn(4, 3, 96, 96))
    other = timm.create_model("efficientnet_b4", num_classes=0, global_pool="").eval()
    by_position = zip(other.state_dict(), mobile.trunk.state_dict().values(), strict=True)
    other.load_state_dict(dict(by_position))
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected = other(x)
        assert expected.std() > 0.1
        torch.testing.assert_close(mobile.trunk(x), expected, atol=1e-3, rtol=1e-3)


def test_cross_efficient_vit_against_plain_algebra(enliven) -> None:
    """The transformers written out once more, head by head, from the paper's description."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 224, 224)
    net = enliven(build("cross-efficient-vit", {"depth": 2}), x)
    state = net.state_dict()

    def norm(x: torch.Tensor, at: str) -> torch.Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-5).sqrt() * state[f"{at}.weight"] + state[f"{at}.bias"]

    def linear(x: torch.Tensor, at: str) -> torch.Tensor:
        y = x @ state[f"{at}.weight"].T
        return y + state[f"{at}.bias"] if f"{at}.bias" in state else y

    def attend(query: torch.Tensor, source: torch.Tensor, at: str) -> torch.Tensor:
        q, kv = linear(query, f"{at}.to_q"), linear(source, f"{at}.to_kv")
        k, v = kv[..., :512], kv[..., 512:]
        heads = []
        for h in range(8):
            cut = slice(64 * h, 64 * h + 64)
            weights = torch.softmax(q[..., cut] @ k[..., cut].transpose(1, 2) / 8, -1)
            heads.append(weights @ v[..., cut])
        return linear(torch.cat(heads, -1), f"{at}.to_out.0")

    def encode(tokens: torch.Tensor, at: str, depth: int) -> torch.Tensor:
        for i in range(depth):
            inner = norm(tokens, f"{at}.layers.{i}.0.norm")
            tokens = tokens + attend(inner, inner, f"{at}.layers.{i}.0.fn")
            hidden = F.gelu(linear(norm(tokens, f"{at}.layers.{i}.1.norm"), f"{at}.layers.{i}.1.fn.net.0"))
            tokens = tokens + linear(hidden, f"{at}.layers.{i}.1.fn.net.3")
        return norm(tokens, f"{at}.norm")

    def look(cls: torch.Tensor, patches: torch.Tensor, at: str) -> torch.Tensor:
        inner = norm(linear(cls, f"{at}.project_in"), f"{at}.fn.norm")
        return cls + linear(attend(inner, torch.cat((inner, patches), 1), f"{at}.fn.fn"), f"{at}.project_out")

    with torch.no_grad():
        tokens = []
        for branch, p in (("sm", 7), ("lg", 56)):
            at = f"{branch}_image_embedder"
            f = getattr(net, at).features(x)
            # The paper's order within a patch: rows, columns, channels. One patch covers the map.
            token = linear(f.permute(0, 2, 3, 1).reshape(2, 1, p * p * f.shape[1]), f"{at}.to_patch_embedding.1")
            both = torch.cat((state[f"{at}.cls_token"].expand(2, -1, -1), token), 1)
            tokens.append(both + state[f"{at}.pos_embedding"][:, :2])
        sm, lg = tokens
        for layer in range(2):
            at = f"multi_scale_encoder.layers.{layer}"
            sm, lg = encode(sm, f"{at}.0", 2), encode(lg, f"{at}.1", 3)
            sm_cls, lg_cls = sm[:, :1], lg[:, :1]
            for i in range(2):
                sm_cls, lg_cls = (
                    look(sm_cls, lg[:, 1:], f"{at}.2.layers.{i}.0"),
                    look(lg_cls, sm[:, 1:], f"{at}.2.layers.{i}.1"),
                )
            sm, lg = torch.cat((sm_cls, sm[:, 1:]), 1), torch.cat((lg_cls, lg[:, 1:]), 1)
        expected = linear(norm(sm[:, 0], "sm_mlp_head.0"), "sm_mlp_head.1")
        expected = expected + linear(norm(lg[:, 0], "lg_mlp_head.0"), "lg_mlp_head.1")
        logit, heat = net(x)
    torch.testing.assert_close(logit, expected[:, 0], atol=1e-4, rtol=1e-4)
    assert (logit[0] - logit[1]).abs() > 0.01
    assert heat.shape == (2, 7, 7)
    assert heat.min() >= 0
    torch.testing.assert_close(heat.amax((1, 2)), torch.ones(2))


def test_cross_efficient_vit_cuts_features_into_patches_in_order() -> None:
    torch.manual_seed(0)
    net = build("cross-efficient-vit", {"image_size": 448, "lg_patch_size": 56, "depth": 1})
    embedder = net.sm_image_embedder
    f = torch.randn(1, 1280, 14, 14)
    embedder.features = lambda _: f  # type: ignore[method-assign]
    with torch.no_grad():
        tokens, patches = embedder(torch.empty(0))
        third = f[0, :, 7:, :7].permute(1, 2, 0).reshape(-1)
        torch.testing.assert_close(patches[0, 2].reshape(-1), third)
        shares = embedder.shares(patches, torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
    assert tokens.shape == (1, 5, 192)
    assert shares.shape == (1, 14, 14)
    assert shares[0, 7:, :7].sum().item() == pytest.approx(1, abs=1e-5)
    assert shares[0, :7].sum() == 0
    assert shares[0, 7:, 7:].sum() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": 380}, "380 does not divide by 32"),
        ({"sm_patch_size": 4}, "does not divide the 7×7 features"),
        ({"lg_patch_size": 16}, "does not divide the 56×56 features"),
        ({"image_size": 384}, "384 does not divide by sm_patch_size 7"),
        ({"depth": 0}, "depth must be a whole number"),
        ({"dropout": 1.5}, "dropout must be"),
        ({"sm_channels": 640}, "EfficientNet-B0"),
        ({"num_classes": 2}, "num_classes must be 1"),
        ({"depht": 2}, "no knob 'depht'"),
        ({"depth": "many"}, "depth must be a whole number"),
        ({"depth": 2.5}, "depth must be a whole number"),
        ({"depth": True}, "depth must be a whole number"),
        ({"depth": [4]}, "depth must be a whole number"),
        ({"dropout": "much"}, "dropout must be a number"),
    ],
)
def test_wrong_knobs_are_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        build("cross-efficient-vit", settings)


def test_knobs_are_read_as_they_are_written() -> None:
    assert plan_of("cross-efficient-vit", {"depth": "2", "dropout": 0}) == CrossSettings(depth=2, dropout=0.0)
    assert plan_of("efficientnet-b4-224", {"encoder": "resnet50", "image_size": 224.0}).image_size == 224
    with pytest.raises(OptionError, match="encoder must be a name"):
        plan_of("efficientnet-b4-224", {"encoder": 50})


def test_every_knob_of_the_document_builds() -> None:
    document = {
        "image_size": 384, "sm_dim": 64, "lg_dim": 128, "sm_patch_size": 4, "lg_patch_size": 16, "depth": 1,
        "sm_enc_depth": 2, "lg_enc_depth": 2, "cross_attn_depth": 2, "dropout": 0.1,
    }  # fmt: skip
    net = build("cross-efficient-vit", document)
    with torch.no_grad():
        logit, heat = net(torch.randn(1, 3, 384, 384))
    assert logit.shape == (1,)
    assert heat.shape == (1, 12, 12)


def test_unknown_network_and_encoder_are_refused() -> None:
    with pytest.raises(OptionError, match="no network is called"):
        build("xception")
    with pytest.raises(OptionError, match="timm cannot build"):
        build("efficientnet-b7-dfdc", {"encoder": "tf_efficientnet_b99"})
    with pytest.raises(OptionError, match="torchvision has no network"):
        build("efficientnet-b4-mobile", {"encoder": "efficientnet_b99"})


@pytest.mark.parametrize("encoder", ["resnet18", "tf_efficientnet_b0", "regnetx_002"])
def test_other_encoders_fit_the_same_heads(encoder: str) -> None:
    net = build("efficientnet-b4-224", {"encoder": encoder})
    with torch.no_grad():
        logit, heat = net(torch.randn(1, 3, 64, 64))
    assert logit.shape == (1, 2)
    assert heat.ndim == 3
