// krait-coordinator: flags -> config -> wire up -> serve -> drain.

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/build_info.h"
#include "common/clock.h"
#include "common/config_command_line.h"
#include "common/library_logs.h"
#include "common/log_format.h"
#include "common/logging.h"
#include "coordinator/server/coordinator.h"
#include "krait/config.pb.h"

namespace krait {
namespace {

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "krait-coordinator: %s\n", std::string(status.message()).c_str());
  return code;
}

std::string Help() {
  return absl::StrCat(
      "usage: krait-coordinator [--config FILE] [--field=value ...]\n"
      "Takes requests, tokenizes, admits, and places them on workers. FILE is JSON;\n"
      "proto/krait/config.proto says what each field means and its default.\n"
      "  --help\n  --version\n",
      ConfigFieldsHelp(CoordinatorConfig()),
      "exit codes: 0 drained; 64 usage or configuration; 65 bad model data;\n"
      "            69 something needed cannot be had; 70 internal error\n");
}

// Before any thread starts: all inherit the mask, and only WaitForSignal sees these.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

int WaitForSignal(const sigset_t& signals) {
  int received = 0;
  sigwait(&signals, &received);
  return received;
}

// Whole or not at all: a supervisor may read it at any moment.
absl::Status WritePortFile(const std::string& path, const Coordinator& coordinator) {
  const std::string scratch = absl::StrCat(path, ".", getpid());
  std::ofstream file(scratch);
  file << "{\"pid\": " << getpid() << ", \"port\": " << coordinator.grpc_server().port()
       << ", \"admin_port\": " << coordinator.admin_server().port()
       << ", \"role\": \"coordinator\"}\n";
  file.close();
  if (!file || rename(scratch.c_str(), path.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat("port_file: cannot write ", path));
  }
  return absl::OkStatus();
}

int ExitCodeOf(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return kExitUnavailable;
  return absl::IsInternal(status) ? kExitInternal : kExitUsage;
}

int Serve(CoordinatorOptions options, const sigset_t& signals) {
  auto model = TextModel::Load(options.model_path);
  if (!model.ok()) return Fail(kExitBadModel, model.status());
  const RealClock clock;
  // Rises from one life of this process to the next, so that workers can tell them apart.
  const uint64_t first_epoch = static_cast<uint64_t>(absl::ToUnixMillis(absl::Now())) << 16;
  const std::string port_file = options.port_file;
  auto coordinator = Coordinator::Start({.options = std::move(options),
                                         .model = *std::move(model),
                                         .clock = &clock,
                                         .workers = MakeGrpcWorkerClientFactory(),
                                         .first_epoch = first_epoch});
  if (!coordinator.ok()) return Fail(ExitCodeOf(coordinator.status()), coordinator.status());
  if (!port_file.empty()) {
    const absl::Status written = WritePortFile(port_file, **coordinator);
    if (!written.ok()) return Fail(kExitUnavailable, written);
  }
  LOG(INFO) << "address=" << (*coordinator)->grpc_server().address()
            << " admin=" << (*coordinator)->admin_server().address() << " msg=\"serving\"";
  const int received = WaitForSignal(signals);
  LOG(INFO) << "signal=" << received << " msg=\"draining\"";
  const bool idle = (*coordinator)->Drain();
  LOG(INFO) << "all_finished=" << idle << " msg=\"stopped\"";
  std::fflush(nullptr);
  _exit(0);  // Drain says why
}

int Main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  CoordinatorConfig config;
  const auto request = ParseConfigCommandLine(arguments, config);
  if (!request.ok()) return Fail(kExitUsage, request.status());
  if (request->help || request->version) {
    std::printf("%s\n", request->help ? Help().c_str() : VersionLine("krait-coordinator").c_str());
    return 0;
  }
  auto options = MakeCoordinatorOptions(config);
  if (!options.ok()) return Fail(kExitUsage, options.status());
  SetLogPrefix("role=coordinator");
  ApplyLogOptions(options->log);
  RouteLibraryLogs();
  StopLookingForDeadlocks();
  return Serve(*std::move(options), BlockSignals());
}

}  // namespace
}  // namespace krait

int main(int argc, char** argv) { return krait::Main(argc, argv); }
