#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "common/logging.h"
#include "kernels/bench/cuda_step_case.h"
#include "kernels/cuda/cuda_backend.h"

namespace krait::kernels {

// Numbers to fill memory with: Gaussian, for a fill of one binade would make every sum exact.
inline std::vector<float> MakeNoise() {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> noise(1 << 20);
  for (float& value : noise) value = normal(generator);
  return noise;
}

// A step's products. Layers use the weights of a few in turn: far more than the L2 cache holds, and
// sooner made.
class StepWeights {
 public:
  using Weight = std::unique_ptr<LinearWeight>;

  StepWeights(Backend& backend, const std::vector<float>& noise) : backend_(backend) {
    for (int i = 0; i < kSets; ++i) {
      in_.push_back(Make(kInWidth, kHidden, 1, noise));
      qkv_.push_back(Make(kQkvWidth, kHidden, 1, noise));
      out_.push_back(Make(kHidden, kHidden, 8, noise));
      gate_up_.push_back(Make(2 * kInner, kHidden, 1, noise));
      down_.push_back(Make(kHidden, kInner, 8, noise));
    }
    head_ = Make(kVocab, kHidden, 1, noise);
  }

  const LinearWeight& in(int layer) const { return *in_[layer % kSets]; }
  const LinearWeight& qkv(int layer) const { return *qkv_[layer % kSets]; }
  const LinearWeight& out(int layer) const { return *out_[layer % kSets]; }
  const LinearWeight& gate_up(int layer) const { return *gate_up_[layer % kSets]; }
  const LinearWeight& down(int layer) const { return *down_[layer % kSets]; }
  const LinearWeight& head() const { return *head_; }

  int64_t BytesOf(const StepCase& c) const {
    int64_t bytes = head_->num_bytes();
    for (int layer = 0; layer < kLayers; ++layer) {
      const LinearWeight& first = c.IsMamba(layer) ? in(layer) : qkv(layer);
      for (const auto* each : {&first, &out(layer), &gate_up(layer), &down(layer)}) {
        bytes += each->num_bytes();
      }
    }
    return bytes;
  }

 private:
  static constexpr int kSets = 4;

  Weight Make(int64_t n, int64_t k, int64_t k_blocks, const std::vector<float>& noise) {
    LinearSource source{n, k, k_blocks, DType::kBF16, nullptr};
    source.read_rows = [&](int64_t begin, int64_t end, float* out) {
      for (int64_t row = begin; row < end; ++row) {
        std::copy_n(noise.data() + row * 977 % (int64_t{1} << 19), k, out + (row - begin) * k);
      }
      return absl::OkStatus();
    };
    auto weight = backend_.PrepareLinear(source);
    CHECK(weight.ok()) << weight.status();
    return *std::move(weight);
  }

  Backend& backend_;
  std::vector<Weight> in_, qkv_, out_, gate_up_, down_;
  Weight head_;
};

}  // namespace krait::kernels
