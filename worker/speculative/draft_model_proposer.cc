#include "worker/speculative/draft_model_proposer.h"

#include <algorithm>
#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// A call's first pass may take so many tokens whatever the budget: catching up always advances.
constexpr int kMinPassTokens = 16;

}  // namespace

// A row that only catches up leaves its last token for the call that will draw after it.
int DraftModelProposer::Drafting::target() const {
  const int known = static_cast<int>(row->tokens.size() + drafts.size());
  return wanted == 0 ? known - 1 : known;
}

bool DraftModelProposer::Drafting::done() const {
  if (stopped) return true;
  return wanted == 0 ? pending() <= 0 : static_cast<int>(drafts.size()) >= wanted;
}

absl::StatusOr<std::unique_ptr<DraftModelProposer>> DraftModelProposer::Create(
    const DraftModelOptions& options, const Clock* clock) {
  std::unique_ptr<DraftModelProposer> proposer(new DraftModelProposer(clock, options));
  ASSIGN_OR_RETURN(proposer->disabled_reason_, CheckDraft(options));
  if (!proposer->disabled_reason_.empty()) return proposer;
  ASSIGN_OR_RETURN(proposer->model_, DraftModel::Load(options));
  const ModelRunnerOptions& runner = proposer->model_->runner().options();
  proposer->cache_ = std::make_unique<CacheManager>(
      CacheConfig{.num_pages = runner.num_pages,
                  .page_size = runner.page_size,
                  .num_state_slots = proposer->model_->runner().num_state_slots()});
  return proposer;
}

void DraftModelProposer::Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
                               const SamplingParams& sampling) {
  if (model_ == nullptr) return;
  auto entry = std::make_unique<Entry>();
  entry->sampling = sampling;
  entry->sampling.num_logprobs = -1;
  entry->prompt_tokens = prompt_tokens;
  if (const auto it = entries_.find(id); it != entries_.end()) Drop(*it->second);
  entries_[id] = std::move(entry);
}

void DraftModelProposer::Release(SequenceId id) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  Drop(*it->second);
  entries_.erase(it);
}

void DraftModelProposer::Drop(Entry& entry) {
  if (entry.cursor.page_table.empty()) return;
  if (kInvariantsEnabled) model_->runner().PoisonPages(entry.cursor.page_table);
  model_->runner().PoisonState(kInvariantsEnabled ? entry.cursor.state_slot : kNullSlot);
  cache_->Release(entry.cursor);
  entry.fed.clear();
  entry.state_position = 0;
}

int DraftModelProposer::num_cached() const {
  return static_cast<int>(std::count_if(entries_.begin(), entries_.end(), [](const auto& item) {
    return !item.second->cursor.page_table.empty();
  }));
}

// Pushes out the sequence used longest ago; not one of this call. False if there is none.
bool DraftModelProposer::EvictOldest() {
  Entry* oldest = nullptr;
  for (const auto& [id, entry] : entries_) {
    if (entry->cursor.page_table.empty() || entry->last_call == call_) continue;
    if (oldest == nullptr || entry->last_call < oldest->last_call) oldest = entry.get();
  }
  if (oldest == nullptr) return false;
  Drop(*oldest);
  return true;
}

bool DraftModelProposer::Reserve(Entry& entry, int num_tokens) {
  while (entry.cursor.page_table.empty() && num_cached() >= max_sequences_) {
    if (!EvictOldest()) return false;
  }
  while (!cache_->Reserve(entry.cursor, num_tokens).ok()) {
    if (!EvictOldest()) return false;
  }
  return true;
}

void DraftModelProposer::Rewind(Entry& entry, absl::Span<const TokenId> tokens) {
  const auto parted =
      std::mismatch(entry.fed.begin(), entry.fed.end(), tokens.begin(), tokens.end());
  // The last committed token is always fed again: its logits draw the first draft.
  size_t kept = std::min<size_t>(parted.first - entry.fed.begin(), tokens.size() - 1);
  // Only another sequence under this id gets here: what was committed stays.
  if (static_cast<int>(kept) < entry.state_position) kept = entry.state_position = 0;
  entry.fed.resize(kept);
  cache_->Rollback(entry.cursor, static_cast<int>(kept));
}

std::vector<DraftModelProposer::Drafting> DraftModelProposer::Attach(
    absl::Span<const ProposalRow> rows) {
  std::vector<Drafting> batch(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    batch[i].row = &rows[i];
    const auto it = entries_.find(rows[i].id);
    batch[i].stopped = it == entries_.end() || rows[i].tokens.empty();
    if (batch[i].stopped) continue;
    batch[i].entry = it->second.get();
    batch[i].entry->last_call = call_;
    Rewind(*batch[i].entry, rows[i].tokens);
    // The last draft is drawn, not fed.
    const int room = model_->runner().max_positions() - static_cast<int>(rows[i].tokens.size());
    batch[i].wanted = std::min(rows[i].num_draft_tokens, room + 1);
    if (batch[i].wanted < 0 || (batch[i].wanted == 0 && rows[i].num_draft_tokens > 0)) {
      batch[i].stopped = true;
    }
  }
  return batch;
}

// The most tokens whose pass is expected to end in time; 0 to stop here.
int DraftModelProposer::TokensWithin(absl::Duration left, bool first_pass, int num_rows) const {
  const int most = model_->runner().options().max_tokens;
  const int least = std::min(most, std::max(kMinPassTokens, num_rows));
  if (!pass_cost_.measured()) return least;
  const double seconds = absl::ToDoubleSeconds(left);
  if (!first_pass && pass_cost_.Seconds(num_rows) > seconds) return 0;
  int tokens = most;
  while (tokens > least && pass_cost_.Seconds(tokens) > seconds)
    tokens = std::max(least, tokens / 2);
  return tokens;
}

void DraftModelProposer::AddChunk(Drafting& drafting, int max_tokens, std::vector<Chunk>& chunks) {
  const int size = std::min(max_tokens, drafting.pending());
  if (size <= 0) return;
  if (!Reserve(*drafting.entry, size)) {
    drafting.stopped = true;
    return;
  }
  // Either committed tokens or the last draft: drafts follow once all that is committed is fed.
  const size_t fed = drafting.entry->fed.size();
  const size_t committed = drafting.row->tokens.size();
  const auto tokens = fed < committed
                          ? drafting.row->tokens.subspan(fed, size)
                          : absl::MakeConstSpan(drafting.drafts).subspan(fed - committed, size);
  chunks.push_back({&drafting, tokens, drafting.wanted > 0 && size == drafting.pending()});
}

// Rows that draw need one token each and come first; the others catch up with the rest.
std::vector<DraftModelProposer::Chunk> DraftModelProposer::PlanPass(std::vector<Drafting>& batch,
                                                                    int max_tokens) {
  std::vector<Chunk> chunks;
  int left = max_tokens;
  for (const bool drawing : {true, false}) {
    for (Drafting& drafting : batch) {
      if (left == 0 || drafting.done() || (drafting.pending() == 1) != drawing) continue;
      const size_t before = chunks.size();
      AddChunk(drafting, left, chunks);
      if (chunks.size() > before) left -= static_cast<int>(chunks.back().tokens.size());
    }
  }
  return chunks;
}

// Recurrent states may take in what is committed, but for the last token, which the next call feeds
// again.
int DraftModelProposer::FinalPosition(const Chunk& chunk) {
  const Entry& entry = *chunk.drafting->entry;
  const int end = static_cast<int>(entry.fed.size() + chunk.tokens.size());
  const int committed = static_cast<int>(chunk.drafting->row->tokens.size());
  return std::max(entry.state_position, std::min(end, committed - 1));
}

DraftModelProposer::Pass DraftModelProposer::PassOf(absl::Span<const Chunk> chunks) const {
  Pass pass;
  for (const Chunk& chunk : chunks) {
    const Entry& entry = *chunk.drafting->entry;
    pass.rows.push_back({.token_ids = chunk.tokens,
                         .first_position = static_cast<int>(entry.fed.size()),
                         .page_table = entry.cursor.page_table,
                         .num_logits = chunk.draws ? 1 : 0,
                         .state_slot = entry.cursor.state_slot,
                         .final_position = FinalPosition(chunk),
                         .state_position = entry.state_position,
                         .pending_draw = chunk.pending_draw});
    pass.num_tokens += static_cast<int>(chunk.tokens.size());
    if (!chunk.draws) continue;
    pass.samples.push_back({.params = &entry.sampling,
                            .history = chunk.drafting->row->tokens,
                            .prompt_tokens = entry.prompt_tokens,
                            .drafts = chunk.drafting->drafts,
                            .rule = for_rejection_ && !entry.sampling.greedy()
                                        ? DrawRule::kPropose
                                        : DrawRule::kGumbel});
  }
  return pass;
}

// A pass with the chunk has been started.
void DraftModelProposer::Feed(const Chunk& chunk) {
  Entry& entry = *chunk.drafting->entry;
  entry.state_position = FinalPosition(chunk);
  entry.fed.insert(entry.fed.end(), chunk.tokens.begin(), chunk.tokens.end());
  cache_->Commit(entry.cursor, static_cast<int>(chunk.tokens.size()));
}

void DraftModelProposer::TakeDraw(TokenId drawn, Drafting& drafting) {
  if (drawn == kNoToken) drafting.stopped = true;
  if (!drafting.stopped) drafting.drafts.push_back(drawn);
}

absl::Status DraftModelProposer::RunPass(absl::Span<Chunk> chunks) {
  const Pass pass = PassOf(chunks);
  const absl::Duration start = clock_->Now();
  ASSIGN_OR_RETURN(const std::vector<SampledToken> drawn, model_->Run(pass.rows, pass.samples));
  pass_cost_.Add(pass.num_tokens, absl::ToDoubleSeconds(clock_->Now() - start));
  size_t next = 0;
  for (const Chunk& chunk : chunks) {
    Feed(chunk);
    if (!chunk.draws) continue;
    const SampledToken& token = drawn[next++];
    TakeDraw(token.id, *chunk.drafting);
    if (token.masses != nullptr) chunk.drafting->masses.push_back(token.masses);
  }
  return absl::OkStatus();
}

// All that the rows have left is to draw, and the device can do it.
bool DraftModelProposer::MayChain(absl::Span<const Chunk> chunks, int num_rows) const {
  return model_->chains() && static_cast<int>(chunks.size()) == num_rows &&
         std::all_of(chunks.begin(), chunks.end(),
                     [](const Chunk& chunk) { return chunk.draws; }) &&
         !model_->ChoicesOf(PassOf(chunks).samples).empty();
}

// The rows that want another draft after `num_drawn` of this chain, and have room to feed the last.
std::vector<DraftModelProposer::Chunk> DraftModelProposer::NextLinks(absl::Span<const Chunk> chunks,
                                                                     int num_drawn) {
  static constexpr TokenId kUnread[] = {kNoToken};
  std::vector<Chunk> next;
  for (size_t i = 0; i < chunks.size(); ++i) {
    Drafting& drafting = *chunks[i].drafting;
    const int drafts = static_cast<int>(drafting.drafts.size()) + num_drawn;
    if (drafts >= drafting.wanted || !Reserve(*drafting.entry, 1)) continue;
    next.push_back({&drafting, kUnread, true, static_cast<int>(i)});
  }
  return next;
}

// As many passes as are expected to end in time, one after the other on the device. What a pass
// feeds is known by its place until all of them are read.
absl::Status DraftModelProposer::RunChain(std::vector<Chunk> chunks, absl::Duration left) {
  const double cost = pass_cost_.Seconds(static_cast<double>(chunks.size()));
  int most = 1;
  while (most < DraftModel::kMaxChain && cost > 0 &&
         (most + 1) * cost <= absl::ToDoubleSeconds(left)) {
    ++most;
  }
  const absl::Duration start = clock_->Now();
  std::vector<std::vector<Drafting*>> drawing;  // by pass
  int num_tokens = 0;
  while (!chunks.empty() && static_cast<int>(drawing.size()) < most) {
    const Pass pass = PassOf(chunks);
    RETURN_IF_ERROR(model_->Start(static_cast<int>(drawing.size()), pass.rows,
                                  model_->ChoicesOf(pass.samples)));
    num_tokens += pass.num_tokens;
    drawing.emplace_back();
    for (const Chunk& chunk : chunks) {
      Feed(chunk);
      drawing.back().push_back(chunk.drafting);
    }
    chunks = NextLinks(chunks, static_cast<int>(drawing.size()));
  }
  for (size_t pass = 0; pass < drawing.size(); ++pass) {
    const std::vector<TokenId> drawn =
        model_->Read(static_cast<int>(pass), static_cast<int>(drawing[pass].size()));
    for (size_t i = 0; i < drawn.size(); ++i) TakeDraw(drawn[i], *drawing[pass][i]);
  }
  for (Drafting* drafting : drawing[0]) NameUnread(*drafting);
  num_chained_passes_ += static_cast<int64_t>(drawing.size()) - 1;
  const double passes = static_cast<double>(drawing.size());
  pass_cost_.Add(num_tokens / passes, absl::ToDoubleSeconds(clock_->Now() - start) / passes);
  return absl::OkStatus();
}

// Drafts that were fed before they were read. What follows a row that is not finite stays unnamed:
// it equals no token, so the next call feeds its position again.
void DraftModelProposer::NameUnread(Drafting& drafting) {
  const size_t committed = drafting.row->tokens.size();
  std::vector<TokenId>& fed = drafting.entry->fed;
  for (size_t i = committed; i < fed.size() && i - committed < drafting.drafts.size(); ++i) {
    fed[i] = drafting.drafts[i - committed];
  }
}

std::vector<std::vector<TokenId>> DraftModelProposer::Propose(absl::Span<const ProposalRow> rows,
                                                              absl::Duration budget) {
  outcome_ = {};
  masses_.clear();
  if (model_ == nullptr) return std::vector<std::vector<TokenId>>(rows.size());
  ++call_;
  const absl::Duration end = clock_->Now() + budget;
  std::vector<Drafting> batch = Attach(rows);
  for (bool first_pass = true;; first_pass = false) {
    const int num_rows = static_cast<int>(std::count_if(
        batch.begin(), batch.end(), [](const Drafting& drafting) { return !drafting.done(); }));
    if (num_rows == 0) break;
    const int max_tokens = TokensWithin(end - clock_->Now(), first_pass, num_rows);
    if (max_tokens == 0) break;
    std::vector<Chunk> chunks = PlanPass(batch, max_tokens);
    if (chunks.empty()) break;
    const absl::Status status = MayChain(chunks, num_rows)
                                    ? RunChain(std::move(chunks), end - clock_->Now())
                                    : RunPass(absl::MakeSpan(chunks));
    if (!status.ok()) {
      LOG(WARNING) << "draft: " << LogText(status.ToString());
      ++outcome_.error;
      break;
    }
  }
  if (kInvariantsEnabled) cache_->CheckIntegrity();
  Count(batch);
  std::vector<std::vector<TokenId>> drafts;
  for (Drafting& drafting : batch) {
    drafts.push_back(std::move(drafting.drafts));
    masses_.push_back(std::move(drafting.masses));
  }
  return drafts;
}

void DraftModelProposer::Count(const std::vector<Drafting>& batch) {
  for (const Drafting& drafting : batch) {
    if (drafting.row->num_draft_tokens == 0) continue;
    if (!drafting.drafts.empty()) {
      ++outcome_.ok;
    } else if (drafting.stopped) {
      ++outcome_.empty;
    } else {
      ++outcome_.late;
    }
  }
}

}  // namespace krait
