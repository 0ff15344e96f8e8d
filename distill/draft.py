"""distill draft: a few of the model's layers with a reduced head, trained on the target's own text.

The layers come from the Transformer `base` (attention, or turned to Mamba2), the embedding stays
its, and the head has the rows of the ids that occur most often in the data."""

import pathlib

import numpy as np
import torch

from . import checkpoint, initialise, token_file
from . import recipe as recipes
from .config import ATTENTION, MAMBA2
from .errors import UserError
from .train import Run, device_of, start_processes, tokenizer_folder


def frequent_ids(paths, vocab_size, size, always):
    """The `size` most frequent ids with `always` among them, increasing."""
    counts = np.zeros(vocab_size, np.int64)
    for path in paths:
        counts += np.bincount(token_file.read(path, vocab_size), minlength=vocab_size)
    counts[list(always)] = np.iinfo(np.int64).max
    return torch.from_numpy(np.sort(np.argsort(-counts, kind="stable")[:size]))


def cut(base, layers, mixer, token_map, seed):
    """(config, tensors) of an untrained draft."""
    config, tensors = checkpoint.load(base)
    if any(kind != ATTENTION for kind in config.layers):
        raise UserError(f"recipe: base: {base} has Mamba layers; a Transformer wanted")
    if sorted(set(layers)) != list(layers) or layers[-1] >= config.num_layers:
        raise UserError(f"recipe: layers: increasing numbers below {config.num_layers} wanted, "
                        f"got {layers}")
    head = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
    kept = {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"],
            "model.norm.weight": tensors["model.norm.weight"],
            "lm_head.weight": head[token_map].clone()}
    for number, layer in enumerate(layers):
        old, new = f"model.layers.{layer}.", f"model.layers.{number}."
        kept.update({new + name[len(old):]: tensor for name, tensor in tensors.items()
                     if name.startswith(old)})
    config = config.replace(num_layers=len(layers), layers=(ATTENTION,) * len(layers),
                            tie_word_embeddings=False, draft_vocab_size=len(token_map))
    if mixer == MAMBA2:
        config, kept = initialise.hybrid_tensors(config, kept, range(len(layers)), MAMBA2, seed)
    return config, kept


def eos_ids(config):
    eos = config.extra.get("eos_token_id", [])
    return eos if isinstance(eos, list) else [eos]


def draft_run(recipe, device=None):
    """The Run of a checked recipe. All but the embedding is trained."""
    for number, stage in enumerate(recipe["stages"]):
        if stage["kind"] != "distill":
            raise UserError(f"recipe: stages[{number}].kind: a draft's is distill")
    target_config, target = checkpoint.load(recipe["target"])
    size = min(recipe["head_size"], target_config.vocab_size)
    token_map = frequent_ids(recipe["data"], target_config.vocab_size, size,
                             eos_ids(target_config))
    config, tensors = cut(recipe["base"], recipe["layers"], recipe["mixer"], token_map,
                          recipe["seed"])
    student = checkpoint.build(config, tensors)
    trained = [name for name, _ in student.named_parameters() if "embed_tokens" not in name]
    device = device or device_of()
    return Run(recipe, student, checkpoint.build(target_config, target), trained, device,
               token_map.to(device))


def add_arguments(parser):
    parser.add_argument("recipe", metavar="RECIPE", help="a JSON or YAML file")


def run(args):
    recipe = recipes.read(args.recipe, recipes.DRAFT)
    if (pathlib.Path(recipe["out"]) / "model").exists():
        raise UserError(f"recipe: out: {recipe['out']}/model exists: this run has ended")
    start_processes()
    started = draft_run(recipe)
    started.run()
    if started.rank == 0:
        started.write_model(tokenizer_folder(recipe))
    return 0
