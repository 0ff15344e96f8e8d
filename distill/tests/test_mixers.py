"""Chunked forward passes against the token-by-token formulas, and against krait."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import torch

from distill import scan
from distill.config import ATTENTION, MAMBA1, MAMBA2
from distill.tests import tiny

ENGINE = os.environ.get("KRAIT_ENGINE", "build/dev/bin/krait-engine")
LAYERS = {"attention": (ATTENTION,) * 4, "mamba1": (MAMBA1,) * 4, "mamba2": (MAMBA2,) * 4,
          "hybrid": (MAMBA2, ATTENTION, MAMBA2, ATTENTION),
          "hybrid1": (MAMBA1, ATTENTION, MAMBA1, ATTENTION)}


class ChunksAgreeWithSteps(unittest.TestCase):
    def test_whole_models(self):
        for name, layers in LAYERS.items():
            with self.subTest(name), torch.no_grad():
                model = tiny.model(layers=layers)
                ids = torch.randint(0, tiny.VOCAB, (2, 150))
                whole, cache = model(ids), model.new_cache(2, 150)
                steps = [model.step(ids[:, t], t, cache) for t in range(150)]
                difference = (whole - torch.stack(steps, 1)).abs().max() / whole.abs().max()
                self.assertLess(difference.item(), 1e-4)

    def test_any_chunk_length(self):
        torch.manual_seed(0)
        x, b, c = (torch.randn(1, 70, 2, 8) for _ in range(3))
        dt, a = torch.rand(1, 70, 2), -torch.rand(2) * 16
        want = scan.mamba2_chunked(x, dt, a, b, c, chunk=70)
        for chunk in (1, 7, 64, 128):
            torch.testing.assert_close(scan.mamba2_chunked(x, dt, a, b, c, chunk), want,
                                       rtol=1e-4, atol=1e-4)
        x, dt, a = x.flatten(2), torch.rand(1, 70, 16), -torch.rand(16, 8)
        want = scan.mamba1_chunked(x, dt, a, b, c, chunk=70)
        for chunk in (1, 7, 64, 128):
            torch.testing.assert_close(scan.mamba1_chunked(x, dt, a, b, c, chunk), want,
                                       rtol=1e-4, atol=1e-4)

    def test_large_steps_forget_without_overflow(self):
        x = torch.ones(1, 256, 1, 4)
        y = scan.mamba2_chunked(x, torch.full((1, 256, 1), 20.0), torch.tensor([-16.0]), x, x)
        self.assertTrue(torch.isfinite(y).all())
        torch.testing.assert_close(y, torch.full_like(y, 80.0))


class KraitAgrees(unittest.TestCase):
    """Greedy tokens and log-probabilities of krait-engine over a checkpoint written here."""

    def test_log_probabilities(self):
        prompt = [1, *range(40, 140)]
        for name, layers in LAYERS.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as scratch, torch.no_grad():
                model = tiny.model(layers=layers)
                folder = tiny.write_folder(model, pathlib.Path(scratch) / "model", scratch)
                output = subprocess.run(
                    [ENGINE, "generate", "--model", folder, "--prompt-ids",
                     ",".join(map(str, prompt)), "--max-tokens", "12", "--weight-dtype", "f32",
                     "--logprobs", "8", "--ignore-eos", "--threads", "1", "--json"],
                    check=True, stdout=subprocess.PIPE).stdout
                generation = json.loads(output)["generations"][0]
                ids = prompt + generation["token_ids"]
                want = model(torch.tensor([ids[:-1]]))[0, len(prompt) - 1:].log_softmax(-1)
                for row, position in zip(want, generation["logprobs"]):
                    for token, logprob in [position["token"], *position["top"]]:
                        self.assertAlmostEqual(row[token].item(), logprob, delta=1e-4)


if __name__ == "__main__":
    unittest.main()
