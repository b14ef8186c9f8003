"""Transformers from numbers and configurations, against real counts and real modules."""

import pytest
import torch

from example_project.models.gpt import GPT
from pytest_memreq.errors import MemreqError
from pytest_memreq.estimate import Transformer, estimate
from pytest_memreq.estimate.families import FAMILIES, transformer_of

GPT2 = {"vocabulary": 50257, "positions": 1024}
ROTARY = {
    "gated": True,
    "tied_embeddings": False,
    "qkv_bias": False,
    "output_bias": False,
    "feed_forward_bias": False,
    "norm_bias": False,
}


def gpt(layers, hidden, heads, **more):
    return Transformer(layers=layers, hidden=hidden, heads=heads, **GPT2 | more)


def llama(layers, hidden, heads, kv_heads, feed_forward, vocabulary, **more):
    return Transformer(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        **ROTARY | more,
    )


# Counts of the published checkpoints; of GPT-3, which was not published, of its shape (Brown et
# al., arXiv 2005.14165, table 2.1).
COUNTS = {
    "GPT-2": (gpt(12, 768, 12), 124_439_808),
    "GPT-2 medium": (gpt(24, 1024, 16), 354_823_168),
    "GPT-2 large": (gpt(36, 1280, 20), 774_030_080),
    "GPT-2 XL": (gpt(48, 1600, 25), 1_557_611_200),
    "GPT-3 175B": (gpt(96, 12288, 96, positions=2048), 174_604_259_328),
    "Llama 2 7B": (llama(32, 4096, 32, 32, 11008, 32000), 6_738_415_616),
    "Llama 2 13B": (llama(40, 5120, 40, 40, 13824, 32000), 13_015_864_320),
    "Llama 2 70B": (llama(80, 8192, 64, 8, 28672, 32000), 68_976_648_192),
    "Llama 3 8B": (llama(32, 4096, 32, 8, 14336, 128256), 8_030_261_248),
    "Llama 3 70B": (llama(80, 8192, 64, 8, 28672, 128256), 70_553_706_496),
    "Llama 3.1 405B": (llama(126, 16384, 128, 8, 53248, 128256), 405_853_388_800),
    "Mixtral 8x7B": (
        llama(32, 4096, 32, 8, 14336, 32000, experts=8, experts_per_token=2),
        46_702_792_704,
    ),
    "Mixtral 8x22B": (
        llama(56, 6144, 48, 8, 16384, 32000, experts=8, experts_per_token=2),
        140_620_634_112,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_published_model(name):
    model, count = COUNTS[name]
    assert model.parameters == count
    assert estimate(model).parameter_elements == count
    assert estimate(model).total_bytes == 20 * count


@pytest.mark.parametrize(("layers", "hidden", "heads"), [(12, 768, 12), (48, 1600, 25)])
def test_gpt_2_as_a_module_has_as_many(layers, hidden, heads):
    with torch.device("meta"):
        module = GPT(depth=layers, width=hidden, heads=heads)
    from_module, from_numbers = estimate(module), estimate(gpt(layers, hidden, heads))
    assert from_module.breakdown.parameters_bytes == from_numbers.breakdown.parameters_bytes
    assert from_module.total_bytes == from_numbers.total_bytes


# Away from each family's defaults, as far as the configuration can go.
SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 96}
LLAMA_LIKE = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 80, "pad_token_id": 0}
VARIANTS = {
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 96, "n_positions": 32},
    "gpt_neox": {**SMALL, "intermediate_size": 80, "attention_bias": False},
    "opt": {**SMALL, "ffn_dim": 80, "word_embed_proj_dim": 64},
    "llama": {**LLAMA_LIKE, "attention_bias": True, "mlp_bias": True, "head_dim": 24},
    "mistral": {**LLAMA_LIKE, "head_dim": 24},
    "mixtral": {**LLAMA_LIKE, "num_local_experts": 4, "tie_word_embeddings": True},
    "qwen2": {**LLAMA_LIKE, "tie_word_embeddings": True},
    "qwen3": {**LLAMA_LIKE, "head_dim": 24, "attention_bias": True},
    "qwen3_moe": {
        **LLAMA_LIKE,
        "head_dim": 16,
        "moe_intermediate_size": 40,
        "num_experts": 6,
        "num_experts_per_tok": 2,
    },
    "gemma": {**LLAMA_LIKE, "head_dim": 24},
    "gemma2": {**LLAMA_LIKE, "head_dim": 24},
    "phi3": LLAMA_LIKE,
}


@pytest.mark.parametrize("is_default", [True, False], ids=["default", "variant"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_configurations_parameters_are_those_of_the_real_module(family, is_default):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    given = {} if is_default else VARIANTS[family]
    configuration = transformers.CONFIG_MAPPING[family](**given)
    with torch.device("meta"):
        module = transformers.AutoModelForCausalLM.from_config(configuration)
    module.tie_weights()
    count = sum(parameter.numel() for parameter in module.parameters())
    assert transformer_of(configuration.to_dict()).parameters == count
    sparse = configuration.to_diff_dict()  # as config.json has it: what differs from the default
    assert "model_type" in sparse
    assert transformer_of(sparse).parameters == count


def test_a_mapping_of_fields_is_a_transformer():
    fields = {"layers": 2, "hidden": 8, "heads": 2, "vocabulary": 16}
    assert estimate(fields) == estimate(Transformer(**fields))


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"model_type": "resnet"}, "model_type 'resnet' is not known; known are gpt2,"),
        ({"model_type": ["gpt2"]}, "model_type ['gpt2'] is not known"),
        ({"layers": 2, "hidden": 8}, "the configuration lacks heads"),
        ({"layerz": 2}, "'layerz' is no field of a transformer; fields are dense_layers,"),
        (
            {"model_type": "gpt2", "n_layer": "12", "n_embd": 8, "n_head": 2, "vocab_size": 9},
            "the configuration of gpt2: layers='12' is not a whole number",
        ),
        (
            {"model_type": "qwen3_moe", "decoder_sparse_step": 2},
            "decoder_sparse_step=2 makes layers that differ",
        ),
        (
            {"model_type": "opt", "hidden_size": 1024, "word_embed_proj_dim": 512},
            "word_embed_proj_dim=512 makes layers that differ",
        ),
        (
            {"layers": 2, "hidden": 9, "heads": 2, "vocabulary": 16},
            "hidden=9 does not divide by heads=2; or say head_size",
        ),
        (
            {"layers": 2, "hidden": 9, "heads": 3, "kv_heads": 2, "vocabulary": 16},
            "heads=3 does not divide by kv_heads=2",
        ),
        ({"layers": 0, "hidden": 8, "heads": 2, "vocabulary": 16}, "layers=0 is not a whole"),
        ({"layers": 1, "hidden": 8, "heads": 0, "vocabulary": 16}, "heads=0 is not a whole"),
        (
            {"layers": 1, "hidden": 8, "heads": 2, "vocabulary": 16, "experts": 4},
            "experts_per_token=0 of experts=4; write 1 or more",
        ),
    ],
)
def test_a_mistake_in_a_configuration_is_named(configuration, said):
    with pytest.raises(MemreqError) as error:
        estimate(configuration)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
