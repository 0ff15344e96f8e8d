"""The ablations' command on a tiny model, cut off and taken up again; DPO that begins from a hybrid."""

import json
import pathlib
import tempfile
import unittest

import numpy as np
import torch

from distill import ablate, checkpoint, overlay, recipe as recipes, token_file, train
from distill.__main__ import main
from distill.errors import DataError, UserError
from distill.tests import tiny
from distill.tests.test_convert import write_tiny_gguf
from distill.tests.test_train import write_tokens


class AblateCommand(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        write_tiny_gguf(tiny.model(), self.scratch / "base.gguf")
        write_tokens(self.scratch / "train", 20000)
        write_tokens(self.scratch / "held_out", 2000, seed=1)
        rows = [[*range(3 + i % 50, 8 + i % 50), 0] for i in range(40)]
        token_file.write(self.scratch / "prompts", np.concatenate(rows), tiny.VOCAB, 0)

    def arguments(self, *more):
        return ["ablate", "--input", str(self.scratch), "--work", str(self.scratch / "work"), "--out",
                str(self.scratch / "out"), "--reserve", "0", "--align-steps", "3", "--distill-steps",
                "9", "--warmup-steps", "2", "--batch-size", "2", "--length", "32", "--windows", "2",
                "--reply-tokens", "6", "--dpo-steps", "12", "--dpo-rate", "1e-3", "--dpo-batch",
                "4", "--dpo-prompts", "20", *more]

    def figures(self):
        return json.loads((self.scratch / "out" / "figures.json").read_text())

    def test_every_variant_has_the_same_steps_however_often_it_is_cut_off(self):
        self.assertEqual(main(self.arguments("--seconds", "0.5")), 0)
        self.assertEqual(main(self.arguments("--seconds", "600")), 0)
        figures = self.figures()
        self.assertEqual(list(figures), [*ablate.VARIANTS, "before DPO", "after DPO"])
        for name in ablate.VARIANTS:
            self.assertEqual(figures[name]["tokens_seen"], 12 * 2 * 32, name)
        dpo = figures["after DPO"]
        self.assertGreater(dpo["margin_last"], dpo["margin_first"])
        self.assertNotEqual(dpo["margin_held_out"], 0)
        table = (self.scratch / "out" / "table.md").read_text().splitlines()
        self.assertEqual(len(table), 2 + len(figures))
        layers = {name: checkpoint.load(self.scratch / "work" / ablate.Ablations.folder(name) / "model")
                  [0].layers for name in ablate.VARIANTS}
        self.assertEqual(layers["25% Mamba2"].count("attention"), 1)
        self.assertEqual(layers["50% Mamba1"].count("mamba1"), 2)

    def test_a_variant_that_is_none_is_named(self):
        self.assertEqual(main(self.arguments("--variants", "50% Mamba3")), 64)

    def test_dpo_begins_from_an_overlay(self):
        config, tensors = self.hybrid()
        path = self.scratch / "mixers.gguf"
        overlay.write(path, self.scratch / "base.gguf", config, tensors, "Q8_0")
        self.assertEqual(main(self.arguments("--variants", "25% Mamba2", "--dpo-student", str(path),
                                             "--distill-steps", "1")), 0)
        self.assertIn("after DPO", self.figures())

    def hybrid(self):
        return train.load_student(recipes.parse({
            "base": str(self.scratch / "base.gguf"), "out": "o", "data": "d",
            "stages": [{"kind": "align", "steps": 1}]}))

    def test_a_merged_overlay_is_the_rounded_hybrid(self):
        config, tensors = self.hybrid()
        path = self.scratch / "mixers.gguf"
        overlay.write(path, self.scratch / "base.gguf", config, tensors, "Q5_1")
        merged_config, merged = overlay.merge(self.scratch / "base.gguf", path)
        self.assertEqual(merged_config.layers, config.layers)
        rounded = overlay.rounded(config, tensors, "Q5_1")
        self.assertEqual(set(merged), set(rounded))
        for name, tensor in rounded.items():
            self.assertTrue(torch.equal(merged[name], tensor), name)
        write_tiny_gguf(tiny.model(seed=1), self.scratch / "other.gguf")
        with self.assertRaisesRegex(DataError, "not the base"):
            overlay.merge(self.scratch / "other.gguf", path)

    def test_a_student_brings_its_own_layers(self):
        with self.assertRaisesRegex(UserError, "mixer: the student"):
            recipes.parse({"base": "b", "out": "o", "data": "d", "student": "s", "mixer": "mamba1",
                           "stages": [{"kind": "align", "steps": 1}]})


if __name__ == "__main__":
    unittest.main()
