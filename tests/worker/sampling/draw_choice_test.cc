// What a device draws on its own is what the ranks draw together.

#include "worker/sampling/draw_choice.h"

#include <cmath>
#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "worker/sampling/shard_sampler.h"

namespace krait {
namespace {

constexpr int kVocab = 900;

SamplingParams AnyParams(std::mt19937& random) {
  const float temperatures[] = {0, 0.3f, 0.8f, 1, 2.5f};
  const int top_ks[] = {0, 0, 1, 7, 50, 2000};
  const float top_ps[] = {1, 1, 0.95f, 0.5f, 1e-6f};
  const float min_ps[] = {0, 0, 0.02f, 0.3f, 1};
  return {.temperature = temperatures[random() % 5],
          .top_k = top_ks[random() % 6],
          .top_p = top_ps[random() % 5],
          .min_p = min_ps[random() % 5],
          .seed = random(),
          .choice = static_cast<uint32_t>(random() % 3)};
}

std::vector<float> AnyLogits(std::mt19937& random) {
  std::normal_distribution<float> normal(0, random() % 2 == 0 ? 4.0f : 0.5f);
  const bool ties = random() % 3 == 0;
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = ties ? std::round(normal(random)) : normal(random);
  return logits;
}

TEST(DrawChoiceTest, ADeviceDrawsWhatTheRanksDraw) {
  const std::unique_ptr<Backend> backend = CreateCpuBackend({});
  ShardSampler sampler(backend.get(), {.end = kVocab}, 1);
  std::mt19937 random(7);
  for (int trial = 0; trial < 3000; ++trial) {
    const SamplingParams params = AnyParams(random);
    std::vector<float> logits = AnyLogits(random);
    if (trial % 50 == 49) logits[random() % kVocab] = NAN;
    const std::vector<TokenId> history(1 + random() % 300, 5);
    const TensorView view(logits.data(), DType::kF32, {1, kVocab});
    const std::optional<DrawChoice> choice = DrawChoiceOf(params);
    ASSERT_TRUE(choice.has_value());
    const int32_t row = 0, position = static_cast<int32_t>(history.size()) - 1;
    TokenId drawn = 12345;
    backend->DrawTokens({.logits = view,
                         .rows = &row,
                         .positions = &position,
                         .choices = &*choice,
                         .tokens = &drawn});
    const SampleRow sample{
        .params = &params, .history = history, .prompt_tokens = static_cast<int>(history.size())};
    const auto expected = sampler.Sample(
        view, {&sample, 1}, [](absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
          std::memcpy(recv.data(), send.data(), send.size());
          return absl::OkStatus();
        });
    ASSERT_TRUE(expected.ok());
    ASSERT_EQ(drawn, (*expected)[0].id)
        << "trial " << trial << " T " << params.temperature << " k " << params.top_k << " p "
        << params.top_p << " min_p " << params.min_p;
  }
}

TEST(DrawChoiceTest, WhatTakesMoreThanTheRowIsForTheHost) {
  EXPECT_TRUE(DrawChoiceOf({}).has_value());
  EXPECT_FALSE(DrawChoiceOf({.repetition_penalty = 1.1f}).has_value());
  EXPECT_FALSE(DrawChoiceOf({.presence_penalty = 0.1f}).has_value());
  EXPECT_FALSE(DrawChoiceOf({.frequency_penalty = 0.1f}).has_value());
  EXPECT_FALSE(DrawChoiceOf({.num_logprobs = 0}).has_value());
  EXPECT_FALSE(DrawChoiceOf({.logit_bias = {{1, 2}}}).has_value());
  EXPECT_FALSE(DrawChoiceOf({.min_tokens = 2, .end_ids = {3}}).has_value());
}

}  // namespace
}  // namespace krait
