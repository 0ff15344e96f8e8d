#include "worker/comm/process_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "absl/synchronization/notification.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

int FreePort() { return (*FrameListener::Listen("127.0.0.1", 0))->port(); }

// A group whose processes are threads.
struct Member {
  std::unique_ptr<ProcessGroup> group;
  absl::Status status;
  absl::Status lost_reason;
  absl::Notification lost;
};

ProcessGroupOptions Options(int num_processes) {
  ProcessGroupOptions options;
  options.num_processes = num_processes;
  options.port = FreePort();
  options.settings = "a=1";
  options.join_timeout = absl::Seconds(20);
  return options;
}

void Join(ProcessGroupOptions options, int index, Member& member) {
  options.process_index = index;
  auto group = ProcessGroup::Join(options, [&member](const absl::Status& status) {
    member.lost_reason = status;
    member.lost.Notify();
  });
  member.status = group.status();
  if (group.ok()) member.group = *std::move(group);
}

template <size_t kSize>
void JoinAll(const ProcessGroupOptions& options, Member (&members)[kSize]) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kSize; ++i) {
    threads.emplace_back([&, i] { Join(options, static_cast<int>(i), members[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Member& member : members) ASSERT_TRUE(member.status.ok()) << member.status;
}

TEST(ProcessGroupTest, AllSwapTextsAndHearWhatProcess0Says) {
  Member members[3];
  JoinAll(Options(3), members);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        const std::string text(i * 1000, static_cast<char>('a' + round));
        const auto all = members[i].group->Exchange(text);
        ASSERT_TRUE(all.ok()) << all.status();
        EXPECT_THAT(
            *all, ElementsAre("", std::string(1000, 'a' + round), std::string(2000, 'a' + round)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(members[0].group->Broadcast("plan").ok());
  members[0].group->Leave();
  for (int i = 1; i < 3; ++i) {
    EXPECT_EQ(**members[i].group->Receive(absl::Seconds(20)), "plan");
    EXPECT_TRUE(absl::IsCancelled(members[i].group->Receive(absl::Seconds(20)).status()));
    EXPECT_FALSE(members[i].lost.HasBeenNotified());
  }
}

TEST(ProcessGroupTest, AProcessThatIsGoneIsLostToAll) {
  Member members[3];
  JoinAll(Options(3), members);
  members[1].group.reset();
  members[0].lost.WaitForNotification();
  EXPECT_THAT(std::string(members[0].lost_reason.message()), HasSubstr("process 1"));
  members[0].group.reset();  // it ends, and so
  members[2].lost.WaitForNotification();
  EXPECT_TRUE(absl::IsUnavailable(members[2].group->Receive(absl::Seconds(20)).status()));
}

TEST(ProcessGroupTest, AProcessWhoseLoopHangsFallsSilentAndIsLost) {
  ProcessGroupOptions options = Options(2);
  options.link.beat_interval = absl::Milliseconds(20);
  options.link.silence_limit = absl::Seconds(1);
  Member members[2];
  JoinAll(options, members);
  members[1].group->Vouch(absl::ZeroDuration());
  members[0].lost.WaitForNotification();
  EXPECT_THAT(std::string(members[0].lost_reason.message()), HasSubstr("no heartbeat"));
}

TEST(ProcessGroupTest, OtherSettingsAreRefusedWithBothNamed) {
  const ProcessGroupOptions options = Options(2);
  Member leader, wrong, right;
  std::thread leads([&] { Join(options, 0, leader); });
  ProcessGroupOptions other = options;
  other.settings = "a=2";
  Join(other, 1, wrong);
  EXPECT_TRUE(absl::IsInvalidArgument(wrong.status));
  EXPECT_THAT(std::string(wrong.status.message()), HasSubstr("a=2"));
  EXPECT_THAT(std::string(wrong.status.message()), HasSubstr("a=1"));
  Join(options, 1, right);  // the group still forms
  leads.join();
  EXPECT_TRUE(leader.status.ok()) << leader.status;
  EXPECT_TRUE(right.status.ok()) << right.status;
}

TEST(ProcessGroupTest, StrangersAreSentAway) {
  const ProcessGroupOptions options = Options(2);
  Member members[2];
  std::thread leads([&] { Join(options, 0, members[0]); });
  auto stranger = FrameSocket::Dial("127.0.0.1", options.port, absl::Seconds(20));
  ASSERT_TRUE(stranger.ok());
  ASSERT_TRUE((*stranger)->Send(7, "GET / HTTP/1.1", absl::Seconds(1)).ok());
  Join(options, 1, members[1]);
  leads.join();
  EXPECT_TRUE(members[0].status.ok()) << members[0].status;
}

TEST(ProcessGroupTest, WhoIsNotThereInTimeIsMissed) {
  ProcessGroupOptions options = Options(2);
  options.join_timeout = absl::Milliseconds(100);
  Member leader, follower;
  Join(options, 0, leader);
  EXPECT_TRUE(absl::IsUnavailable(leader.status)) << leader.status;
  Join(options, 1, follower);
  EXPECT_TRUE(absl::IsUnavailable(follower.status)) << follower.status;
}

TEST(FrameSocketTest, AFrameThatClaimsTooMuchIsAnError) {
  const auto listener = *FrameListener::Listen("127.0.0.1", 0);
  std::thread sender([&] {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(listener->port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(write(fd, "\xff\xff\xff\xff\x01", 5), 5);
    close(fd);
  });
  const auto socket = *listener->Accept(absl::Seconds(20));
  EXPECT_EQ(socket->Receive(absl::Seconds(20)).status().code(), absl::StatusCode::kInternal);
  sender.join();
}

TEST(PackStringsTest, CutsAreErrors) {
  const std::string packed = PackStrings({"a", "", "ccc"});
  EXPECT_THAT(*UnpackStrings(packed), ElementsAre("a", "", "ccc"));
  EXPECT_FALSE(UnpackStrings(packed.substr(0, packed.size() - 1)).ok());
  EXPECT_FALSE(UnpackStrings(packed + "x").ok());
}

}  // namespace
}  // namespace krait
