#include "common/log_entry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/json.h"
#include "common/log_format.h"
#include "common/log_limiter.h"

namespace krait {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

// Everything that breaks lines, terminals or quoting.
const char kHostile[] = "a\nb\r\x1b[31m \"q\" \\ \xe2\x80\xa8 \xff end";

LogEntry Entry(std::string message) {
  return {.severity = LogSeverity::kWarning,
          .time = "2026-01-02T03:04:05.000006Z",
          .pid = 7,
          .file = "engine.cc",
          .line = 42,
          .prefix = "role=target",
          .message = std::move(message)};
}

JsonValue Parsed(const LogEntry& entry) {
  const std::string line = FormatJson(entry);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_LE(line.size(), static_cast<size_t>(kMaxLogLineBytes));
  for (unsigned char byte : line) EXPECT_LT(byte, 0x80);
  const auto json = ParseJson(line);
  EXPECT_TRUE(json.ok()) << json.status() << ": " << line;
  return json.value_or(JsonValue());
}

TEST(LogEntryTest, TextIsOneLine) {
  EXPECT_EQ(FormatText(Entry("a=1\nb=2")),
            "W 2026-01-02T03:04:05.000006Z 7 engine.cc:42] role=target a=1 b=2\n");
}

TEST(LogEntryTest, JsonHasAFieldForEveryPair) {
  const JsonValue json =
      Parsed(Entry("request_id=r-1 tokens=12 seconds=0.5 code=0042 msg=\"two words\" stray words"));
  EXPECT_EQ(json.GetString("severity").value(), "WARNING");
  EXPECT_EQ(json.GetString("source").value(), "engine.cc:42");
  EXPECT_EQ(json.GetInt("pid").value(), 7);
  EXPECT_EQ(json.GetString("role").value(), "target");
  EXPECT_EQ(json.GetString("request_id").value(), "r-1");
  EXPECT_EQ(json.GetInt("tokens").value(), 12);
  EXPECT_EQ(json.GetString("seconds").value(), "0.5");
  EXPECT_EQ(json.GetString("code").value(), "0042");
  EXPECT_EQ(json.GetString("msg").value(), "two words");
  EXPECT_EQ(json.GetString("text").value(), "stray words");
}

TEST(LogEntryTest, JsonGivesBackWhatLogTextEscaped) {
  const std::string text = "a\nb \"q\" \\ \xe2\x80\xa8 end";
  EXPECT_EQ(Parsed(Entry("prompt=" + LogText(text))).GetString("prompt").value(), text);
}

TEST(LogEntryTest, HostileTextStaysInsideItsField) {
  const JsonValue json = Parsed(Entry("prompt=" + LogText(kHostile) + " tokens=3"));
  EXPECT_EQ(json.GetInt("tokens").value(), 3);
  EXPECT_THAT(FormatText(Entry("prompt=" + LogText(kHostile))), Not(HasSubstr("\x1b")));
  Parsed(Entry(kHostile));                    // not even escaped
  Parsed(Entry("pid=9 pid=10 role=\"open"));  // keys twice, a quote that never ends
}

TEST(LogEntryTest, LongEntriesAreCut) {
  const std::string text = FormatText(Entry("msg=" + std::string(100'000, 'x')));
  EXPECT_EQ(text.size(), static_cast<size_t>(kMaxLogLineBytes));
  EXPECT_THAT(text, EndsWith("...\n"));
  const JsonValue json =
      Parsed(Entry("a=1 long=" + std::string(100'000, 'x') + " b=2 " + std::string(9000, 'y')));
  EXPECT_EQ(json.GetInt("a").value(), 1);
  EXPECT_EQ(json.GetInt("b").value(), 2);
  EXPECT_THAT(LogText(std::string(300, 'x')), EndsWith("x...\""));
  EXPECT_EQ(LogText(std::string(300, 'x')).size(), 256u + 5);
}

TEST(LogLimiterTest, BurstThenRateAndTheCountOfWhatWasLeftOut) {
  LogLimiter limiter(2, 10);
  const char* const file = "a.cc";
  const absl::Duration now = absl::Seconds(5);
  EXPECT_THAT(limiter.Take(file, 1, now), Optional(0));
  EXPECT_THAT(limiter.Take(file, 1, now), Optional(0));
  for (int i = 0; i < 30; ++i) EXPECT_EQ(limiter.Take(file, 1, now), std::nullopt);
  EXPECT_THAT(limiter.Take(file, 2, now), Optional(0));  // another place
  EXPECT_THAT(limiter.Take(file, 1, now + absl::Milliseconds(100)), Optional(30));
  EXPECT_EQ(limiter.Take(file, 1, now + absl::Milliseconds(150)), std::nullopt);
}

TEST(LogFormatTest, RefusesUnknownFormatsAndVerbosities) {
  EXPECT_FALSE(MakeLogOptions("", 0)->json);
  EXPECT_TRUE(MakeLogOptions("json", 9)->json);
  EXPECT_THAT(MakeLogOptions("xml", 0).status().message(), HasSubstr("log_format"));
  EXPECT_THAT(MakeLogOptions("", 10).status().message(), HasSubstr("log_verbosity"));
  EXPECT_FALSE(MakeLogOptions("", -1).ok());
}

}  // namespace
}  // namespace krait
