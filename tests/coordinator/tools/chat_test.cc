#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <iostream>
#include <sstream>

#include "common/build_info.h"
#include "coordinator/tools/chat_history.h"
#include "coordinator/tools/command.h"
#include "tests/coordinator/tools/fake_generation_service.h"

namespace krait {
namespace {

using testing::ElementsAre;

std::vector<std::string> Turns(const v1::Chat& chat) {
  std::vector<std::string> turns;
  for (const v1::Message& message : chat.messages()) {
    turns.push_back(absl::StrCat(message.role(), ": ", message.content()));
  }
  return turns;
}

TEST(ChatHistoryTest, KeepsWhatWasAnsweredAndTheSystemMessage) {
  ChatHistory history("be brief");
  history.Ask("one");
  history.Answer("1");
  history.Ask("two");
  history.Withdraw();
  EXPECT_THAT(Turns(history.chat()), ElementsAre("system: be brief", "user: one", "assistant: 1"));
  history.Reset();
  EXPECT_THAT(Turns(history.chat()), ElementsAre("system: be brief"));
}

// krait chat with `script` as its standard input, which is no terminal.
class ChatCommandTest : public testing::Test {
 protected:
  int Chat(const std::string& script) {
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int saved = dup(STDIN_FILENO);
    dup2(null, STDIN_FILENO);
    std::istringstream input(script);
    std::streambuf* previous = std::cin.rdbuf(input.rdbuf());
    std::cin.clear();
    testing::internal::CaptureStdout();
    const std::string address = service_.address();
    const char* argv[] = {"krait", "chat", "--coordinator", address.c_str(), "--max-tokens=2"};
    const int code = RunKrait(5, argv);
    output_ = testing::internal::GetCapturedStdout();
    std::cin.rdbuf(previous);
    dup2(saved, STDIN_FILENO);
    close(saved);
    close(null);
    return code;
  }

  FakeGenerationService service_;
  std::string output_;
};

TEST_F(ChatCommandTest, SendsTheWholeConversationUntilReset) {
  EXPECT_EQ(Chat("one\n\n two \n/reset\nthree\n/quit\nfour\n"), 0);
  const auto requests = service_.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_THAT(Turns(requests[0].chat()), ElementsAre("user: one"));
  EXPECT_THAT(Turns(requests[1].chat()),
              ElementsAre("user: one", "assistant: a0 a0 ", "user: two"));
  EXPECT_THAT(Turns(requests[2].chat()), ElementsAre("user: three"));
  EXPECT_EQ(requests[2].sampling().max_tokens(), 2);
  EXPECT_EQ(output_, "a0 a0 \na1 a1 \na2 a2 \n");
}

TEST_F(ChatCommandTest, EndsWithTheErrorInAPipe) {
  service_.Refuse({grpc::StatusCode::UNAVAILABLE, "draining"});
  EXPECT_EQ(Chat("one\ntwo\n"), kExitUnavailable);
  EXPECT_EQ(service_.requests().size(), 1u);
}

}  // namespace
}  // namespace krait
