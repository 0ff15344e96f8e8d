"""A run's recipe: one JSON or YAML file. An unknown key, or a value of the wrong kind, is an error
that names it."""

import json
import pathlib

from . import layouts
from .config import MAMBA1, MAMBA2
from .errors import UserError

REQUIRED = object()


def _check(kind, test=lambda value: True, text=""):
    def check(name, value):
        allowed = (int, float) if kind is float else kind
        wrong_bool = isinstance(value, bool) and kind is not bool
        if wrong_bool or not isinstance(value, allowed) or not test(value):
            raise UserError(f"recipe: {name}: {text or kind.__name__} wanted, got {value!r}")
        return float(value) if kind is float else value
    return check


def _one_of(*choices):
    return _check(str, lambda value: value in choices, " or ".join(choices))


_text = _check(str, text="text")
_flag = _check(bool, text="true or false")
_count = _check(int, lambda v: v >= 1, "an integer of at least 1")
_natural = _check(int, lambda v: v >= 0, "an integer of at least 0")
_positive = _check(float, lambda v: v > 0, "a positive number")
_weight = _check(float, lambda v: v >= 0, "a number of at least 0")
_fraction = _check(float, lambda v: 0 <= v <= 1, "a number in [0, 1]")


def _layout(name, value):
    if isinstance(value, (str, int, float, list)) and not isinstance(value, bool):
        if isinstance(value, list) or f"{value}" in layouts.NAMES:
            return value
    raise UserError(f"recipe: {name}: {', '.join(layouts.NAMES)} or a list of layers wanted, "
                    f"got {value!r}")


def _paths(name, value):
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise UserError(f"recipe: {name}: a path or a list of paths wanted, got {value!r}")
    return values


STAGE_KINDS = ("align", "progressive", "stepwise", "distill", "dpo")
# key -> (check, default). Lengths in tokens, `seconds` of training, at most.
STAGE = {
    "kind": (_one_of(*STAGE_KINDS), REQUIRED), "steps": (_count, 1_000_000),
    "seconds": (_positive, None), "batch_size": (_count, 16), "sequence_length": (_count, 1024),
    "learning_rate": (_positive, 1e-3), "warmup_steps": (_natural, 100),
    "decay_fraction": (_fraction, 0.25), "clip": (_positive, 1.0), "kl_weight": (_weight, 1.0),
    "ce_weight": (_weight, 0.0), "beta": (_positive, 0.1), "preferences": (_text, None),
}


def _stages(name, value):
    if not isinstance(value, list) or not value:
        raise UserError(f"recipe: {name}: a list of stages wanted, got {value!r}")
    stages = [_fill(f"{name}[{i}]", stage, STAGE) for i, stage in enumerate(value)]
    for i, stage in enumerate(stages):
        if stage["kind"] == "dpo" and stage["preferences"] is None:
            raise UserError(f"recipe: {name}[{i}].preferences: missing")
        if stage["steps"] == STAGE["steps"][1] and stage["seconds"] is None:
            raise UserError(f"recipe: {name}[{i}]: steps or seconds wanted")
    return stages


RECIPE = {
    "base": (_text, REQUIRED), "out": (_text, REQUIRED), "data": (_paths, REQUIRED),
    "tokenizer": (_text, None), "student": (_text, None),
    "layout": (_layout, "50"), "mixer": (_one_of(MAMBA1, MAMBA2), MAMBA2),
    "from_attention": (_flag, True), "train": (_one_of("mixers", "all"), "mixers"),
    "seed": (_natural, 0), "checkpoint_every": (_count, 500), "compile": (_flag, False),
    "stages": (_stages, REQUIRED),
}
DRAFT = {
    "target": (_text, REQUIRED), "base": (_text, REQUIRED), "out": (_text, REQUIRED),
    "data": (_paths, REQUIRED), "tokenizer": (_text, None),
    "layers": (_check(list, lambda v: v and all(type(i) is int and i >= 0 for i in v),
                      "a list of layers"), REQUIRED),
    "mixer": (_one_of("attention", MAMBA2), "attention"),
    "head_size": (_check(int, lambda v: 1 <= v <= 8192, "an integer in [1, 8192]"), 8192),
    "seed": (_natural, 0), "checkpoint_every": (_count, 500), "compile": (_flag, False),
    "stages": (_stages, REQUIRED),
}


def _fill(name, fields, schema):
    if not isinstance(fields, dict):
        raise UserError(f"recipe: {name}: an object wanted, got {fields!r}")
    prefix = f"{name}." if name else ""
    for key in fields:
        if key not in schema:
            raise UserError(f"recipe: {prefix}{key}: unknown key; known are "
                            f"{', '.join(sorted(schema))}")
    out = {}
    for key, (check, default) in schema.items():
        if key in fields and not (fields[key] is None and default is None):
            out[key] = check(prefix + key, fields[key])
        elif default is REQUIRED:
            raise UserError(f"recipe: {prefix}{key}: missing")
        else:
            out[key] = default
    return out


def _check_student(fields):
    """A hybrid that a run begins from brings its layers along."""
    for key in ("layout", "mixer", "from_attention"):
        if fields["student"] is not None and key in fields:
            raise UserError(f"recipe: {key}: the student brings its own")


def parse(fields, schema=RECIPE):
    """A checked copy with every default filled in."""
    schema = RECIPE if schema is None else schema
    filled = _fill("", fields, schema)
    if "student" in fields and "student" in schema:
        _check_student(fields)
    return filled


def read(path, schema=RECIPE):
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yaml", ".yml"):
            import yaml
            fields = yaml.safe_load(text)
        else:
            fields = json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # yaml.YAMLError, where yaml is installed
        raise UserError(f"{path}: {error}") from error
    return parse(fields, schema)
