#include "worker/tools/overlay.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/gguf_reader.h"
#include "common/input_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "worker/models/hybrid_layers.h"

namespace krait {
namespace {

constexpr char kDigestKey[] = "krait.overlay.base_sha256";
constexpr char kKindKey[] = "krait.overlay.kind";
constexpr char kLayersKey[] = "llama.block_count";
constexpr uint64_t kPieceBytes = 1 << 20;

absl::Status Bad(const std::string& path, const char* field, const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", field, ": ", reason));
}

absl::StatusOr<std::string> FileDigest(const std::string& path) {
  ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(path));
  Sha256 digest;
  std::vector<char> piece;
  for (uint64_t at = 0; at < file.size(); at += piece.size()) {
    piece.resize(std::min(kPieceBytes, file.size() - at));
    RETURN_IF_ERROR(file.ReadAt(at, absl::MakeSpan(piece)));
    digest.Update({piece.data(), piece.size()});
  }
  return digest.FinishHex();
}

}  // namespace

absl::StatusOr<Overlay> Overlay::Open(const std::string& path, const Checkpoint& base) {
  ASSIGN_OR_RETURN(const GgufHeader header, GgufHeader::Read(path));
  ASSIGN_OR_RETURN(const std::string kind, header.GetString(kKindKey));
  ASSIGN_OR_RETURN(const std::string wanted, header.GetString(kDigestKey));
  ASSIGN_OR_RETURN(const int64_t num_layers, header.GetInt(kLayersKey));
  if (kind != "mixers" && kind != "draft") {
    return Bad(path, kKindKey, absl::StrCat("mixers or draft wanted, got ", kind));
  }
  if (!base.files().is_gguf()) {
    return Bad(path, kDigestKey, "its base is a GGUF file, the model given is none");
  }
  ASSIGN_OR_RETURN(const std::string actual, FileDigest(base.files().gguf));
  if (actual != wanted) {
    return Bad(path, kDigestKey,
               absl::StrCat("made for the base ", wanted, "; ", base.files().gguf, " is ", actual));
  }
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(path));
  return Overlay(std::move(checkpoint), kind == "draft", num_layers);
}

absl::StatusOr<ModelConfig> Overlay::Apply(const ModelConfig& base) const {
  const std::string& path = checkpoint_.files().gguf;
  ModelConfig config = base;
  if (num_layers_ < 1 || num_layers_ > base.num_layers ||
      (!is_draft_ && num_layers_ != base.num_layers)) {
    return Bad(path, kLayersKey,
               absl::StrCat(num_layers_, " layers, the base has ", base.num_layers));
  }
  if (is_draft_) {
    const auto map = checkpoint_.tensors().find(kDraftTokenMapName);
    if (map == checkpoint_.tensors().end() || map->second.shape.size() != 1) {
      return Bad(path, kDraftTokenMapName, "a draft has this tensor, of one dimension");
    }
    config.tie_word_embeddings = false;
    config.draft_vocab_size = map->second.num_elements();
  }
  config.num_layers = num_layers_;
  config.layers.assign(num_layers_, LayerKind::kAttention);
  RETURN_IF_ERROR(LoadHybridLayers(checkpoint_, config));
  return config;
}

const Checkpoint& Overlay::SourceOf(std::string_view name, const Checkpoint& base) const {
  const bool own = checkpoint_.Has(name) || (is_draft_ && name != kEmbeddingName);
  return own ? checkpoint_ : base;
}

}  // namespace krait
