// SmolLM2's tokenizer against Hugging Face's, on the lines of make_reference.py.

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/json.h"
#include "tests/coordinator/tokenizer_model/model_file.h"

namespace krait {
namespace {

constexpr char kReference[] = "tests/coordinator/tokenizer/testdata/smollm2_reference.txt";

struct Line {
  std::string text;
  std::vector<TokenId> ids;
};

// A string, or a list of [string, times].
std::string TextOf(const JsonValue& value) {
  if (value.is_string()) return value.as_string();
  std::string text;
  for (const JsonValue& run : value.as_array()) {
    for (int64_t i = 0; i < run.as_array()[1].as_int(); ++i) text += run.as_array()[0].as_string();
  }
  return text;
}

// "5 7,8*2" is 5 7 8 7 8.
std::vector<TokenId> IdsOf(const std::string& text) {
  std::vector<TokenId> ids;
  for (absl::string_view group : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(group, '*');
    int times = 1;
    if (parts.size() == 2) {
      EXPECT_TRUE(absl::SimpleAtoi(parts[1], &times));
    }
    for (; times > 0; --times) {
      for (absl::string_view number : absl::StrSplit(parts[0], ',')) {
        EXPECT_TRUE(absl::SimpleAtoi(number, &ids.emplace_back()));
      }
    }
  }
  return ids;
}

std::vector<Line> ReadReference() {
  std::ifstream file(kReference);
  EXPECT_TRUE(file.is_open()) << kReference;
  std::vector<Line> lines;
  for (std::string row; std::getline(file, row);) {
    const size_t tab = row.find('\t');
    const absl::StatusOr<JsonValue> value = ParseJson(row.substr(0, tab));
    EXPECT_TRUE(value.ok()) << value.status() << " in line " << lines.size() + 1;
    lines.push_back({TextOf(*value), IdsOf(row.substr(tab + 1))});
  }
  return lines;
}

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
  const std::vector<Line> lines = ReadReference();
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
  for (const Line& line : ReadReference()) {
    const absl::StatusOr<std::string> text = tokenizer->Decode(line.ids, true);
    ASSERT_TRUE(text.ok()) << text.status();
    ASSERT_EQ(*text, WithoutUnspellableBytes(line.text));
  }
}

}  // namespace
}  // namespace krait
