#include "worker/layers/embedding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "tests/support/random_tokens.h"
#include "tests/support/run_ranks.h"
#include "tests/support/tiny_checkpoint.h"
#include "worker/models/model_config.h"

namespace krait::testing {
namespace {

constexpr int64_t kVocabSize = 300;
constexpr int64_t kHidden = 48;

// What every rank embeds `tokens` to.
std::vector<std::vector<float>> Embed(const std::string& path, int num_ranks,
                                      const std::vector<TokenId>& tokens) {
  const Checkpoint checkpoint = *Checkpoint::Open(path);
  Ranks ranks(num_ranks);
  std::vector<std::vector<float>> outs(num_ranks, std::vector<float>(tokens.size() * kHidden));
  ranks.Run([&](int r) {
    RankContext context{.backend = ranks.backend(r),
                        .comm = ranks.comm(r),
                        .sharding = *MakeSharding({3, 96, kVocabSize}, r, num_ranks),
                        .weight_dtype = DType::kF32};
    auto embedding = VocabParallelEmbedding::Load(checkpoint, kEmbeddingName, kHidden, 64, context);
    ASSERT_TRUE(embedding.ok()) << embedding.status();
    const int64_t count = static_cast<int64_t>(tokens.size());
    const TensorView out(outs[r].data(), DType::kF32, {count, kHidden});
    ASSERT_TRUE(embedding->Forward({.num_tokens = count, .token_ids = tokens.data()}, out).ok());
  });
  return outs;
}

TEST(VocabParallelEmbeddingTest, EveryRankHasTheTablesRowsToTheSignOfZero) {
  TinyModel model = MakeTinyModel({.num_layers = 1, .vocab_size = kVocabSize, .seed = 1});
  std::vector<float>& table = model.tensors.at(kEmbeddingName).values;
  for (size_t i = 0; i < table.size(); i += 3) table[i] = -0.0f;  // a sum with +0 would lose it
  const std::string path = ::testing::TempDir() + "/embedding_test";
  ASSERT_TRUE(WriteTinyFolder(model, path).ok());
  const std::vector<TokenId> tokens = RandomTokens(50, kVocabSize, 2);
  for (int num_ranks = 1; num_ranks <= 3; ++num_ranks) {
    for (const std::vector<float>& out : Embed(path, num_ranks, tokens)) {
      for (size_t t = 0; t < tokens.size(); ++t) {
        EXPECT_EQ(std::memcmp(&out[t * kHidden], &table[tokens[t] * kHidden], kHidden * 4), 0)
            << "rank count " << num_ranks << " token " << tokens[t];
      }
    }
  }
}

}  // namespace
}  // namespace krait::testing
