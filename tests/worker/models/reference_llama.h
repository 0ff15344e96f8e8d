#pragma once

// A Llama written down as its paper's formulas, in double precision, one token after the other,
// with no cache, no pages, no shards and nothing of ours but the weights: the oracle of
// llama_test.cc.

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/token.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait::testing {

class ReferenceLlama {
 public:
  using Vector = std::vector<double>;

  explicit ReferenceLlama(const TinyModel& model) : model_(model) {}

  // Logits after every token.
  std::vector<Vector> Logits(const std::vector<TokenId>& tokens) const {
    std::vector<Vector> stream;
    for (const TokenId token : tokens) stream.push_back(Row("model.embed_tokens.weight", token));
    for (int64_t layer = 0; layer < model_.options.num_layers; ++layer) {
      AddAttention(absl::StrCat("model.layers.", layer, "."), stream);
      AddMlp(absl::StrCat("model.layers.", layer, "."), stream);
    }
    const bool tied = model_.options.tie_word_embeddings;
    std::vector<Vector> logits;
    for (const Vector& x : stream) {
      logits.push_back(Times(tied ? "model.embed_tokens.weight" : "lm_head.weight",
                             Norm("model.norm.weight", x)));
    }
    return logits;
  }

 private:
  const TinyTensor& Weight(const std::string& name) const { return model_.tensors.at(name); }

  Vector Row(const std::string& name, int64_t row) const {
    const TinyTensor& tensor = Weight(name);
    const auto first = tensor.values.begin() + row * tensor.shape[1];
    return Vector(first, first + tensor.shape[1]);
  }

  Vector Times(const std::string& name, const Vector& x) const {
    const TinyTensor& tensor = Weight(name);
    Vector y(tensor.shape[0]);
    for (int64_t i = 0; i < tensor.shape[0]; ++i) {
      for (int64_t k = 0; k < tensor.shape[1]; ++k) {
        y[i] += double{tensor.values[i * tensor.shape[1] + k]} * x[k];
      }
    }
    return y;
  }

  Vector Norm(const std::string& name, const Vector& x) const {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double scale = 1 / std::sqrt(squares / x.size() + model_.options.rms_norm_eps);
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * Weight(name).values[i];
    return y;
  }

  // Rotates every head of x: pairs are (i, i + half).
  void Rotate(Vector& x, int64_t position) const {
    const int64_t half = model_.options.head_dim / 2;
    for (size_t head = 0; head < x.size(); head += 2 * half) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle =
            position * std::pow(double{model_.options.rope_theta}, -double(i) / half);
        const double a = x[head + i], b = x[head + i + half];
        x[head + i] = a * std::cos(angle) - b * std::sin(angle);
        x[head + i + half] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }

  void AddAttention(const std::string& layer, std::vector<Vector>& stream) const {
    std::vector<Vector> keys, values;
    for (size_t t = 0; t < stream.size(); ++t) {
      const Vector x = Norm(layer + "input_layernorm.weight", stream[t]);
      Vector query = Times(layer + "self_attn.q_proj.weight", x);
      keys.push_back(Times(layer + "self_attn.k_proj.weight", x));
      values.push_back(Times(layer + "self_attn.v_proj.weight", x));
      Rotate(query, t);
      Rotate(keys.back(), t);
      const Vector y = Times(layer + "self_attn.o_proj.weight", Attend(query, keys, values));
      for (size_t i = 0; i < y.size(); ++i) stream[t][i] += y[i];
    }
  }

  Vector Attend(const Vector& query, const std::vector<Vector>& keys,
                const std::vector<Vector>& values) const {
    const int64_t d = model_.options.head_dim;
    const int64_t heads_per_group = model_.options.num_heads / model_.options.num_kv_heads;
    Vector out(query.size());
    for (int64_t head = 0; head < model_.options.num_heads; ++head) {
      const int64_t group = head / heads_per_group;
      Vector weights(keys.size());
      double sum = 0;
      for (size_t t = 0; t < keys.size(); ++t) {
        double dot = 0;
        for (int64_t i = 0; i < d; ++i) dot += query[head * d + i] * keys[t][group * d + i];
        weights[t] = std::exp(dot / std::sqrt(double(d)));
        sum += weights[t];
      }
      for (size_t t = 0; t < keys.size(); ++t) {
        for (int64_t i = 0; i < d; ++i) {
          out[head * d + i] += weights[t] / sum * values[t][group * d + i];
        }
      }
    }
    return out;
  }

  void AddMlp(const std::string& layer, std::vector<Vector>& stream) const {
    for (Vector& h : stream) {
      const Vector x = Norm(layer + "post_attention_layernorm.weight", h);
      Vector gate = Times(layer + "mlp.gate_proj.weight", x);
      const Vector up = Times(layer + "mlp.up_proj.weight", x);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      const Vector y = Times(layer + "mlp.down_proj.weight", gate);
      for (size_t i = 0; i < y.size(); ++i) h[i] += y[i];
    }
  }

  const TinyModel& model_;
};

}  // namespace krait::testing
