#include <cstdio>
#include <memory>

#include "common/status_macros.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/status_text.h"

namespace krait {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(5);

struct StatusOptions {
  std::string coordinator;
  bool as_json = false;
};

absl::Status PrintStatus(const StatusOptions& options) {
  ClusterClient client(options.coordinator);
  ASSIGN_OR_RETURN(const v1::ListWorkersResponse workers, client.ListWorkers(kTimeout));
  const std::string text = options.as_json ? StatusJson(workers) : StatusTable(workers);
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

struct DrainOptions {
  std::string coordinator;
  std::string worker;
};

absl::Status Drain(const DrainOptions& options) {
  return ClusterClient(options.coordinator).Drain(options.worker, kTimeout);
}

}  // namespace

std::function<int()> DeclareStatus(CLI::App& app) {
  const auto options = std::make_shared<StatusOptions>();
  AddCoordinatorOption(app, options->coordinator);
  app.add_flag("--json", options->as_json, "one JSON document");
  return [options] { return EndCommand("status", PrintStatus(*options)); };
}

std::function<int()> DeclareDrain(CLI::App& app) {
  const auto options = std::make_shared<DrainOptions>();
  AddCoordinatorOption(app, options->coordinator);
  app.add_option("worker,--worker", options->worker,
                 "the worker to drain (default: the coordinator itself); what runs goes on")
      ->type_name("NAME");
  return [options] { return EndCommand("drain", Drain(*options)); };
}

}  // namespace krait
