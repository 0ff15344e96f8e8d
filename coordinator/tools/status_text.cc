#include "coordinator/tools/status_text.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/json_document.h"
#include "coordinator/tools/cluster_client.h"

namespace krait {
namespace {

using nlohmann::ordered_json;

ordered_json LoadJson(const v1::WorkerLoad& load) {
  return {{"running", load.running()},         {"waiting", load.waiting()},
          {"paused", load.paused()},           {"max_running", load.max_running()},
          {"max_waiting", load.max_waiting()}, {"pages_used", load.pages_used()},
          {"pages_total", load.pages_total()}, {"queued_tokens", load.queued_tokens()}};
}

ordered_json WorkerJson(const v1::Worker& worker) {
  ordered_json ranks = ordered_json::array();
  for (const v1::Rank& rank : worker.ranks()) {
    ranks.push_back({{"rank", rank.rank()},
                     {"device", rank.device()},
                     {"host", rank.host()},
                     {"pid", rank.pid()}});
  }
  return {{"name", worker.name()},
          {"role", RoleName(worker.role())},
          {"state", StateName(worker.state())},
          {"address", worker.address()},
          {"pid", worker.pid()},
          {"epoch", worker.epoch()},
          {"ranks", std::move(ranks)},
          {"model", worker.model()},
          {"build_id", worker.build_id()},
          {"weights_digest", worker.weights_digest()},
          {"tokenizer_digest", worker.tokenizer_digest()},
          {"draft_connected", worker.draft_connected()},
          {"load", LoadJson(worker.load())}};
}

}  // namespace

std::string StatusTable(const v1::ListWorkersResponse& workers) {
  constexpr char kFormat[] = "%-16s %-7s %-9s %-22s %8s %6s %8s %8s %13s %s\n";
  std::string table = absl::StrFormat(kFormat, "NAME", "ROLE", "STATE", "ADDRESS", "PID", "RANKS",
                                      "RUNNING", "WAITING", "PAGES", "DRAFT");
  for (const v1::Worker& worker : workers.workers()) {
    const v1::WorkerLoad& load = worker.load();
    const bool target = worker.role() == v1::WORKER_ROLE_TARGET;
    absl::StrAppend(&table,
                    absl::StrFormat(kFormat, worker.name(), RoleName(worker.role()),
                                    StateName(worker.state()), worker.address(),
                                    absl::StrCat(worker.pid()), absl::StrCat(worker.ranks_size()),
                                    absl::StrCat(load.running()), absl::StrCat(load.waiting()),
                                    absl::StrCat(load.pages_used(), "/", load.pages_total()),
                                    !target                    ? "-"
                                    : worker.draft_connected() ? "yes"
                                                               : "no"));
    if (worker.ranks_size() < 2) continue;
    for (const v1::Rank& rank : worker.ranks()) {
      absl::StrAppend(&table, "  rank ", rank.rank(), ": ", rank.device(), " pid ", rank.pid(),
                      " on ", rank.host(), "\n");
    }
  }
  return table;
}

std::string StatusJson(const v1::ListWorkersResponse& workers) {
  ordered_json all = ordered_json::array();
  for (const v1::Worker& worker : workers.workers()) all.push_back(WorkerJson(worker));
  return DumpJson({{"coordinator_pid", workers.coordinator_pid()},
                   {"coordinator_build_id", workers.coordinator_build_id()},
                   {"workers", std::move(all)}}) +
         "\n";
}

}  // namespace krait
