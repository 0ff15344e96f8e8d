"""DPO on a trained hybrid, with preferences made by machine: the teacher's replies are chosen, those
of a perturbed student rejected. Figures before and after say whether it helped."""

import numpy as np

from . import checkpoint, generate, token_file
from .objectives import Dpo, read_preferences
from .train import load_student, precision, prepare

BETA = 0.1
KEPT_APART = 10  # of so many pairs one is not trained on


def preferences(ablations, student):
    """Writes preferences.jsonl and, of every tenth pair, preferences_held.jsonl, once."""
    trained, held = (ablations.work / f"preferences{name}.jsonl" for name in ("", "_held"))
    if held.exists():
        return trained, held
    args, (config, tensors) = ablations.args, checkpoint.load(ablations.base)
    ids = token_file.read(ablations.input / "prompts", config.vocab_size)
    prompts = generate.split_documents(ids, args.separator)[:args.dpo_prompts]
    options = dict(batch=args.generate_batch, temperature=0.8, eos=generate.end_token(config),
                   max_tokens=args.reply_tokens, device=ablations.device)
    sides = []
    for model in (checkpoint.build(config, tensors),
                  generate.perturb(checkpoint.build(*student), args.dpo_noise, args.seed)):
        sides.append(generate.in_batches(prepare(model, [], ablations.device), prompts,
                                         seed=args.seed, **options))
    apart = [i % KEPT_APART == 0 for i in range(len(prompts))]
    for path, wanted in ((trained, False), (held, True)):
        generate.write_preferences(path, *([pair for pair, a in zip(side, apart) if a == wanted]
                                           for side in sides))
    return trained, held


def margins(run):
    """Mean margin of the first and of the last ten steps."""
    lines = (run.out / "log.tsv").read_text().splitlines()[1:]
    values = [float(line.split("margin=")[1].split()[0]) for line in lines]
    return float(np.mean(values[:10])), float(np.mean(values[-10:]))


def held_margin(student, ended, path, stage):
    """The margin on pairs that it was not trained on."""
    with precision(ended.device):
        model = prepare(checkpoint.build(*student), [], ended.device)
        objective = Dpo(model, read_preferences(path), {**stage, "beta": BETA}, ended.device)
        objective.student = ended.student
        return objective.margin()


def run(ablations):
    """False if time ended first."""
    if "after DPO" in ablations.figures:
        return True
    args = ablations.args
    source = args.dpo_student or str(ablations.work / ablations.folder("50% Mamba2") / "model")
    student = load_student({"student": source, "base": str(ablations.base)})
    trained, held = preferences(ablations, student)
    if "before DPO" not in ablations.figures:
        model = prepare(checkpoint.build(*student), [], ablations.device)
        ablations.record("before DPO", **ablations.quality(model))
    stage = {"kind": "dpo", "steps": args.dpo_steps, "learning_rate": args.dpo_rate,
             "warmup_steps": min(args.warmup_steps, args.dpo_steps // 4), "decay_fraction": 0.3,
             "batch_size": args.dpo_batch, "sequence_length": args.length,
             "beta": BETA, "preferences": str(trained)}
    ended = ablations.trained(ablations.recipe("dpo", [stage], student=source))
    if ended is None:
        return False
    ended.write_model(None)
    first, last = margins(ended)
    ablations.record("after DPO", pairs=len(read_preferences(trained)), margin_first=first,
                     margin_last=last, margin_held_out=held_margin(student, ended, held, stage),
                     dpo_seconds=round(ended.seconds, 1), **ablations.quality(ended.student))
    return True


def add_arguments(parser):
    parser.add_argument("--dpo-student", metavar="PATH",
                        help="the hybrid: a folder, or an overlay over the base "
                             "(default: the first variant)")
    parser.add_argument("--dpo-steps", type=int, default=150, help="0: no DPO")
    parser.add_argument("--dpo-rate", type=float, default=1e-5)
    parser.add_argument("--dpo-batch", type=int, default=16)
    parser.add_argument("--dpo-prompts", type=int, default=2048)
    parser.add_argument("--dpo-noise", type=float, default=0.1)
