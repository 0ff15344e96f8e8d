"""distill ablate: what the choices behind the default pair's hybrid are worth: variants of it, each
trained for the same steps on the same windows, and DPO on top of one. May be cut off: started again
with the same arguments it goes on.

--input holds base.gguf (or base.gguf.part-*), train, held_out and, for DPO, prompts (packed tokens).
--out gets figures.json, the logs and table.md."""

import sys
import time

from . import checkpoint, dpo_trial, evaluate, train, workspace
from . import recipe as recipes
from .batches import Batches
from .errors import UserError
from .train import prepare
from .workspace import Workspace

# What differs from a recipe's defaults. "stepwise": half of the distillation turns the layers to
# Mamba one by one.
VARIANTS = {
    "50% Mamba2": {}, "25% Mamba2": {"layout": "25"}, "50% Mamba1": {"mixer": "mamba1"},
    "50% Mamba2, random": {"from_attention": False}, "50% Mamba2, stepwise": {"stepwise": True},
}


def say(text):
    print(f"ablate: {text}", file=sys.stderr, flush=True)


def table(figures):
    """Markdown: a line a model."""
    lines = ["| model | tokens seen | distinct | minutes | perplexity | KL to the teacher | same first choice |",
             "|---|---|---|---|---|---|---|"]
    for name, entry in figures.items():
        trained = f"{entry['tokens_seen'] / 1e6:.1f} M | {entry['tokens_distinct'] / 1e6:.1f} M | " \
                  f"{entry['train_seconds'] / 60:.1f}" if "tokens_seen" in entry else " | | "
        lines.append(f"| {name} | {trained} | {entry['perplexity']:.2f} | {entry['kl']:.3f} | "
                     f"{entry['top1_agreement']:.3f} |")
    return "\n".join(lines) + "\n"


class Ablations(Workspace):
    def stages(self, stepwise):
        """The same number of steps with and without the stepwise stage."""
        args = self.args
        parts = [("align", args.align_steps, 2e-3), ("distill", args.distill_steps, 1e-3)]
        if stepwise:
            half = args.distill_steps // 2
            parts[1:] = [("stepwise", half, 1e-3), ("distill", args.distill_steps - half, 1e-3)]
        return [{"kind": kind, "steps": steps, "learning_rate": rate, "decay_fraction": 0.3,
                 "warmup_steps": args.warmup_steps, "batch_size": args.batch_size,
                 "sequence_length": args.length} for kind, steps, rate in parts]

    def recipe(self, folder, stages, **changes):
        return recipes.parse({
            "base": str(self.base), "data": [str(self.input / "train")], "seed": self.args.seed,
            "out": str(self.work / folder), "compile": self.args.compile,
            "checkpoint_every": 1000, "stages": stages, **changes})

    def trained(self, recipe):
        """The ended run, or None if time ended first."""
        run = train.hybrid_run(recipe, self.device)
        ended = run.run(self.deadline)
        self.copy_log(run.out.name)
        return run if ended else None

    def quality(self, model):
        teacher = prepare(checkpoint.build(*checkpoint.load(self.base)), [], self.device)
        batches = Batches([self.input / "held_out"], teacher.config.vocab_size, self.device)
        return evaluate.compare(model, teacher, batches, self.args.windows, self.args.length, 1,
                                self.device)

    def record(self, name, **figures):
        say(f"{name}: {figures}")
        self.note(**{name: figures})
        (self.out / "table.md").write_text(table(self.figures))

    def variant(self, name):
        """False if time ended first."""
        if name in self.figures:
            return True
        changes = dict(VARIANTS[name])
        stages = self.stages(changes.pop("stepwise", False))
        run = self.trained(self.recipe(self.folder(name), stages, **changes))
        if run is None:
            return False
        run.write_model(None)
        self.record(name, tokens_seen=run.tokens, tokens_distinct=min(run.tokens, len(run.batches)),
                    train_seconds=round(run.seconds, 1), **self.quality(run.student))
        return True

    @staticmethod
    def folder(name):
        return name.replace("%", "").replace(",", "").replace(" ", "-").lower()

    def run(self):
        """True if everything is done."""
        for name in self.args.variants:
            if self.late() or not self.variant(name):
                return False
        return self.args.dpo_steps == 0 or (not self.late() and dpo_trial.run(self))


def _variants(text):
    names = [name for name in VARIANTS if name.lower() in text.lower().split("; ")] \
        if text else list(VARIANTS)
    if text and len(names) != len(text.split("; ")):
        raise UserError(f"--variants: some of {'; '.join(VARIANTS)} wanted, got {text!r}")
    return names


def add_arguments(parser):
    workspace.add_arguments(parser)
    parser.add_argument("--variants", default="", metavar="A; B", help="default: all")
    parser.add_argument("--align-steps", type=int, default=100)
    parser.add_argument("--distill-steps", type=int, default=660)
    parser.add_argument("--warmup-steps", type=int, default=50)
    dpo_trial.add_arguments(parser)


def run(args):
    args.variants = _variants(args.variants)
    ablations = Ablations(args)
    done = ablations.run()
    say(f"{'done' if done else 'not done: run this again'} after "
        f"{time.monotonic() - ablations.start:.0f} s")
    return 0
