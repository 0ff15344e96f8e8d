#include "worker/runner/step_plan.h"

#include "worker/runner/plan_hash.h"
#include "worker/runner/step_plan_fields.h"

namespace krait {
namespace {

// An archive of step_plan_fields.h.
class HashArchive {
 public:
  void Value(float value) { hasher_.Add(value); }
  template <typename T>
  void Value(T value) {
    hasher_.Add(static_cast<int64_t>(value));
  }
  // A list's length goes first, so that no two lists of lists look alike.
  template <typename Elements, typename Visit>
  void List(const Elements& list, const Visit& visit) {
    Value(list.size());
    for (const auto& element : list) visit(element);
  }
  uint64_t hash() const { return hasher_.hash(); }

 private:
  PlanHasher hasher_;
};

}  // namespace

int StepPlan::num_tokens() const {
  int num_tokens = 0;
  for (const SequenceWork& item : work) {
    num_tokens += item.num_tokens + static_cast<int>(item.draft_token_ids.size());
  }
  return num_tokens;
}

uint64_t StepPlan::Hash() const {
  HashArchive archive;
  VisitPlan(archive, *this);
  return archive.hash();
}

}  // namespace krait
