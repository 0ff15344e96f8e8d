#pragma once

// A GGUF file that `python3 -m distill overlay` made of a trained hybrid or draft: only what its
// base file has not, under Hugging Face's names. Its metadata name the base's SHA-256
// ("krait.overlay.base_sha256") and the kind ("krait.overlay.kind"): "mixers" replace what a layer
// of the base mixes by, and its norms; a "draft" is a model of its own but for the base's
// embedding.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/models/model_config.h"
#include "worker/weights/checkpoint.h"

namespace krait {

class Overlay {
 public:
  // Opens `path` and compares the digest of `base`, which is read once. INVALID_ARGUMENT names the
  // file and the field: a base that is no GGUF file or another one, an unknown kind.
  static absl::StatusOr<Overlay> Open(const std::string& path, const Checkpoint& base);

  // What the base becomes with this overlay. INVALID_ARGUMENT names file, field and tensor.
  absl::StatusOr<ModelConfig> Apply(const ModelConfig& base) const;

  // Which of the two holds the tensor `name` of the result.
  const Checkpoint& SourceOf(std::string_view name, const Checkpoint& base) const;

  const Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  Overlay(Checkpoint checkpoint, bool is_draft, int64_t num_layers)
      : checkpoint_(std::move(checkpoint)), is_draft_(is_draft), num_layers_(num_layers) {}

  Checkpoint checkpoint_;
  bool is_draft_;
  int64_t num_layers_;
};

}  // namespace krait
