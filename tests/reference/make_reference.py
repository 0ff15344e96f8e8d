#!/usr/bin/env python3
"""What Hugging Face transformers generates from a llama-architecture GGUF file: 96 greedy tokens a
prompt, with the likeliest tokens' logits and logprobs of every step. Nothing here is krait's: blocks
are dequantized by the package `gguf`, text is tokenized by `tokenizers` from the file's vocabulary, chats
are rendered by jinja2 with the file's template, the forward pass is LlamaForCausalLM in fp32.

  make_reference.py MODEL.gguf OUT.json [--weights f32|bf16] [--device cpu|cuda] [--only NAME,...]
                    [--tokens N] [--top N] [--batch N] [--prompts-only]

Needs gguf, numpy, tokenizers, jinja2, torch, transformers (any of 4.4x to 5.x)."""
import argparse
import hashlib
import json
import pathlib
import sys

import gguf
import numpy

from prompts import all_prompts


class GgufModel:
    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.sha256 = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()

    def field(self, name):
        return self.reader.fields[name].contents()

    def llama(self, name):
        return self.field("llama." + name)

    def tensors(self):
        """Name -> fp32 array, dequantized by the package."""
        return {t.name: numpy.array(gguf.dequantize(t.data, t.tensor_type), dtype=numpy.float32)
                .reshape(tuple(reversed([int(n) for n in t.shape]))) for t in self.reader.tensors}


def tokenizer_of(model):
    """SmolLM2's published pipeline: digits one by one, then GPT-2's byte-level splitting, then BPE."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    tokens = model.field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in model.field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    control = 3  # gguf.TokenType.CONTROL
    kinds = model.field("tokenizer.ggml.token_type")
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                  for t, kind in zip(tokens, kinds) if kind == control])
    return tokenizer


def render(model, turns):
    import jinja2
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(model.field("tokenizer.chat_template")).render(
        messages=[{"role": role, "content": content} for role, content in turns],
        add_generation_prompt=True)


def prompts_of(model, only):
    tokenizer = tokenizer_of(model)
    for name, prompt in all_prompts():
        if only and name not in only:
            continue
        chat = not isinstance(prompt, str)
        text = render(model, prompt) if chat else prompt
        entry = {"name": name, "messages": [list(turn) for turn in prompt]} if chat else {
            "name": name, "prompt": prompt}
        yield entry | {"prompt_ids": tokenizer.encode(text, add_special_tokens=False).ids}


def unpermute(rows, heads):
    """GGUF interleaves the two halves of each rotary head; transformers keeps them apart."""
    return (rows.reshape(heads, rows.shape[0] // heads // 2, 2, rows.shape[1])
            .swapaxes(1, 2).reshape(rows.shape))


HF_NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
            "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj"}


def state_dict_of(model):
    heads = {"attn_q": model.llama("attention.head_count"), "attn_k": model.llama("attention.head_count_kv")}
    tensors = model.tensors()
    state = {"model.embed_tokens.weight": tensors.pop("token_embd.weight"),
             "model.norm.weight": tensors.pop("output_norm.weight")}
    state["lm_head.weight"] = tensors.pop("output.weight", state["model.embed_tokens.weight"])
    for name, value in tensors.items():
        _, layer, part, _ = name.split(".")
        value = unpermute(value, heads[part]) if part in heads else value
        state[f"model.layers.{layer}.{HF_NAMES[part]}.weight"] = value
    return state


def config_of(model):
    from transformers import LlamaConfig
    theta = model.llama("rope.freq_base")
    config = LlamaConfig(
        vocab_size=model.llama("vocab_size"), hidden_size=model.llama("embedding_length"),
        intermediate_size=model.llama("feed_forward_length"), num_hidden_layers=model.llama("block_count"),
        num_attention_heads=model.llama("attention.head_count"),
        num_key_value_heads=model.llama("attention.head_count_kv"),
        max_position_embeddings=model.llama("context_length"),
        rms_norm_eps=model.llama("attention.layer_norm_rms_epsilon"), hidden_act="silu",
        tie_word_embeddings=True, attention_bias=False, mlp_bias=False, rope_theta=theta)
    if hasattr(config, "rope_parameters"):  # transformers 5
        config.rope_parameters = {"rope_type": "default", "rope_theta": theta}
    config._attn_implementation = "eager"
    return config


def build(model, weights, device):
    import torch
    from transformers import LlamaForCausalLM
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    config = config_of(model)
    llama = LlamaForCausalLM(config).to(torch.float32).eval()
    state = {name: torch.from_numpy(value) for name, value in state_dict_of(model).items()}
    if weights == "bf16":
        state = {name: value.to(torch.bfloat16).to(torch.float32) for name, value in state.items()}
    llama.load_state_dict(state, strict=True)
    half = config.hidden_size // config.num_attention_heads // 2
    expected = model.llama("rope.freq_base") ** (-torch.arange(half, dtype=torch.float64) / half)
    rotary = [m.inv_freq for m in llama.modules() if hasattr(m, "inv_freq")]  # one a model or a layer
    assert rotary and all(torch.allclose(r.double(), expected, rtol=1e-6) for r in rotary)
    return llama.to(device)


def padded(rows, pad):
    """Left-padded ids and mask, so that every row's last token stands in the last column."""
    import torch
    width = max(len(row) for row in rows)
    return (torch.tensor([[pad] * (width - len(row)) + row for row in rows]),
            torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]))


def best(logits, top):
    """[[token id, logit, logprob], ...] in falling order. Stable: among equal logits the lowest id is
    first, as in krait's argmax."""
    logits = logits.double()
    log_sum = logits.logsumexp(0)
    candidates = logits.topk(4 * top).indices.sort().values
    order = candidates[logits[candidates].sort(descending=True, stable=True).indices[:top]]
    return [[int(i), round(float(logits[i]), 6), round(float(logits[i] - log_sum), 6)] for i in order]


def last_logits(llama, positions, ids, mask, cache):
    """The last column's logits only: a long prompt's whole table would be gigabytes."""
    out = llama.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                      use_cache=True)
    return llama.lm_head(out.last_hidden_state[:, -1]).float(), out.past_key_values


def generate(llama, prompts, tokens, top):
    """The greedy continuations of a batch: for each prompt, for each step, the output of best()."""
    import torch
    ids, mask = (part.to(llama.device) for part in padded(prompts, pad=0))
    positions, cache, steps = (mask.cumsum(1) - 1).clamp(min=0), None, [[] for _ in prompts]
    with torch.inference_mode():
        for _ in range(tokens):
            logits, cache = last_logits(llama, positions, ids, mask, cache)
            for row, logit_row in zip(steps, logits):
                row.append(best(logit_row, top))
            ids = torch.tensor([[row[-1][0][0]] for row in steps], device=llama.device)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            positions = positions[:, -1:] + 1
    return steps


def batches(entries, size):
    """Of similar lengths, so that little is padding."""
    ordered = sorted(entries, key=lambda entry: len(entry["prompt_ids"]))
    return [ordered[i:i + size] for i in range(0, len(ordered), size)]


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--weights", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="names of prompts.py, with commas")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prompts-only", action="store_true")
    return parser.parse_args(arguments)


def main():
    args = parse(sys.argv[1:])
    model = GgufModel(args.model)
    entries = list(prompts_of(model, set(filter(None, args.only.split(",")))))
    document = {"model_sha256": model.sha256, "weights": args.weights, "device": args.device}
    if not args.prompts_only:
        import torch
        import transformers
        document |= {"torch": torch.__version__, "transformers": transformers.__version__,
                     "gguf": __import__("importlib.metadata").metadata.version("gguf")}
        llama = build(model, args.weights, args.device)
        for batch in batches(entries, args.batch):
            results = generate(llama, [entry["prompt_ids"] for entry in batch], args.tokens, args.top)
            for entry, steps in zip(batch, results):
                entry["token_ids"], entry["steps"] = [step[0][0] for step in steps], steps
                print(entry["name"], len(entry["prompt_ids"]), entry["token_ids"][:8], file=sys.stderr,
                      flush=True)
            save(args.out, document, [entry for entry in entries if "steps" in entry])
    else:
        save(args.out, document, entries)


def save(path, document, entries):
    """Also after each batch: a run that is cut off leaves what it had."""
    with open(path, "w") as out:
        json.dump(document | {"prompts": entries}, out, separators=(",", ":"))


if __name__ == "__main__":
    main()
