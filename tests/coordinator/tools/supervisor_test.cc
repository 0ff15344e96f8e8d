#include "coordinator/tools/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/time/clock.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

ChildSpec Shell(const std::string& name, const std::string& script) {
  return {name, {"/bin/sh", "-c", script}, ::testing::TempDir() + "/supervisor-" + name + ".log"};
}

// Polls with `now` standing still until an event comes.
std::string NextEvent(Supervisor& supervisor, absl::Duration now) {
  for (int i = 0; i < 2000; ++i) {
    const auto events = supervisor.Poll(now);
    if (!events.empty()) return events.front();
    absl::SleepFor(absl::Milliseconds(5));
  }
  return "";
}

TEST(SupervisorTest, StartsAgainWhatDiesAfterAPauseThatDoubles) {
  Supervisor supervisor({Shell("a", "exec sleep 100")});
  ASSERT_TRUE(supervisor.StartAll(absl::ZeroDuration()).ok());
  const pid_t first = supervisor.pid("a");
  kill(first, SIGKILL);
  EXPECT_THAT(NextEvent(supervisor, absl::Seconds(1)),
              HasSubstr("signal 9, starting again in 200ms"));
  EXPECT_TRUE(supervisor.Poll(absl::Seconds(1)).empty());
  EXPECT_THAT(NextEvent(supervisor, absl::Milliseconds(1200)), HasSubstr("started"));
  EXPECT_NE(supervisor.pid("a"), first);
  kill(supervisor.pid("a"), SIGKILL);
  EXPECT_THAT(NextEvent(supervisor, absl::Seconds(2)), HasSubstr("in 400ms"));
}

TEST(SupervisorTest, ALongLifeStartsThePauseOver) {
  Supervisor supervisor({Shell("a", "exec sleep 100")});
  ASSERT_TRUE(supervisor.StartAll(absl::ZeroDuration()).ok());
  kill(supervisor.pid("a"), SIGKILL);
  NextEvent(supervisor, absl::Seconds(1));
  NextEvent(supervisor, absl::Seconds(2));
  kill(supervisor.pid("a"), SIGKILL);
  EXPECT_THAT(NextEvent(supervisor, absl::Seconds(60)), HasSubstr("in 200ms"));
}

TEST(SupervisorTest, ABadModelIsReported) {
  Supervisor supervisor({Shell("good", "exec sleep 100"), Shell("bad", "exit 65")});
  ASSERT_TRUE(supervisor.StartAll(absl::ZeroDuration()).ok());
  EXPECT_THAT(NextEvent(supervisor, absl::Seconds(1)), HasSubstr("exit code 65"));
  ASSERT_TRUE(supervisor.hopeless_status());
  EXPECT_EQ(WEXITSTATUS(*supervisor.hopeless_status()), 65);
  EXPECT_EQ(supervisor.hopeless_child()->name, "bad");
}

TEST(SupervisorTest, StopEndsEveryoneEvenWhoIgnoresIt) {
  Supervisor supervisor({Shell("polite", "exec sleep 100"),
                         Shell("deaf", "trap '' TERM; while true; do sleep 0.05; done")});
  ASSERT_TRUE(supervisor.StartAll(absl::ZeroDuration()).ok());
  const pid_t polite = supervisor.pid("polite"), deaf = supervisor.pid("deaf");
  absl::SleepFor(absl::Milliseconds(100));  // the shell sets its trap
  supervisor.StopAll(absl::Milliseconds(200));
  EXPECT_NE(kill(polite, 0), 0);
  EXPECT_NE(kill(deaf, 0), 0);
}

}  // namespace
}  // namespace krait
