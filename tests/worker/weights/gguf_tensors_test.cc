#include "worker/weights/gguf_tensors.h"

#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <vector>

#include "worker/weights/checkpoint.h"

namespace krait {
namespace {

constexpr char kFixture[] = "tests/worker/weights/testdata/gguf_blocks.gguf";

std::vector<float> ReadAll(const Checkpoint& checkpoint, const std::string& name) {
  const CheckpointTensor& tensor = checkpoint.tensors().find(name)->second;
  std::vector<float> values(tensor.num_elements());
  EXPECT_TRUE(checkpoint.ReadRows(name, 0, tensor.num_rows(), values.data()).ok());
  return values;
}

class GgufBlocksTest : public ::testing::TestWithParam<const char*> {};

// The fixture holds what the PyPI package `gguf` decodes: see make_gguf_fixture.py.
TEST_P(GgufBlocksTest, DecodesToTheBitsOfThePackage) {
  const auto checkpoint = Checkpoint::Open(kFixture);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::string name = GetParam();
  ASSERT_TRUE(checkpoint->Has(name));
  EXPECT_EQ(checkpoint->tensors().find(name)->second.type->name, name);
  const std::vector<float> values = ReadAll(*checkpoint, name);
  const std::vector<float> wanted = ReadAll(*checkpoint, name + ".f32");
  ASSERT_EQ(values.size(), wanted.size());
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(wanted[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, GgufBlocksTest,
                         ::testing::Values("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
                                           "Q4_K", "Q5_K", "Q6_K"),
                         [](const auto& info) { return std::string(info.param); });

// Ranges need not begin or end with a block.
TEST(GgufTensorsTest, PartsOfBlocksEqualTheWhole) {
  const auto checkpoint = Checkpoint::Open(kFixture);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  for (const char* name : {"Q4_1", "Q6_K"}) {
    const std::vector<float> whole = ReadAll(*checkpoint, name);
    for (int64_t begin : {0, 1, 31, 32, 255, 300}) {
      for (int64_t end : {301, 512, 513, 1024}) {
        std::vector<float> part(end - begin);
        ASSERT_TRUE(checkpoint->ReadRows(name, begin, end, part.data()).ok());
        EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin));
      }
    }
  }
}

}  // namespace
}  // namespace krait
