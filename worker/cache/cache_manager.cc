#include "worker/cache/cache_manager.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/cache/id_allocator.h"

namespace krait {

struct CacheManager::State {
  explicit State(const CacheConfig& config)
      : config(config), allocator(config.num_pages), slots(config.num_state_slots) {}

  const CacheConfig config;
  IdAllocator allocator;  // of pages
  IdAllocator slots;
  int num_held = 0;
  int num_set_aside = 0;
};

namespace {

absl::Status TooFew(const char* what, int needed, int free) {
  return absl::ResourceExhaustedError(absl::StrCat(what, ": need ", needed, ", free ", free));
}

}  // namespace

CacheManager::CacheManager(const CacheConfig& config) : state_(std::make_unique<State>(config)) {
  CHECK_GT(config.page_size, 0);
  CHECK_EQ(config.page_size & (config.page_size - 1), 0);
}

CacheManager::~CacheManager() = default;

absl::Status CacheManager::Admit(CacheCursor& cursor, int num_tokens) {
  const int needed = std::max(0, PagesFor(num_tokens) - cursor.num_pages());
  if (needed > num_free_pages()) return TooFew("kv pages", needed, num_free_pages());
  RETURN_IF_ERROR(TakeSlot(cursor));
  cursor.num_pages_set_aside += needed;
  state_->num_set_aside += needed;
  return absl::OkStatus();
}

absl::Status CacheManager::Reserve(CacheCursor& cursor, int num_tokens) {
  const int held = static_cast<int>(cursor.page_table.size());
  const int needed = std::max(0, PagesFor(cursor.num_computed_tokens + num_tokens) - held);
  const int own = std::min(needed, cursor.num_pages_set_aside);
  if (needed - own > num_free_pages()) return TooFew("kv pages", needed - own, num_free_pages());
  RETURN_IF_ERROR(TakeSlot(cursor));
  cursor.num_pages_set_aside -= own;
  state_->num_set_aside -= own;
  state_->allocator.Allocate(needed, cursor.page_table);
  state_->num_held += needed;
  return absl::OkStatus();
}

// A sequence has one slot from its admission, or its first tokens, to its end.
absl::Status CacheManager::TakeSlot(CacheCursor& cursor) {
  IdAllocator& slots = state_->slots;
  if (slots.num_ids() == 0 || cursor.state_slot != kNullSlot) return absl::OkStatus();
  if (slots.num_free() == 0) return TooFew("state slots", 1, 0);
  std::vector<StateSlotId> slot;
  slots.Allocate(1, slot);
  cursor.state_slot = slot[0];
  return absl::OkStatus();
}

void CacheManager::Commit(CacheCursor& cursor, int num_tokens) {
  cursor.num_computed_tokens += num_tokens;
  CHECK_LE(PagesFor(cursor.num_computed_tokens), static_cast<int>(cursor.page_table.size()));
}

void CacheManager::Rollback(CacheCursor& cursor, int num_tokens) {
  CHECK(num_tokens >= 0 && num_tokens <= cursor.num_computed_tokens);
  cursor.num_computed_tokens = num_tokens;
}

void CacheManager::Release(CacheCursor& cursor) {
  state_->allocator.Free(cursor.page_table);
  state_->num_held -= static_cast<int>(cursor.page_table.size());
  state_->num_set_aside -= cursor.num_pages_set_aside;
  if (cursor.state_slot != kNullSlot) state_->slots.Free({&cursor.state_slot, 1});
  cursor = CacheCursor();
  CHECK_INVARIANT(state_->num_set_aside >= 0 && state_->num_held >= 0);
}

int CacheManager::num_pages() const { return state_->config.num_pages; }

int CacheManager::num_state_slots() const { return state_->slots.num_ids(); }

int CacheManager::num_free_state_slots() const { return state_->slots.num_free(); }

int CacheManager::num_free_pages() const {
  return state_->allocator.num_free() - state_->num_set_aside;
}

int CacheManager::PagesFor(int num_tokens) const {
  return (num_tokens + state_->config.page_size - 1) / state_->config.page_size;
}

int64_t CacheManager::RoomFor(const CacheCursor& cursor) const {
  const int64_t pages = int64_t{cursor.num_pages()} + num_free_pages();
  return pages * state_->config.page_size - cursor.num_computed_tokens;
}

void CacheManager::CheckIntegrity() const {
  state_->allocator.CheckIntegrity();
  state_->slots.CheckIntegrity();
  CHECK_GE(state_->num_set_aside, 0);
  CHECK_GE(num_free_pages(), 0);
  CHECK_EQ(state_->num_held + state_->num_set_aside + num_free_pages(), num_pages());
}

}  // namespace krait
