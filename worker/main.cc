// krait-worker: flags -> config -> listen -> load -> register -> serve -> drain.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/build_info.h"
#include "common/clock.h"
#include "common/config_command_line.h"
#include "common/field_error.h"
#include "common/library_logs.h"
#include "common/log_format.h"
#include "common/logging.h"
#include "krait/config.pb.h"
#include "worker/comm/nccl_library.h"
#include "worker/server/follower.h"
#include "worker/server/shutdown_signal.h"
#include "worker/server/worker_server.h"
#include "worker/worker_config.h"

namespace krait {
namespace {

std::string Help() {
  return absl::StrCat(
      "usage: krait-worker [--config FILE] [--field=value ...]\n"
      "Serves one model: role TARGET generates, role DRAFT proposes tokens to targets. FILE is "
      "JSON;\n"
      "proto/krait/config.proto says what each field means and its default.\n"
      "  --help\n  --version\n",
      ConfigFieldsHelp(WorkerConfig()),
      "exit codes: 0 drained; 64 usage or configuration; 65 bad model data;\n"
      "            69 something needed cannot be had; 70 internal error\n");
}

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "krait-worker: %s\n", std::string(status.message()).c_str());
  return code;
}

int ListenExitCode(const absl::Status& status) {
  return absl::IsUnavailable(status) ? kExitUnavailable : kExitUsage;
}

int LoadExitCode(const absl::Status& status) {
  if (!ErrorField(status).empty()) return kExitUsage;
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      return kExitUnavailable;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitInternal;
    default:
      return kExitBadModel;
  }
}

// Every request has been ended; gRPC gets a moment to deliver that. Nothing is destroyed: a thread
// may hang for good.
void ExitFatally(const absl::Status& status) {
  LOG(ERROR) << "msg=\"cannot go on, exiting\" error=" << LogText(status.ToString());
  absl::SleepFor(absl::Milliseconds(200));
  _exit(kExitInternal);
}

// On a terminal, one line that is rewritten; in a pipe, nothing.
void ShowProgress(double fraction) {
  if (isatty(STDERR_FILENO) == 0) return;
  std::fprintf(stderr, "\rloading %3d %%%s", static_cast<int>(fraction * 100),
               fraction >= 1 ? "\n" : "");
}

// A signal does not end it: its ranks are needed until process 0, which gets one too, has drained.
int Follow(const WorkerOptions& options) {
  ShutdownSignal shutdown;  // before any thread starts
  Follower follower(options, ExitFatally);
  if (const absl::Status status = follower.Listen(); !status.ok()) {
    return Fail(ListenExitCode(status), status);
  }
  if (const absl::Status status = follower.Load(ShowProgress); !status.ok()) {
    return Fail(LoadExitCode(status), status);
  }
  shutdown.Expect();
  if (const absl::Status status = follower.Run(); !status.ok()) ExitFatally(status);
  LOG(INFO) << "msg=\"process 0 has ended\"";
  return 0;
}

int Serve(const WorkerOptions& options) {
  ShutdownSignal shutdown;  // before any thread starts
  const RealClock clock;
  WorkerServer server(options, &clock, ExitFatally);
  if (const absl::Status status = server.Listen(); !status.ok()) {
    return Fail(ListenExitCode(status), status);
  }
  if (const absl::Status status = server.Load(ShowProgress); !status.ok()) {
    return Fail(LoadExitCode(status), status);
  }
  const int received = shutdown.Wait();
  LOG(INFO) << "signal=" << received << " msg=\"draining\"";
  const bool idle = server.Stop(options.drain_timeout);
  LOG(INFO) << "all_finished=" << idle << " msg=\"stopped\"";
  return 0;
}

int Main(int argc, char** argv) {
  SetNcclDefaults();  // before any thread starts
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  WorkerConfig config;
  const auto request = ParseConfigCommandLine(arguments, config);
  if (!request.ok()) return Fail(kExitUsage, request.status());
  if (request->help || request->version) {
    std::printf("%s\n", request->help ? Help().c_str() : VersionLine("krait-worker").c_str());
    return 0;
  }
  const int num_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const auto options = MakeWorkerOptions(config, num_cores);
  if (!options.ok()) return Fail(kExitUsage, options.status());
  SetLogPrefix(absl::StrCat("role=", options->role_name()));
  ApplyLogOptions(options->log);
  RouteLibraryLogs();
  StopLookingForDeadlocks();
  return options->process_index > 0 ? Follow(*options) : Serve(*options);
}

}  // namespace
}  // namespace krait

int main(int argc, char** argv) { return krait::Main(argc, argv); }
