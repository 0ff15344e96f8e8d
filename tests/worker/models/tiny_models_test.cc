// Models that transformers made, in every file format and with every option that krait serves, give
// transformers' tokens and logits (make_tiny_models.py).

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/runner_bench.h"
#include "worker/weights/safetensors_file.h"

namespace krait::testing {
namespace {

const std::string kTestdata = "tests/worker/models/testdata/";

struct Expected {
  std::vector<TokenId> prompt;
  std::vector<TokenId> tokens;
  Logits logits;  // row i scored tokens[i]
};

template <typename T>
std::vector<T> ReadTensor(const InputFile& file, const SafetensorsTensor& tensor) {
  std::vector<T> values(tensor.num_bytes / sizeof(T));
  const absl::Status status =
      file.ReadAt(tensor.offset, absl::MakeSpan(reinterpret_cast<char*>(values.data()),
                                                static_cast<size_t>(tensor.num_bytes)));
  EXPECT_TRUE(status.ok()) << status;
  return values;
}

Expected ReadExpected(const std::string& path) {
  Expected expected;
  const absl::StatusOr<InputFile> file = InputFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  const auto tensors = ReadSafetensorsHeader(*file);
  EXPECT_TRUE(tensors.ok()) << tensors.status();
  for (const SafetensorsTensor& tensor : *tensors) {
    if (tensor.name == "logits") {
      const std::vector<float> flat = ReadTensor<float>(*file, tensor);
      for (auto row = flat.begin(); row != flat.end(); row += tensor.shape[1]) {
        expected.logits.emplace_back(row, row + tensor.shape[1]);
      }
      continue;
    }
    const std::vector<int64_t> ids = ReadTensor<int64_t>(*file, tensor);
    (tensor.name == "prompt" ? expected.prompt : expected.tokens).assign(ids.begin(), ids.end());
  }
  return expected;
}

struct Generated {
  std::vector<TokenId> tokens;
  Logits logits;
};

// Greedy: the prompt in one pass, then token by token.
Generated Generate(const std::string& path, int num_ranks, const std::vector<TokenId>& prompt,
                   size_t num_tokens) {
  RunnerBench bench(path, num_ranks);
  TestSequence sequence{.tokens = prompt, .pages = PageRange(0, 64)};
  Generated generated;
  int count = static_cast<int>(prompt.size());
  while (generated.tokens.size() < num_tokens) {
    const std::vector<float> row = bench.Forward({sequence.Next(count, 1)})[0];
    const auto best = std::max_element(row.begin(), row.end());
    generated.tokens.push_back(static_cast<TokenId>(best - row.begin()));
    generated.logits.push_back(row);
    sequence.tokens.push_back(generated.tokens.back());
    count = 1;
  }
  return generated;
}

// The largest difference of any logit, relative to its row's largest.
double LargestDifference(const Logits& logits, const Logits& expected) {
  EXPECT_EQ(logits.size(), expected.size());
  double largest = 0;
  for (size_t t = 0; t < logits.size(); ++t) {
    double scale = 0, difference = 0;
    EXPECT_EQ(logits[t].size(), expected[t].size());
    for (size_t i = 0; i < logits[t].size(); ++i) {
      scale = std::max(scale, std::abs(double{expected[t][i]}));
      difference = std::max(difference, std::abs(double{logits[t][i]} - expected[t][i]));
    }
    largest = std::max(largest, difference / scale);
  }
  return largest;
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  std::error_code ignored;  // none is found then
  for (const auto& entry : std::filesystem::directory_iterator(kTestdata, ignored)) {
    if (entry.path().extension() == ".expected") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class TinyModelsTest : public ::testing::TestWithParam<std::string> {
 protected:
  static std::string Model() {
    const std::string path = kTestdata + GetParam();
    return std::filesystem::exists(path) ? path : path + ".gguf";
  }
};

TEST_P(TinyModelsTest, TokensAndLogitsAreThoseOfTransformers) {
  const Expected expected = ReadExpected(kTestdata + GetParam() + ".expected");
  ASSERT_EQ(expected.tokens.size(), 32u);
  const Generated alone = Generate(Model(), 1, expected.prompt, expected.tokens.size());
  EXPECT_EQ(alone.tokens, expected.tokens);
  const double difference = LargestDifference(alone.logits, expected.logits);
  std::printf("%s: logits differ by at most %.1e of the largest\n", GetParam().c_str(), difference);
  EXPECT_LT(difference, 1e-4);
  const Generated two = Generate(Model(), 2, expected.prompt, expected.tokens.size());
  EXPECT_TRUE(SameBits(two.logits, alone.logits)) << "two ranks";
}

INSTANTIATE_TEST_SUITE_P(All, TinyModelsTest, ::testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

TEST(TinyModelsTest, CoverEveryFormatAndOption) { EXPECT_EQ(Names().size(), 24u); }

}  // namespace
}  // namespace krait::testing
