"""Files in, initialised hybrids out."""

import os
import pathlib
import pickle
import tempfile
import unittest

import numpy as np
import torch

from distill import blocks, checkpoint, convert, layouts, safetensors_file
from distill.__main__ import main
from distill.config import MAMBA1, MAMBA2
from distill.errors import DataError, UserError
from distill.gguf_file import GgufFile, write_gguf
from distill.tests import tiny

GGUF_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
GGUF_LAYER_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
                    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
                    "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
                    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
                    "mlp.down_proj": "ffn_down"}


def interleave(rows, heads):
    """Row p half + i of a head becomes row 2 i + p."""
    dim = len(rows) // heads
    order = [h * dim + p * dim // 2 + i for h in range(heads) for i in range(dim // 2)
             for p in (0, 1)]
    return rows[order]


def write_tiny_gguf(model, path):
    config, tensors = model.config, {}
    for name, tensor in model.state_dict().items():
        base, array = name[:-len(".weight")], tensor.numpy()
        if base in GGUF_NAMES:
            stored = GGUF_NAMES[base]
        else:
            _, _, layer, rest = base.split(".", 3)
            stored = f"blk.{layer}.{GGUF_LAYER_NAMES[rest]}"
            heads = {"attn_q": config.num_heads, "attn_k": config.num_kv_heads}.get(
                GGUF_LAYER_NAMES[rest])
            array = interleave(array, heads) if heads else array
        tensors[stored + ".weight"] = ("F32", array)
    write_gguf(path, {
        "general.architecture": "llama", "llama.block_count": config.num_layers,
        "llama.embedding_length": config.hidden_size, "llama.context_length": 512,
        "llama.attention.head_count": config.num_heads, "llama.rope.freq_base": 10000.0,
        "llama.attention.head_count_kv": config.num_kv_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.dimension_count": config.head_dim,
        "llama.vocab_size": config.vocab_size,
        "llama.feed_forward_length": config.intermediate_size, **tiny.gguf_tokenizer()}, tensors)


class Blocks(unittest.TestCase):
    def test_a_decoded_block_encodes_to_the_same_values(self):
        values = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
        for name, step in (("Q4_0", 0.16), ("Q4_1", 0.13), ("Q5_0", 0.08), ("Q5_1", 0.065),
                           ("Q8_0", 0.011)):
            once = blocks.decode(name, blocks.encode(name, values))
            error = np.abs(once - values.reshape(-1)) / np.abs(values).max()
            self.assertLess(error.max(), step, name)
            np.testing.assert_allclose(blocks.decode(name, blocks.encode(name, once)), once,
                                       atol=1e-2 * step, err_msg=name)

    def test_constant_and_zero_blocks(self):
        values = np.stack([np.zeros(32), np.full(32, -0.5)]).astype(np.float32)
        for name in blocks.FORMATS:
            decoded = blocks.decode(name, blocks.encode(name, values)).reshape(2, 32)
            np.testing.assert_allclose(decoded, values, atol=4e-3, err_msg=name)


class Convert(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        self.base = tiny.model(num_layers=8)
        self.folder = tiny.write_folder(self.base, self.scratch / "base", self.scratch)

    def test_gguf_rows_are_put_back(self):
        write_tiny_gguf(self.base, self.scratch / "base.gguf")
        config, tensors = checkpoint.load(self.scratch / "base.gguf")
        self.assertEqual(set(tensors), set(self.base.state_dict()))
        for name, tensor in self.base.state_dict().items():
            self.assertTrue(torch.equal(tensors[name], tensor), name)
        ids = torch.arange(20)[None]
        torch.testing.assert_close(checkpoint.build(config, tensors)(ids), self.base(ids))

    def test_mixers_take_their_parts_from_attention_tensor_by_tensor(self):
        attention = {name: tensor for name, tensor in self.base.state_dict().items()
                     if "self_attn" in name}
        for kind in (MAMBA1, MAMBA2):
            _, tensors = convert.make_hybrid(self.folder, "50", kind, seed=3)
            for index in (0, 2, 4, 6):
                q, k, v, o = (attention[f"model.layers.{index}.self_attn.{n}_proj.weight"]
                              for n in "qkvo")
                prefix = f"model.layers.{index}.mamba."
                if kind == MAMBA2:
                    _, x, b, c, _ = tensors[prefix + "in_proj.weight"].split([96, 48, 48, 96, 6])
                else:
                    x, b, c = (tensors[prefix + name + ".weight"]
                               for name in ("in_proj_x", "B_proj", "C_proj"))
                for got, want in ((x, v), (b, k), (c, q),
                                  (tensors[prefix + "out_proj.weight"], o)):
                    self.assertTrue(torch.equal(got, want))

    def test_new_parts_follow_the_published_initialisation(self):
        for kind in (MAMBA1, MAMBA2):
            _, tensors = convert.make_hybrid(self.folder, "50", kind, seed=3)
            mixer = {name.rpartition("mamba.")[2]: tensor for name, tensor in tensors.items()
                     if name.startswith("model.layers.0.mamba.")}
            bias = mixer["dt_bias" if kind == MAMBA2 else "dt_proj.bias"]
            steps = torch.nn.functional.softplus(bias)
            self.assertTrue(((steps > 0.9e-3) & (steps < 1.1e-1)).all())
            a = mixer["A_log"].exp()
            if kind == MAMBA1:
                torch.testing.assert_close(a[5], torch.arange(1.0, 17.0))
            else:
                self.assertTrue(((a >= 1) & (a <= 16)).all())
            self.assertTrue((mixer["D"] == 1).all())

    def test_every_layout_keeps_what_it_does_not_replace(self):
        for layout in layouts.NAMES:
            for kind in (MAMBA1, MAMBA2):
                config, tensors = convert.make_hybrid(self.folder, layout, kind, seed=0)
                checkpoint.build(config, tensors)
                self.assertEqual([i for i, k in enumerate(config.layers) if k == kind],
                                 layouts.mamba_layers(layout, 8))
                for name, tensor in self.base.state_dict().items():
                    if name in tensors:
                        self.assertTrue(torch.equal(tensors[name], tensor), name)

    def test_layouts_of_thirty_two_layers_are_the_papers(self):
        attention = lambda layout: sorted(set(range(32)) - set(layouts.mamba_layers(layout, 32)))
        self.assertEqual(layouts.mamba_layers("50", 32), list(range(0, 32, 2)))
        self.assertEqual(attention("25"), [3, 7, 11, 15, 19, 23, 27, 31])
        self.assertEqual(attention("12.5"), [7, 15, 23, 31])
        self.assertEqual(layouts.mamba_layers("75", 32), list(range(0, 32, 4)))
        order = layouts.stepwise_order(list(range(32)))
        self.assertEqual(order[16:], [*range(1, 32, 4), 3, 11, 19, 27, 7, 23, 15, 31])

    def test_pickles_load_as_weights_alone(self):
        for file in self.folder.glob("*.safetensors"):
            torch.save(safetensors_file.load_file(file), self.folder / "pytorch_model.bin")
            file.unlink()
        out = self.scratch / "out"
        self.assertEqual(main(["convert", "--base", str(self.folder), "--out", str(out),
                               "--layout", "100"]), 0)
        _, tensors = checkpoint.load(out)
        self.assertTrue(torch.equal(tensors["model.norm.weight"], self.base.model.norm.weight))

    def test_a_pickle_with_code_is_refused_and_runs_none(self):
        class Hostile:
            def __reduce__(self):
                return os.mkdir, (str(witness),)
        witness = self.scratch / "ran"
        path = self.scratch / "pytorch_model.bin"
        torch.save({"a": Hostile()}, path)
        with self.assertRaisesRegex(DataError, "pytorch_model.bin"):
            checkpoint.load_pickle(path)
        path.write_bytes(pickle.dumps({"a": 1}))
        with self.assertRaises(DataError):
            checkpoint.load_pickle(path)
        self.assertFalse(witness.exists())

    def test_fused_names_are_split(self):
        config, tensors = convert.make_hybrid(self.folder, "50", MAMBA1, seed=0)
        fused = {}
        for name, tensor in tensors.items():
            if name.endswith("mamba.in_proj_z.weight"):
                prefix = name[:-len("in_proj_z.weight")]
                fused[prefix + "in_proj.weight"] = torch.cat([tensors[f"{prefix}{part}.weight"] for
                    part in ("in_proj_z", "in_proj_x", "B_proj", "C_proj", "dt_proj_down")])
            elif name.endswith("q_proj.weight"):
                prefix = name[:-len("self_attn.q_proj.weight")]
                fused[prefix + "mha.in_proj.weight"] = torch.cat(
                    [tensors[f"{prefix}self_attn.{n}_proj.weight"] for n in "qkv"])
                fused[prefix + "mha.out_proj.weight"] = tensors[prefix + "self_attn.o_proj.weight"]
            elif not any(part in name for part in ("self_attn", "in_proj_x", "B_proj", "C_proj",
                                                   "dt_proj_down")):
                fused[name] = tensor
        checkpoint.save_folder(self.scratch / "fused", config, fused)
        _, split = checkpoint.load(self.scratch / "fused")
        self.assertEqual(set(split), set(tensors))
        self.assertTrue(all(torch.equal(split[name], tensors[name]) for name in tensors))

    def test_errors_name_the_file_and_overwrite_nothing(self):
        with self.assertRaisesRegex(UserError, "layer 0 .* is a Mamba layer already"):
            out = self.scratch / "hybrid"
            main(["convert", "--base", str(self.folder), "--out", str(out)])
            convert.make_hybrid(out, "50", MAMBA2, seed=0)
        self.assertEqual(main(["convert", "--base", str(self.folder), "--out", str(out)]), 64)
        damaged = self.folder / "model.safetensors"
        damaged.write_bytes(damaged.read_bytes()[:-100])
        with self.assertRaisesRegex(DataError, "model.safetensors: tensor"):
            checkpoint.load(self.folder)
        (self.scratch / "cut.gguf").write_bytes(b"GGUF\3\0\0\0\1")
        with self.assertRaisesRegex(DataError, "cut.gguf: ends inside the header"):
            GgufFile(self.scratch / "cut.gguf")


if __name__ == "__main__":
    unittest.main()
