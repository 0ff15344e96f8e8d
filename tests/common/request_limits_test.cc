#include "common/request_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "common/field_error.h"

namespace krait {
namespace {

using testing::HasSubstr;
using v1::SamplingParams;

constexpr ModelLimits kLimits{.max_context_tokens = 100, .vocab_size = 50};

struct Case {
  std::string name;
  std::function<void(SamplingParams&)> edit;
  std::string bad_field;  // empty: allowed
};

template <typename Setter, typename Value>
Case Set(const std::string& name, Setter setter, Value value, const std::string& bad_field) {
  return {name, [=](SamplingParams& sampling) { (sampling.*setter)(value); }, bad_field};
}

// Just inside and just outside of every range.
std::vector<Case> SamplingCases() {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<Case> cases;
  const auto range = [&](const std::string& field, auto setter, std::vector<float> good,
                         std::vector<float> bad) {
    for (float v : good) cases.push_back(Set(field, setter, v, ""));
    bad.insert(bad.end(), {nan, inf, -inf});
    for (float v : bad) cases.push_back(Set(field, setter, v, "sampling." + field));
  };
  const float one = std::nextafter(1.0f, 2.0f);
  range("temperature", &SamplingParams::set_temperature, {0, 1e-6f, 100}, {-1e-6f, 100.1f});
  range("top_p", &SamplingParams::set_top_p, {1e-6f, 1}, {0, one});
  range("min_p", &SamplingParams::set_min_p, {0, 1}, {-1e-6f, one});
  range("repetition_penalty", &SamplingParams::set_repetition_penalty, {0.01f, 10}, {0, 10.01f});
  range("presence_penalty", &SamplingParams::set_presence_penalty, {-2, 2}, {-2.01f, 2.01f});
  range("frequency_penalty", &SamplingParams::set_frequency_penalty, {-2, 2}, {-2.01f, 2.01f});
  const auto integers = [&](const std::string& field, auto setter, std::vector<int> good,
                            std::vector<int> bad) {
    for (int v : good) cases.push_back(Set(field, setter, v, ""));
    for (int v : bad) cases.push_back(Set(field, setter, v, "sampling." + field));
  };
  integers("top_k", &SamplingParams::set_top_k, {0, 50}, {-1, 51});
  integers("max_tokens", &SamplingParams::set_max_tokens, {1, 100}, {0, -1, 101});
  integers("logprobs", &SamplingParams::set_logprobs, {0, 20}, {-1, 21});
  integers("n", &SamplingParams::set_n, {1, 8}, {0, -1, 9});
  integers("min_tokens", &SamplingParams::set_min_tokens, {0, 100}, {-1, 101});
  return cases;
}

TEST(RequestLimitsTest, AcceptsTheRangesEndsAndRefusesWhatLiesOutside) {
  for (const Case& c : SamplingCases()) {
    SamplingParams sampling;
    c.edit(sampling);
    const absl::Status status = CheckSampling(sampling, kLimits);
    EXPECT_EQ(ErrorField(status), c.bad_field) << c.name << " " << sampling.ShortDebugString();
    EXPECT_EQ(status.ok(), c.bad_field.empty()) << c.name << " " << sampling.ShortDebugString();
  }
}

TEST(RequestLimitsTest, MessagesNameLimitAndValue) {
  SamplingParams sampling;
  sampling.set_top_p(1.5);
  EXPECT_EQ(CheckSampling(sampling, kLimits).message(),
            "sampling.top_p: must be above 0 and at most 1, got 1.5");
}

TEST(RequestLimitsTest, StopStringsAreCountedMeasuredAndUtf8) {
  SamplingParams sampling;
  for (int i = 0; i < kMaxStopStrings; ++i)
    sampling.add_stop(std::string(kMaxStopStringBytes, 'x'));
  EXPECT_TRUE(CheckSampling(sampling, kLimits).ok());
  sampling.set_stop(3, std::string(kMaxStopStringBytes + 1, 'x'));
  EXPECT_EQ(ErrorField(CheckSampling(sampling, kLimits)), "sampling.stop[3]");
  sampling.set_stop(3, "");
  EXPECT_EQ(ErrorField(CheckSampling(sampling, kLimits)), "sampling.stop[3]");
  sampling.set_stop(3, "\xc3");
  EXPECT_EQ(ErrorField(CheckSampling(sampling, kLimits)), "sampling.stop[3]");
  sampling.set_stop(3, "x");
  sampling.add_stop("one too many");
  EXPECT_EQ(ErrorField(CheckSampling(sampling, kLimits)), "sampling.stop");
}

TEST(RequestLimitsTest, StopTokenIdsLieInTheVocabulary) {
  SamplingParams sampling;
  sampling.add_stop_token_ids(0);
  sampling.add_stop_token_ids(49);
  EXPECT_TRUE(CheckSampling(sampling, kLimits).ok());
  sampling.add_stop_token_ids(50);
  EXPECT_EQ(ErrorField(CheckSampling(sampling, kLimits)), "sampling.stop_token_ids[2]");
  sampling.set_stop_token_ids(2, -1);
  EXPECT_FALSE(CheckSampling(sampling, kLimits).ok());
  sampling.clear_stop_token_ids();
  for (int i = 0; i < kMaxStopTokenIds; ++i) sampling.add_stop_token_ids(1);
  EXPECT_TRUE(CheckSampling(sampling, kLimits).ok());
  sampling.add_stop_token_ids(1);
  EXPECT_EQ(ErrorField(CheckSampling(sampling, kLimits)), "sampling.stop_token_ids");
}

TEST(RequestLimitsTest, LogitBiasIsCountedFiniteInRangeAndOfTheVocabulary) {
  constexpr ModelLimits kLarge{.max_context_tokens = 100, .vocab_size = 1000};
  SamplingParams sampling;
  auto& biases = *sampling.mutable_logit_bias();
  for (int id = 0; id < kMaxLogitBiases; ++id) biases[id] = id % 2 == 0 ? -100.0f : 100.0f;
  EXPECT_TRUE(CheckSampling(sampling, kLarge).ok());
  biases[999] = 0;
  EXPECT_EQ(CheckSampling(sampling, kLarge).message(),
            "sampling.logit_bias: at most 300 entries, got 301");
  biases.clear();
  biases[49] = 1;
  EXPECT_TRUE(CheckSampling(sampling, kLimits).ok());
  biases[50] = 1;
  EXPECT_EQ(CheckSampling(sampling, kLimits).message(),
            "sampling.logit_bias[50]: token id must be 0 to 49");
  biases.erase(50);
  biases[-1] = 1;
  EXPECT_EQ(ErrorField(CheckSampling(sampling, kLimits)), "sampling.logit_bias[-1]");
  const float inf = std::numeric_limits<float>::infinity();
  for (float bad : {std::nanf(""), inf, -inf, std::nextafter(100.0f, inf), -100.5f}) {
    biases.clear();
    biases[7] = bad;
    EXPECT_EQ(ErrorField(CheckSampling(sampling, kLimits)), "sampling.logit_bias[7]") << bad;
  }
}

TEST(RequestLimitsTest, MinTokensFitIntoMaxTokens) {
  SamplingParams sampling;
  sampling.set_max_tokens(20);
  sampling.set_min_tokens(20);
  EXPECT_TRUE(FillSampling(10, kLimits, sampling).ok());
  sampling.set_min_tokens(21);
  EXPECT_EQ(FillSampling(10, kLimits, sampling).message(),
            "sampling.min_tokens: must be 0 to 20, got 21");
}

TEST(RequestLimitsTest, FillsDefaultsAndKeepsWhatWasSet) {
  SamplingParams sampling;
  sampling.set_min_p(0.25);
  ASSERT_TRUE(FillSampling(10, kLimits, sampling).ok());
  EXPECT_EQ(sampling.temperature(), 1);
  EXPECT_EQ(sampling.top_p(), 1);
  EXPECT_EQ(sampling.min_p(), 0.25);
  EXPECT_EQ(sampling.repetition_penalty(), 1);
  EXPECT_TRUE(sampling.has_top_k());
  EXPECT_TRUE(sampling.has_min_tokens());
  EXPECT_EQ(sampling.n(), 1);
  EXPECT_EQ(sampling.max_tokens(), 90);
  EXPECT_FALSE(sampling.has_seed());
  EXPECT_FALSE(sampling.has_logprobs());
  SamplingParams roomy;
  ASSERT_TRUE(FillSampling(10, {.max_context_tokens = 1000, .vocab_size = 50}, roomy).ok());
  EXPECT_EQ(roomy.max_tokens(), kDefaultMaxTokens);
}

TEST(RequestLimitsTest, PromptAndMaxTokensFitIntoTheContextTogether) {
  SamplingParams sampling;
  sampling.set_max_tokens(90);
  EXPECT_TRUE(FillSampling(10, kLimits, sampling).ok());
  sampling.set_max_tokens(91);
  EXPECT_EQ(ErrorField(FillSampling(10, kLimits, sampling)), "sampling.max_tokens");
}

TEST(RequestLimitsTest, PromptTokenIdsAreCountedAndInRange) {
  const std::vector<int32_t> longest(99, 7);
  EXPECT_TRUE(CheckPromptTokenIds(longest, kLimits).ok());
  EXPECT_FALSE(CheckPromptTokenIds(std::vector<int32_t>(100, 7), kLimits).ok());
  EXPECT_FALSE(CheckPromptTokenIds({}, kLimits).ok());
  EXPECT_EQ(ErrorField(CheckPromptTokenIds({1, 50}, kLimits)), "prompt_token_ids[1]");
  EXPECT_EQ(ErrorField(CheckPromptTokenIds({-1}, kLimits)), "prompt_token_ids[0]");
}

TEST(RequestLimitsTest, MaxDraftTokens) {
  EXPECT_TRUE(CheckMaxDraftTokens(0).ok());
  EXPECT_TRUE(CheckMaxDraftTokens(kMaxRequestDraftTokens).ok());
  EXPECT_FALSE(CheckMaxDraftTokens(-1).ok());
  EXPECT_FALSE(CheckMaxDraftTokens(kMaxRequestDraftTokens + 1).ok());
}

TEST(RequestLimitsTest, RequestIdsHaveAClosedAlphabet) {
  EXPECT_TRUE(CheckRequestId("aZ09._:-").ok());
  EXPECT_TRUE(CheckRequestId(std::string(128, 'a')).ok());
  EXPECT_FALSE(CheckRequestId(std::string(129, 'a')).ok());
  EXPECT_FALSE(CheckRequestId("").ok());
  for (const char* bad : {"a b", "a\n", "\xc3\xa9", "a/b", "a\"b"}) {
    const absl::Status status = CheckRequestId(bad);
    EXPECT_FALSE(status.ok()) << bad;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr(bad)));  // no user text
  }
}

TEST(RequestLimitsTest, Utf8ErrorsNameTheOffset) {
  for (const char* good :
       {"", "ascii", "\xc3\xa9", "\xed\x9f\xbf", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(CheckUtf8("prompt", good).ok()) << good;
  }
  // Stray continuation, cut sequence, overlong forms, surrogate, past U+10FFFF, never valid.
  for (const char* bad : {"ab\x80", "ab\xc3", "ab\xc0\xaf", "ab\xe0\x80\xaf", "ab\xf0\x8f\xbf\xbf",
                          "ab\xed\xa0\x80", "ab\xf4\x90\x80\x80", "ab\xff", "ab\xe2\x82"}) {
    const absl::Status status = CheckUtf8("prompt", bad);
    EXPECT_EQ(ErrorField(status), "prompt");
    EXPECT_THAT(std::string(status.message()), HasSubstr("offset 2 "));
  }
}

}  // namespace
}  // namespace krait
