#include "common/traceparent.h"

#include <gtest/gtest.h>

#include <string>

namespace krait {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string kHeader = std::string("00-") + kTrace + "-00f067aa0ba902b7-01";

TEST(TraceparentTest, GivesTheTraceId) { EXPECT_EQ(TraceIdOf(kHeader), kTrace); }

TEST(TraceparentTest, LaterVersionsMayBeLonger) {
  EXPECT_EQ(TraceIdOf("cc" + kHeader.substr(2) + "-what-comes"), kTrace);
  EXPECT_EQ(TraceIdOf("cc" + kHeader.substr(2) + ".what-comes"), "");
  EXPECT_EQ(TraceIdOf(kHeader + "-what-comes"), "");
}

TEST(TraceparentTest, InvalidHeadersAreIgnored) {
  for (size_t length = 0; length < kHeader.size(); ++length) {
    EXPECT_EQ(TraceIdOf(kHeader.substr(0, length)), "") << length;
  }
  for (size_t i = 0; i < kHeader.size(); ++i) {
    for (const char c : {'g', 'A', ' ', '\0', '_'}) {
      std::string damaged = kHeader;
      damaged[i] = c;
      EXPECT_EQ(TraceIdOf(damaged), "") << i;
    }
  }
  EXPECT_EQ(TraceIdOf("ff" + kHeader.substr(2)), "");
  EXPECT_EQ(TraceIdOf("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), "");
  EXPECT_EQ(TraceIdOf("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"), "");
}

}  // namespace
}  // namespace krait
