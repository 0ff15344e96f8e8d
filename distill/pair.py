"""distill pair: the default pair in one command that may be cut off: the base's replies to prompts, a
50 % Mamba2 hybrid trained on text and on them, its own replies, and a draft trained on those; then
held-out figures and two overlays.

--input holds base.gguf (or base.gguf.part-*), train, held_out and prompts (packed tokens). --work keeps
the state: started again with the same arguments, it goes on. --seconds ends a call in time; what it
writes to --out (mixers.gguf, draft.gguf, figures.json, logs) is then the best so far."""

import json
import sys
import time

import numpy as np
import torch

from . import checkpoint, draft, evaluate, generate, overlay, token_file, train, workspace
from . import recipe as recipes
from .batches import Batches
from .train import prepare
from .workspace import Workspace

EVALUATED_PROMPTS = 200  # the last ones; no reply to them is trained on
EOS = 2  # <|im_end|>
SAMPLE = 6_000_000  # tokens of text beside the replies, for the draft


def say(text):
    print(f"pair: {text}", file=sys.stderr, flush=True)


class Pair(Workspace):
    def hybrid_recipe(self):
        args = self.args
        shape = {"batch_size": args.batch_size, "sequence_length": args.length}
        stages = [{"kind": "align", "seconds": args.align_seconds, "learning_rate": 2e-3,
                   "warmup_steps": 50, "decay_fraction": 0.3, **shape},
                  {"kind": "distill", "seconds": args.distill_seconds, "learning_rate": 1e-3,
                   "warmup_steps": 100, "decay_fraction": 0.3, **shape}]
        return recipes.parse({
            "base": str(self.base), "data": self.hybrid_data(), "seed": args.seed,
            "out": str(self.work / "hybrid"), "layout": "50", "compile": args.compile,
            "checkpoint_every": 1000,
            "stages": [s for s in stages if s["seconds"] > 0]})

    def hybrid_data(self):
        """Text, and the teacher's replies a few times over: text alone teaches little of chats."""
        taught = self.work / "taught"
        repeats = self.args.taught_repeats if taught.with_suffix(".bin").exists() else 0
        return [str(self.input / "train")] + [str(taught)] * repeats

    def teach(self):
        """The teacher's replies to what prompts the time allows."""
        if self.args.teach_seconds <= 0 or (self.work / "taught.bin").exists():
            return
        config, tensors = checkpoint.load(self.base)
        teacher = prepare(checkpoint.build(config, tensors), [], self.device)
        pairs = self.reply(teacher, self.prompts(config)[0], self.args.teach_seconds)
        self._write_replies("taught", pairs, config)

    def reply(self, model, prompts, seconds):
        """[(prompt, reply)] of as many prompts as `seconds` allow, at least of one batch; every
        other batch is greedy."""
        until = min(self.deadline, time.monotonic() + seconds)
        pairs, batch = [], self.args.generate_batch
        for number, at in enumerate(range(0, len(prompts), batch)):
            if time.monotonic() > until and pairs:
                break
            pairs += generate.in_batches(model, prompts[at:at + batch], batch, seed=number,
                                         temperature=0.8 if number % 2 else 0, eos=EOS,
                                         max_tokens=self.args.reply_tokens, device=self.device)
        return pairs

    def _write_replies(self, name, pairs, config):
        packed = generate.pack(pairs, self.args.separator)
        token_file.write(self.work / name, packed, config.vocab_size, self.args.separator)
        self.note(**{name: {"prompts": len(pairs), "tokens": len(packed),
                            "of_replies": sum(len(reply) for _, reply in pairs)}})

    def train_hybrid(self):
        """The trained hybrid (config, tensors), or None if time ended first."""
        model = self.work / "hybrid" / "model"
        if model.exists():
            return checkpoint.load(model)
        run = train.hybrid_run(self.hybrid_recipe(), self.device)
        ended = run.run(self.deadline)
        config, tensors = run.student.config, run.tensors()
        self.copy_log("hybrid")
        self.note(hybrid={"tokens_seen": run.tokens, "tokens_distinct": run.batches.distinct,
                          "train_seconds": round(run.seconds, 1), "ended": ended,
                          "device": torch.cuda.get_device_name() if torch.cuda.is_available()
                          else "cpu"})
        self.write_overlay("mixers.gguf", config, tensors)
        if not ended:
            return None
        run.write_model(None)
        return config, tensors

    def write_overlay(self, name, config, tensors):
        path = self.out / name
        path.unlink(missing_ok=True)
        size = overlay.write(path, self.base, config, tensors, self.args.quantization, {
            "general.license": "apache-2.0", "krait.overlay.seed": self.args.seed})
        self.note(**{name: {"bytes": size, "quantization": self.args.quantization}})
        say(f"{name}: {size / 2**20:.2f} MiB")

    def prompts(self, config):
        ids = token_file.read(self.input / "prompts", config.vocab_size)
        every = generate.split_documents(ids, self.args.separator)
        return every[:-EVALUATED_PROMPTS], every[-EVALUATED_PROMPTS:]

    def generate(self, config, tensors):
        """Replies of the hybrid as it will be served: its mixers rounded. False: no time."""
        if (self.work / "replies.bin").exists():
            return True
        model = prepare(checkpoint.build(config, overlay.rounded(
            config, tensors, self.args.quantization)), [], self.device)
        asked, held = self.prompts(config)
        for temperature, name in ((0, "greedy"), (0.8, "sampled")):
            pairs = generate.in_batches(model, held, self.args.generate_batch, temperature=temperature,
                                        seed=10_000, eos=EOS, max_tokens=self.args.reply_tokens,
                                        device=self.device)
            (self.work / f"held_{name}.json").write_text(json.dumps(pairs))
        self._write_replies("replies", self.reply(model, asked, self.args.generate_seconds), config)
        return True

    def draft_recipe(self, config):
        sample = self.work / "sample"
        if not sample.with_suffix(".bin").exists():
            ids = token_file.read(self.input / "train", config.vocab_size)
            rng = np.random.default_rng(self.args.seed)
            window = 4096
            starts = rng.permutation(max(1, len(ids) // window))[:SAMPLE // window] * window
            token_file.write(sample, np.concatenate([ids[s:s + window] for s in sorted(starts)]),
                             config.vocab_size, self.args.separator)
        layers = [0, config.num_layers - 1]
        stage = {"kind": "distill", "seconds": self.args.draft_seconds, "learning_rate": 1e-3,
                 "warmup_steps": 100, "decay_fraction": 0.3, "batch_size": self.args.batch_size,
                 "sequence_length": self.args.length, "ce_weight": 0.1}
        replies = str(self.work / "replies")
        return recipes.parse({
            "target": str(self.work / "hybrid" / "model"), "base": str(self.base),
            "out": str(self.work / "draft"), "data": [replies, replies, str(sample)],
            "layers": layers, "head_size": min(8192, config.vocab_size), "seed": self.args.seed,
            "compile": self.args.compile, "checkpoint_every": 1000, "stages": [stage]},
            recipes.DRAFT)

    def train_draft(self, config):
        model = self.work / "draft" / "model"
        if model.exists():
            return checkpoint.load(model)
        run = draft.draft_run(self.draft_recipe(config), self.device)
        ended = run.run(self.deadline)
        self.copy_log("draft")
        self.note(draft={"tokens_seen": run.tokens, "train_seconds": round(run.seconds, 1),
                         "ended": ended})
        self.write_overlay("draft.gguf", run.student.config, run.tensors())
        if not ended:
            return None
        run.write_model(None)
        return run.student.config, run.tensors()

    def evaluate_hybrid(self, config, tensors):
        if "quality" in self.figures:
            return
        teacher = prepare(checkpoint.build(*checkpoint.load(self.base)), [], self.device)
        batches = Batches([self.input / "held_out"], config.vocab_size, self.device)
        quality = {}
        for name in ("float32", "Q5_0", "Q5_1", "Q8_0"):
            own = tensors if name == "float32" else overlay.rounded(config, tensors, name)
            model = prepare(checkpoint.build(config, own), [], self.device)
            quality[name] = evaluate.compare(model, teacher, batches, self.args.windows,
                                             self.args.length, 1, self.device)
            say(f"{name}: {quality[name]}")
            self.note(quality=quality)

    def evaluate_draft(self, config, tensors, draft_config, draft_tensors):
        quantization = self.args.quantization
        target = prepare(checkpoint.build(config, overlay.rounded(config, tensors, quantization)),
                         [], self.device)
        model = prepare(checkpoint.build(draft_config, overlay.rounded(
            draft_config, draft_tensors, quantization)), [], self.device)
        token_map = draft_tensors[checkpoint.TOKEN_MAP].to(self.device)
        figures = {}
        for name, temperature in (("greedy", 0), ("sampled", 0.8)):
            ids, valid = self._padded(json.loads((self.work / f"held_{name}.json").read_text()))
            figures[name] = evaluate.acceptance(model, target, token_map, ids.to(self.device), valid,
                                                temperature, 1, self.device)
            say(f"acceptance {name}: {figures[name]}")
        self.note(acceptance=figures)

    @staticmethod
    def _padded(pairs):
        """ids [prompts, time] and where a reply's token is predicted."""
        longest = max(len(prompt) + len(reply) for prompt, reply in pairs)
        ids = torch.zeros(len(pairs), longest, dtype=torch.long)
        valid = torch.zeros(ids.shape, dtype=torch.bool)
        for row, (prompt, reply) in enumerate(pairs):
            ids[row, :len(prompt) + len(reply)] = torch.tensor([*prompt, *reply])
            valid[row, len(prompt) - 1:len(prompt) + len(reply) - 1] = True
        return ids, valid

    def run(self):
        """True if all phases are done."""
        self.teach()
        hybrid = self.train_hybrid()
        if hybrid is None:
            return False
        self.write_overlay("mixers.gguf", *hybrid)
        self.evaluate_hybrid(*hybrid)
        if self.late():
            return False
        self.generate(*hybrid)
        trained = self.train_draft(hybrid[0])
        if trained is None:
            return False
        self.write_overlay("draft.gguf", *trained)
        self.evaluate_draft(*hybrid, *trained)
        return True


def add_arguments(parser):
    workspace.add_arguments(parser)
    parser.add_argument("--teach-seconds", type=float, default=60)
    parser.add_argument("--taught-repeats", type=int, default=4, metavar="N",
                        help="how often the teacher's replies stand in the training text")
    parser.add_argument("--align-seconds", type=float, default=60)
    parser.add_argument("--distill-seconds", type=float, default=600)
    parser.add_argument("--generate-seconds", type=float, default=60)
    parser.add_argument("--draft-seconds", type=float, default=150)
    parser.add_argument("--quantization", choices=overlay.FORMATS, default="Q5_1")


def run(args):
    pair = Pair(args)
    done = pair.run()
    say(f"{'done' if done else 'not done: run this again'} after "
        f"{time.monotonic() - pair.start:.0f} s")
    return 0
