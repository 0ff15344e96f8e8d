#include "coordinator/tools/status_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/json_writer.h"

namespace krait {
namespace {

void WriteLoad(const v1::WorkerLoad& load, JsonWriter& json) {
  json.Key("load").BeginObject();
  json.Key("running").Int(load.running()).Key("waiting").Int(load.waiting());
  json.Key("max_running").Int(load.max_running()).Key("max_waiting").Int(load.max_waiting());
  json.Key("pages_used").Int(load.pages_used()).Key("pages_total").Int(load.pages_total());
  json.Key("queued_tokens").Int(load.queued_tokens()).End();
}

void WriteWorker(const v1::Worker& worker, JsonWriter& json) {
  json.BeginObject().Key("name").String(worker.name());
  json.Key("role").String(RoleName(worker.role())).Key("state").String(StateName(worker.state()));
  json.Key("address").String(worker.address()).Key("pid").Int(worker.pid());
  json.Key("epoch").Int(static_cast<int64_t>(worker.epoch()));
  json.Key("ranks").BeginArray();
  for (const v1::Rank& rank : worker.ranks()) {
    json.BeginObject().Key("rank").Int(rank.rank()).Key("device").String(rank.device());
    json.Key("host").String(rank.host()).Key("pid").Int(rank.pid()).End();
  }
  json.End();
  json.Key("model").String(worker.model()).Key("build_id").String(worker.build_id());
  json.Key("weights_digest").String(worker.weights_digest());
  json.Key("tokenizer_digest").String(worker.tokenizer_digest());
  json.Key("draft_connected").Bool(worker.draft_connected());
  WriteLoad(worker.load(), json);
  json.End();
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
  }
  return table;
}

std::string StatusJson(const v1::ListWorkersResponse& workers) {
  JsonWriter json;
  json.BeginObject().Key("coordinator_pid").Int(workers.coordinator_pid());
  json.Key("coordinator_build_id").String(workers.coordinator_build_id());
  json.Key("workers").BeginArray();
  for (const v1::Worker& worker : workers.workers()) WriteWorker(worker, json);
  return json.End().End().text() + "\n";
}

}  // namespace krait
