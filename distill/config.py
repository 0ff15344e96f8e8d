"""The numbers of a model, from config.json or GGUF metadata."""

import dataclasses
import json
import math

from .errors import DataError

ATTENTION, MAMBA1, MAMBA2 = "attention", "mamba1", "mamba2"
ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral"}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_positions: int
    tie_word_embeddings: bool
    architecture: str = "LlamaForCausalLM"
    rope_scaling: dict = None  # as config.json has it; None, "linear" or "llama3"
    layers: tuple = ()  # one of ATTENTION, MAMBA1, MAMBA2 a layer
    draft_vocab_size: int = None  # rows of a draft's reduced head
    extra: dict = dataclasses.field(default_factory=dict)  # config.json's other keys, kept as is

    def __post_init__(self):
        if not self.layers:
            object.__setattr__(self, "layers", (ATTENTION,) * self.num_layers)

    @property
    def inner_size(self):  # width of queries: of C, z and the mixer's output
        return self.num_heads * self.head_dim

    @property
    def xb_size(self):  # width of keys and values: of B and x
        return self.num_kv_heads * self.head_dim

    @property
    def repeat(self):
        return self.num_heads // self.num_kv_heads

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)


MAMBA1_STATE = 16  # N of Mamba1, also the width of a channel group (arXiv 2408.15237)
CONV_TAPS = 4


def dt_rank(config):
    return math.ceil(config.hidden_size / 16)


def _positive(path, fields, name, default=None):
    value = fields.get(name, default)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise DataError(f"{path}: {name}: a positive number wanted, got {value!r}")
    return value


def read_config(path):
    """ModelConfig of a Hugging Face config.json (attention layers only; see checkpoint.load)."""
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    if not isinstance(fields, dict):
        raise DataError(f"{path}: no JSON object")
    architecture = (fields.get("architectures") or [None])[0]
    if architecture not in ARCHITECTURES:
        raise DataError(f"{path}: architectures: {architecture!r} is not supported; "
                        f"{', '.join(ARCHITECTURES)} are")
    for name in ("attention_bias", "mlp_bias", "quantization_config"):
        if fields.get(name):
            raise DataError(f"{path}: {name}: not supported")
    scaling = fields.get("rope_scaling")
    kind = (scaling or {}).get("rope_type", (scaling or {}).get("type"))
    if kind not in (None, "default", "linear", "llama3"):
        raise DataError(f"{path}: rope_scaling: {kind!r} is not supported; linear and llama3 are")
    heads = _positive(path, fields, "num_attention_heads")
    hidden = _positive(path, fields, "hidden_size")
    config = ModelConfig(
        hidden_size=hidden, num_layers=_positive(path, fields, "num_hidden_layers"),
        num_heads=heads, num_kv_heads=_positive(path, fields, "num_key_value_heads", heads),
        head_dim=_positive(path, fields, "head_dim", hidden // heads),
        intermediate_size=_positive(path, fields, "intermediate_size"),
        vocab_size=_positive(path, fields, "vocab_size"),
        rms_norm_eps=_positive(path, fields, "rms_norm_eps"),
        rope_theta=_positive(path, fields, "rope_theta", 10000.0),
        max_positions=_positive(path, fields, "max_position_embeddings", 2048),
        tie_word_embeddings=bool(fields.get("tie_word_embeddings", False)),
        architecture=architecture, rope_scaling=scaling if kind not in (None, "default") else None,
        extra=fields)
    if config.num_heads % config.num_kv_heads:
        raise DataError(f"{path}: num_attention_heads: {heads} is not a multiple of "
                        f"{config.num_kv_heads} KV heads")
    return config


def config_json(config):
    """The text of config.json."""
    fields = dict(config.extra)
    fields.update(
        architectures=[config.architecture], model_type=ARCHITECTURES[config.architecture],
        hidden_size=config.hidden_size, num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads, num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim, intermediate_size=config.intermediate_size, hidden_act="silu",
        vocab_size=config.vocab_size, rms_norm_eps=config.rms_norm_eps,
        rope_theta=config.rope_theta, rope_scaling=config.rope_scaling,
        max_position_embeddings=config.max_positions,
        tie_word_embeddings=config.tie_word_embeddings, torch_dtype="float32")
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def mamba_config_json(config):
    """The text of mamba_config.json, with the keys of released hybrids; None without Mamba layers."""
    kinds = set(config.layers) - {ATTENTION}
    if not kinds:
        return None
    ssm = {"expand": 1}
    if MAMBA2 in kinds:
        ssm.update(ngroups=config.num_heads, d_state=config.head_dim)
    return json.dumps({
        "d_model": config.hidden_size, "ssm_cfg": ssm, "rms_norm_eps": config.rms_norm_eps,
        "vocab_size": None, "d_inner": config.inner_size, "d_xb": config.xb_size,
        "intermediate_size": config.intermediate_size, "hidden_act": "silu",
        "n_layer": config.num_layers,
        "attn_layers": [i for i, kind in enumerate(config.layers) if kind == ATTENTION],
    }, indent=4) + "\n"
