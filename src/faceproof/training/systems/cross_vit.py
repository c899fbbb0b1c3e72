"""Cross-EfficientNet-ViT: two EfficientNets cut at different depths, a transformer on each, attention between them.

Written from the paper (Coccomini et al., 2022) and the published behaviour. At the published size each branch
sees one patch, so the transformers work on two tokens each.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor, nn

from faceproof.errors import OptionError


@dataclass(frozen=True)
class CrossSettings:
    """Every knob of the architecture; the defaults are the published ones. ``sm`` sees the deep features (1/32 of the
    input's side), ``lg`` the shallow ones (1/4). Raises :class:`OptionError` for numbers that do not fit together."""

    image_size: int = 224
    num_classes: int = 1
    depth: int = 4
    sm_dim: int = 192
    sm_patch_size: int = 7
    sm_enc_depth: int = 2
    sm_enc_heads: int = 8
    sm_enc_dim_head: int = 64
    sm_enc_mlp_dim: int = 2048
    lg_dim: int = 384
    lg_patch_size: int = 56
    lg_enc_depth: int = 3
    lg_enc_heads: int = 8
    lg_enc_dim_head: int = 64
    lg_enc_mlp_dim: int = 2048
    cross_attn_depth: int = 2
    cross_attn_heads: int = 8
    cross_attn_dim_head: int = 64
    sm_channels: int = 1280
    lg_channels: int = 24
    dropout: float = 0.15
    emb_dropout: float = 0.15

    def __post_init__(self) -> None:
        for knob in fields(self):
            value = getattr(self, knob.name)
            if knob.name.endswith("dropout"):
                if not 0 <= value < 1:
                    raise OptionError(f"{knob.name} must be at least 0 and below 1, not {value}")
            elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"{knob.name} must be a whole number from 1, not {value!r}")
        if self.num_classes != 1:
            raise OptionError("the two heads add up to one logit: num_classes must be 1")
        if (self.sm_channels, self.lg_channels) != (1280, 24):
            raise OptionError(
                f"sm_channels {self.sm_channels} and lg_channels {self.lg_channels} are not what EfficientNet-B0 gives",
                remedy="It has 1280 channels at the end and 24 after its third block.",
            )
        if self.image_size % 32:
            raise OptionError(
                f"image_size {self.image_size} does not divide by 32, so the two feature maps have no common grid",
                remedy="The published size is 224.",
            )
        for branch, patch, reduction in (("sm", self.sm_patch_size, 32), ("lg", self.lg_patch_size, 4)):
            side = self.image_size // reduction
            if self.image_size % patch:
                raise OptionError(
                    f"image_size {self.image_size} does not divide by {branch}_patch_size {patch}",
                    remedy="The published numbers are 224 with patches of 7 and 56.",
                )
            if side % patch:
                raise OptionError(
                    f"{branch}_patch_size {patch} does not divide the {side}×{side} features of image_size "
                    f"{self.image_size}",
                    remedy="The published numbers are 224 with patches of 7 and 56.",
                )

    @property
    def sm_tokens(self) -> int:
        return (self.image_size // 32 // self.sm_patch_size) ** 2

    @property
    def lg_tokens(self) -> int:
        return (self.image_size // 4 // self.lg_patch_size) ** 2


def _members(layer: nn.Module) -> tuple[nn.Module, ...]:
    return tuple(cast(nn.ModuleList, layer))


def _split(x: Tensor, axis: int, sizes: tuple[int, int]) -> Tensor:
    """``x`` with one axis cut into two; -1 for the size that follows from the other."""
    return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


class Attention(nn.Module):
    """Multi-head attention of ``x [N, Q, D]`` over itself, or over itself followed by ``context [N, T, D]``."""

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float) -> None:
        super().__init__()
        inner = heads * dim_head
        self.heads, self.dim_head = heads, dim_head
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(dropout))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Output ``[N, Q, D]`` and the weights ``[N, heads, Q, Q+T]``."""
        source = x if context is None else torch.cat((x, context), 1)
        key, value = self.to_kv(source).chunk(2, dim=-1)
        q, k, v = (_split(t, 2, (self.heads, self.dim_head)).transpose(1, 2) for t in (self.to_q(x), key, value))
        weights = torch.softmax(q @ k.transpose(-1, -2) * self.dim_head**-0.5, dim=-1)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2)), weights


class PreNorm(nn.Module):
    """LayerNorm before ``fn``; what ``fn`` gets besides ``x`` is passed on as it is."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor, *more: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.fn(self.norm(x), *more)


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Transformer(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, dim_head: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PreNorm(dim, Attention(dim, heads, dim_head, dropout)),
                    PreNorm(dim, FeedForward(dim, mlp_dim, dropout)),
                ]
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            attend, feed = _members(layer)
            x = attend(x)[0] + x
            x = feed(x) + x
        return self.norm(x)


class ProjectInOut(nn.Module):
    """``fn`` in the other branch's width: projected in before it and out after it, where the widths differ."""

    def __init__(self, outside: int, inside: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        same = outside == inside
        self.project_in = nn.Identity() if same else nn.Linear(outside, inside)
        self.project_out = nn.Identity() if same else nn.Linear(inside, outside)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        inside, weights = self.fn(self.project_in(x), context)
        return self.project_out(inside), weights


class CrossTransformer(nn.Module):
    """Each branch's class token looks at the other branch's patches; the patches pass through unchanged."""

    def __init__(self, settings: CrossSettings) -> None:
        super().__init__()
        s = settings

        def look(outside: int, inside: int) -> ProjectInOut:
            attention = Attention(inside, s.cross_attn_heads, s.cross_attn_dim_head, s.dropout)
            return ProjectInOut(outside, inside, PreNorm(inside, attention))

        self.layers = nn.ModuleList(
            nn.ModuleList([look(s.sm_dim, s.lg_dim), look(s.lg_dim, s.sm_dim)]) for _ in range(s.cross_attn_depth)
        )

    def forward(self, sm: Tensor, lg: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tokens of both branches, and how each class token divided its last look over the other's patches."""
        sm_cls, sm_patches = sm[:, :1], sm[:, 1:]
        lg_cls, lg_patches = lg[:, :1], lg[:, 1:]
        at_lg = at_sm = sm_cls
        for layer in self.layers:
            sm_looks, lg_looks = _members(layer)
            sm_new, at_lg = sm_looks(sm_cls, lg_patches)
            lg_new, at_sm = lg_looks(lg_cls, sm_patches)
            sm_cls, lg_cls = sm_new + sm_cls, lg_new + lg_cls
        tokens = torch.cat((sm_cls, sm_patches), 1), torch.cat((lg_cls, lg_patches), 1)
        return *tokens, at_sm[:, :, 0, 1:].mean(1), at_lg[:, :, 0, 1:].mean(1)


class MultiScaleEncoder(nn.Module):
    def __init__(self, settings: CrossSettings) -> None:
        super().__init__()
        s = settings
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Transformer(
                        s.sm_dim, s.sm_enc_depth, s.sm_enc_heads, s.sm_enc_dim_head, s.sm_enc_mlp_dim, s.dropout
                    ),
                    Transformer(
                        s.lg_dim, s.lg_enc_depth, s.lg_enc_heads, s.lg_enc_dim_head, s.lg_enc_mlp_dim, s.dropout
                    ),
                    CrossTransformer(s),
                ]
            )
            for _ in range(s.depth)
        )

    def forward(self, sm: Tensor, lg: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        at_sm = at_lg = sm
        for layer in self.layers:
            sm_encoder, lg_encoder, cross = _members(layer)
            sm, lg, at_sm, at_lg = cross(sm_encoder(sm), lg_encoder(lg))
        return sm, lg, at_sm, at_lg


class ImageEmbedder(nn.Module):
    """An EfficientNet-B0 cut at one depth, its feature map in patches, each patch a token.

    The whole network is kept although ``shallow`` runs only its first three blocks: the published file holds it.
    The table of positions is as long as the image has patches, of which only the features' are used.
    """

    def __init__(self, dim: int, image_size: int, patch: int, channels: int, dropout: float, *, shallow: bool) -> None:
        super().__init__()
        import timm

        self.efficient_net = timm.create_model("tf_efficientnet_b0", pretrained=False)
        self.shallow = shallow
        self.patch = patch
        self.to_patch_embedding = nn.Sequential(nn.Identity(), nn.Linear(channels * patch**2, dim))
        self.pos_embedding = nn.Parameter(torch.randn(1, (image_size // patch) ** 2 + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.dropout = nn.Dropout(dropout)

    def features(self, x: Tensor) -> Tensor:
        net = self.efficient_net
        if not self.shallow:
            return net.forward_features(x)
        return net.blocks[1](net.blocks[0](net.bn1(net.conv_stem(x))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``[N, 1 + T, D]``, the class token first, and the patches ``[N, T, p·p, C]`` they were made from."""
        f, p = self.features(x), self.patch
        cells = _split(_split(f, 3, (-1, p)), 2, (-1, p))
        patches = cells.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        tokens = self.to_patch_embedding(patches.flatten(2))
        tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), 1)
        return self.dropout(tokens + self.pos_embedding[:, : tokens.shape[1]]), patches

    def shares(self, patches: Tensor, attention: Tensor) -> Tensor:
        """Attention ``[N, T]`` on patches, handed down to the places of the feature map: ``[N, h, w]``.

        A patch's token is the sum of what its places put in; a place gets its positive share of the token's length.
        """
        linear = self.to_patch_embedding[1]
        assert isinstance(linear, nn.Linear)
        weight = _split(linear.weight, 1, (self.patch**2, -1))
        token = torch.einsum("ntpc,dpc->ntd", patches, weight)
        share = torch.einsum("ntpc,ntd,dpc->ntp", patches, token, weight).clamp_min(0)
        share = share / share.sum(2, keepdim=True).clamp_min(1e-12) * attention[:, :, None]
        side = round(attention.shape[1] ** 0.5)
        grid = _split(_split(share, 2, (self.patch, self.patch)), 1, (side, side))
        return grid.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)


class CrossEfficientViT(nn.Module):
    """Input float32 ``[N, 3, S, S]``; output the fake logit ``[N]`` and the attention ``[N, S/32, S/32]`` in [0, 1]."""

    def __init__(self, settings: CrossSettings | None = None) -> None:
        super().__init__()
        s = self.settings = settings or CrossSettings()
        self.sm_image_embedder = ImageEmbedder(
            s.sm_dim, s.image_size, s.sm_patch_size, s.sm_channels, s.emb_dropout, shallow=False
        )
        self.lg_image_embedder = ImageEmbedder(
            s.lg_dim, s.image_size, s.lg_patch_size, s.lg_channels, s.emb_dropout, shallow=True
        )
        self.multi_scale_encoder = MultiScaleEncoder(s)
        self.sm_mlp_head = nn.Sequential(nn.LayerNorm(s.sm_dim), nn.Linear(s.sm_dim, 1))
        self.lg_mlp_head = nn.Sequential(nn.LayerNorm(s.lg_dim), nn.Linear(s.lg_dim, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sm, sm_patches = self.sm_image_embedder(x)
        lg, lg_patches = self.lg_image_embedder(x)
        sm, lg, at_sm, at_lg = self.multi_scale_encoder(sm, lg)
        logit = self.sm_mlp_head(sm[:, 0]) + self.lg_mlp_head(lg[:, 0])
        fine = nn.functional.avg_pool2d(self.lg_image_embedder.shares(lg_patches, at_lg)[:, None], 8)[:, 0] * 64
        heat = self.sm_image_embedder.shares(sm_patches, at_sm) + fine
        return logit[:, 0], heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)


def build_cross(settings: CrossSettings) -> CrossEfficientViT:
    """The network with random weights, in evaluation mode."""
    return CrossEfficientViT(settings).eval()
