#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/status_text.h"

namespace krait {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(5);
constexpr FlagSpec kStatusFlags[] = {
    kCoordinatorFlag, kAddressFlag, {"json", nullptr, "one JSON document"}, kHelpFlag};
constexpr FlagSpec kDrainFlags[] = {
    kCoordinatorFlag,
    kAddressFlag,
    {"worker", "NAME", "the worker to drain (default: the coordinator itself)"},
    kHelpFlag};

absl::Status PrintStatus(const Arguments& arguments) {
  ClusterClient client(CoordinatorAddress(arguments));
  ASSIGN_OR_RETURN(const v1::ListWorkersResponse workers, client.ListWorkers(kTimeout));
  const std::string text = arguments.Has("json") ? StatusJson(workers) : StatusTable(workers);
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

int RunStatus(const CommandWords& words) {
  const auto arguments = Arguments::Parse(words, kStatusFlags);
  if (!arguments.ok()) return FailCommand("status", arguments.status());
  if (arguments->Has("help")) {
    std::fputs(FormatHelp("status", "Lists the cluster's workers.", kStatusFlags).c_str(), stdout);
    return 0;
  }
  const absl::Status status = PrintStatus(*arguments);
  return status.ok() ? 0 : FailCommand("status", status);
}

int RunDrain(const CommandWords& words) {
  const auto arguments = Arguments::Parse(words, kDrainFlags);
  if (!arguments.ok()) return FailCommand("drain", arguments.status());
  if (arguments->Has("help")) {
    std::fputs(FormatHelp("drain", "What runs goes on; nothing new starts.", kDrainFlags).c_str(),
               stdout);
    return 0;
  }
  ClusterClient client(CoordinatorAddress(*arguments));
  const absl::Status status = client.Drain(arguments->Get("worker"), kTimeout);
  return status.ok() ? 0 : FailCommand("drain", status);
}

}  // namespace krait
