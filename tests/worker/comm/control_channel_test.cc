#include "worker/comm/control_channel.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace krait {
namespace {

std::shared_ptr<const int> Message(int value) { return std::make_shared<const int>(value); }

TEST(ControlChannelTest, EveryRankReceivesEverythingInOrder) {
  ControlChannel<int> channel(3, 2);
  std::vector<std::thread> ranks;
  for (int r = 0; r < 3; ++r) {
    ranks.emplace_back([&channel, r] {
      for (int i = 0; i < 100; ++i) EXPECT_EQ(*channel.Receive(r), i);
      EXPECT_EQ(channel.Receive(r), nullptr);
    });
  }
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(channel.Broadcast(Message(i)));
  channel.Close();
  for (std::thread& rank : ranks) rank.join();
}

TEST(ControlChannelTest, SenderWaitsForTheSlowestRank) {
  ControlChannel<int> channel(2, 1);
  EXPECT_TRUE(channel.Broadcast(Message(1)));
  EXPECT_EQ(*channel.Receive(0), 1);
  std::thread sender([&channel] { EXPECT_TRUE(channel.Broadcast(Message(2))); });
  EXPECT_EQ(*channel.Receive(1), 1);  // only now is there room at rank 1
  EXPECT_EQ(*channel.Receive(1), 2);
  sender.join();
  EXPECT_EQ(*channel.Receive(0), 2);
}

TEST(ControlChannelTest, CloseReleasesASenderThatWaits) {
  ControlChannel<int> channel(1, 1);
  EXPECT_TRUE(channel.Broadcast(Message(1)));
  std::thread sender([&channel] { EXPECT_FALSE(channel.Broadcast(Message(2))); });
  channel.Close();
  sender.join();
  EXPECT_EQ(*channel.Receive(0), 1);  // what was sent is still delivered
  EXPECT_EQ(channel.Receive(0), nullptr);
}

}  // namespace
}  // namespace krait
