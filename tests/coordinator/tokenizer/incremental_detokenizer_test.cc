#include "coordinator/tokenizer/incremental_detokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace krait {
namespace {

// Every piece is what the test says: all ways to cut a text into tokens can be tried.
class ListTokenizer : public Tokenizer {
 public:
  explicit ListTokenizer(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  absl::StatusOr<std::vector<TokenId>> EncodePart(std::string_view, bool, bool) const override {
    return absl::UnimplementedError("decodes only");
  }
  int vocab_size() const override { return static_cast<int>(pieces_.size()); }
  std::string_view PieceBytes(TokenId id) const override {
    return pieces_[static_cast<size_t>(id)];
  }
  bool IsSpecial(TokenId id) const override { return PieceBytes(id) == "<special>"; }

 private:
  const std::vector<std::string> pieces_;
};

struct Result {
  std::string text;
  std::optional<IncrementalDetokenizer::Stop> stop;
  std::vector<std::string> deltas;
};

Result Detokenize(const std::vector<std::string>& pieces,
                  IncrementalDetokenizer::Options options = {}) {
  const ListTokenizer tokenizer(pieces);
  auto detokenizer = IncrementalDetokenizer::Create(tokenizer, std::move(options));
  EXPECT_TRUE(detokenizer.ok()) << detokenizer.status();
  Result result;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    result.deltas.push_back(*detokenizer->Push(id));
  }
  result.deltas.push_back(detokenizer->Finish());
  result.stop = detokenizer->stop();
  for (const std::string& delta : result.deltas) {
    EXPECT_FALSE(FindInvalidUtf8(delta).has_value());
    result.text += delta;
  }
  return result;
}

// Calls `check` with every way to cut `bytes` into tokens.
void ForEveryCut(const std::string& bytes,
                 const std::function<void(const std::vector<std::string>&)>& check) {
  for (uint32_t cuts = 0; cuts < 1u << (bytes.size() - 1); ++cuts) {
    std::vector<std::string> pieces(1);
    for (size_t i = 0; i < bytes.size(); ++i) {
      pieces.back() += bytes[i];
      if (cuts >> i & 1 && i + 1 < bytes.size()) pieces.emplace_back();
    }
    check(pieces);
  }
}

// The piece that holds byte `at`.
int64_t PieceOf(const std::vector<std::string>& pieces, size_t at) {
  int64_t index = 0;
  for (const std::string& piece : pieces) {
    if (at < piece.size()) return index;
    at -= piece.size();
    ++index;
  }
  return -1;
}

struct Case {
  std::string bytes;
  std::vector<std::string> stops;
  std::string text;
  int last_byte;  // that completes a stop, -1: none
  size_t stop_index;
};

TEST(IncrementalDetokenizerTest, ResultDoesNotDependOnHowBytesAreCutIntoTokens) {
  const std::vector<Case> cases = {
      {"a\xc3\xa9\xf0\x9f\x98\x80z", {}, "a\xc3\xa9\xf0\x9f\x98\x80z", -1, 0},
      {"a\xf0\x9f\x98", {}, "a\xef\xbf\xbd", -1, 0},
      {"a\xf0\x9fz\xff\x80", {}, "a\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd", -1, 0},
      {"\xed\xa0\x80", {}, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", -1, 0},
      {"one\nUser: x", {"\nUser:"}, "one", 8, 0},
      {"aabaabaaac", {"aabaaa"}, "aab", 8, 0},
      {"xabcdx", {"abcd", "bc"}, "xa", 3, 1},  // complete first
      {"xabcdx", {"bcd", "abcd"}, "x", 4, 1},  // at the same byte: the longest
      {"stop sto", {"stop!"}, "stop sto", -1, 0},
      {"ab\xe2\x82\xac.", {"\xe2\x82\xac"}, "ab", 4, 0},
      {"a\xe2\x82"
       "END",
       {"END"},
       "a\xef\xbf\xbd",
       5,
       0},
  };
  for (const Case& c : cases) {
    ForEveryCut(c.bytes, [&](const std::vector<std::string>& pieces) {
      const Result result = Detokenize(pieces, {.stops = c.stops});
      ASSERT_EQ(result.text, c.text);
      ASSERT_EQ(result.stop.has_value(), c.last_byte >= 0);
      if (!result.stop) return;
      ASSERT_EQ(result.stop->token_index, PieceOf(pieces, static_cast<size_t>(c.last_byte)));
      ASSERT_EQ(result.stop->stop_index, c.stop_index);
    });
  }
}

TEST(IncrementalDetokenizerTest, HoldsBackOnlyWhatMayStillBecomeAStop) {
  const Result result = Detokenize({"abc", "S", "x", "ST", "OP", "tail"}, {.stops = {"STOP"}});
  EXPECT_THAT(result.deltas, ::testing::ElementsAre("abc", "", "Sx", "", "", "", ""));
  EXPECT_EQ(result.stop->token_index, 4);
}

TEST(IncrementalDetokenizerTest, SpecialTokensCountButLeaveNoText) {
  const std::vector<std::string> pieces = {"a", "<special>", "S", "<special>", "TOP"};
  EXPECT_EQ(Detokenize(pieces).text, "aSTOP");
  EXPECT_EQ(Detokenize(pieces, {.skip_special = false}).text, "a<special>S<special>TOP");
  const Result stopped = Detokenize(pieces, {.stops = {"STOP"}});
  EXPECT_EQ(stopped.text, "a");
  EXPECT_EQ(stopped.stop->token_index, 4);
}

TEST(IncrementalDetokenizerTest, IncludesTheStopOnRequest) {
  EXPECT_EQ(Detokenize({"aST", "OPb"}, {.stops = {"STOP"}, .include_stop = true}).text, "aSTOP");
}

TEST(IncrementalDetokenizerTest, RefusesBadStopsAndIds) {
  const ListTokenizer tokenizer({"a"});
  for (const std::string stop : {"", "\xff"}) {
    const auto created = IncrementalDetokenizer::Create(tokenizer, {.stops = {"ok", stop}});
    EXPECT_EQ(created.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(created.status().message()), ::testing::HasSubstr("stop[1]"));
  }
  auto detokenizer = IncrementalDetokenizer::Create(tokenizer, {});
  EXPECT_EQ(detokenizer->Push(1).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(detokenizer->num_tokens(), 0);
}

TEST(IncrementalDetokenizerTest, StopsAreLookedForAfterMinTokensOnly) {
  // The stop stands in tokens 0-1, across the border at 2-3, and after it.
  const std::vector<std::string> pieces = {"a", "b", "xa", "b", "y", "ab", "z"};
  const Result none = Detokenize(pieces, {.stops = {"ab"}, .min_tokens = 7});
  EXPECT_EQ(none.text, "abxabyabz");
  EXPECT_FALSE(none.stop.has_value());
  const Result after = Detokenize(pieces, {.stops = {"ab"}, .min_tokens = 3});
  EXPECT_EQ(after.text, "abxaby");
  ASSERT_TRUE(after.stop.has_value());
  EXPECT_EQ(after.stop->token_index, 5);
  EXPECT_EQ(Detokenize(pieces, {.stops = {"ab"}, .min_tokens = 2}).text, "abx");
  EXPECT_EQ(Detokenize(pieces, {.stops = {"ab"}}).text, "");
  // A character that is cut by the border is still one character.
  EXPECT_EQ(Detokenize({"\xc3", "\xa9"}, {.stops = {"q"}, .min_tokens = 1}).text, "\xc3\xa9");
}

}  // namespace
}  // namespace krait
