// krait chat: a conversation on a terminal, or a script of one through a pipe.

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>

#include "absl/strings/ascii.h"
#include "common/grpc_status.h"
#include "coordinator/tools/chat_history.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/generate_request.h"
#include "coordinator/tools/interrupt_watcher.h"

namespace krait {
namespace {

constexpr char kWelcome[] = "/reset forgets, /quit ends, Ctrl-C stops an answer\n";

struct ChatOptions {
  std::string coordinator;
  v1::GenerateRequest request;
  std::optional<std::string> system;
};

// One conversation. Main thread only.
class Conversation {
 public:
  Conversation(const ChatOptions& options, InterruptWatcher& interrupts)
      : options_(options),
        interrupts_(interrupts),
        client_(options.coordinator),
        history_(options.system),
        interactive_(isatty(STDIN_FILENO) != 0) {}

  // Until /quit or the end of standard input. On a terminal a failed answer is shown and the
  // conversation goes on; in a pipe it ends with the error.
  absl::Status Run();

 private:
  bool ReadLine(std::string& line) const;
  absl::Status AnswerTo(const std::string& question);
  // Streams the answer to the history's last question to standard output and into `answer`.
  grpc::Status Stream(std::string& answer);

  const ChatOptions& options_;
  InterruptWatcher& interrupts_;
  ClusterClient client_;
  ChatHistory history_;
  const bool interactive_;
};

absl::Status Conversation::Run() {
  if (interactive_) std::fputs(kWelcome, stderr);
  for (std::string line; ReadLine(line);) {
    if (line == "/quit") break;
    if (line == "/reset") history_.Reset();
    if (line.empty() || line == "/reset") continue;
    const absl::Status status = AnswerTo(line);
    if (!status.ok() && !interactive_) return status;
    if (!status.ok()) EndCommand("chat", status);
  }
  return absl::OkStatus();
}

bool Conversation::ReadLine(std::string& line) const {
  if (interactive_) std::fputs("> ", stderr);
  if (!std::getline(std::cin, line)) return false;
  line = std::string(absl::StripAsciiWhitespace(line));
  return true;
}

absl::Status Conversation::AnswerTo(const std::string& question) {
  history_.Ask(question);
  std::string answer;
  const grpc::Status status = Stream(answer);
  // What was said before Ctrl-C was said.
  const bool stopped = status.error_code() == grpc::StatusCode::CANCELLED;
  if (status.ok() || (stopped && !answer.empty())) {
    history_.Answer(answer);
  } else {
    history_.Withdraw();
  }
  return stopped ? absl::OkStatus() : FromGrpcStatus(status);
}

grpc::Status Conversation::Stream(std::string& answer) {
  v1::GenerateRequest request = options_.request;
  *request.mutable_chat() = history_.chat();
  grpc::ClientContext context;
  interrupts_.Watch(&context);
  const auto reader = client_.generation().Generate(&context, request);
  for (v1::GenerateResponse chunk; reader->Read(&chunk);) {
    answer += chunk.text();
    std::fwrite(chunk.text().data(), 1, chunk.text().size(), stdout);
    std::fflush(stdout);
  }
  const grpc::Status status = reader->Finish();
  interrupts_.Unwatch();
  std::fputc('\n', stdout);
  std::fflush(stdout);
  return status;
}

absl::Status Chat(const ChatOptions& options) {
  InterruptWatcher interrupts;  // before gRPC's threads
  return Conversation(options, interrupts).Run();
}

}  // namespace

std::function<int()> DeclareChat(CLI::App& app) {
  const auto options = std::make_shared<ChatOptions>();
  AddCoordinatorOption(app, options->coordinator);
  app.add_option("--system", options->system, "the system message")->type_name("TEXT");
  AddSamplingOptions(app, options->request);
  return [options] { return EndCommand("chat", Chat(*options)); };
}

}  // namespace krait
