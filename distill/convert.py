"""distill convert: a Transformer's checkpoint becomes an untrained hybrid, or safetensors."""

import pathlib

from . import checkpoint, initialise, layouts
from .config import ATTENTION, MAMBA1, MAMBA2
from .errors import UserError


def parse_layout(text):
    """"50" or "0,2,4"."""
    if "," not in text and text in layouts.NAMES:
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"layout: {', '.join(layouts.NAMES)} or a list like 0,2,4 wanted, "
                        f"got {text!r}") from None


def make_hybrid(base, layout, mixer, seed, from_attention=True):
    """(config, tensors) of the untrained hybrid of the checkpoint `base`."""
    config, tensors = checkpoint.load(base)
    layers = layouts.mamba_layers(layout, config.num_layers)
    for index in layers:
        if config.layers[index] != ATTENTION:
            raise UserError(f"layout: layer {index} of {base} is a Mamba layer already")
    return initialise.hybrid_tensors(config, tensors, layers, mixer, seed, from_attention)


def add_arguments(parser):
    parser.add_argument("--base", required=True, metavar="PATH",
                        help="a .gguf file or a Hugging Face folder (safetensors or .bin)")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--layout", default="50", metavar="PERCENT|LIST",
                        help="per cent of attention left (100, 75, 50, 25, 12.5, 0), or the layers "
                             "that become Mamba layers; 100 only converts files (default 50)")
    parser.add_argument("--mixer", choices=(MAMBA1, MAMBA2), default=MAMBA2)
    parser.add_argument("--seed", type=int, default=0, help="of what attention does not have")
    parser.add_argument("--random", action="store_true", help="take nothing from the attention")
    parser.add_argument("--tokenizer", metavar="DIR",
                        help="folder whose tokenizer files are copied (default: the base's)")


def run(args):
    config, tensors = make_hybrid(args.base, parse_layout(args.layout), args.mixer, args.seed,
                                  not args.random)
    checkpoint.build(config, tensors)
    base = pathlib.Path(args.base)
    checkpoint.save_folder(args.out, config, tensors,
                           args.tokenizer or (base if base.is_dir() else None))
    return 0
