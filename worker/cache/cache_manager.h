#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "worker/cache/cache_spec.h"

namespace krait {

// Where one role of one sequence stands. Target and draft each have their own; there is no mode
// flag.
struct CacheCursor {
  int num_computed_tokens = 0;     // tokens whose KV is final
  std::vector<PageId> page_table;  // pages covering [0, num_computed_tokens + reserved)
  StateSlotId state_slot = kNullSlot;
  int num_pages_set_aside = 0;  // admitted, not yet in page_table; CacheManager's

  int num_pages() const { return static_cast<int>(page_table.size()) + num_pages_set_aside; }
};

struct CacheConfig {
  int num_pages = 0;
  int page_size = 16;  // tokens, a power of two
  // Recurrent states, one a sequence, a pool of its own; 0: the model has none.
  int num_state_slots = 0;
};

// The only door to pages and slots: ids and counts, no memory. One thread (the engine's, or a draft
// runner's).
class CacheManager {
 public:
  explicit CacheManager(const CacheConfig& config);
  ~CacheManager();

  // Sets aside what a sequence of `num_tokens` needs beyond what the cursor has, so that every
  // later Reserve within that length succeeds, and gives it a state slot if there are any. All or
  // nothing: RESOURCE_EXHAUSTED names what is not free.
  absl::Status Admit(CacheCursor& cursor, int num_tokens);
  // Gives `cursor` the pages for `num_tokens` more than num_computed_tokens; appends them to
  // page_table; and a state slot, if it was not admitted. RESOURCE_EXHAUSTED if neither its own
  // admission nor what is free covers it; then nothing has changed.
  absl::Status Reserve(CacheCursor& cursor, int num_tokens);
  // Moves the cursor over `num_tokens` that are now final. What was reserved beyond stays reserved.
  void Commit(CacheCursor& cursor, int num_tokens);
  // Moves the cursor back: only the first `num_tokens` stay final. What they held stays reserved.
  void Rollback(CacheCursor& cursor, int num_tokens);
  // Frees everything the cursor holds, admission included, and clears it.
  void Release(CacheCursor& cursor);

  int num_pages() const;
  int num_free_pages() const;  // neither held nor set aside
  int num_state_slots() const;
  int num_free_state_slots() const;
  int PagesFor(int num_tokens) const;
  // How many tokens Reserve could give the cursor now.
  int64_t RoomFor(const CacheCursor& cursor) const;
  // CHECK-fails unless held, set aside and free pages add up and no page or slot is held twice.
  void CheckIntegrity() const;

 private:
  absl::Status TakeSlot(CacheCursor& cursor);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krait
