// SmolLM2's tokenizer against Hugging Face's, on the lines of make_reference.py.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/json.h"
#include "tests/coordinator/tokenizer/reference_file.h"
#include "tests/coordinator/tokenizer_model/model_file.h"

namespace krait {
namespace {

constexpr char kReference[] = "tests/coordinator/tokenizer/testdata/smollm2_reference.txt";

using testing::ReferenceLine;

// The reference drops bytes that have no piece; so do we.
std::string WithoutUnspellableBytes(const std::string& text) {
  std::string kept;
  for (char byte : text) {
    if (std::string("\x04\x06\x13\x14\x16\x1d\xf1\xf2").find(byte) == std::string::npos) {
      kept += byte;
    }
  }
  return kept;
}

TEST(SmolLm2ReferenceTest, IdsEqualOnEveryLine) {
  const Tokenizer* tokenizer = testing::ModelTokenizer();
  ASSERT_NE(tokenizer, nullptr);
  const std::vector<ReferenceLine> lines = testing::ReadReference(kReference);
  ASSERT_GE(lines.size(), 2000u);
  size_t num_different = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const absl::StatusOr<std::vector<TokenId>> ids = tokenizer->Encode(lines[i].text, false);
    ASSERT_TRUE(ids.ok()) << ids.status() << " in line " << i + 1;
    if (*ids == lines[i].ids) continue;
    if (++num_different <= 5) {
      EXPECT_EQ(*ids, lines[i].ids) << "line " << i + 1 << " " << QuoteJson(lines[i].text);
    }
  }
  EXPECT_EQ(num_different, 0u);
}

TEST(SmolLm2ReferenceTest, DecodingGivesTheBytesBack) {
  const Tokenizer* tokenizer = testing::ModelTokenizer();
  ASSERT_NE(tokenizer, nullptr);
  for (const ReferenceLine& line : testing::ReadReference(kReference)) {
    const absl::StatusOr<std::string> text = tokenizer->Decode(line.ids, true);
    ASSERT_TRUE(text.ok()) << text.status();
    ASSERT_EQ(*text, WithoutUnspellableBytes(line.text));
  }
}

}  // namespace
}  // namespace krait
