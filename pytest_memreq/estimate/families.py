"""Hugging Face configurations as transformers: which keys mean what, and what a family implies.

Source of each family: `configuration_*.py` and `modeling_*.py` of the transformers library, 5.23;
a test builds each model on meta and compares the counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate.transformer import Transformer

FIELDS = {f.name for f in fields(Transformer)}
NOTHING: Mapping[str, Any] = MappingProxyType({})

# Field of a transformer: the keys of a configuration that give it, the first one found.
KEYS: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "head_size": ("head_dim",),
    "feed_forward": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocabulary": ("vocab_size",),
    "tied_embeddings": ("tie_word_embeddings",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What all models of a family have, and keys that it adds to or takes instead of `KEYS`.

    `defaults` hold where a configuration says nothing: one that is saved lacks what is as always.
    `positions_more` are rows of the table of positions beyond what the configuration says. What a
    configuration has under a key of `plain` must be as it is there, and under a key of `same` as
    that field, or there are layers that no formula here has.
    """

    fixed: Mapping[str, Any]
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    positions_more: int = 0
    same: Mapping[str, str] = field(default_factory=dict)
    plain: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


_ROTARY = {
    "gated": True,
    "qkv_bias": False,
    "output_bias": False,
    "feed_forward_bias": False,
    "norm_bias": False,
    "dropout": False,
    "fused_attention": True,
}
_EXPERTS = {
    "experts": ("num_local_experts", "num_experts"),
    "experts_per_token": ("num_experts_per_tok",),
}
_BIASES = {"qkv_bias": ("attention_bias",), "output_bias": ("attention_bias",)}


def _sizes(
    layers: int, hidden: int, heads: int, feed_forward: int, vocabulary: int, **more: int
) -> dict[str, int]:
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "feed_forward": feed_forward,
        "vocabulary": vocabulary,
        "tied_embeddings": False,
        **more,
    }


FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        fixed={"fused_attention": True},
        keys={"positions": ("n_positions",)},
        defaults={
            "layers": 12,
            "hidden": 768,
            "heads": 12,
            "vocabulary": 50257,
            "positions": 1024,
            "tied_embeddings": True,
        },
    ),
    "gpt_neox": Family(
        fixed={"dropout": False, "fused_attention": True},
        keys=_BIASES,
        defaults=_sizes(44, 6144, 64, 24576, 50432),
    ),
    "opt": Family(
        fixed={"fused_attention": True},
        keys={"positions": ("max_position_embeddings",)},
        defaults=_sizes(12, 768, 12, 3072, 50272, positions=2048, tied_embeddings=True),
        positions_more=2,  # modeling_opt.py: OPTLearnedPositionalEmbedding has an offset
        same={"word_embed_proj_dim": "hidden"},
    ),
    "llama": Family(
        fixed=_ROTARY,
        keys={**_BIASES, "feed_forward_bias": ("mlp_bias",)},
        defaults=_sizes(32, 4096, 32, 11008, 32000),
    ),
    "mistral": Family(fixed=_ROTARY, defaults=_sizes(32, 4096, 32, 14336, 32000, kv_heads=8)),
    "mixtral": Family(
        fixed=_ROTARY,
        keys=_EXPERTS,
        defaults=_sizes(32, 4096, 32, 14336, 32000, kv_heads=8, experts=8, experts_per_token=2),
    ),
    "qwen2": Family(
        fixed={**_ROTARY, "qkv_bias": True},
        defaults=_sizes(32, 4096, 32, 22016, 151936, kv_heads=32),
    ),
    "qwen3": Family(
        fixed={**_ROTARY, "head_norms": True},
        keys=_BIASES,
        defaults=_sizes(32, 4096, 32, 22016, 151936, kv_heads=32, head_size=128),
    ),
    "qwen3_moe": Family(
        fixed={**_ROTARY, "head_norms": True},
        keys={**_BIASES, **_EXPERTS, "expert_feed_forward": ("moe_intermediate_size",)},
        defaults=_sizes(
            *(24, 2048, 32, 6144, 151936),
            kv_heads=4,
            experts=128,
            experts_per_token=8,
            expert_feed_forward=768,
        ),
        plain={"decoder_sparse_step": (1,), "mlp_only_layers": ([],)},
    ),
    "gemma": Family(
        fixed=_ROTARY,
        keys=_BIASES,
        defaults=_sizes(
            28, 3072, 16, 24576, 256000, kv_heads=16, head_size=256, tied_embeddings=True
        ),
    ),
    "gemma2": Family(
        fixed={**_ROTARY, "norms": 4, "fused_attention": False},
        keys=_BIASES,
        defaults=_sizes(26, 2304, 8, 9216, 256000, kv_heads=4, head_size=256, tied_embeddings=True),
    ),
    "phi3": Family(fixed=_ROTARY, defaults=_sizes(32, 3072, 32, 8192, 32064)),
}


def transformer_of(configuration: Mapping[str, Any]) -> Transformer:
    """The transformer of a mapping: fields of `Transformer`, or a Hugging Face configuration.

    The latter has a `model_type`. MemreqError names what is missing, unknown or of a wrong kind.
    """
    if "model_type" in configuration:
        return _of_family(configuration)
    unknown = [key for key in configuration if key not in FIELDS]
    if unknown:
        raise MemreqError(
            f"{_shown(unknown[0])} is no field of a transformer; fields are "
            f"{', '.join(sorted(FIELDS))}; a Hugging Face configuration has a model_type"
        )
    return _built(configuration, "the configuration")


def _of_family(configuration: Mapping[str, Any]) -> Transformer:
    name = configuration["model_type"]
    if not isinstance(name, str) or name not in FAMILIES:
        raise MemreqError(
            f"model_type {_shown(name)} is not known; known are {', '.join(FAMILIES)}; for "
            "another, give the fields of a Transformer, or the module itself on meta"
        )
    family = FAMILIES[name]
    found = {
        field_name: configuration[key]
        for field_name, keys in {**KEYS, **family.keys}.items()
        for key in keys[::-1]
        if configuration.get(key) is not None
    }
    values = {**family.defaults, **family.fixed, **found}
    _check_plain(configuration, family, values)
    if family.positions_more and isinstance(values.get("positions"), int):
        values["positions"] += family.positions_more
    return _built(values, f"the configuration of {name}")


def _check_plain(
    configuration: Mapping[str, Any], family: Family, values: Mapping[str, Any]
) -> None:
    wanted = {key: (values[name],) for key, name in family.same.items()}
    for key, known in {**family.plain, **wanted}.items():
        value = configuration.get(key)
        if value is not None and value not in known:
            raise MemreqError(
                f"{key}={_shown(value)} makes layers that differ, which no formula here counts; "
                "estimate the module itself, on meta"
            )


def _built(values: Mapping[str, Any], what: str) -> Transformer:
    missing = [name for name in ("layers", "hidden", "heads", "vocabulary") if name not in values]
    if missing:
        raise MemreqError(f"{what} lacks {', '.join(missing)}")
    for name, value in values.items():
        if not isinstance(value, int | None):
            raise MemreqError(f"{what}: {name}={_shown(value)} is not a whole number")
    return Transformer(**values)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
