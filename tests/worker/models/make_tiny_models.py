#!/usr/bin/env python3
"""Writes testdata/: tiny random models of every file format and option that krait serves, and what
Hugging Face transformers makes of each: 32 greedy tokens after a prompt, with all logits.

    pip install torch 'transformers==4.45.2' gguf==0.19.0 safetensors
    python3 tests/worker/models/make_tiny_models.py

NAME/ (config.json, safetensors, perhaps shards with an index) or NAME.gguf is the model;
NAME.expected holds, as a safetensors file, "prompt" [P] and "tokens" [32], I64, and "logits"
[32, vocabulary], F32: row i scored tokens[i]. Nothing here is krait's: transformers saves the
folders and runs every model in float32 without a cache, the package `gguf` quantizes and decodes
blocks, and rows of q and k are permuted as llama.cpp's convert_hf_to_gguf.py does. A seed is taken
only if no step is a close call.
"""

import itertools
import pathlib
import shutil

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM)

OUT = pathlib.Path(__file__).parent / "testdata"
NUM_TOKENS = 32
LEAST_MARGIN = 0.02  # between the two best logits of a step
LEAST_DISTINCT = 10  # tokens: or attention hardly matters

DIMS = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
            rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True,
            bos_token_id=1, eos_token_id=2)
# Rows of o_proj and down_proj are one K block.
K_DIMS = dict(DIMS, intermediate_size=256, head_dim=64)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
DIVISORS = [1.0, 1.5, 2.25, 8.0]


def randomize(model, generator):
    """Weights scaled so that layers matter more than the last token's embedding."""
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            parameter.data = 1 + 0.1 * values
        elif name.endswith(".bias"):
            parameter.data = 0.5 * values
        else:
            inner = name.endswith(("o_proj.weight", "down_proj.weight"))
            outer = name.startswith(("model.embed", "lm_head"))
            gain = 2.5 if outer else 1.0 if inner else 1.5
            parameter.data = gain / parameter.shape[1] ** 0.5 * values


def generate(model, prompt):
    """Tokens, logits, the least margin."""
    ids, rows, margin = list(prompt), [], float("inf")
    for _ in range(NUM_TOKENS):
        with torch.no_grad():
            row = model(torch.tensor([ids]), use_cache=False).logits[0, -1].float()
        best = torch.topk(row, 2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        rows.append(row)
        ids.append(int(best.indices[0]))
    return ids[len(prompt):], torch.stack(rows), margin


def make_model(kind, config, seed):
    config._attn_implementation = "eager"
    model = kind(config).eval()
    randomize(model, torch.Generator().manual_seed(seed))
    return model


def stored_state(model):
    tied = model.config.tie_word_embeddings
    return {name: parameter.data for name, parameter in model.named_parameters()
            if not (tied and name == "lm_head.weight")}


def case(name, build, prompt_size):
    """`build(seed)` makes a model whose weights are what the file will hold, and its writer."""
    for seed in itertools.count(1):
        model, write = build(seed)
        generator = torch.Generator().manual_seed(seed)
        prompt = torch.randint(3, model.config.vocab_size, (prompt_size,), generator=generator)
        tokens, logits, margin = generate(model, prompt.tolist())
        if margin >= LEAST_MARGIN and len(set(tokens)) >= LEAST_DISTINCT:
            break
    write()
    save_file({"prompt": prompt, "tokens": torch.tensor(tokens), "logits": logits.contiguous()},
              str(OUT / (name + ".expected")))
    print(f"{name:22} seed {seed} margin {margin:.3f} {len(set(tokens))} distinct tokens")


def folder(name, kind, config, dtype=torch.float32, shard_size="1GB", prompt_size=20):
    def build(seed):
        model = make_model(kind, config, seed)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype).float()
        return model, lambda: save(model)

    def save(model):
        state = {key: value.to(dtype) for key, value in stored_state(model).items()}
        model.save_pretrained(OUT / name, state_dict=state, max_shard_size=shard_size)
        (OUT / name / "generation_config.json").unlink()

    case(name, build, prompt_size)


GGUF_LAYER = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
              "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
GGUF_MODEL = {"model.embed_tokens.weight": "token_embd.weight",
              "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def gguf_name(name):
    if name in GGUF_MODEL:
        return GGUF_MODEL[name]
    _, _, layer, rest = name.split(".", 3)
    module, what = rest.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_LAYER[module]}.{what}"


def permute(values, heads):
    if heads == 0:
        return values
    shape = values.shape
    return values.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def unpermute(values, heads):
    if heads == 0:
        return values
    shape = values.shape
    return values.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def heads_of(name, config):
    """Of tensors whose rows are permuted; else 0."""
    if ".q_proj." in name:
        return config.num_attention_heads
    return config.num_key_value_heads if ".k_proj." in name else 0


# Of a K block: offsets of its f16 scales, and the value one step of the first is worth.
K_SCALES = {"Q4_K": ([0, 2], 32 * 8), "Q5_K": ([0, 2], 32 * 16), "Q6_K": ([208], 64 * 16)}


def random_k_blocks(rng, quant, shape, deviation):
    """Valid blocks with random bits, for which the package has no quantizer."""
    offsets, step = K_SCALES[quant]
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[quant]]
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // 256, size), dtype=np.uint8)
    for offset in offsets:
        # Two scales (of values and of minima) make means of about zero.
        scale = deviation / step * rng.uniform(0.7, 1.3, len(blocks))
        scale *= 8 if offset == 2 and quant == "Q4_K" else 16 if offset == 2 else 1
        blocks[:, offset:offset + 2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    return blocks.reshape(shape[0], -1)


def encode(rng, name, values, quant):
    """Stored bytes, their type, and the float32 values they stand for."""
    kind = gguf.GGMLQuantizationType[quant]
    if values.ndim == 1:
        kind = gguf.GGMLQuantizationType.F32
    elif quant.endswith("_K"):
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            data = random_k_blocks(rng, quant, values.shape, float(values.std()))
            return data, kind, gguf.quants.dequantize(data, kind).reshape(values.shape)
        kind = gguf.GGMLQuantizationType.Q8_0
    data = gguf.quants.quantize(values, kind)
    decoded = gguf.quants.dequantize(data, kind).astype(np.float32).reshape(values.shape)
    return data, kind, decoded


def write_gguf(path, config, tensors, extra):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    extra(writer)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_file(name, kind, config, quant="F16", extra=lambda writer: None, prompt_size=20,
              divisors=None):
    def build(seed):
        model, rng, tensors = make_model(kind, config, seed), np.random.default_rng(seed), {}
        parameters = dict(model.named_parameters())
        for key, values in stored_state(model).items():
            heads = heads_of(key, config)
            data, data_kind, decoded = encode(rng, key, permute(values.numpy(), heads), quant)
            tensors[gguf_name(key)] = (data, data_kind)
            parameters[key].data = torch.from_numpy(unpermute(decoded, heads).copy())
        if divisors is not None:
            model.model.rotary_emb.inv_freq /= torch.tensor(divisors)
            tensors["rope_freqs.weight"] = (np.array(divisors, dtype=np.float32),
                                            gguf.GGMLQuantizationType.F32)
        return model, lambda: write_gguf(OUT / (name + ".gguf"), config, tensors, extra)

    case(name, build, prompt_size)


def linear(writer):
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)


def with_biases():
    return LlamaConfig(**dict(DIMS, attention_bias=True, mlp_bias=True, tie_word_embeddings=False))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    llama, mistral, qwen = LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM
    folder("tied_f32", llama, LlamaConfig(**DIMS))
    folder("llama3_bf16", llama, LlamaConfig(**DIMS, head_dim=16, rope_scaling=LLAMA3),
           torch.bfloat16, prompt_size=70)
    folder("linear_f16_sharded", llama,
           LlamaConfig(**dict(DIMS, max_position_embeddings=32),
                       rope_scaling=dict(rope_type="linear", factor=4.0)),
           torch.float16, "12KB", prompt_size=70)
    folder("longrope_f32", llama,
           LlamaConfig(**DIMS, rope_scaling=dict(rope_type="longrope", factor=1.0,
                                                 attention_factor=1.0, short_factor=DIVISORS,
                                                 long_factor=DIVISORS)), prompt_size=40)
    folder("window_f32_sharded", mistral, MistralConfig(**DIMS, sliding_window=7), torch.float32,
           "20KB", prompt_size=40)
    folder("window_wide_bf16", mistral, MistralConfig(**DIMS, sliding_window=133), torch.bfloat16,
           prompt_size=150)
    folder("biases_untied_f16", llama, with_biases(), torch.float16)
    folder("qwen2_bf16", qwen, Qwen2Config(**DIMS, use_sliding_window=False), torch.bfloat16)
    folder("head_dim_bf16_sharded", llama,
           LlamaConfig(**dict(DIMS, tie_word_embeddings=False), head_dim=24), torch.bfloat16,
           "12KB")
    for quant in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]:
        gguf_file("gguf_" + quant.lower(), llama, LlamaConfig(**DIMS), quant)
    for quant in ["Q4_K", "Q5_K", "Q6_K"]:
        gguf_file("gguf_" + quant.lower(), llama, LlamaConfig(**K_DIMS), quant)
    gguf_file("gguf_rope_freqs", llama, LlamaConfig(**DIMS), divisors=DIVISORS, prompt_size=40)
    gguf_file("gguf_linear", llama,
              LlamaConfig(**DIMS, rope_scaling=dict(rope_type="linear", factor=4.0)), extra=linear,
              prompt_size=40)
    gguf_file("gguf_window", mistral, MistralConfig(**DIMS, sliding_window=9),
              extra=lambda writer: writer.add_sliding_window(9), prompt_size=40)
    gguf_file("gguf_biases_untied", llama, with_biases())


if __name__ == "__main__":
    main()
