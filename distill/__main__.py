"""python3 -m distill COMMAND: see distill/README.md."""

import argparse
import importlib
import sys

from .errors import DataError, UserError

COMMANDS = {
    "convert": "a Transformer becomes an untrained hybrid, or .bin files safetensors",
    "corpus": "training text from Debian packages, as packed token ids",
    "train": "a recipe's stages",
    "prompts": "requests in chat form out of a text",
    "generate": "replies to prompts: pseudo-labels, or preferences for DPO",
    "draft": "a small model that proposes the target's tokens",
    "evaluate": "perplexity, KL, top-1 agreement; a draft's accepted tokens",
    "overlay": "a trained hybrid or draft as a GGUF file beside its base",
    "ablate": "variants of the default pair's hybrid and DPO, trained alike, as one table",
    "pair": "the default pair, from base file to overlays, in one command that may be cut off",
}


def main(argv=None):
    parser = argparse.ArgumentParser(prog="distill", description=sys.modules[__package__].__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    argv = sys.argv[1:] if argv is None else argv
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text)
        if name in argv[:1]:  # the others' imports (PyTorch, ...) may be missing
            module = importlib.import_module(f".{name}", __package__)
            sub.description = module.__doc__
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except UserError as error:
        print(f"distill {args.command}: {error}", file=sys.stderr)
        return 65 if isinstance(error, DataError) else 64


if __name__ == "__main__":
    sys.exit(main())
