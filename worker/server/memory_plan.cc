#include "worker/server/memory_plan.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/machine_memory.h"
#include "common/request_limits.h"
#include "common/status_macros.h"
#include "kernels/backend.h"
#include "worker/models/cache_specs.h"
#include "worker/models/model_registry.h"

namespace krait {
namespace {

// Of the ranks of one process, or of the whole model.
struct Bytes {
  int64_t page = 0;
  int64_t slot = 0;
};

absl::StatusOr<Bytes> BytesOf(const WorkerOptions& options, const ModelConfig& config,
                              Range ranks) {
  // A draft's rings serve whatever a target may ask for.
  const int max_draft_tokens =
      options.role == WorkerRole::kDraft ? kMaxRequestDraftTokens : options.max_draft_tokens;
  Bytes bytes;
  for (int64_t rank = ranks.begin; rank < ranks.end; ++rank) {
    ASSIGN_OR_RETURN(
        const Sharding sharding,
        MakeSharding(ShardingDimsOf(config), static_cast<int>(rank), options.tensor_parallel_size));
    const DType kv_type = KvCacheType(options.device, options.weight_dtype);
    bytes.page += KvSpecOf(config, sharding, options.page_size, kv_type).bytes_per_page();
    bytes.slot += StateSpecOf(config, sharding, max_draft_tokens).bytes_per_slot();
  }
  return bytes;
}

// A share of all tensors as they will be kept.
int64_t WeightBytes(const WorkerOptions& options, const Checkpoint& checkpoint) {
  int64_t elements = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) elements += tensor.num_elements();
  return elements / options.tensor_parallel_size * options.own_ranks().size() *
         ByteSize(options.weight_dtype);
}

absl::StatusOr<int> NumPages(const WorkerOptions& options, const ModelConfig& config,
                             int64_t page_bytes) {
  int64_t affordable = std::numeric_limits<int>::max();  // without attention pages hold nothing
  if (page_bytes > 0) affordable = (int64_t{options.kv_cache_mib} << 20) / page_bytes;
  if (affordable < 2) {
    return FieldError("kv_cache_mib",
                      absl::StrCat(options.kv_cache_mib, " MiB hold ", affordable, " pages of ",
                                   page_bytes, " bytes; at least 2 are needed"));
  }
  int64_t context = config.max_context_tokens;
  if (options.max_context_tokens > 0) {
    context = std::min<int64_t>(context, options.max_context_tokens);
  }
  const int64_t pages_a_sequence = (context + options.page_size - 1) / options.page_size;
  const int64_t usable = pages_a_sequence * options.max_running;
  return static_cast<int>(std::clamp<int64_t>(affordable, 2, std::max<int64_t>(2, usable)));
}

// A draft that lives in the process of rank 0.
struct DraftPlan {
  CachePlan cache;
  int64_t bytes = 0;  // weights included
};

// What a worker of role DRAFT would set aside for it.
absl::StatusOr<DraftPlan> PlanDraft(const WorkerOptions& options, const ModelConfig& target) {
  DraftPlan plan;
  if (options.draft_source != DraftSource::kModel || options.process_index > 0) return plan;
  WorkerOptions alone = options;
  alone.role = WorkerRole::kDraft;
  alone.tensor_parallel_size = alone.processes = 1;
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.draft_model_path));
  ASSIGN_OR_RETURN(ModelConfig config, ModelConfig::Load(checkpoint));
  // It is asked for nothing that the target could not hold.
  config.max_context_tokens = std::min(config.max_context_tokens, target.max_context_tokens);
  ASSIGN_OR_RETURN(const Bytes bytes, BytesOf(alone, config, {0, 1}));
  ASSIGN_OR_RETURN(plan.cache.num_pages, NumPages(alone, config, bytes.page));
  if (config.has_recurrent_layers()) plan.cache.num_state_slots = options.max_running;
  plan.bytes = WeightBytes(alone, checkpoint) + plan.cache.num_pages * bytes.page +
               plan.cache.num_state_slots * bytes.slot;
  return plan;
}

absl::Status CheckFits(const WorkerOptions& options, const MemoryPlan& plan, const Bytes& own,
                       int64_t weight_bytes, int64_t draft_bytes, int64_t memory_bytes) {
  int64_t left = memory_bytes - weight_bytes;
  if (left < 0) {
    return FieldError("model_path",
                      absl::StrCat("its weights need ", weight_bytes,
                                   " bytes here, the memory's limit is ", memory_bytes, " bytes"));
  }
  std::string beside = absl::StrCat("; beside ", weight_bytes, " bytes of weights");
  const auto are_left = [&] {
    return absl::StrCat(beside, " ", left, " of the memory's ", memory_bytes, " bytes are left");
  };
  if (draft_bytes > left) {
    return FieldError("draft_model_path",
                      absl::StrCat("its weights, ", plan.draft.num_pages, " KV pages and ",
                                   plan.draft.num_state_slots, " state slots need ", draft_bytes,
                                   " bytes here", are_left()));
  }
  left -= draft_bytes;
  if (draft_bytes > 0) absl::StrAppend(&beside, ", ", draft_bytes, " of a draft");
  const int64_t kv_bytes = plan.num_pages * own.page;
  if (kv_bytes > left) {
    return FieldError("kv_cache_mib",
                      absl::StrCat(plan.num_pages, " KV pages need ", kv_bytes, " bytes here",
                                   are_left(), ", for at most ", left / own.page, " pages"));
  }
  left -= kv_bytes;
  absl::StrAppend(&beside, " and ", kv_bytes, " of KV pages");
  if (plan.num_state_slots * own.slot <= left) return absl::OkStatus();
  return FieldError("state_slots",
                    absl::StrCat("must be at most ", left / own.slot, ", got ", options.state_slots,
                                 ": a slot takes ", own.slot, " bytes here", are_left()));
}

}  // namespace

int64_t MemoryLimit(const WorkerOptions& options) {
  if (options.device.kind == DeviceKind::kCpu) return MachineMemoryBytes();
  return std::numeric_limits<int64_t>::max();
}

absl::StatusOr<MemoryPlan> PlanMemory(const WorkerOptions& options, const Checkpoint& checkpoint,
                                      const ModelConfig& config, int64_t memory_bytes) {
  ASSIGN_OR_RETURN(const Bytes whole, BytesOf(options, config, {0, options.tensor_parallel_size}));
  ASSIGN_OR_RETURN(const Bytes own, BytesOf(options, config, options.own_ranks()));
  MemoryPlan plan;
  ASSIGN_OR_RETURN(plan.num_pages, NumPages(options, config, whole.page));
  if (config.has_recurrent_layers()) plan.num_state_slots = options.state_slots;
  ASSIGN_OR_RETURN(const DraftPlan draft, PlanDraft(options, config));
  plan.draft = draft.cache;
  RETURN_IF_ERROR(
      CheckFits(options, plan, own, WeightBytes(options, checkpoint), draft.bytes, memory_bytes));
  return plan;
}

}  // namespace krait
