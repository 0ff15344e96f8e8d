#include <iomanip>
#include <iostream>
#include <memory>

#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/command.h"

namespace krait {
namespace {

struct StatusOptions {
  std::string coordinator = kDefaultCoordinator;
  bool json = false;
};

Json WorkerJson(const v1::Worker& worker) {
  Json ranks = Json::array();
  for (const v1::Rank& rank : worker.ranks()) {
    ranks.push_back({{"rank", rank.rank()}, {"device", rank.device()}, {"pid", rank.pid()}});
  }
  const v1::WorkerLoad& load = worker.load();
  return {{"name", worker.name()},
          {"role", RoleName(worker.role())},
          {"state", StateName(worker.state())},
          {"address", worker.address()},
          {"pid", worker.pid()},
          {"epoch", worker.epoch()},
          {"model", worker.model()},
          {"build_id", worker.build_id()},
          {"weights_digest", worker.weights_digest()},
          {"draft_connected", worker.draft_connected()},
          {"ranks", ranks},
          {"load",
           {{"running", load.running()},
            {"waiting", load.waiting()},
            {"pages_used", load.pages_used()},
            {"pages_total", load.pages_total()},
            {"queued_tokens", load.queued_tokens()}}}};
}

void PrintTable(const v1::ListWorkersResponse& workers) {
  const auto row = [](const std::string& name, const std::string& role, const std::string& state,
                      const std::string& ranks, const std::string& running,
                      const std::string& waiting, const std::string& pages,
                      const std::string& address) {
    std::cout << std::left << std::setw(16) << name << std::setw(8) << role << std::setw(10)
              << state << std::setw(6) << ranks << std::setw(9) << running << std::setw(9)
              << waiting << std::setw(14) << pages << address << "\n";
  };
  row("NAME", "ROLE", "STATE", "RANKS", "RUNNING", "WAITING", "PAGES", "ADDRESS");
  for (const v1::Worker& worker : workers.workers()) {
    const v1::WorkerLoad& load = worker.load();
    row(worker.name(), RoleName(worker.role()), StateName(worker.state()),
        std::to_string(worker.ranks_size()), std::to_string(load.running()),
        std::to_string(load.waiting()),
        std::to_string(load.pages_used()) + "/" + std::to_string(load.pages_total()),
        worker.address());
  }
}

int RunStatus(const StatusOptions& options) {
  const auto workers = ListWorkers(ConnectTo(options.coordinator), absl::Seconds(3));
  if (!workers.ok()) return Fail(options.coordinator, workers.status());
  if (!options.json) {
    PrintTable(*workers);
    return 0;
  }
  Json list = Json::array();
  for (const v1::Worker& worker : workers->workers()) list.push_back(WorkerJson(worker));
  std::cout << DumpJson({{"coordinator", options.coordinator},
                         {"coordinator_pid", workers->coordinator_pid()},
                         {"build_id", workers->coordinator_build_id()},
                         {"workers", list}})
            << "\n";
  return 0;
}

}  // namespace

void AddStatusCommand(CLI::App& app, CommandRun& run) {
  auto options = std::make_shared<StatusOptions>();
  CLI::App* command =
      app.add_subcommand("status", "List a cluster's workers, their state and load");
  command->add_option("--coordinator", options->coordinator, "host:port of the coordinator")
      ->capture_default_str();
  command->add_flag("--json", options->json, "one JSON document");
  command->callback([options, &run] { run = [options] { return RunStatus(*options); }; });
}

}  // namespace krait
