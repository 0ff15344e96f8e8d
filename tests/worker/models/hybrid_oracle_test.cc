// Every kind of hybrid against hybrid_oracle.py: expected logits are committed, weights are
// computed by both sides and go through a real checkpoint.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/runner_bench.h"

namespace krait::testing {
namespace {

constexpr uint64_t kSeed = 7;
constexpr int kNumTokens = 300, kVocab = 260;
constexpr int kPositions[] = {0, 1, 2, 5, 31, 32, 33, 64, 127, 200, 255, 299};

// The script's WINDOW and LLAMA3.
constexpr int64_t kWindow = 40;
constexpr char kLlama3[] = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 256})";

struct OracleCase {
  HybridOptions options;
  std::string name;
  DType stored = DType::kF32;
};

HybridOptions OptionsOf(char mixer, const std::string& mask, int ratio, bool fused, bool tied) {
  HybridOptions options;
  options.mixers.clear();
  for (const char layer : mask) options.mixers += layer == 'A' ? 'A' : mixer;
  options.fused = fused;
  options.base = {.num_heads = 2 * ratio,
                  .num_kv_heads = 2,
                  .head_dim = 16,
                  .intermediate_size = 24,
                  .vocab_size = kVocab,
                  .tie_word_embeddings = tied};
  return options;
}

// Of one mixer: a sliding window; scaled RoPE; the same listed beside fused names, which were
// trained without; weights stored as bfloat16.
void AddSpecialCases(char mixer, std::vector<OracleCase>& cases) {
  const auto add = [&](const char* what, bool fused) -> OracleCase& {
    return cases.emplace_back(OracleCase{OptionsOf(mixer, ".A.A.A.A", 3, fused, true),
                                         absl::StrCat("Mamba", std::string(1, mixer), what)});
  };
  add(" windowed", false).options.base.sliding_window = kWindow;
  add(" scaled", false).options.base.rope_scaling = kLlama3;
  add(" scaling listed", true).options.base.rope_scaling = kLlama3;
  add(" bf16", false).stored = DType::kBF16;
}

// In the order of the script's cases().
std::vector<OracleCase> Cases() {
  const std::string masks[] = {"........", ".......A", "...A...A", ".A.A.A.A", "AAAAAAAA"};
  std::vector<OracleCase> cases;
  for (const char mixer : {'1', '2'}) {
    for (const std::string& mask : masks) {
      for (const int ratio : {4, 3, 1}) {
        for (const bool fused : {true, false}) {
          for (const bool tied : {true, false}) {
            const bool attention_alone = mask == masks[4], none = mask == masks[0];
            if (mixer == '2' && (attention_alone || (none && !fused))) continue;
            cases.push_back(
                {OptionsOf(mixer, mask, ratio, fused, tied),
                 absl::StrCat("Mamba", std::string(1, mixer), " ", mask, " ratio ", ratio,
                              fused ? " fused" : " separate", tied ? " tied" : " untied")});
          }
        }
      }
    }
  }
  for (const char mixer : {'1', '2'}) AddSpecialCases(mixer, cases);
  return cases;
}

std::vector<float> ReadExpected() {
  std::ifstream in("tests/worker/models/testdata/hybrid_oracle.bin", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

std::vector<TokenId> Tokens() {
  std::vector<TokenId> tokens;
  for (const double u : CounterUniforms(kSeed, "tokens", kNumTokens)) {
    tokens.push_back(static_cast<TokenId>(static_cast<int64_t>((u + 1.0) * 0x1p23) % kVocab));
  }
  return tokens;
}

TEST(HybridOracle, TheFixtureHasAllCases) {
  EXPECT_EQ(ReadExpected().size(), Cases().size() * std::size(kPositions) * kVocab);
}

// One prompt in one pass, another time in a chunk and then token by token.
TEST(HybridOracle, PrefillAndDecodingAgreeWithTheFormulas) {
  const std::vector<OracleCase> cases = Cases();
  const std::vector<float> expected = ReadExpected();
  const std::vector<TokenId> tokens = Tokens();
  const std::string dir = ::testing::TempDir() + "/hybrid_oracle";
  ModelRunnerOptions options = TinyRunnerOptions();
  options.max_tokens = options.max_logits = kNumTokens;
  double worst = 0;
  for (size_t c = 0; c < cases.size(); ++c) {
    SCOPED_TRACE(cases[c].name);
    TinyModel model = MakeHybridModel(cases[c].options);
    FillByCounter(model, kSeed);
    ASSERT_TRUE(WriteHybridFolder(model, cases[c].options, dir, cases[c].stored).ok());
    RunnerBench bench(dir, 1, options);
    TestSequence prefill{.tokens = tokens, .pages = PageRange(0, 75)};
    const Logits all = bench.Forward({prefill.Next(kNumTokens, kNumTokens)});
    TestSequence decode{.tokens = tokens, .pages = PageRange(0, 75), .state_slot = 3};
    Logits one_by_one = bench.Forward({decode.Next(20, 20)});
    while (decode.num_computed < kNumTokens) {
      one_by_one.push_back(bench.Forward({decode.Next(1, 1)})[0]);
    }
    EXPECT_TRUE(SameBits(all, one_by_one));
    for (size_t i = 0; i < std::size(kPositions); ++i) {
      const float* logits = expected.data() + (c * std::size(kPositions) + i) * kVocab;
      double largest = 0, difference = 0;
      for (int id = 0; id < kVocab; ++id) {
        largest = std::max(largest, std::abs(double{logits[id]}));
        difference = std::max(difference, std::abs(double{all[kPositions[i]][id]} - logits[id]));
      }
      ASSERT_LE(difference, 1e-4 * largest) << "position " << kPositions[i];
      worst = std::max(worst, difference / largest);
    }
  }
  RecordProperty("worst", absl::StrCat(worst));
  std::printf("largest difference: %.2g of the position's largest logit\n", worst);
}

}  // namespace
}  // namespace krait::testing
