"""Replies, drafts, evaluation and overlays of tiny models."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import torch

from distill import checkpoint, draft, evaluate, generate, overlay, recipe as recipes, token_file
from distill.__main__ import main
from distill.config import ATTENTION, MAMBA2
from distill.gguf_file import GgufFile
from distill.tests import tiny
from distill.tests.test_convert import write_tiny_gguf
from distill.tests.test_mixers import ENGINE
from distill.tests.test_train import write_tokens

CPU = torch.device("cpu")
HYBRID = (MAMBA2, ATTENTION, MAMBA2, ATTENTION)


class Replies(unittest.TestCase):
    def test_greedy_replies_are_the_argmax_of_the_whole_sequence(self):
        model = tiny.model(layers=HYBRID)
        prompts = [[5, 6, 7], [9], [11, 12, 13, 14, 15]]
        for prompt, reply in generate.replies(model, prompts, 9, 0, 0, 2, CPU):
            ids = [*prompt, *reply]
            with torch.no_grad():
                want = model(torch.tensor([ids[:-1]]))[0, len(prompt) - 1:].argmax(-1).tolist()
            self.assertEqual(reply, want)
            self.assertTrue(len(reply) == 9 or reply[-1] == 2)

    def test_batches_keep_the_order_of_prompts_and_packing_keeps_documents(self):
        model, prompts = tiny.model(), [[5] * n for n in (4, 1, 3, 2)]
        pairs = generate.in_batches(model, prompts, 2, CPU, max_tokens=3, temperature=0.8, seed=0,
                                    eos=2)
        self.assertEqual([prompt for prompt, _ in pairs], prompts)
        packed = generate.pack(pairs, 0)
        self.assertEqual(len(generate.split_documents(packed, 0)), 4)


class Acceptance(unittest.TestCase):
    def test_accepted_lengths_of_a_known_pattern(self):
        equal = torch.tensor([[1, 1, 0, 1]], dtype=torch.bool)
        means = evaluate.accepted_lengths(equal, torch.ones_like(equal))
        self.assertEqual([round(m * 4) for m in means], [3, 4, 4, 4, 4, 4, 4, 4])

    def test_a_model_accepts_itself_at_any_temperature(self):
        model, ids = tiny.model(), torch.randint(3, 259, (2, 20))
        valid = torch.ones(ids.shape, dtype=torch.bool)
        for temperature in (0, 0.8):
            got = evaluate.acceptance(model, model, None, ids, valid, temperature, 0, CPU)
            self.assertEqual(got["acceptance"], 1)


class DraftAndOverlay(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        base = tiny.model()
        tiny.write_folder(base, self.scratch / "base", self.scratch)
        write_tiny_gguf(base, self.scratch / "base.gguf")

    def run_draft(self, mixer="attention"):
        out = self.scratch / f"draft-{mixer}"
        run = draft.draft_run(recipes.parse({
            "target": str(self.scratch / "base"), "base": str(self.scratch / "base.gguf"),
            "data": write_tokens(self.scratch / "train"), "layers": [0, 3], "head_size": 100,
            "mixer": mixer, "out": str(out), "stages": [
                {"kind": "distill", "steps": 15, "batch_size": 4, "sequence_length": 48,
                 "warmup_steps": 2, "ce_weight": 0.1}]}, recipes.DRAFT))
        run.run()
        run.write_model(self.scratch / "tokenizer")
        losses = [float(line.split("\t")[6])
                  for line in (out / "log.tsv").read_text().splitlines()[1:]]
        self.assertLess(losses[-1], losses[0])
        return out / "model"

    def test_a_draft_learns_and_has_an_increasing_map_with_the_end_token(self):
        for mixer in ("attention", MAMBA2):
            config, tensors = checkpoint.load(self.run_draft(mixer))
            token_map = tensors[checkpoint.TOKEN_MAP]
            self.assertEqual((config.num_layers, len(token_map)), (2, 100))
            self.assertTrue((token_map[1:] > token_map[:-1]).all())
            self.assertIn(2, token_map.tolist())

    def test_an_overlay_holds_what_the_base_has_not(self):
        model = tiny.model(seed=1, layers=HYBRID)
        path = self.scratch / "mixers.gguf"
        overlay.write(path, self.scratch / "base.gguf", model.config, model.state_dict(), "Q8_0")
        gguf = GgufFile(path)
        self.assertEqual(gguf.metadata["krait.overlay.kind"], "mixers")
        self.assertEqual(gguf.metadata["krait.overlay.base_sha256"],
                         overlay.sha256(self.scratch / "base.gguf"))
        self.assertEqual({name.split(".")[2] for name in gguf.names}, {"0", "2"})
        self.assertEqual(gguf.kind("model.layers.0.mamba.in_proj.weight"), "Q8_0")
        rounded = overlay.rounded(model.config, model.state_dict(), "Q8_0")
        for name in gguf.names:
            torch.testing.assert_close(torch.from_numpy(gguf.read(name)), rounded[name])

    def test_krait_merges_overlays_with_their_base(self):
        model = tiny.model(seed=1, layers=HYBRID)
        with torch.no_grad():  # what an overlay does not hold is the base's
            for name, tensor in tiny.model().state_dict().items():
                if name in model.state_dict() and not (
                        name.startswith(("model.layers.0.", "model.layers.2."))
                        and "layernorm" in name):
                    model.state_dict()[name].copy_(tensor)
        draft_config, draft_tensors = checkpoint.load(self.run_draft())
        for name, config, tensors in (("mixers", model.config, model.state_dict()),
                                      ("draft", draft_config, draft_tensors)):
            path, out = self.scratch / f"{name}.gguf", self.scratch / f"merged-{name}"
            overlay.write(path, self.scratch / "base.gguf", config, tensors, "Q5_1")
            subprocess.run([ENGINE, "convert", "--base", self.scratch / "base.gguf", "--overlay",
                            path, out], check=True)
            merged_config, merged = checkpoint.load(out)
            self.assertEqual(merged_config.layers, config.layers)
            for tensor_name, want in overlay.rounded(config, tensors, "Q5_1").items():
                self.assertTrue(torch.equal(merged[tensor_name], want), tensor_name)
        self.assertEqual(set(merged), set(draft_tensors))
        with open(self.scratch / "base.gguf", "ab") as file:
            file.write(bytes(32))
        refused = subprocess.run([ENGINE, "convert", "--base", self.scratch / "base.gguf",
                                  "--overlay", path, self.scratch / "none"], text=True,
                                 stderr=subprocess.PIPE, check=False)
        self.assertEqual(refused.returncode, 65)
        self.assertIn("draft.gguf: krait.overlay.base_sha256: made for the base", refused.stderr)
        self.assertFalse((self.scratch / "none").exists())

    def test_commands_end_to_end(self):
        token_file.write(self.scratch / "prompts", torch.tensor([5, 6, 0, 7, 8, 0]).numpy(),
                         tiny.VOCAB, 0)
        base, model = str(self.scratch / "base"), str(self.run_draft())
        arguments = ["--prompts", str(self.scratch / "prompts"), "--max-tokens", "4"]
        for command in (
                ["generate", "--model", base, "--out", str(self.scratch / "replies"), *arguments],
                ["generate", "--model", base, "--out", str(self.scratch / "pairs.jsonl"),
                 "--rejected-by", base, "--noise", "1.0", *arguments],
                ["evaluate", "--model", base, "--teacher", base, "--data",
                 str(self.scratch / "train"), "--windows", "2", "--length", "32"],
                ["evaluate", "--model", model, "--teacher", base, "--data",
                 str(self.scratch / "train"), "--windows", "2", "--length", "32"],
                ["overlay", "--base", str(self.scratch / "base.gguf"), "--model", model, "--out",
                 str(self.scratch / "draft.gguf")]):
            self.assertEqual(main(command), 0, command)
        pairs = [json.loads(line) for line in
                 (self.scratch / "pairs.jsonl").read_text().splitlines()]
        self.assertEqual(pairs[0]["prompt"], [5, 6])


if __name__ == "__main__":
    unittest.main()
