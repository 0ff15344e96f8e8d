#include "worker/server/group_options.h"

#include "absl/strings/str_cat.h"
#include "common/build_info.h"

namespace krait {

RankGroupOptions MakeRankGroupOptions(const WorkerOptions& options, const MemoryPlan& plan) {
  RankGroupOptions group;
  group.model_path = options.model_path;
  group.rope_scaling = options.rope_scaling;
  group.tensor_parallel_size = options.tensor_parallel_size;
  group.device = options.device;
  group.comm = options.comm;
  group.num_threads = options.threads;
  group.runner.weight_dtype = options.weight_dtype;
  group.runner.page_size = options.page_size;
  group.runner.num_pages = plan.num_pages;
  // As Engine::Create sets them in process 0.
  group.runner.max_draft_tokens = options.max_draft_tokens;
  group.runner.num_state_slots = plan.num_state_slots;
  group.runner.max_tokens = options.max_num_batched_tokens;
  group.runner.max_logits = options.max_num_batched_tokens;  // every token may be drawn from
  group.processes.num_processes = options.processes;
  group.processes.process_index = options.process_index;
  group.processes.host = options.group_address.host;
  group.processes.port = options.group_address.port;
  group.processes.settings = absl::StrCat(
      "build=", BuildId(), " tensor_parallel_size=", options.tensor_parallel_size,
      " device=", options.device.ToString(),
      " comm=", static_cast<int>(*group.comm_kind()),
      " weight_dtype=", options.weight_dtype == DType::kF32 ? "F32" : "BF16",
      " rope_scaling=", static_cast<int>(options.rope_scaling), " page_size=", options.page_size,
      " num_pages=", plan.num_pages, " state_slots=", plan.num_state_slots,
      " max_running=", options.max_running, " max_draft_tokens=", options.max_draft_tokens,
      " max_num_batched_tokens=", options.max_num_batched_tokens);
  return group;
}

}  // namespace krait
