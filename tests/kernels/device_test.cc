#include "kernels/core/device.h"

#include <gtest/gtest.h>

namespace krait {
namespace {

TEST(DeviceTest, NamesAreRead) {
  EXPECT_EQ(ParseDevice("")->ToString(), "cpu:0");
  EXPECT_EQ(ParseDevice("cpu")->ToString(), "cpu:0");
  EXPECT_EQ(ParseDevice("cuda")->ToString(), "cuda:0");
  EXPECT_EQ(ParseDevice("cuda:7")->ToString(), "cuda:7");
}

TEST(DeviceTest, WrongNamesSayWhatIsTaken) {
  for (const char* text : {"gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:1024", "cuda1", "CPU"}) {
    const auto device = ParseDevice(text);
    ASSERT_FALSE(device.ok()) << text;
    EXPECT_NE(std::string(device.status().message()).find("cuda:N"), std::string::npos);
  }
}

}  // namespace
}  // namespace krait
