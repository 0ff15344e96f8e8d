#include "tests/support/hybrid_checkpoint.h"

#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "worker/weights/synthetic_weights.h"

namespace krait::testing {
namespace {

constexpr int64_t kDtRank = 4;
constexpr int64_t kTaps = 4;

// Names and shapes of one layer's mixer; the values come after.
class MixerShapes {
 public:
  MixerShapes(TinyModel& model, const HybridOptions& options, int64_t layer)
      : model_(model),
        options_(options),
        layer_(absl::StrCat("model.layers.", layer, ".")),
        hidden_(model.hidden_size()),
        kv_(options.base.num_kv_heads * options.base.head_dim) {}

  void Replace(char mixer) {
    if (mixer == 'A' && !options_.fused) return;
    for (const char* name : {"q", "k", "v", "o"}) {
      model_.tensors.erase(absl::StrCat(layer_, "self_attn.", name, "_proj.weight"));
    }
    switch (mixer) {
      case 'A':
        return FusedAttention();
      case '1':
        return Mamba1();
      default:
        return Mamba2();
    }
  }

 private:
  void Add(const std::string& name, std::vector<int64_t> shape) {
    int64_t size = 1;
    for (const int64_t dim : shape) size *= dim;
    model_.tensors[layer_ + name] = {std::move(shape), std::vector<float>(size)};
  }

  void FusedAttention() {
    Add("mha.in_proj.weight", {hidden_ + 2 * kv_, hidden_});
    Add("mha.out_proj.weight", {hidden_, hidden_});
  }

  void Mamba1() {
    if (options_.fused) {
      Add("mamba.in_proj.weight", {2 * hidden_ + 2 * kv_ + kDtRank, hidden_});
    } else {
      Add("mamba.in_proj_z.weight", {hidden_, hidden_});
      Add("mamba.in_proj_x.weight", {kv_, hidden_});
      Add("mamba.B_proj.weight", {kv_, hidden_});
      Add("mamba.C_proj.weight", {hidden_, hidden_});
      Add("mamba.dt_proj_down.weight", {kDtRank, hidden_});
    }
    Add("mamba.dt_proj.weight", {hidden_, kDtRank});
    Add("mamba.dt_proj.bias", {hidden_});
    Add("mamba.A_log", {hidden_, options_.base.head_dim});
    Add("mamba.D", {hidden_});
    Convolution(hidden_);
  }

  void Mamba2() {
    const int64_t heads = options_.base.num_heads;
    Add("mamba.in_proj.weight", {2 * hidden_ + 2 * kv_ + heads, hidden_});
    for (const char* name : {"dt_bias", "A_log", "D"}) Add(absl::StrCat("mamba.", name), {heads});
    Add("mamba.norm.weight", {hidden_});
    Convolution(hidden_ + 2 * kv_);
  }

  void Convolution(int64_t channels) {
    Add("mamba.conv1d.weight", {channels, 1, kTaps});
    Add("mamba.conv1d.bias", {channels});
    Add("mamba.out_proj.weight", {hidden_, hidden_});
  }

  TinyModel& model_;
  const HybridOptions& options_;
  const std::string layer_;
  const int64_t hidden_, kv_;
};

std::string MambaConfigJson(const TinyModel& model, const HybridOptions& options) {
  std::vector<size_t> attention;
  for (size_t i = 0; i < options.mixers.size(); ++i) {
    if (options.mixers[i] == 'A') attention.push_back(i);
  }
  const bool mamba2 = absl::StrContains(options.mixers, '2');
  const std::string ssm = mamba2
                              ? absl::StrCat(R"({"expand": 1, "ngroups": )", options.base.num_heads,
                                             R"(, "d_state": )", options.base.head_dim, "}")
                              : R"({"expand": 1})";
  return absl::StrCat(
      R"({"d_model": )", model.hidden_size(), R"(, "ssm_cfg": )", ssm, R"(, "rms_norm_eps": )",
      options.base.rms_norm_eps, R"(, "vocab_size": null, "d_inner": )",
      mamba2 ? absl::StrCat(model.hidden_size()) : "null", R"(, "d_xb": )",
      options.base.num_kv_heads * options.base.head_dim, R"(, "intermediate_size": )",
      options.base.intermediate_size, R"(, "hidden_act": "silu", "n_layer": )",
      options.mixers.size(), R"(, "attn_layers": [)", absl::StrJoin(attention, ", "), "]}\n");
}

void Fill(uint64_t seed, const std::string& name, double gain, TinyTensor& tensor) {
  const SyntheticTensor values(seed, name, tensor.shape.back());
  for (size_t i = 0; i < tensor.values.size(); ++i) {
    const double v = values.Uniform(static_cast<int64_t>(i));
    tensor.values[i] = static_cast<float>(gain * (values.offset() + values.factor() * v));
  }
}

}  // namespace

HybridOptions ServedHybridOptions() {
  HybridOptions options{.mixers = "2A1A2A"};
  options.base.num_heads = 9;
  options.base.num_kv_heads = 3;
  options.base.head_dim = 16;
  options.base.intermediate_size = 384;
  options.base.max_context_tokens = 2048;
  return options;
}

TinyModel MakeHybridModel(const HybridOptions& options) {
  TinyModelOptions base = options.base;
  base.num_layers = static_cast<int64_t>(options.mixers.size());
  TinyModel model = MakeTinyModel(base);
  for (size_t i = 0; i < options.mixers.size(); ++i) {
    MixerShapes(model, options, static_cast<int64_t>(i)).Replace(options.mixers[i]);
  }
  for (auto& [name, tensor] : model.tensors) {
    if (!absl::StrContains(name, ".mamba.") && !absl::StrContains(name, ".mha.")) continue;
    // Projections half as strong again, so that greedy output wanders.
    const double gain = absl::StrContains(name, "_proj") && tensor.shape.size() == 2 ? 1.5 : 1.0;
    Fill(base.seed, name, gain, tensor);
  }
  return model;
}

std::vector<double> CounterUniforms(uint64_t seed, const std::string& name, int64_t count) {
  const SyntheticTensor tensor(seed, name, 1);
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(tensor.Uniform(i));
  return values;
}

void FillByCounter(TinyModel& model, uint64_t seed) {
  for (auto& [name, tensor] : model.tensors) Fill(seed, name, /*gain=*/1.0, tensor);
}

absl::Status WriteHybridFolder(const TinyModel& model, const HybridOptions& options,
                               const std::string& dir, DType dtype) {
  RETURN_IF_ERROR(WriteTinyFolder(model, dir, dtype));
  std::ofstream out(dir + "/mamba_config.json", std::ios::binary);
  out << MambaConfigJson(model, options);
  out.close();
  return out ? absl::OkStatus() : absl::UnavailableError(dir + ": cannot be written");
}

}  // namespace krait::testing
