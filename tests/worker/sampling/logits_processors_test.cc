#include "worker/sampling/logits_processors.h"

#include "gtest/gtest.h"

namespace krait {
namespace {

constexpr int kVocab = 8;

std::vector<float> Process(std::vector<float> logits, const SampleRow& row) {
  const auto backend = CreateCpuBackend({});
  ProcessorRow processed{.row = &row, .shard = {logits.data(), kVocab, 0, nullptr}};
  ProcessLogits(backend.get(), {.begin = 0, .end = kVocab}, {&processed, 1});
  return logits;
}

TEST(LogitsProcessorsTest, ABiasIsPartOfWhatIsPenalized) {
  const SamplingParams params{.repetition_penalty = 2, .logit_bias = {{1, -3}, {2, 3}, {3, 1}}};
  const std::vector<TokenId> history = {1, 2};
  const std::vector<float> logits = Process({0, 1, -1, 5, 0, 0, 0, 0}, {&params, history, 2, {}});
  EXPECT_EQ(logits[1], (1.0f - 3) * 2) << "negative once it is biased";
  EXPECT_EQ(logits[2], (-1.0f + 3) / 2) << "positive once it is biased";
  EXPECT_EQ(logits[3], 6) << "biased, never seen";
}

TEST(LogitsProcessorsTest, RepetitionCoversThePromptPresenceAndFrequencyOnlyTheOutput) {
  const SamplingParams params{
      .repetition_penalty = 2, .presence_penalty = 0.5f, .frequency_penalty = 0.25f};
  const std::vector<TokenId> history = {1, 2, 2, 3};
  const std::vector<float> logits =
      Process({4, 4, 4, 4, 4, 4, 4, 4}, {&params, history, /*prompt_tokens=*/2, {}});
  EXPECT_EQ(logits[0], 4);
  EXPECT_EQ(logits[1], 2) << "of the prompt";
  EXPECT_EQ(logits[2], 2 - 0.25f - 0.5f) << "the first output token, also of the prompt";
  EXPECT_EQ(logits[3], 2 - 0.25f - 0.5f);
}

// Row j of a verification is the row that plain decoding has after drafts 1 to j.
TEST(LogitsProcessorsTest, DraftsBeforeARowArePenalizedLikeTokens) {
  const SamplingParams params{
      .repetition_penalty = 1.5f, .presence_penalty = 0.5f, .frequency_penalty = 0.25f};
  const std::vector<TokenId> tokens = {1, 2, 3, 4, 3, 5};
  const std::vector<float> raw = {4, 3, -2, 1, 5, -1, 2, 0};
  for (size_t committed = 2; committed <= tokens.size(); ++committed) {
    const auto all = absl::MakeConstSpan(tokens);
    for (size_t end = committed; end <= tokens.size(); ++end) {
      EXPECT_EQ(
          Process(raw, {&params, all.first(committed), 2, all.subspan(committed, end - committed)}),
          Process(raw, {&params, all.first(end), 2, {}}))
          << committed << " of " << end;
    }
  }
}

}  // namespace
}  // namespace krait
