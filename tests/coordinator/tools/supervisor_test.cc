#include "coordinator/tools/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>

#include "absl/time/clock.h"
#include "tests/support/fake_clock.h"

namespace krait {
namespace {

ProcessSpec Shell(const std::string& name, const std::string& script) {
  return {name, {"/bin/sh", "-c", script}, ::testing::TempDir() + "/supervisor-" + name + ".log"};
}

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return false;
}

class SupervisorTest : public ::testing::Test {
 protected:
  std::optional<int> Tick() { return supervisor_.Tick(&name_); }
  // Kills `name` and waits until the supervisor has seen it.
  void KillAndReap(const std::string& name) {
    kill(supervisor_.pid(name), SIGKILL);
    EXPECT_TRUE(Eventually([&] {
      EXPECT_EQ(Tick(), std::nullopt);
      return supervisor_.pid(name) == 0;
    }));
  }

  FakeClock clock_;
  Supervisor supervisor_{clock_};
  std::string name_;
};

// The one that lives on is stopped, so that nothing but SIGKILL ends it.
TEST_F(SupervisorTest, AUnitDiesAndIsStartedAgainAsAWhole) {
  for (const char* name : {"a", "b"}) {
    ProcessSpec spec = Shell(name, "exec sleep 100");
    spec.unit = "unit";
    ASSERT_TRUE(supervisor_.Start(std::move(spec)).ok());
  }
  ASSERT_TRUE(supervisor_.Start(Shell("alone", "exec sleep 100")).ok());
  const pid_t alone = supervisor_.pid("alone");
  const pid_t b = supervisor_.pid("b");
  kill(b, SIGSTOP);
  KillAndReap("a");
  clock_.Advance(Supervisor::kUnitGrace - absl::Nanoseconds(1));
  Tick();
  EXPECT_EQ(supervisor_.pid("a"), 0) << "not before all are gone";
  EXPECT_EQ(supervisor_.pid("b"), b);
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_TRUE(Eventually([&] {
    Tick();
    return supervisor_.pid("b") == 0;
  }));
  clock_.Advance(absl::Seconds(5));
  Tick();
  EXPECT_NE(supervisor_.pid("a"), 0);
  EXPECT_NE(supervisor_.pid("b"), 0);
  EXPECT_EQ(supervisor_.pid("alone"), alone);
}

TEST_F(SupervisorTest, StartsAgainWhatDiesAfterAPauseThatDoubles) {
  ASSERT_TRUE(supervisor_.Start(Shell("a", "exec sleep 100")).ok());
  const pid_t first = supervisor_.pid("a");
  for (const absl::Duration pause : {absl::Milliseconds(200), absl::Milliseconds(400)}) {
    KillAndReap("a");
    clock_.Advance(pause - absl::Nanoseconds(1));
    Tick();
    EXPECT_EQ(supervisor_.pid("a"), 0);
    clock_.Advance(absl::Nanoseconds(1));
    Tick();
    EXPECT_NE(supervisor_.pid("a"), 0);
  }
  EXPECT_NE(supervisor_.pid("a"), first);
  EXPECT_EQ(supervisor_.restarts(), 2);
}

TEST_F(SupervisorTest, ABadModelIsReportedWithItsProcess) {
  ASSERT_TRUE(supervisor_.Start(Shell("good", "exec sleep 100")).ok());
  ASSERT_TRUE(supervisor_.Start(Shell("bad", "echo broken >&2; exit 65")).ok());
  std::optional<int> code;
  EXPECT_TRUE(Eventually([&] { return (code = Tick()).has_value(); }));
  EXPECT_EQ(code, 65);
  EXPECT_EQ(name_, "bad");
  EXPECT_NE(supervisor_.pid("good"), 0);
}

TEST_F(SupervisorTest, OtherExitCodesAreStartedAgain) {
  ASSERT_TRUE(supervisor_.Start(Shell("crashes", "exit 70")).ok());
  EXPECT_TRUE(Eventually([&] {
    EXPECT_EQ(Tick(), std::nullopt);
    return supervisor_.pid("crashes") == 0;
  }));
}

TEST_F(SupervisorTest, StopEndsEveryoneEvenWhoIgnoresIt) {
  const std::string trapped = ::testing::TempDir() + "/supervisor-trapped";
  std::remove(trapped.c_str());
  ASSERT_TRUE(supervisor_.Start(Shell("polite", "exec sleep 100")).ok());
  ASSERT_TRUE(supervisor_
                  .Start(Shell("deaf", "trap '' TERM; touch " + trapped +
                                           "; while true; do sleep 0.05; done"))
                  .ok());
  ASSERT_TRUE(Eventually([&] { return std::ifstream(trapped).good(); }));
  const pid_t polite = supervisor_.pid("polite"), deaf = supervisor_.pid("deaf");
  EXPECT_FALSE(supervisor_.Stop({"polite", "deaf"}, absl::ZeroDuration()));
  EXPECT_NE(kill(polite, 0), 0);
  EXPECT_NE(kill(deaf, 0), 0);
  clock_.Advance(absl::Minutes(1));
  Tick();
  EXPECT_EQ(supervisor_.pid("polite"), 0);  // stopped on purpose: not started again
}

TEST_F(SupervisorTest, AMissingProgramIsAnError) {
  const absl::Status status = supervisor_.Start({"x", {"/no/such/program"}, "/dev/null"});
  EXPECT_TRUE(absl::IsUnavailable(status));
}

TEST(RestartBackoffTest, DoublesToALimitAndStartsOverAfterALongLife) {
  RestartBackoff backoff;
  const absl::Duration shortly = absl::Seconds(1);
  for (const int ms : {200, 400, 800, 1600, 3200, 5000, 5000}) {
    EXPECT_EQ(backoff.OnDeath(shortly), absl::Milliseconds(ms));
  }
  EXPECT_EQ(backoff.OnDeath(RestartBackoff::kHealthyLife), absl::Milliseconds(200));
  EXPECT_EQ(backoff.OnDeath(shortly), absl::Milliseconds(400));
}

}  // namespace
}  // namespace krait
