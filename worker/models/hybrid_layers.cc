#include "worker/models/hybrid_layers.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/json.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr int64_t kMaxConvTaps = 8;

// A layer's mixer as its tensors describe it.
struct Mixer {
  LayerKind kind = LayerKind::kAttention;
  MambaDims dims;
};

// Reads shapes of one layer's mamba tensors; an error names the tensor.
class MixerTensors {
 public:
  MixerTensors(const Checkpoint& checkpoint, int64_t layer)
      : checkpoint_(checkpoint), prefix_(MambaPrefix(layer)) {}

  bool Has(const char* name) const { return checkpoint_.Has(prefix_ + name); }

  absl::StatusOr<std::vector<int64_t>> Shape(const char* name, size_t rank) const {
    const auto it = checkpoint_.tensors().find(prefix_ + name);
    if (it == checkpoint_.tensors().end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(checkpoint_.file_paths()[0], ": tensor ", prefix_, name, ": missing"));
    }
    if (it->second.shape.size() != rank) {
      return Bad(name,
                 absl::StrCat("has ", it->second.shape.size(), " dimensions, ", rank, " wanted"));
    }
    return it->second.shape;
  }
  absl::StatusOr<int64_t> Rows(const char* name, size_t rank) const {
    ASSIGN_OR_RETURN(const std::vector<int64_t> shape, Shape(name, rank));
    return shape[0];
  }

  absl::Status Bad(const char* name, const std::string& reason) const {
    const auto it = checkpoint_.tensors().find(prefix_ + name);
    const int file = it == checkpoint_.tensors().end() ? 0 : it->second.file;
    return absl::InvalidArgumentError(
        absl::StrCat(checkpoint_.file_paths()[file], ": tensor ", prefix_, name, ": ", reason));
  }

 private:
  const Checkpoint& checkpoint_;
  const std::string prefix_;
};

absl::StatusOr<Mixer> ReadMamba1(const MixerTensors& tensors, MambaDims dims) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> a_log, tensors.Shape("A_log", 2));
  ASSIGN_OR_RETURN(const std::vector<int64_t> dt, tensors.Shape("dt_proj.weight", 2));
  dims.inner_size = a_log[0];
  dims.state_dim = a_log[1];
  dims.dt_rank = dt[1];
  if (tensors.Has("in_proj.weight")) {
    ASSIGN_OR_RETURN(const int64_t rows, tensors.Rows("in_proj.weight", 2));
    dims.xb_size = (rows - 2 * dims.inner_size - dims.dt_rank) / 2;
  } else {
    ASSIGN_OR_RETURN(dims.xb_size, tensors.Rows("in_proj_x.weight", 2));
  }
  return Mixer{LayerKind::kMamba1, dims};
}

absl::StatusOr<Mixer> ReadMamba2(const MixerTensors& tensors, MambaDims dims) {
  ASSIGN_OR_RETURN(const int64_t heads, tensors.Rows("A_log", 1));
  ASSIGN_OR_RETURN(dims.inner_size, tensors.Rows("norm.weight", 1));
  ASSIGN_OR_RETURN(const int64_t channels, tensors.Rows("conv1d.weight", 3));
  if (heads < 1 || dims.inner_size % heads != 0) {
    return tensors.Bad("A_log",
                       absl::StrCat(heads, " heads do not divide ", dims.inner_size, " channels"));
  }
  dims.state_dim = dims.inner_size / heads;
  dims.xb_size = (channels - dims.inner_size) / 2;
  return Mixer{LayerKind::kMamba2, dims};
}

// What the ops and the sharding need.
absl::Status CheckDims(const MixerTensors& tensors, const MambaDims& dims) {
  if (dims.state_dim < 8 || dims.state_dim % 8 != 0 || dims.state_dim > 256) {
    return tensors.Bad("A_log", absl::StrCat("a state dimension of ", dims.state_dim,
                                             "; a multiple of 8 up to 256 wanted"));
  }
  if (dims.xb_size < 1 || dims.inner_size % dims.xb_size != 0 ||
      dims.xb_size % (dims.num_units * dims.state_dim) != 0) {
    return tensors.Bad("A_log", absl::StrCat("x and B of ", dims.xb_size, " channels do not fit ",
                                             dims.inner_size, " inner channels in ", dims.num_units,
                                             " KV groups of whole groups of ", dims.state_dim));
  }
  if (dims.conv_taps < 1 || dims.conv_taps > kMaxConvTaps) {
    return tensors.Bad("conv1d.weight",
                       absl::StrCat(dims.conv_taps, " taps are outside [1, ", kMaxConvTaps, "]"));
  }
  return absl::OkStatus();
}

// The mixer of a layer that has mamba tensors. A_log is a matrix in Mamba1, a vector in Mamba2.
absl::StatusOr<Mixer> ReadMixer(const Checkpoint& checkpoint, const ModelConfig& config,
                                int64_t layer) {
  const MixerTensors tensors(checkpoint, layer);
  MambaDims dims{.hidden_size = config.hidden_size, .num_units = config.num_kv_heads};
  ASSIGN_OR_RETURN(const std::vector<int64_t> conv, tensors.Shape("conv1d.weight", 3));
  dims.conv_taps = conv[2];
  const auto a_log = checkpoint.tensors().find(MambaPrefix(layer) + "A_log");
  const bool is_mamba1 = a_log != checkpoint.tensors().end() && a_log->second.shape.size() == 2;
  ASSIGN_OR_RETURN(const Mixer mixer,
                   is_mamba1 ? ReadMamba1(tensors, dims) : ReadMamba2(tensors, dims));
  RETURN_IF_ERROR(CheckDims(tensors, mixer.dims));
  return mixer;
}

absl::Status Place(const Checkpoint& checkpoint, int64_t layer, const Mixer& mixer,
                   ModelConfig& config) {
  config.layers[layer] = mixer.kind;
  std::optional<MambaDims>& same_kind =
      mixer.kind == LayerKind::kMamba1 ? config.mamba1 : config.mamba2;
  if (!same_kind) same_kind = mixer.dims;
  if (*same_kind == mixer.dims) return absl::OkStatus();
  return MixerTensors(checkpoint, layer)
      .Bad("A_log", "its mixer has other sizes than the layers before it");
}

absl::Status BadField(const std::string& file, const char* field, const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", field, ": ", reason));
}

// An integer that the file gives must be `wanted`; null and absent say nothing.
absl::Status CheckInt(const std::string& file, const JsonValue& object, const char* field,
                      int64_t wanted) {
  const JsonValue* value = object.Find(field);
  if (value == nullptr || value->is_null()) return absl::OkStatus();
  if (value->is_integer() && value->as_int() == wanted) return absl::OkStatus();
  return BadField(file, field, absl::StrCat("the tensors say ", wanted));
}

absl::Status CheckAttentionLayers(const std::string& file, const JsonValue& root,
                                  const ModelConfig& config) {
  const JsonValue* list = root.Find("attn_layers");
  if (list == nullptr || !list->is_array()) return BadField(file, "attn_layers", "a list wanted");
  std::vector<bool> listed(config.num_layers, false);
  for (const JsonValue& entry : list->as_array()) {
    if (!entry.is_integer() || entry.as_int() < 0 || entry.as_int() >= config.num_layers) {
      return BadField(file, "attn_layers",
                      absl::StrCat("layers 0 to ", config.num_layers - 1, " wanted"));
    }
    listed[entry.as_int()] = true;
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (listed[layer] == (config.layers[layer] == LayerKind::kAttention)) continue;
    return BadField(file, "attn_layers",
                    absl::StrCat(listed[layer] ? "lists" : "does not list", " layer ", layer,
                                 ", whose tensors are those of ",
                                 listed[layer] ? "a Mamba layer" : "attention"));
  }
  return absl::OkStatus();
}

absl::Status CheckMambaConfig(const std::string& file, const ModelConfig& config) {
  ASSIGN_OR_RETURN(const JsonValue root, ReadJsonFile(file));
  if (!root.is_object()) return BadField(file, "document", "no JSON object");
  RETURN_IF_ERROR(CheckInt(file, root, "d_model", config.hidden_size));
  RETURN_IF_ERROR(CheckInt(file, root, "n_layer", config.num_layers));
  RETURN_IF_ERROR(CheckInt(file, root, "intermediate_size", config.intermediate_size));
  RETURN_IF_ERROR(CheckAttentionLayers(file, root, config));
  for (const std::optional<MambaDims>& dims : {config.mamba1, config.mamba2}) {
    if (!dims) continue;
    RETURN_IF_ERROR(CheckInt(file, root, "d_inner", dims->inner_size));
    RETURN_IF_ERROR(CheckInt(file, root, "d_xb", dims->xb_size));
  }
  const JsonValue* ssm = root.Find("ssm_cfg");
  if (ssm == nullptr || ssm->is_null()) return absl::OkStatus();
  if (!ssm->is_object()) return BadField(file, "ssm_cfg", "an object wanted");
  if (config.mamba2) {
    RETURN_IF_ERROR(CheckInt(file, *ssm, "ngroups", config.mamba2->num_heads()));
    RETURN_IF_ERROR(CheckInt(file, *ssm, "d_state", config.mamba2->state_dim));
  } else if (config.mamba1) {
    RETURN_IF_ERROR(CheckInt(file, *ssm, "d_state", config.mamba1->state_dim));
  }
  return absl::OkStatus();
}

bool HasMambaTensor(const Checkpoint& checkpoint, int64_t layer) {
  const std::string prefix = MambaPrefix(layer);
  const auto it = checkpoint.tensors().lower_bound(prefix);
  return it != checkpoint.tensors().end() && absl::StartsWith(it->first, prefix);
}

}  // namespace

std::string MambaPrefix(int64_t index) { return absl::StrCat("model.layers.", index, ".mamba."); }

bool HasFusedAttention(const Checkpoint& checkpoint) {
  return std::any_of(
      checkpoint.tensors().begin(), checkpoint.tensors().end(),
      [](const auto& tensor) { return absl::EndsWith(tensor.first, ".mha.in_proj.weight"); });
}

absl::Status LoadHybridLayers(const Checkpoint& checkpoint, ModelConfig& config) {
  config.fused_attention = HasFusedAttention(checkpoint);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    config.fused_mamba1 |= checkpoint.Has(MambaPrefix(layer) + "in_proj.weight") &&
                           checkpoint.Has(MambaPrefix(layer) + "dt_proj.weight");
    if (!HasMambaTensor(checkpoint, layer)) continue;
    ASSIGN_OR_RETURN(const Mixer mixer, ReadMixer(checkpoint, config, layer));
    RETURN_IF_ERROR(Place(checkpoint, layer, mixer, config));
  }
  const std::string& file = checkpoint.files().mamba_config_json;
  return file.empty() ? absl::OkStatus() : CheckMambaConfig(file, config);
}

}  // namespace krait
