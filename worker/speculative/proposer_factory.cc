#include "worker/speculative/proposer_factory.h"

#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/status_macros.h"
#include "worker/speculative/draft_model_proposer.h"
#include "worker/speculative/ngram_proposer.h"

namespace krait {
namespace {

using Result = absl::StatusOr<std::unique_ptr<Proposer>>;

Result MakeNone(const ProposerOptions&, const Clock*) { return std::unique_ptr<Proposer>(); }

Result MakeNgram(const ProposerOptions&, const Clock*) { return std::make_unique<NgramProposer>(); }

Result MakeDraftModel(const ProposerOptions& options, const Clock* clock) {
  return DraftModelProposer::Create(options.draft, clock);
}

struct ProposerKind {
  std::string_view name;
  Result (*make)(const ProposerOptions&, const Clock*);
};

constexpr ProposerKind kProposers[] = {
    {"none", &MakeNone},
    {"ngram", &MakeNgram},
    {"draft_model", &MakeDraftModel},
};

}  // namespace

Result MakeProposer(const ProposerOptions& options, const Clock* clock) {
  std::string names;
  for (const ProposerKind& kind : kProposers) {
    if (kind.name == options.kind) return kind.make(options, clock);
    absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(kind.name));
  }
  return FieldError("proposer", absl::StrCat("must be one of ", names, ", got ", options.kind));
}

}  // namespace krait
