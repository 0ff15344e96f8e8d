#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "common/vocabulary.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace krait::testing {

// The default model, which tests/run.sh fetches and names in KRAIT_MODEL. Read once a process. Its
// absence is a failure: a test that is skipped proves nothing.
inline const Vocabulary* ModelVocabulary() {
  static const auto* const loaded = [] {
    const char* path = std::getenv("KRAIT_MODEL");
    return new absl::StatusOr<Vocabulary>(
        path == nullptr ? absl::NotFoundError("KRAIT_MODEL is not set: name the default model's "
                                              ".gguf file (tests/run.sh fetches it)")
                        : Vocabulary::Load(path));
  }();
  if (loaded->ok()) return &**loaded;
  ADD_FAILURE() << loaded->status();
  return nullptr;
}

// Null after a failure.
inline const Tokenizer* ModelTokenizer() {
  const Vocabulary* vocabulary = ModelVocabulary();
  if (vocabulary == nullptr) return nullptr;
  static const auto* const created =
      new absl::StatusOr<std::unique_ptr<const Tokenizer>>(CreateTokenizer(*vocabulary));
  if (created->ok()) return (*created)->get();
  ADD_FAILURE() << created->status();
  return nullptr;
}

}  // namespace krait::testing
