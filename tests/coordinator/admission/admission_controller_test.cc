#include "coordinator/admission/admission_controller.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/support/datadriven.h"

namespace krait {
namespace {

class AdmissionDriver {
 public:
  std::string Run(const testing::DataCommand& command) {
    if (command.name == "limits") {
      controller_.emplace(AdmissionController::Options{.max_requests = command.Int("requests", 0),
                                                       .max_queued = command.Int("queued", 0),
                                                       .token_budget = command.Int("tokens", 0)});
      return "ok";
    }
    const std::string outcome = Act(command);
    return outcome + Load();
  }

 private:
  std::string Act(const testing::DataCommand& command) {
    const std::string name = command.Text("name");
    if (command.name == "admit") return Admit(name, command.Int("tokens", 0));
    if (command.name == "release") {
      tickets_.erase(name);
    } else if (command.name == "queue") {
      const absl::Status status = tickets_.at(name).EnterQueue();
      if (!status.ok()) return absl::StrCat(status.message(), "\n");
    } else if (command.name == "dequeue") {
      tickets_.at(name).LeaveQueue();
    } else {
      return "unknown command ";
    }
    return "ok ";
  }

  std::string Admit(const std::string& name, int tokens) {
    AdmissionController::Refusal refusal;
    auto ticket = controller_->Admit(tokens, &refusal);
    if (ticket.ok()) {
      tickets_[name] = *std::move(ticket);
      return "ok ";
    }
    EXPECT_TRUE(absl::IsResourceExhausted(ticket.status()));
    const bool budget = refusal == AdmissionController::Refusal::kTokens;
    return absl::StrCat("refused ", budget ? "tokens" : "requests", ": ", ticket.status().message(),
                        "\n");
  }

  std::string Load() const {
    const auto load = controller_->load();
    return absl::StrCat("requests=", load.requests, " queued=", load.queued,
                        " tokens=", load.tokens);
  }

  std::optional<AdmissionController> controller_;
  std::map<std::string, AdmissionTicket> tickets_;
};

TEST(AdmissionControllerTest, GoldenDecisions) {
  AdmissionDriver driver;
  testing::RunDataDriven("tests/coordinator/admission/testdata/budget.txt",
                         [&](const testing::DataCommand& c) { return driver.Run(c); });
}

TEST(AdmissionControllerTest, MovedTicketsGiveBackOnce) {
  AdmissionController controller({.max_requests = 10, .max_queued = 10, .token_budget = 100});
  AdmissionController::Refusal refusal;
  AdmissionTicket first = controller.Admit(10, &refusal).value();
  ASSERT_TRUE(first.EnterQueue().ok());
  {
    AdmissionTicket second = std::move(first);
    EXPECT_EQ(controller.load().tokens, 10);
    EXPECT_EQ(controller.load().queued, 1);
  }
  EXPECT_EQ(controller.load().requests, 0);
  EXPECT_EQ(controller.load().queued, 0);
  first = controller.Admit(7, &refusal).value();
  first = controller.Admit(5, &refusal).value();
  EXPECT_EQ(controller.load().tokens, 5);
}

TEST(AdmissionControllerTest, ManyThreadsNeverExceedTheLimitsAndLeaveNothingBehind) {
  AdmissionController controller({.max_requests = 5, .max_queued = 2, .token_budget = 50});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        AdmissionController::Refusal refusal;
        auto ticket = controller.Admit(5 + (i + t) % 20, &refusal);
        if (!ticket.ok()) continue;
        (void)ticket->EnterQueue();
        const auto load = controller.load();
        EXPECT_LE(load.requests, 5);
        EXPECT_LE(load.queued, 2);
        EXPECT_LE(load.tokens, 50);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(controller.load().requests, 0);
  EXPECT_EQ(controller.load().queued, 0);
  EXPECT_EQ(controller.load().tokens, 0);
}

}  // namespace
}  // namespace krait
