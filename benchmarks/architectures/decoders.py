"""Decoders of text: dense, mixtures of experts, state spaces."""

from __future__ import annotations

from functools import partial
from typing import Any

from architectures.kinds import DECODER, VOCABULARY, Architecture, causal, made, species, tokens, without

LM = "ForCausalLM"
SPECIAL = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT = {"n_embd": 48, "n_layer": 2, "n_head": 6, "n_positions": 40, **SPECIAL}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 28}


def _decoder(kind: str, *less: str, family: str = "decoder", task: str = LM, **more: Any) -> Architecture:
    return Architecture(family, species(kind, task, **without(DECODER, *less, **more)), causal)


def _other(kind: str, task: str = LM, family: str = "decoder", inputs: Any = causal, **settings: Any) -> Architecture:
    return Architecture(family, species(kind, task, **{**SPECIAL, **settings}), inputs)


def _experts(kind: str, **more: Any) -> Architecture:
    return _decoder(kind, family="experts", **more)


def _states(kind: str, inputs: Any = causal, attention: bool = False, **settings: Any) -> Architecture:
    return Architecture("state space", species(kind, LM, **{**SPECIAL, **settings}), inputs, attention)


_MLA = {"q_lora_rank": 20, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 10}

NETWORKS: dict[str, Architecture] = {
    "gpt2": _other("GPT2", "LMHeadModel", **GPT),
    "gpt_bigcode": _other("GPTBigCode", **GPT),
    "gpt_neo": _other(
        "GPTNeo",
        hidden_size=48,
        num_layers=2,
        num_heads=6,
        intermediate_size=56,
        max_position_embeddings=40,
        attention_types=[[["global", "local"], 1]],
        window_size=6,
    ),
    "gptj": _other("GPTJ", **GPT, rotary_dim=4, n_inner=56),
    "codegen": _other("CodeGen", **{**GPT, "n_head": 8, "n_embd": 64}, rotary_dim=4, n_inner=56),
    "openai_gpt": _other("OpenAIGPT", "LMHeadModel", inputs=tokens, **GPT),
    "ctrl": _other("CTRL", "LMHeadModel", n_embd=48, n_layer=2, n_head=6, n_positions=40, dff=56),
    "gpt_neox": _decoder("GPTNeoX", "num_key_value_heads"),
    "opt": _decoder("OPT", "intermediate_size", "num_key_value_heads", ffn_dim=56, word_embed_proj_dim=48),
    "bloom": _other("Bloom", hidden_size=48, n_layer=2, n_head=6),
    "falcon": _decoder("Falcon", "num_key_value_heads", ffn_hidden_size=56),
    "falcon, grouped": _decoder("Falcon", "num_key_value_heads", new_decoder_architecture=True, num_kv_heads=2),
    "mpt": _other("Mpt", d_model=48, n_layers=2, n_heads=6, max_seq_len=40, expansion_ratio=2),
    "llama": _decoder("Llama"),
    "llama, eager": _decoder("Llama", attn_implementation="eager"),
    "mistral": _decoder("Mistral", sliding_window=8),
    "qwen2": _decoder("Qwen2"),
    "qwen3": _decoder("Qwen3", head_dim=10),
    "gemma": _decoder("Gemma", head_dim=10),
    "gemma2": _decoder("Gemma2", head_dim=10, sliding_window=8),
    "gemma3": Architecture(
        "decoder",
        partial(made, "Gemma3TextConfig", "Gemma3ForCausalLM", **DECODER, head_dim=10, sliding_window=8),
        causal,
    ),
    "phi": _decoder("Phi"),
    "phi3": _decoder("Phi3"),
    "stablelm": _decoder("StableLm"),
    "olmo": _decoder("Olmo"),
    "olmo2": _decoder("Olmo2"),
    "cohere": _decoder("Cohere"),
    "starcoder2": _decoder("Starcoder2"),
    "granite": _decoder("Granite"),
    "glm": _decoder("Glm", head_dim=10),
    "persimmon": _decoder("Persimmon", "num_key_value_heads"),
    "nemotron": _decoder("Nemotron"),
    "smollm3": _decoder("SmolLM3"),
    "xglm": _other("XGLM", d_model=48, num_layers=2, attention_heads=6, ffn_dim=56, max_position_embeddings=40),
    "biogpt": _decoder("BioGpt", "num_key_value_heads"),
    "mixtral": _experts("Mixtral", num_local_experts=4),
    "qwen2_moe": _experts("Qwen2Moe", **EXPERTS, shared_expert_intermediate_size=36),
    "qwen3_moe": _experts("Qwen3Moe", **EXPERTS, head_dim=10),
    "olmoe": _experts("Olmoe", num_experts=4, num_experts_per_tok=2),
    "granitemoe": _experts("GraniteMoe", num_local_experts=4, num_experts_per_tok=2),
    "phimoe": _experts("Phimoe", num_local_experts=4, num_experts_per_tok=2),
    "gpt_oss": _experts("GptOss", num_local_experts=4, num_experts_per_tok=2, head_dim=10, sliding_window=8),
    "deepseek_v2": _experts(
        "DeepseekV2",
        num_key_value_heads=6,
        **_MLA,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=28,
        first_k_dense_replace=1,
        topk_method="greedy",
        n_group=1,
        topk_group=1,
    ),
    "deepseek_v3": _experts(
        "DeepseekV3",
        num_key_value_heads=6,
        **_MLA,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=28,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
    ),
    "mamba": _states("Mamba", hidden_size=48, num_hidden_layers=2, state_size=5, time_step_rank=7, expand=2),
    "mamba2": _states(
        "Mamba2",
        hidden_size=48,
        num_hidden_layers=2,
        state_size=6,
        expand=2,
        num_heads=12,
        head_dim=8,
        n_groups=2,
        chunk_size=4,
    ),
    "falcon_mamba": _states("FalconMamba", hidden_size=48, num_hidden_layers=2, state_size=5, time_step_rank=7),
    "rwkv": _states("Rwkv", tokens, hidden_size=48, num_hidden_layers=2, attention_hidden_size=48, context_length=40),
    "recurrent_gemma": _states(
        "RecurrentGemma",
        attention=True,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=1,
        intermediate_size=112,
        lru_width=48,
        attention_window_size=8,
    ),
    "jamba": _states(
        "Jamba",
        attention=True,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=56,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        num_experts=4,
        num_experts_per_tok=2,
        mamba_d_state=5,
        mamba_dt_rank=7,
        use_mamba_kernels=False,
    ),
}
