#include "coordinator/server/session_table.h"

namespace krait {

void SessionTable::Insert(int64_t number, std::shared_ptr<GenerationSession> session) {
  absl::MutexLock lock(&mutex_);
  sessions_[number] = std::move(session);
}

void SessionTable::Erase(int64_t number) {
  std::shared_ptr<GenerationSession> last;  // destroyed outside the lock
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(number);
  if (found == sessions_.end()) return;
  last = std::move(found->second);
  sessions_.erase(found);
}

void SessionTable::PokeDue(absl::Duration now) {
  std::vector<std::shared_ptr<GenerationSession>> due;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [number, session] : sessions_) {
      if (session->next_look() <= now) due.push_back(session);
    }
  }
  for (const auto& session : due) session->Poke();
}

void SessionTable::EndAll(const absl::Status& status) {
  for (const auto& session : All()) session->EndWith(status);
}

bool SessionTable::WaitEmpty(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(this, &SessionTable::Empty), timeout);
}

int SessionTable::size() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(sessions_.size());
}

std::vector<std::shared_ptr<GenerationSession>> SessionTable::All() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<GenerationSession>> all;
  for (const auto& [number, session] : sessions_) all.push_back(session);
  return all;
}

}  // namespace krait
