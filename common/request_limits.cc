#include "common/request_limits.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/status_macros.h"

namespace krait {
namespace {

using v1::SamplingParams;

// One float field: allowed are low (unless open_low) to high.
struct FloatField {
  const char* name;
  bool (SamplingParams::*has)() const;
  float (SamplingParams::*get)() const;
  void (SamplingParams::*set)(float);
  float low;
  bool open_low;
  float high;
  float default_value;
};

#define KRAIT_FLOAT_FIELD(field)                                            \
  "sampling." #field, &SamplingParams::has_##field, &SamplingParams::field, \
      &SamplingParams::set_##field
constexpr FloatField kFloatFields[] = {
    {KRAIT_FLOAT_FIELD(temperature), 0, false, 100, 1},
    {KRAIT_FLOAT_FIELD(top_p), 0, true, 1, 1},
    {KRAIT_FLOAT_FIELD(min_p), 0, false, 1, 0},
    {KRAIT_FLOAT_FIELD(repetition_penalty), 0, true, 10, 1},
    {KRAIT_FLOAT_FIELD(presence_penalty), -2, false, 2, 0},
    {KRAIT_FLOAT_FIELD(frequency_penalty), -2, false, 2, 0},
};
#undef KRAIT_FLOAT_FIELD

absl::Status CheckFloat(const FloatField& field, const SamplingParams& sampling) {
  if (!(sampling.*field.has)()) return absl::OkStatus();
  const float value = (sampling.*field.get)();
  // Written so that NaN, which compares false with everything, is refused.
  const bool above = field.open_low ? value > field.low : value >= field.low;
  if (above && value <= field.high) return absl::OkStatus();
  return FieldError(field.name, absl::StrCat("must be ", field.open_low ? "above " : "", field.low,
                                             field.open_low ? " and at most " : " to ", field.high,
                                             ", got ", value));
}

absl::Status CheckInt(std::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat("must be ", low, " to ", high, ", got ", value));
}

absl::Status CheckCount(std::string_view field, int count, int limit) {
  if (count <= limit) return absl::OkStatus();
  return FieldError(field, absl::StrCat("at most ", limit, " entries, got ", count));
}

absl::Status CheckTokenIds(const std::string& field, absl::Span<const int32_t> ids,
                           int vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    RETURN_IF_ERROR(CheckInt(absl::StrCat(field, "[", i, "]"), ids[i], 0, vocab_size - 1));
  }
  return absl::OkStatus();
}

absl::Status CheckStopStrings(const SamplingParams& sampling) {
  RETURN_IF_ERROR(CheckCount("sampling.stop", sampling.stop_size(), kMaxStopStrings));
  for (int i = 0; i < sampling.stop_size(); ++i) {
    const std::string field = absl::StrCat("sampling.stop[", i, "]");
    const auto size = static_cast<int64_t>(sampling.stop(i).size());
    if (size < 1 || size > kMaxStopStringBytes) {
      return FieldError(field,
                        absl::StrCat("must have 1 to ", kMaxStopStringBytes, " bytes, got ", size));
    }
    RETURN_IF_ERROR(CheckUtf8(field, sampling.stop(i)));
  }
  return absl::OkStatus();
}

// In rising order of the ids, so that of several bad entries the same one is always named.
absl::Status CheckLogitBias(const SamplingParams& sampling, int vocab_size) {
  const auto& unordered = sampling.logit_bias();
  RETURN_IF_ERROR(
      CheckCount("sampling.logit_bias", static_cast<int>(unordered.size()), kMaxLogitBiases));
  const std::map<int32_t, float> biases(unordered.begin(), unordered.end());
  for (const auto& [id, bias] : biases) {
    const std::string field = absl::StrCat("sampling.logit_bias[", id, "]");
    if (id < 0 || id >= vocab_size) {
      return FieldError(field, absl::StrCat("token id must be 0 to ", vocab_size - 1));
    }
    if (std::abs(bias) <= kMaxLogitBias) continue;  // false for NaN
    return FieldError(
        field, absl::StrCat("must be ", -kMaxLogitBias, " to ", kMaxLogitBias, ", got ", bias));
  }
  return absl::OkStatus();
}

bool IsRequestIdByte(unsigned char c) {
  return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == ':' || c == '-';
}

// Length of the UTF-8 sequence that `bytes` begins with; 0 if it is none (RFC 3629, section 4).
size_t Utf8SequenceLength(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || bytes.size() < length) return 0;
  // The second byte's range excludes overlong forms, surrogates and what lies past U+10FFFF.
  const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

absl::Status CheckRequestId(std::string_view request_id) {
  const bool ok = !request_id.empty() && request_id.size() <= kMaxRequestIdBytes &&
                  std::all_of(request_id.begin(), request_id.end(), IsRequestIdByte);
  if (ok) return absl::OkStatus();
  return FieldError("request_id",
                    absl::StrCat("must be 1 to ", kMaxRequestIdBytes,
                                 " bytes of [A-Za-z0-9._:-], got ", request_id.size(), " bytes"));
}

absl::Status CheckUtf8(std::string_view field, std::string_view bytes) {
  for (size_t offset = 0; offset < bytes.size();) {
    const size_t length = Utf8SequenceLength(bytes.substr(offset));
    if (length == 0) {
      return FieldError(field,
                        absl::StrCat("must be UTF-8; the byte at offset ", offset, " is not"));
    }
    offset += length;
  }
  return absl::OkStatus();
}

absl::Status CheckPromptTokenIds(absl::Span<const int32_t> ids, const ModelLimits& limits) {
  if (ids.empty()) return FieldError("prompt", "must have at least one token, got 0");
  if (ids.size() >= static_cast<size_t>(limits.max_context_tokens)) {
    return FieldError("prompt", absl::StrCat("must have fewer tokens than the context of ",
                                             limits.max_context_tokens, ", got ", ids.size()));
  }
  return CheckTokenIds("prompt_token_ids", ids, limits.vocab_size);
}

absl::Status CheckMaxDraftTokens(int max_draft_tokens) {
  return CheckInt("max_draft_tokens", max_draft_tokens, 0, kMaxRequestDraftTokens);
}

absl::Status CheckSampling(const SamplingParams& sampling, const ModelLimits& limits) {
  for (const FloatField& field : kFloatFields) RETURN_IF_ERROR(CheckFloat(field, sampling));
  RETURN_IF_ERROR(CheckInt("sampling.top_k", sampling.top_k(), 0, limits.vocab_size));
  if (sampling.has_max_tokens()) {
    RETURN_IF_ERROR(
        CheckInt("sampling.max_tokens", sampling.max_tokens(), 1, limits.max_context_tokens));
  }
  RETURN_IF_ERROR(CheckInt("sampling.logprobs", sampling.logprobs(), 0,
                           std::min(kMaxTopLogprobs, limits.vocab_size)));
  if (sampling.has_n()) RETURN_IF_ERROR(CheckInt("sampling.n", sampling.n(), 1, kMaxChoices));
  RETURN_IF_ERROR(
      CheckInt("sampling.min_tokens", sampling.min_tokens(), 0, limits.max_context_tokens));
  RETURN_IF_ERROR(CheckLogitBias(sampling, limits.vocab_size));
  RETURN_IF_ERROR(CheckStopStrings(sampling));
  RETURN_IF_ERROR(
      CheckCount("sampling.stop_token_ids", sampling.stop_token_ids_size(), kMaxStopTokenIds));
  return CheckTokenIds("sampling.stop_token_ids", sampling.stop_token_ids(), limits.vocab_size);
}

absl::Status FillSampling(int num_prompt_tokens, const ModelLimits& limits,
                          SamplingParams& sampling) {
  for (const FloatField& field : kFloatFields) {
    if (!(sampling.*field.has)()) (sampling.*field.set)(field.default_value);
  }
  sampling.set_top_k(sampling.top_k());
  sampling.set_min_tokens(sampling.min_tokens());
  if (!sampling.has_n()) sampling.set_n(1);
  const int room = limits.max_context_tokens - num_prompt_tokens;
  if (!sampling.has_max_tokens()) sampling.set_max_tokens(std::min(kDefaultMaxTokens, room));
  if (sampling.max_tokens() > room) {
    return FieldError("sampling.max_tokens",
                      absl::StrCat("prompt (", num_prompt_tokens, " tokens) and max_tokens must ",
                                   "fit into the context of ", limits.max_context_tokens, ", got ",
                                   sampling.max_tokens()));
  }
  return CheckInt("sampling.min_tokens", sampling.min_tokens(), 0, sampling.max_tokens());
}

}  // namespace krait
