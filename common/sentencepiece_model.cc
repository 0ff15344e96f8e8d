#include "common/sentencepiece_model.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/piece_merges.h"
#include "common/space_prefix.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "krait/sentencepiece_model.pb.h"

namespace krait {
namespace {

class ModelReader {
 public:
  ModelReader(const std::string& path, const SentencePieceModel& model) : model_(model) {
    vocabulary_.source = path;
    vocabulary_.model = "llama";
  }

  absl::StatusOr<Vocabulary> Read() {
    RETURN_IF_ERROR(CheckTrainer());
    RETURN_IF_ERROR(ReadNormalizer());
    RETURN_IF_ERROR(ReadPieces());
    SetSpecialIds();
    return std::move(vocabulary_);
  }

 private:
  absl::Status Error(std::string_view field, std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(vocabulary_.source, ": ", ToAbsl(field), ": ", ToAbsl(what)));
  }

  absl::Status CheckTrainer() const {
    constexpr int kBpe = 2;
    const SentencePieceModel::TrainerSpec& trainer = model_.trainer_spec();
    if (trainer.model_type() != kBpe) {
      return Error("trainer_spec.model_type",
                   absl::StrCat(trainer.model_type(), " is not supported, only 2 (BPE)"));
    }
    if (trainer.treat_whitespace_as_suffix()) {
      return Error("trainer_spec.treat_whitespace_as_suffix", "not supported, must be false");
    }
    return absl::OkStatus();
  }

  absl::Status ReadNormalizer() {
    const SentencePieceModel::NormalizerSpec& normalizer = model_.normalizer_spec();
    if (!normalizer.precompiled_charsmap().empty()) {
      return Error("normalizer_spec.precompiled_charsmap", "normalization is not supported");
    }
    if (!model_.denormalizer_spec().precompiled_charsmap().empty()) {
      return Error("denormalizer_spec.precompiled_charsmap", "normalization is not supported");
    }
    if (normalizer.remove_extra_whitespaces()) {
      return Error("normalizer_spec.remove_extra_whitespaces", "not supported, must be false");
    }
    if (!normalizer.escape_whitespaces()) {
      return Error("normalizer_spec.escape_whitespaces", "not supported, must be true");
    }
    const SpacePrefix prefix =
        normalizer.add_dummy_prefix() ? SpacePrefix::kAlways : SpacePrefix::kNever;
    vocabulary_.pre_tokenizer = std::string(SpacePrefixName(prefix));
    return absl::OkStatus();
  }

  absl::Status ReadPieces() {
    if (model_.pieces_size() > kMaxVocabularySize) {
      return Error("pieces", absl::StrCat(model_.pieces_size(), ", limit ", kMaxVocabularySize));
    }
    std::vector<double> scores;
    for (const SentencePieceModel::Piece& piece : model_.pieces()) {
      const std::optional<TokenKind> kind = KindOf(piece.type());
      if (!kind.has_value()) {
        return Error(absl::StrCat("pieces[", vocabulary_.pieces.size(), "].type"),
                     absl::StrCat(piece.type(), " is not supported"));
      }
      vocabulary_.pieces.push_back(piece.piece());
      vocabulary_.kinds.push_back(*kind);
      scores.push_back(double{piece.score()});
    }
    return SetMergesByScore(scores, vocabulary_);
  }

  // User-defined pieces (4) are not: what follows one in a text gets no space of its own, other
  // than what follows an added token.
  static std::optional<TokenKind> KindOf(int type) {
    switch (type) {
      case 1:
        return TokenKind::kNormal;
      case 2:
      case 3:
        return TokenKind::kControl;
      case 5:
        return TokenKind::kUnused;
      case 6:
        return TokenKind::kByte;
      default:
        return std::nullopt;
    }
  }

  void SetSpecialIds() {
    const auto present = [](int32_t id) {
      return id < 0 ? std::nullopt : std::optional<TokenId>(id);
    };
    const SentencePieceModel::TrainerSpec& trainer = model_.trainer_spec();
    vocabulary_.bos_id = present(trainer.bos_id());
    vocabulary_.pad_id = present(trainer.pad_id());
    if (trainer.eos_id() >= 0) vocabulary_.eos_ids = {trainer.eos_id()};
    vocabulary_.add_bos = vocabulary_.bos_id.has_value();
  }

  const SentencePieceModel& model_;
  Vocabulary vocabulary_;
};

}  // namespace

absl::StatusOr<Vocabulary> ParseSentencePieceModel(const std::string& path,
                                                   std::string_view bytes) {
  SentencePieceModel model;
  if (bytes.size() > kMaxSentencePieceModelBytes ||
      !model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": no SentencePiece model, or cut short, or more than ",
                     kMaxSentencePieceModelBytes, " bytes"));
  }
  return ModelReader(path, model).Read();
}

}  // namespace krait
