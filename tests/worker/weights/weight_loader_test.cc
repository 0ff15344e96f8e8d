#include "worker/weights/weight_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/core/bf16.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait {
namespace {

constexpr char kQ[] = "model.layers.0.self_attn.q_proj.weight";
constexpr char kK[] = "model.layers.0.self_attn.k_proj.weight";

class WeightLoaderTest : public ::testing::Test {
 protected:
  WeightLoaderTest() {
    const std::string path = ::testing::TempDir() + "/weight_loader_test.gguf";
    EXPECT_TRUE(WriteTinyGguf(model_, path).ok());
    auto opened = Checkpoint::Open(path);
    EXPECT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = std::make_unique<Checkpoint>(*std::move(opened));
    std::filesystem::remove(path);  // open files stay readable
  }

  float Value(const char* name, int64_t row, int64_t col) const {
    const testing::TinyTensor& tensor = model_.tensors.at(name);
    return tensor.values[row * tensor.shape[1] + col];
  }

  const testing::TinyModel model_ = testing::MakeTinyModel();
  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_F(WeightLoaderTest, StacksRowSlicesAcrossTheirBorder) {
  // Rank 1 of 3: query rows 16..31 over key rows 8..15.
  const auto source = MakeLinearSource(
      *checkpoint_, {WeightSlice::Rows(kQ, 48, 48, 16, 32), WeightSlice::Rows(kK, 24, 48, 8, 16)},
      1, DType::kF32);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->n, 24);
  EXPECT_EQ(source->k, 48);
  std::vector<float> rows(5 * 48);
  ASSERT_TRUE(source->read_rows(14, 19, rows.data()).ok());
  for (int64_t col = 0; col < 48; ++col) {
    EXPECT_EQ(rows[0 * 48 + col], Value(kQ, 30, col));
    EXPECT_EQ(rows[1 * 48 + col], Value(kQ, 31, col));
    EXPECT_EQ(rows[2 * 48 + col], Value(kK, 8, col));
    EXPECT_EQ(rows[4 * 48 + col], Value(kK, 10, col));
  }
}

TEST_F(WeightLoaderTest, CutsColumnsAndRoundsToBf16) {
  constexpr char kDown[] = "model.layers.2.mlp.down_proj.weight";
  const auto source = MakeLinearSource(*checkpoint_, {WeightSlice::Columns(kDown, 48, 96, 32, 64)},
                                       4, DType::kBF16);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->k, 32);
  EXPECT_EQ(source->k_blocks, 4);
  std::vector<float> rows(2 * 32);
  ASSERT_TRUE(source->read_rows(46, 48, rows.data()).ok());
  for (int64_t col = 0; col < 32; ++col) {
    EXPECT_EQ(rows[32 + col], FromBf16(ToBf16(Value(kDown, 47, col + 32))));
  }
}

TEST_F(WeightLoaderTest, SlicesOfAllRanksMakeTheWhole) {
  const std::vector<float>& whole = model_.tensors.at(kQ).values;
  std::vector<float> joined;
  for (int64_t rank = 0; rank < 3; ++rank) {
    const auto part = LoadMatrix(
        *checkpoint_, WeightSlice::Rows(kQ, 48, 48, 16 * rank, 16 * rank + 16), DType::kF32);
    ASSERT_TRUE(part.ok()) << part.status();
    joined.insert(joined.end(), part->begin(), part->end());
  }
  EXPECT_EQ(joined, whole);
}

TEST_F(WeightLoaderTest, LoadsVectors) {
  const auto norm = LoadVector(*checkpoint_, "model.norm.weight", 48, 8, 24, DType::kBF16);
  ASSERT_TRUE(norm.ok()) << norm.status();
  ASSERT_EQ(norm->size(), 16u);
  const float value = model_.tensors.at("model.norm.weight").values[8];
  EXPECT_EQ(norm->front(), FromBf16(ToBf16(value)));
  EXPECT_NE(norm->front(), value);
}

TEST_F(WeightLoaderTest, ChecksShapesBeforeReading) {
  const auto wrong = MakeLinearSource(*checkpoint_, {WeightSlice::All(kQ, 48, 96)}, 1, DType::kF32);
  EXPECT_THAT(wrong.status().message(),
              ::testing::HasSubstr("blk.0.attn_q.weight: shape [48, 48]"));
  const auto missing =
      MakeLinearSource(*checkpoint_, {WeightSlice::All("lm_head.weight", 4, 4)}, 1, DType::kF32);
  EXPECT_THAT(missing.status().message(), ::testing::HasSubstr("tensor output.weight: missing"));
}

}  // namespace
}  // namespace krait
