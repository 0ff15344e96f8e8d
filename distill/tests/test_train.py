"""Training on the CPU: tiny models, a few steps."""

import json
import pathlib
import tempfile
import time
import unittest

import numpy as np
import torch

from distill import losses, objectives, recipe as recipes, token_file, train
from distill.errors import DataError, UserError
from distill.tests import tiny


def write_tokens(path, count=6000, seed=0):
    """A text with structure: a random walk over the bytes' ids."""
    steps = np.random.default_rng(seed).integers(-2, 3, count)
    token_file.write(path, (np.cumsum(steps) % 200 + 3).astype(np.uint16), tiny.VOCAB, 0)
    return str(path)


class TrainingCase(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        self.base = tiny.write_folder(tiny.model(), self.scratch / "base", self.scratch)
        self.data = write_tokens(self.scratch / "train")

    def recipe(self, out, *stages, **changes):
        default = {"batch_size": 4, "sequence_length": 48, "warmup_steps": 2}
        return recipes.parse({"base": str(self.base), "data": self.data, "checkpoint_every": 3,
                              "out": str(self.scratch / out),
                              "stages": [{**default, **stage} for stage in stages], **changes})

    def losses_of(self, out):
        lines = (self.scratch / out / "log.tsv").read_text().splitlines()[1:]
        return [float(line.split("\t")[6]) for line in lines]


class Stages(TrainingCase):
    def test_losses_fall_and_only_mixers_and_their_norms_change(self):
        for kind in ("align", "progressive", "stepwise", "distill"):
            with self.subTest(kind):
                run = train.hybrid_run(self.recipe(kind, {"kind": kind, "steps": 12}))
                before = run.tensors()
                self.assertTrue(run.run())
                got = self.losses_of(kind)
                if kind in ("align", "distill"):
                    self.assertLess(np.mean(got[-3:]), 0.9 * np.mean(got[:3]))
                for name, tensor in run.tensors().items():
                    changed = not torch.equal(tensor, before[name])
                    layer = name.split(".")[2] if name.startswith("model.layers") else ""
                    norms = "input_layernorm" if kind == "align" else "layernorm"
                    self.assertEqual(changed, layer in ("0", "2") and
                                     (".mamba." in name or norms in name), name)

    def test_an_interrupted_run_resumes_to_the_same_losses(self):
        stages = [{"kind": "align", "steps": 5}, {"kind": "distill", "steps": 7}]
        whole = train.hybrid_run(self.recipe("whole", *stages))
        whole.run()
        for _ in range(30):  # every step is cut off, then taken up by a new process's objects
            run = train.hybrid_run(self.recipe("cut", *stages))
            run.save = lambda *args, saved=run.save, run=run: (saved(*args), self._stop(run))
            try:
                if run.run():
                    break
            except InterruptedError:
                continue
        self.assertEqual(self.losses_of("cut"), self.losses_of("whole"))
        for name, tensor in whole.tensors().items():
            self.assertTrue(torch.equal(run.tensors()[name], tensor), name)

    def _stop(self, run):
        if run.stage < len(run.recipe["stages"]):
            raise InterruptedError

    def test_a_deadline_saves_and_a_budget_of_seconds_ends(self):
        recipe = self.recipe("timed", {"kind": "align", "seconds": 1.0})
        run = train.hybrid_run(recipe)
        self.assertFalse(run.run(deadline=time.monotonic()))
        self.assertTrue(train.hybrid_run(recipe).run())

    def test_dpo_widens_the_margin(self):
        rng = np.random.default_rng(0)
        rows = [{"prompt": rng.integers(3, 259, 5).tolist(), "chosen": rng.integers(3, 259, 6).tolist(),
                 "rejected": rng.integers(3, 259, 6).tolist()} for _ in range(4)]
        path = self.scratch / "preferences.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        run = train.hybrid_run(self.recipe("dpo", {
            "kind": "dpo", "steps": 10, "preferences": str(path), "learning_rate": 3e-3}))
        run.run()
        lines = (self.scratch / "dpo" / "log.tsv").read_text().splitlines()[1:]
        margins = [float(line.split("margin=")[1]) for line in lines]
        self.assertAlmostEqual(margins[0], 0, places=4)
        self.assertGreater(margins[-1], 0.05)

    def test_training_everything_moves_the_head_too(self):
        run = train.hybrid_run(self.recipe("all", {"kind": "distill", "steps": 2}, train="all"))
        before = run.tensors()["model.embed_tokens.weight"]
        run.run()
        self.assertFalse(torch.equal(run.tensors()["model.embed_tokens.weight"], before))


class HeadLoss(unittest.TestCase):
    def test_value_and_gradient_are_autograds(self):
        torch.manual_seed(0)
        hidden, weight = torch.randn(50, 8), torch.randn(40, 8)
        teacher, targets = (torch.randn(50, 8), torch.randn(40, 8)), torch.randint(0, 40, (50,))
        for token_map in (None, torch.tensor([1, 3, 4, 9, 39])):
            rows = 40 if token_map is None else 5
            mapped = targets if token_map is None else torch.randint(-1, 5, (50,))
            h, w = hidden.clone().requires_grad_(), weight[:rows].clone().requires_grad_()
            loss, _, _ = losses.head_loss(h, w, *teacher, mapped, 0.7, 0.3, token_map)
            loss.backward()
            h2, w2 = hidden.clone().requires_grad_(), weight[:rows].clone().requires_grad_()
            log_q = (h2 @ w2.t()).log_softmax(-1)
            log_p = (teacher[0] @ teacher[1].t()).log_softmax(-1)
            log_p = log_p if token_map is None else log_p[:, token_map]
            kl = (log_p.exp() * (log_p - log_q)).sum() / 50
            ce = torch.nn.functional.nll_loss(log_q, mapped, ignore_index=-1, reduction="sum") / 50
            (0.7 * kl + 0.3 * ce).backward()
            torch.testing.assert_close(loss, 0.7 * kl + 0.3 * ce)
            torch.testing.assert_close(h.grad, h2.grad)
            torch.testing.assert_close(w.grad, w2.grad)


class Errors(TrainingCase):
    def test_a_recipe_key_that_is_wrong_is_named(self):
        for change, message in (({"lr": 1}, "lr: unknown key"), ({"mixer": "rnn"}, "mixer: mamba1"),
                                ({"seed": -1}, "seed: an integer"), ({"layout": "33"}, "layout:"),
                                ({"stages": [{"kind": "align", "stepz": 1}]},
                                 r"stages\[0\].stepz: unknown key"),
                                ({"stages": [{"kind": "align"}]}, "steps or seconds"),
                                ({"stages": [{"kind": "dpo", "steps": 1}]}, "preferences: missing")):
            with self.assertRaisesRegex(UserError, message):
                recipes.parse({"base": "b", "out": "o", "data": "d",
                               "stages": [{"kind": "align", "steps": 1}], **change})

    def test_a_corrupt_data_file_is_named(self):
        path = self.scratch / "train.bin"
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
        with self.assertRaisesRegex(DataError, "train: .*SHA-256"):
            train.hybrid_run(self.recipe("x", {"kind": "align", "steps": 1}))
        path.write_bytes(path.read_bytes()[:-2])
        with self.assertRaisesRegex(DataError, "tokens of 2 wanted"):
            train.hybrid_run(self.recipe("y", {"kind": "align", "steps": 1}))

    def test_another_recipes_run_is_not_overwritten(self):
        train.hybrid_run(self.recipe("x", {"kind": "align", "steps": 1})).run()
        with self.assertRaisesRegex(UserError, "another recipe"):
            train.hybrid_run(self.recipe("x", {"kind": "align", "steps": 2}))
        (self.scratch / "full").mkdir()
        (self.scratch / "full" / "thesis.txt").write_text("mine")
        with self.assertRaisesRegex(UserError, "holds no run"):
            train.hybrid_run(self.recipe("full", {"kind": "align", "steps": 1}))

    def test_preferences_without_pairs_are_named(self):
        path = self.scratch / "p.jsonl"
        for text in ("", '{"prompt": [1]}', "{"):
            path.write_text(text)
            with self.assertRaisesRegex(DataError, "p.jsonl"):
                objectives.read_preferences(path)


if __name__ == "__main__":
    unittest.main()
