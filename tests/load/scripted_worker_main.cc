// krait-scripted-worker: krait-worker without a model, for load tests. Takes krait-worker's flags
// and --step_us=N (0: no pause) and --tokens_per_step=N.

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "common/config_command_line.h"
#include "common/library_logs.h"
#include "common/log_format.h"
#include "common/logging.h"
#include "tests/load/paced_role.h"
#include "worker/server/shutdown_signal.h"

namespace krait {
namespace {

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "krait-scripted-worker: %s\n", std::string(status.message()).c_str());
  return code;
}

// Removes "--name=N" and returns N.
int TakeInt(const std::string& name, int value, std::vector<std::string>& arguments) {
  std::erase_if(arguments, [&](const std::string& argument) {
    return absl::StartsWith(argument, name + "=") &&
           absl::SimpleAtoi(argument.substr(name.size() + 1), &value);
  });
  return value;
}

int Main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  PacedOptions paced;
  paced.step = absl::Microseconds(TakeInt("--step_us", 0, arguments));
  paced.tokens_per_step = TakeInt("--tokens_per_step", 1, arguments);
  WorkerConfig config;
  const auto request = ParseConfigCommandLine(arguments, config);
  if (!request.ok()) return Fail(64, request.status());
  const auto options = MakeWorkerOptions(config, 1);
  if (!options.ok()) return Fail(64, options.status());
  paced.max_running = options->max_running;
  paced.max_waiting = options->max_waiting;
  SetLogPrefix("role=scripted");
  ApplyLogOptions(options->log);
  RouteLibraryLogs();
  StopLookingForDeadlocks();
  ShutdownSignal shutdown;
  const RealClock clock;
  WorkerServer server(*options, &clock, [&](const RoleParts& parts) {
    return std::make_unique<PacedRole>(*options, paced, parts);
  });
  if (const absl::Status status = server.Listen(); !status.ok()) return Fail(69, status);
  if (const absl::Status status = server.Load([](double) {}); !status.ok()) return Fail(65, status);
  shutdown.Wait();
  server.Stop(options->drain_timeout);
  return 0;
}

}  // namespace
}  // namespace krait

int main(int argc, char** argv) { return krait::Main(argc, argv); }
