#include "coordinator/tools/request_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "absl/strings/str_split.h"

namespace krait {
namespace {

RequestSource Source(const LoadOptions& options) { return *RequestSource::Create(options); }

TEST(RequestSourceTest, SameSeedSameRequestsAndArrivals) {
  LoadOptions options;
  options.rate = 100;
  options.prompt_tokens = {1, 50};
  options.output_tokens = {1, 50};
  options.cancel_rate = 0.5;
  RequestSource one = Source(options);
  RequestSource two = Source(options);
  options.request.mutable_sampling()->set_seed(2);
  RequestSource other = Source(options);
  int different = 0;
  for (int i = 0; i < 20; ++i) {
    const PlannedRequest a = one.Next(), b = two.Next(), c = other.Next();
    EXPECT_EQ(a.request.SerializeAsString(), b.request.SerializeAsString());
    EXPECT_EQ(a.cancel_after_tokens, b.cancel_after_tokens);
    EXPECT_EQ(one.NextGap(), two.NextGap());
    different += a.request.prompt() != c.request.prompt();
  }
  EXPECT_GT(different, 15);
}

TEST(RequestSourceTest, LengthsCoverTheirRangesAndNothingElse) {
  LoadOptions options;
  options.prompt_tokens = {2, 4};
  options.output_tokens = {5, 6};
  RequestSource source = Source(options);
  std::set<size_t> words;
  std::set<int> outputs;
  for (int i = 0; i < 100; ++i) {
    const v1::GenerateRequest request = source.Next().request;
    words.insert(std::vector<std::string>(absl::StrSplit(request.prompt(), ' ')).size());
    outputs.insert(request.sampling().max_tokens());
    EXPECT_TRUE(request.sampling().ignore_eos());
  }
  EXPECT_THAT(words, testing::ElementsAre(2, 3, 4));
  EXPECT_THAT(outputs, testing::ElementsAre(5, 6));
}

TEST(RequestSourceTest, GapsAreExponentialWithTheRatesMean) {
  LoadOptions options;
  options.rate = 50;
  RequestSource source = Source(options);
  double sum = 0;
  int above_mean = 0;
  constexpr int kGaps = 50'000;
  for (int i = 0; i < kGaps; ++i) {
    const double gap = absl::ToDoubleSeconds(source.NextGap());
    sum += gap;
    above_mean += gap > 0.02;
  }
  EXPECT_NEAR(sum / kGaps, 0.02, 0.0004);
  EXPECT_NEAR(static_cast<double>(above_mean) / kGaps, 0.3679, 0.01);  // 1/e
}

TEST(RequestSourceTest, CancelsTheShareThatWasAskedForBeforeTheLastToken) {
  LoadOptions options;
  options.cancel_rate = 0.25;
  options.output_tokens = {8, 8};
  RequestSource source = Source(options);
  int cancelled = 0;
  for (int i = 0; i < 4000; ++i) {
    const int after = source.Next().cancel_after_tokens;
    EXPECT_LT(after, 8);
    cancelled += after >= 0;
  }
  EXPECT_NEAR(cancelled, 1000, 100);
}

TEST(RequestSourceTest, PromptsOfAFileComeInACircle) {
  const std::string path = testing::TempDir() + "/prompts.txt";
  std::ofstream(path) << "first\n\nsecond\n";
  LoadOptions options;
  options.prompts_file = path;
  options.chat = true;
  RequestSource source = Source(options);
  std::vector<std::string> prompts;
  for (int i = 0; i < 3; ++i) prompts.push_back(source.Next().request.chat().messages(0).content());
  EXPECT_THAT(prompts, testing::ElementsAre("first", "second", "first"));
  std::ofstream(path, std::ios::trunc) << "\n";
  EXPECT_TRUE(absl::IsInvalidArgument(RequestSource::Create(options).status()));
  options.prompts_file = path + ".missing";
  EXPECT_TRUE(absl::IsNotFound(RequestSource::Create(options).status()));
}

}  // namespace
}  // namespace krait
