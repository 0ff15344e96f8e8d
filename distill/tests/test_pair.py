"""The default pair's one command, on a tiny model, cut off and taken up again."""

import json
import pathlib
import tempfile
import unittest

import numpy as np

from distill import token_file
from distill.__main__ import main
from distill.gguf_file import GgufFile
from distill.tests import tiny
from distill.tests.test_convert import write_tiny_gguf
from distill.tests.test_train import write_tokens


class PairCommand(unittest.TestCase):
    def test_ends_with_two_overlays_and_figures_however_often_it_is_cut_off(self):
        with tempfile.TemporaryDirectory() as name:
            scratch = pathlib.Path(name)
            write_tiny_gguf(tiny.model(), scratch / "whole")
            whole = (scratch / "whole").read_bytes()
            (scratch / "base.gguf.part-a").write_bytes(whole[:50000])
            (scratch / "base.gguf.part-b").write_bytes(whole[50000:])
            write_tokens(scratch / "train", 20000)
            write_tokens(scratch / "held_out", 2000, seed=1)
            rows = [[*range(3 + i % 50, 8 + i % 50), 0] for i in range(210)]
            token_file.write(scratch / "prompts", np.concatenate(rows), tiny.VOCAB, 0)
            arguments = ["pair", "--input", name, "--work", str(scratch / "work"), "--out",
                         str(scratch / "out"), "--reserve", "0", "--teach-seconds", "0.1",
                         "--align-seconds", "1", "--distill-seconds", "2", "--generate-seconds", "1", "--draft-seconds",
                         "1", "--batch-size", "2", "--length", "32", "--reply-tokens", "6",
                         "--generate-batch", "256", "--windows", "2"]
            self.assertEqual(main([*arguments, "--seconds", "2.5"]), 0)
            figures = json.loads((scratch / "out" / "figures.json").read_text())
            self.assertFalse(figures["hybrid"]["ended"])
            GgufFile(scratch / "out" / "mixers.gguf")  # the best so far
            self.assertEqual(main([*arguments, "--seconds", "600"]), 0)
            figures = json.loads((scratch / "out" / "figures.json").read_text())
            self.assertTrue(figures["hybrid"]["ended"] and figures["draft"]["ended"])
            self.assertGreater(figures["hybrid"]["tokens_seen"], 0)
            self.assertEqual(figures["hybrid"]["tokens_distinct"], 20000 + figures["taught"]["tokens"])
            self.assertEqual(set(figures["quality"]), {"float32", "Q5_0", "Q5_1", "Q8_0"})
            self.assertEqual(len(figures["acceptance"]["sampled"]["accepted_tokens"]), 8)
            self.assertEqual(GgufFile(scratch / "out" / "draft.gguf")
                             .metadata["krait.overlay.kind"], "draft")


if __name__ == "__main__":
    unittest.main()
