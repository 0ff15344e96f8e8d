#include "common/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace krait {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(std::string_view text, const JsonLimits& limits = {}) {
  return std::string(ParseJson(text, limits).status().message());
}

TEST(JsonTest, KeepsKindsAndOrder) {
  const auto root = ParseJson(
      R"({"b": [1, -2, 18446744073709551615, 2.5, true, null], "a": "\u00e9\n", "c": {}})");
  ASSERT_TRUE(root.ok()) << root.status();
  ASSERT_EQ(root->as_object().size(), 3u);
  EXPECT_EQ(root->as_object()[0].first, "b");
  const JsonArray& array = root->Find("b")->as_array();
  EXPECT_EQ(array[0].as_int(), 1);
  EXPECT_EQ(array[1].as_int(), -2);
  EXPECT_TRUE(array[2].is_integer());
  EXPECT_EQ(array[2].as_double(), 18446744073709551615.0);
  EXPECT_FALSE(array[3].is_integer());
  EXPECT_EQ(array[3].as_double(), 2.5);
  EXPECT_TRUE(array[4].as_bool());
  EXPECT_TRUE(array[5].is_null());
  EXPECT_EQ(root->Find("a")->as_string(), "\xc3\xa9\n");
  EXPECT_TRUE(root->Find("c")->as_object().empty());
  EXPECT_EQ(root->Find("missing"), nullptr);
}

TEST(JsonTest, GettersNameKeyAndWhatWasFound) {
  const auto root = ParseJson(R"({"n": 3, "x": 1.5, "s": "t", "big": 9223372036854775808})");
  ASSERT_TRUE(root.ok());
  EXPECT_EQ(*root->GetInt("n"), 3);
  EXPECT_EQ(*root->GetDouble("n"), 3.0);
  EXPECT_EQ(*root->GetString("s"), "t");
  EXPECT_THAT(root->GetInt("x").status().message(), HasSubstr("x: an integer wanted, found a num"));
  EXPECT_THAT(root->GetBool("q").status().message(), HasSubstr("q: a boolean wanted, found noth"));
  EXPECT_THAT(root->GetInt("big").status().message(), HasSubstr("above 2^63 - 1"));
}

TEST(JsonTest, RefusesDuplicateKeysAtAnyDepth) {
  EXPECT_THAT(ErrorOf(R"({"a": 1, "b": 2, "a": 3})"), HasSubstr(R"(duplicate key "a")"));
  EXPECT_THAT(ErrorOf(R"([{"x": {"k": 1, "\u006b": 2}}])"), HasSubstr(R"(duplicate key "k")"));
}

TEST(JsonTest, RefusesWhatFollowsTheDocument) {
  EXPECT_NE(ErrorOf("{} {}"), "");
  EXPECT_NE(ErrorOf("1 x"), "");
  EXPECT_TRUE(ParseJson("{} \n").ok());
}

TEST(JsonTest, RefusesMalformedText) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":}", "{'a':1}", "nul", "01", "1e999",
                           "\"\xff\"", "\"\xc0\x80\"", "\"\\ud800\"", "[1] // note", "\"\n\""}) {
    EXPECT_FALSE(ParseJson(text).ok()) << text;
  }
}

TEST(JsonTest, SaysAboutWhereItFailed) {
  EXPECT_THAT(ErrorOf(R"({"a": 1, "a": 3})"), HasSubstr("near byte 16"));
}

TEST(JsonTest, BoundsDepth) {
  JsonLimits limits;
  limits.max_depth = 4;
  EXPECT_TRUE(ParseJson("[[[[1]]]]", limits).ok());
  EXPECT_THAT(ErrorOf("[[[[[1]]]]]", limits), HasSubstr("deeper than 4"));
  EXPECT_TRUE(ParseJson(std::string(32, '[') + std::string(32, ']')).ok());
  EXPECT_THAT(ErrorOf(std::string(33, '[') + std::string(33, ']')), HasSubstr("deeper than 32"));
  EXPECT_THAT(ErrorOf(std::string(1 << 20, '[')), HasSubstr("deeper than 32"));
}

TEST(JsonTest, BoundsBytesAndValues) {
  JsonLimits limits;
  limits.max_bytes = 8;
  EXPECT_TRUE(ParseJson("[1,2,3] ", limits).ok());
  EXPECT_THAT(ErrorOf("[1,2,3]  ", limits), HasSubstr("9 bytes, the limit is 8"));
  limits = {};
  limits.max_values = 4;
  EXPECT_TRUE(ParseJson("[1,2,3]", limits).ok());
  EXPECT_THAT(ErrorOf("[1,2,3,4]", limits), HasSubstr("more than 4 values"));
}

TEST(JsonTest, FileErrorsNameThePath) {
  EXPECT_EQ(ReadJsonFile("/nonexistent/x.json").status().code(), absl::StatusCode::kNotFound);
  const std::string path = ::testing::TempDir() + "/bad.json";
  std::ofstream(path) << "{";
  const absl::Status status = ReadJsonFile(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(path));
}

TEST(JsonTest, QuotedTextParsesBack) {
  const std::string text = "a\"b\\c\n\x01 \xf0\x9f\x90\x8d";
  EXPECT_EQ(ParseJson(QuoteJson(text))->as_string(), text);
  EXPECT_EQ(ParseJson(QuoteJson("a\xff"))->as_string(), "a\xef\xbf\xbd");
}

}  // namespace
}  // namespace krait
