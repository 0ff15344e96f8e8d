"""distill train: a recipe's stages, one after the other. Interrupted and started again it goes on
where its last saved state was, to the same losses. Several GPUs: torchrun -m distill train ..."""

import contextlib
import json
import os
import pathlib
import sys
import time

import torch

from . import checkpoint, convert, losses, objectives, overlay, recipe as recipes
from .batches import Batches
from .config import ATTENTION
from .errors import UserError

REPORT_SECONDS = 15


def device_of():
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) \
        if torch.cuda.is_available() else torch.device("cpu")


def precision(device):
    """Trained weights are float32; a GPU multiplies in bfloat16."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.autocast("cuda", torch.bfloat16)


def trained_names(model, what):
    """Of the mixers and their layers' norms; or of everything."""
    if what == "all":
        return [name for name, _ in model.named_parameters()]
    mamba = [f"model.layers.{i}." for i, kind in enumerate(model.config.layers) if kind != ATTENTION]
    return [name for name, _ in model.named_parameters()
            if name.startswith(tuple(mamba)) and (".mamba." in name or "layernorm" in name)]


def prepare(model, names, device):
    """Trained weights and small ones float32, frozen matrices as the device computes."""
    wanted = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)
        narrow = device.type == "cuda" and name not in wanted and parameter.dim() == 2 \
            and not name.endswith("A_log")
        parameter.data = parameter.data.to(device, torch.bfloat16 if narrow else torch.float32)
    return model


def compile_parts(models, device):
    """Compiles a layer once for all layers of a kind. Returns the compiled piece of the head loss."""
    import torch._dynamo
    for limit in ("recompile_limit", "cache_size_limit"):
        if hasattr(torch._dynamo.config, limit):
            setattr(torch._dynamo.config, limit, 64)
    torch._dynamo.config.suppress_errors = True  # what does not compile runs as it is
    from .model import Layer
    compiled = torch.compile(Layer.forward)
    for model in models:
        model.run_layer = compiled
    return torch.compile(losses._piece)


class Log:
    """log.tsv: a line a step, for any plotting program; and progress on standard error."""

    def __init__(self, path, quiet=False):
        self._path, self._quiet, self._last = path, quiet, 0.0
        self._terminal = sys.stderr.isatty()

    def truncate(self, lines):
        if self._path.exists():
            kept = self._path.read_text().splitlines(keepends=True)[:lines + 1]
            self._path.write_text("".join(kept))

    def add(self, fields, of):
        if self._quiet:
            return
        new = not self._path.exists()
        with open(self._path, "a", encoding="utf-8") as file:
            if new:
                file.write("stage\tkind\tstep\ttokens\tseconds\tlearning_rate\tloss\tfigures\n")
            file.write("\t".join(str(v) for v in fields) + "\n")
        if time.monotonic() - self._last >= (0.2 if self._terminal else REPORT_SECONDS):
            self._last = time.monotonic()
            stage, kind, step, tokens, seconds, rate, loss, figures = fields
            text = f"{kind} step {step}{of}, {tokens / 1e6:.2f}M tokens, {seconds:.0f} s, " \
                   f"loss {loss:.4f} {figures}"
            print(("\r\x1b[K" if self._terminal else "") + text,
                  end="" if self._terminal else "\n", file=sys.stderr, flush=True)


class Run:
    """One student, its teacher, and where its training stands."""

    def __init__(self, recipe, student, teacher, trained, device, token_map=None):
        self.recipe, self.device, self.token_map = recipe, device, token_map
        self.world, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.teacher = prepare(teacher, [], device)
        self.student, self.trained = prepare(student, trained, device), trained
        self.out = pathlib.Path(recipe["out"])
        self.batches = Batches(recipe["data"], teacher.config.vocab_size, device)
        self.piece = compile_parts([teacher, student], device) if recipe["compile"] \
            else losses._piece
        self.stage, self.step, self.tokens, self.lines = 0, 0, 0, 0
        self.seconds = self.began = 0.0  # of training: in all, and when the stage began
        self.log = Log(self.out / "log.tsv", quiet=self.rank > 0)
        self._saved_optimizer = self._stage_start = None
        self._open()

    def _open(self):
        self.out.mkdir(parents=True, exist_ok=True)
        written, text = self.out / "recipe.json", json.dumps(self.recipe, indent=2, sort_keys=True)
        if written.exists() and written.read_text() != text + "\n":
            raise UserError(f"recipe: out: {self.out} holds the run of another recipe")
        if not written.exists() and any(self.out.iterdir()):
            raise UserError(f"recipe: out: {self.out} exists and holds no run")
        if self.rank == 0:
            written.write_text(text + "\n")
        if (self.out / "state.pt").exists():
            self._load()
        self.log.truncate(self.lines)

    def _weights(self):
        state = dict(self.student.named_parameters())
        return {name: state[name].detach().cpu().clone() for name in self.trained}

    def set_weights(self, weights):
        state = dict(self.student.named_parameters())
        with torch.no_grad():
            for name in self.trained:
                state[name].copy_(weights[name])

    def _load(self):
        state = torch.load(self.out / "state.pt", map_location="cpu", weights_only=True)
        self.set_weights(state["weights"])
        for name, value in json.loads(state["position"]).items():
            setattr(self, name, value)
        self._saved_optimizer, self._stage_start = state["optimizer"], state["stage_start"]

    def save(self, optimizer=None):
        if self.rank > 0:
            return
        position = {name: getattr(self, name)
                    for name in ("stage", "step", "tokens", "seconds", "began", "lines")}
        # Floats as text: PyTorch 1.13 loads none of them weights-only.
        state = {"position": json.dumps(position), "weights": self._weights(),
                 "stage_start": self._stage_start,
                 "optimizer": optimizer.state_dict()["state"] if optimizer else None}
        torch.save(state, self.out / "state.tmp")
        (self.out / "state.tmp").replace(self.out / "state.pt")

    def _objective(self, stage):
        kind = stage["kind"]
        if kind == "align":
            return objectives.Align(self.student, self.teacher)
        if kind == "dpo":
            if self._stage_start is None:
                self._stage_start = self._weights()
            now = self._weights()
            self.set_weights(self._stage_start)  # the reference's scores
            with precision(self.device):
                made = objectives.Dpo(self.student, objectives.read_preferences(
                    stage["preferences"]), stage, self.device)
            self.set_weights(now)
            return made
        made = objectives.Distill(self.student, self.teacher, stage,
                                  objectives.groups_of(kind, self.student)
                                  if self.token_map is None else None, self.piece)
        made.token_map = self.token_map
        return made

    def _optimizer(self, stage):
        parameters = [p for p in self.student.parameters() if p.requires_grad]
        fused = {"fused": True} if self.device.type == "cuda" else {}
        optimizer = torch.optim.AdamW(parameters, lr=stage["learning_rate"], betas=(0.9, 0.95),
                                      weight_decay=0.0, **fused)
        if self._saved_optimizer is not None:
            optimizer.load_state_dict({**optimizer.state_dict(), "state": self._saved_optimizer})
            self._saved_optimizer = None
        return optimizer

    def _progress(self, stage):
        by_steps = self.step / stage["steps"]
        return by_steps if stage["seconds"] is None else \
            max(by_steps, (self.seconds - self.began) / stage["seconds"])

    def run(self, deadline=None):
        """False if `deadline` (time.monotonic) came first; the state is saved then."""
        for index in range(self.stage, len(self.recipe["stages"])):
            if not self._run_stage(index, self.recipe["stages"][index], deadline):
                return False
        return True

    def _run_stage(self, index, stage, deadline):
        objective = self._objective(stage)
        module = torch.nn.parallel.DistributedDataParallel(objective, find_unused_parameters=True) \
            if self.world > 1 else objective
        optimizer = self._optimizer(stage)
        start = time.monotonic() - self.seconds
        while (progress := self._progress(stage)) < 1:
            if deadline is not None and time.monotonic() > deadline:
                self.save(optimizer)
                return False
            loss, figures = self._step(module, objective, optimizer, stage, progress)
            self.step += 1
            self.tokens += stage["batch_size"] * stage["sequence_length"] * self.world
            if self.step % 10 == 0 or stage["seconds"] is None:
                loss = loss.item()  # waits for the device
                self.seconds = time.monotonic() - start
                self._report(index, stage, optimizer, loss, figures)
            if self.step % self.recipe["checkpoint_every"] == 0:
                self.save(optimizer)
        self.stage, self.step, self._stage_start = index + 1, 0, None
        self.began = self.seconds
        self.save()
        return True

    def _step(self, module, objective, optimizer, stage, progress):
        if stage["kind"] == "dpo":
            inputs = objective.batch(self.recipe["seed"], self.step), None
        else:
            inputs = self.batches.get(self.recipe["seed"] + self.stage, self.step,
                                      stage["batch_size"], stage["sequence_length"], self.rank,
                                      self.world)
        warm = min(1.0, (self.step + 1) / max(1, stage["warmup_steps"]))
        decay = min(1.0, (1 - progress) / max(stage["decay_fraction"], 1e-9))
        for group in optimizer.param_groups:
            group["lr"] = stage["learning_rate"] * warm * decay
        with precision(self.device):
            loss, figures = module(*inputs, progress)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]],
                                       stage["clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach(), figures

    def _report(self, index, stage, optimizer, loss, figures):
        if loss != loss:
            raise UserError(f"stage {index} ({stage['kind']}): the loss is not a number at step "
                            f"{self.step}: a smaller learning_rate, or the last saved state")
        self.lines += 1
        text = " ".join(f"{name}={value.item():.5g}" for name, value in figures.items())
        of = f"/{stage['steps']}" if stage["seconds"] is None else ""
        self.log.add((index, stage["kind"], self.step, self.tokens, round(self.seconds, 2),
                      f"{optimizer.param_groups[0]['lr']:.3g}", round(loss, 6), text), of)

    def tensors(self):
        """The student's whole checkpoint, float32 on the CPU."""
        tensors = {name: tensor.detach().float().cpu().clone()
                   for name, tensor in self.student.state_dict().items()}
        if self.token_map is not None:
            tensors[checkpoint.TOKEN_MAP] = self.token_map.cpu()
        return tensors

    def write_model(self, tokenizer):
        checkpoint.save_folder(self.out / "model", self.student.config, self.tensors(), tokenizer)


def start_processes():
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def tokenizer_folder(recipe):
    if recipe["tokenizer"]:
        return recipe["tokenizer"]
    return recipe["base"] if pathlib.Path(recipe["base"]).is_dir() else None


def load_student(recipe):
    """(config, tensors) that a run begins from: a trained hybrid (a folder, or an overlay over the
    base), or the base converted."""
    if recipe["student"] is None:
        return convert.make_hybrid(recipe["base"], recipe["layout"], recipe["mixer"],
                                   recipe["seed"], recipe["from_attention"])
    if recipe["student"].endswith(".gguf"):
        return overlay.merge(recipe["base"], recipe["student"])
    return checkpoint.load(recipe["student"])


def hybrid_run(recipe, device=None):
    """The Run of a checked recipe."""
    device = device or device_of()
    teacher = checkpoint.build(*checkpoint.load(recipe["base"]))
    student = checkpoint.build(*load_student(recipe))
    return Run(recipe, student, teacher, trained_names(student, recipe["train"]), device)


def add_arguments(parser):
    parser.add_argument("recipe", metavar="RECIPE", help="a JSON or YAML file")


def run(args):
    recipe = recipes.read(args.recipe)
    if (pathlib.Path(recipe["out"]) / "model").exists():
        raise UserError(f"recipe: out: {recipe['out']}/model exists: this run has ended")
    start_processes()
    started = hybrid_run(recipe)
    try:
        started.run()
    except (RuntimeError, MemoryError) as error:
        if "out of memory" not in str(error) and "can't allocate" not in str(error):
            raise
        raise UserError(f"too little memory ({error}); a smaller batch_size or sequence_length "
                        "needs less, and the last saved state stays") from error
    if started.rank == 0:
        started.write_model(tokenizer_folder(recipe))
    return 0
