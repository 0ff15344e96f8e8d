#pragma once

// Defaults, ranges and messages of every field of a generation request. The coordinator checks for
// the client's sake, the worker again because a coordinator may be older or broken: neither may
// reach the engine with a value it was not built for. No message repeats the user's text.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "krait/v1/generation.pb.h"

namespace krait {

inline constexpr int kMaxRequestIdBytes = 128;
inline constexpr int kMaxStopStrings = 8;
inline constexpr int kMaxStopStringBytes = 128;
inline constexpr int kMaxStopTokenIds = 64;
inline constexpr int kMaxTopLogprobs = 20;
inline constexpr int kMaxChoices = 8;
inline constexpr int kMaxLogitBiases = 300;
inline constexpr float kMaxLogitBias = 100;  // in either direction
inline constexpr int kMaxRequestDraftTokens = 15;
inline constexpr int kMaxChatMessages = 1024;
inline constexpr int kDefaultMaxTokens = 256;

// What the model allows.
struct ModelLimits {
  int max_context_tokens = 0;
  int vocab_size = 0;
};

// The functions below return OK or a FieldError (common/field_error.h): INVALID_ARGUMENT that
// names the field as it stands in generation.proto, the limit and the value. NaN and infinities are
// out of every range.

// 1 to 128 bytes of [A-Za-z0-9._:-]. Empty is an error here; the coordinator fills it in before.
absl::Status CheckRequestId(std::string_view request_id);

// Names the offset of the first byte that is not UTF-8 (RFC 3629: no surrogates, no overlong
// forms).
absl::Status CheckUtf8(std::string_view field, std::string_view bytes);

// At least one id, fewer than max_context_tokens, all in [0, vocab_size).
absl::Status CheckPromptTokenIds(absl::Span<const int32_t> ids, const ModelLimits& limits);

// 0 to 15.
absl::Status CheckMaxDraftTokens(int max_draft_tokens);

// Every field that is set; what depends on the prompt's length is FillSampling's to check.
absl::Status CheckSampling(const v1::SamplingParams& sampling, const ModelLimits& limits);

// Gives every absent field but `seed` and `logprobs` its default; max_tokens: 256, or what the
// context leaves after `num_prompt_tokens` if that is less. Then checks that prompt and max_tokens
// fit into the context together, and min_tokens into max_tokens. Call CheckSampling and
// CheckPromptTokenIds first.
absl::Status FillSampling(int num_prompt_tokens, const ModelLimits& limits,
                          v1::SamplingParams& sampling);

}  // namespace krait
