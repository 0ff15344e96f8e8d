#include "worker/sampling/shard_sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>

#include "common/status_macros.h"
#include "worker/sampling/candidate_cut.h"
#include "worker/sampling/logits_processors.h"

namespace krait {
namespace {

// A nucleus rarely holds more tokens than the first list; each further one is so many times longer.
constexpr int kFirstCandidates = 64;
constexpr int kCandidateGrowth = 8;

// What one rank sends about one row first. No padding: the bytes are compared nowhere, but sent.
struct RowHead {
  float max = -std::numeric_limits<float>::infinity();  // processed
  uint32_t finite = 1;                                  // raw
  GumbelBest greedy;
  uint64_t raw_mass = 0;
  int64_t shard_size = 0;
};

// Then, for a row that is drawn with noise.
struct RowDraw {
  GumbelBest best;
  uint64_t mass = 0;
};

struct OwnedLogit {
  float logit = 0;
  uint32_t owned = 0;
};

// Everything known of one row on the way to its token.
struct RowState {
  const SampleRow* row = nullptr;
  const SamplingParams* params = nullptr;
  LogitsShard shard;
  RowHead head;                     // this rank's, then everyone's
  uint64_t total_mass = 0;          // of the processed row, if filtered
  std::vector<Candidate> replaced;  // raw logits that processors changed, by rising id
  std::vector<Candidate> raw_top;   // of all ranks
  std::vector<Candidate> top;       // of all ranks, processed, while a cut is sought
  int wanted = 0;                   // length of the next candidate list; 0: none wanted
  SampledToken token;

  bool finite() const { return head.finite != 0; }
  bool wants_logprobs() const { return params->num_logprobs >= 0; }
  bool filtered() const { return params->top_k > 0 || params->top_p < 1; }
  int64_t position() const { return row->history.size() + row->drafts.size(); }
};

void KeepBetter(const GumbelBest& other, GumbelBest& best) {
  if (other.id < 0) return;
  if (best.id < 0 || other.score > best.score ||
      (other.score == best.score && other.id < best.id)) {
    best = other;
  }
}

// One Sample call.
class Draw {
 public:
  Draw(Backend* backend, const VocabShard& shard, int num_ranks, ShardSampler::Gather gather)
      : backend_(backend), shard_(shard), num_ranks_(num_ranks), gather_(gather) {}

  absl::StatusOr<std::vector<SampledToken>> Run(const TensorView& logits,
                                                absl::Span<const SampleRow> rows);

 private:
  using Rows = std::vector<RowState*>;

  void Begin(const TensorView& logits, absl::Span<const SampleRow> rows);
  void FindMax(const Rows& rows);
  absl::Status ReadRaw(const Rows& rows);
  void Process(const Rows& rows);
  absl::Status ExchangeHeads();
  absl::Status DrawWithNoise(const Rows& rows);
  absl::Status Filter(Rows rows);
  absl::Status ExtendCandidates(const Rows& rows, bool raw, std::vector<bool>& complete);
  void DrawFrom(RowState& state, size_t num_kept);
  absl::Status FillLogprobs(const Rows& rows);
  std::vector<uint64_t> Masses(const RowState& state, absl::Span<const Candidate> candidates);
  GumbelRow NoiseRow(const RowState& state, float min_z) const;

  template <typename Predicate>
  Rows Select(Predicate predicate) {
    Rows selected;
    for (RowState& state : states_) {
      if (predicate(state)) selected.push_back(&state);
    }
    return selected;
  }

  // Everyone's items, rank after rank; the same number on every rank.
  template <typename T>
  absl::StatusOr<std::vector<T>> GatherItems(const std::vector<T>& items) {
    std::vector<T> all(items.size() * num_ranks_);
    RETURN_IF_ERROR(
        gather_({reinterpret_cast<const std::byte*>(items.data()), items.size() * sizeof(T)},
                absl::MakeSpan(reinterpret_cast<std::byte*>(all.data()), all.size() * sizeof(T))));
    return all;
  }

  Backend* const backend_;
  const VocabShard& shard_;
  const int num_ranks_;
  const ShardSampler::Gather gather_;
  std::vector<RowState> states_;
  int max_shard_size_ = 0;
};

void Draw::Begin(const TensorView& logits, absl::Span<const SampleRow> rows) {
  states_.resize(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    states_[i].row = &rows[i];
    states_[i].params = rows[i].params;
    states_[i].shard = {logits.row<float>(i), shard_.size(), shard_.begin,
                        shard_.ids.empty() ? nullptr : shard_.ids.data()};
    states_[i].head.shard_size = shard_.size();
  }
}

void Draw::FindMax(const Rows& rows) {
  std::vector<LogitsShard> shards;
  for (const RowState* state : rows) shards.push_back(state->shard);
  std::vector<RowMax> maxima(rows.size());
  backend_->FindRowMax(shards, absl::MakeSpan(maxima));
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i]->head.max = maxima[i].max;
    rows[i]->head.finite = maxima[i].finite ? 1 : 0;
  }
}

// Appends to no list: replaces each row's with the `wanted` largest logits of all ranks.
// complete[i]: rows[i] has no others.
absl::Status Draw::ExtendCandidates(const Rows& rows, bool raw, std::vector<bool>& complete) {
  std::vector<TopRow> tops;
  std::vector<size_t> owner;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i]->finite()) continue;  // comparisons with NaN order nothing
    tops.push_back({rows[i]->shard, rows[i]->wanted});
    owner.push_back(i);
  }
  std::vector<std::vector<Candidate>> found(tops.size());
  backend_->TopCandidates(tops, absl::MakeSpan(found));

  std::vector<Candidate> sent;
  std::vector<size_t> offset;
  for (size_t i = 0, next = 0; i < rows.size(); ++i) {
    offset.push_back(sent.size());
    if (next < owner.size() && owner[next] == i) {
      sent.insert(sent.end(), found[next].begin(), found[next].end());
      ++next;
    }
    sent.resize(offset[i] + rows[i]->wanted, Candidate{0, -1});
  }
  ASSIGN_OR_RETURN(const std::vector<Candidate> all, GatherItems(sent));

  complete.assign(rows.size(), false);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<Candidate> candidates;
    for (int rank = 0; rank < num_ranks_; ++rank) {
      const auto begin = all.begin() + rank * sent.size() + offset[i];
      candidates.insert(candidates.end(), begin, begin + rows[i]->wanted);
    }
    std::vector<Candidate> merged = MergeCandidates(candidates);
    complete[i] = !raw && rows[i]->wanted >= max_shard_size_;
    // Beyond `wanted` the merged list may have gaps: a rank sent no more.
    if (!complete[i] && merged.size() > static_cast<size_t>(rows[i]->wanted)) {
      merged.resize(rows[i]->wanted);
    }
    (raw ? rows[i]->raw_top : rows[i]->top) = std::move(merged);
  }
  return absl::OkStatus();
}

// The raw row's largest logits and this rank's part of its log-sum-exp, before any processor.
absl::Status Draw::ReadRaw(const Rows& rows) {
  if (rows.empty()) return absl::OkStatus();
  for (RowState* state : rows) state->wanted = std::max(1, state->params->num_logprobs);
  std::vector<bool> complete;
  RETURN_IF_ERROR(ExtendCandidates(rows, /*raw=*/true, complete));
  std::vector<MassRow> mass_rows;
  Rows readable;
  for (RowState* state : rows) {
    if (!state->finite() || state->raw_top.empty()) continue;
    mass_rows.push_back({state->shard, state->raw_top[0].logit, 1.0f});
    readable.push_back(state);
  }
  std::vector<uint64_t> masses(mass_rows.size());
  backend_->ExpMass(mass_rows, absl::MakeSpan(masses));
  for (size_t i = 0; i < readable.size(); ++i) readable[i]->head.raw_mass = masses[i];
  return absl::OkStatus();
}

// Whether the row is finite has been seen on its raw logits; a mask makes none of them a fault.
void Draw::Process(const Rows& rows) {
  if (rows.empty()) return;
  std::vector<ProcessorRow> processed;
  std::vector<LogitsShard> shards;
  for (const RowState* state : rows) {
    processed.push_back({state->row, state->shard, state->wants_logprobs(), {}});
    shards.push_back(state->shard);
  }
  ProcessLogits(backend_, shard_, absl::MakeSpan(processed));
  std::vector<RowMax> maxima(rows.size());
  backend_->FindRowMax(shards, absl::MakeSpan(maxima));
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i]->replaced = std::move(processed[i].raw);
    rows[i]->head.max = maxima[i].max;
  }
}

GumbelRow Draw::NoiseRow(const RowState& state, float min_z) const {
  const SamplingParams& params = *state.params;
  return {.shard = state.shard,
          .max = state.head.max,
          .temperature = params.greedy() ? 0.0f : params.temperature,
          .min_z = min_z,
          .seed = params.seed,
          .position = state.position(),
          .choice = params.choice};
}

// Every rank learns each row's maximum, whether it is finite, its greedy token and its raw mass.
absl::Status Draw::ExchangeHeads() {
  const Rows greedy = Select([](const RowState& s) { return s.finite() && s.params->greedy(); });
  std::vector<GumbelRow> argmax;
  for (RowState* state : greedy) {
    argmax.push_back(NoiseRow(*state, -std::numeric_limits<float>::infinity()));
  }
  std::vector<GumbelBest> best(argmax.size());
  backend_->GumbelArgmax(argmax, absl::MakeSpan(best));
  for (size_t i = 0; i < greedy.size(); ++i) greedy[i]->head.greedy = best[i];

  std::vector<RowHead> sent;
  for (const RowState& state : states_) sent.push_back(state.head);
  ASSIGN_OR_RETURN(const std::vector<RowHead> all, GatherItems(sent));
  for (size_t i = 0; i < states_.size(); ++i) {
    RowHead merged;
    for (int rank = 0; rank < num_ranks_; ++rank) {
      const RowHead& head = all[rank * states_.size() + i];
      merged.max = std::max(merged.max, head.max);
      merged.finite &= head.finite;
      merged.raw_mass += head.raw_mass;
      merged.shard_size = std::max(merged.shard_size, head.shard_size);
      KeepBetter(head.greedy, merged.greedy);
    }
    // A penalty may overflow, and a mask may leave nothing.
    merged.finite &= std::isfinite(merged.max) ? 1 : 0;
    states_[i].head = merged;
    states_[i].token.finite = merged.finite != 0;
    if (states_[i].finite() && states_[i].params->greedy()) {
      states_[i].token.id = merged.greedy.id;
    }
    max_shard_size_ = static_cast<int>(merged.shard_size);
  }
  return absl::OkStatus();
}

// Draws the rows that no candidate list is needed for, and sums the others' masses.
absl::Status Draw::DrawWithNoise(const Rows& rows) {
  if (rows.empty()) return absl::OkStatus();
  std::vector<GumbelRow> noise_rows;
  std::vector<MassRow> mass_rows;
  for (const RowState* state : rows) {
    if (!state->filtered()) {
      noise_rows.push_back(NoiseRow(*state, MinZ(state->params->min_p)));
    } else {
      mass_rows.push_back({state->shard, state->head.max, state->params->temperature});
    }
  }
  std::vector<GumbelBest> best(noise_rows.size());
  backend_->GumbelArgmax(noise_rows, absl::MakeSpan(best));
  std::vector<uint64_t> masses(mass_rows.size());
  backend_->ExpMass(mass_rows, absl::MakeSpan(masses));

  std::vector<RowDraw> sent;
  size_t next_best = 0, next_mass = 0;
  for (const RowState* state : rows) {
    sent.push_back(state->filtered() ? RowDraw{{}, masses[next_mass++]}
                                     : RowDraw{best[next_best++], 0});
  }
  ASSIGN_OR_RETURN(const std::vector<RowDraw> all, GatherItems(sent));
  for (size_t i = 0; i < rows.size(); ++i) {
    RowDraw merged;
    for (int rank = 0; rank < num_ranks_; ++rank) {
      KeepBetter(all[rank * rows.size() + i].best, merged.best);
      merged.mass += all[rank * rows.size() + i].mass;
    }
    rows[i]->token.id = merged.best.id;
    rows[i]->total_mass = merged.mass;
  }
  return absl::OkStatus();
}

std::vector<uint64_t> Draw::Masses(const RowState& state, absl::Span<const Candidate> candidates) {
  std::vector<float> logits;
  for (const Candidate& candidate : candidates) logits.push_back(candidate.logit);
  std::vector<MassRow> rows;
  for (float& logit : logits) {
    rows.push_back({{&logit, 1, 0, nullptr}, state.head.max, state.params->temperature});
  }
  std::vector<uint64_t> masses(rows.size());
  backend_->ExpMass(rows, absl::MakeSpan(masses));
  return masses;
}

// The candidates lie on every rank, so each draws the same without another exchange.
void Draw::DrawFrom(RowState& state, size_t num_kept) {
  state.top.resize(num_kept);
  std::sort(state.top.begin(), state.top.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  std::vector<float> logits;
  std::vector<TokenId> ids;
  for (const Candidate& candidate : state.top) {
    logits.push_back(candidate.logit);
    ids.push_back(candidate.id);
  }
  GumbelRow row = NoiseRow(state, -std::numeric_limits<float>::infinity());
  row.shard = {logits.data(), static_cast<int64_t>(logits.size()), 0, ids.data()};
  GumbelBest best;
  backend_->GumbelArgmax({&row, 1}, absl::MakeSpan(&best, 1));
  state.token.id = best.id;
}

// Fetches longer and longer lists of the largest logits until every row's cut is known.
absl::Status Draw::Filter(Rows rows) {
  for (RowState* state : rows) {
    const int first = state->params->top_k > 0 ? state->params->top_k : kFirstCandidates;
    state->wanted = std::min(first, max_shard_size_);
  }
  while (!rows.empty()) {
    std::vector<bool> complete;
    RETURN_IF_ERROR(ExtendCandidates(rows, /*raw=*/false, complete));
    Rows open;
    for (size_t i = 0; i < rows.size(); ++i) {
      RowState& state = *rows[i];
      const CutParams cut = {.max = state.head.max,
                             .temperature = state.params->temperature,
                             .min_z = MinZ(state.params->min_p),
                             .top_k = state.params->top_k,
                             .top_p = state.params->top_p,
                             .total_mass = state.total_mass};
      const auto kept = CutCandidates(
          cut, state.top, complete[i],
          [&](absl::Span<const Candidate> candidates) { return Masses(state, candidates); });
      if (kept.has_value()) {
        DrawFrom(state, *kept);
      } else {
        state.wanted = static_cast<int>(
            std::min<int64_t>(int64_t{state.wanted} * kCandidateGrowth, max_shard_size_));
        open.push_back(&state);
      }
    }
    rows = std::move(open);
  }
  return absl::OkStatus();
}

absl::Status Draw::FillLogprobs(const Rows& rows) {
  if (rows.empty()) return absl::OkStatus();
  std::vector<OwnedLogit> sent;
  for (const RowState* state : rows) {
    OwnedLogit own;
    const TokenId id = state->token.id;
    if (shard_.Contains(id)) {
      const auto it = std::lower_bound(
          state->replaced.begin(), state->replaced.end(), id,
          [](const Candidate& candidate, TokenId wanted) { return candidate.id < wanted; });
      const bool replaced = it != state->replaced.end() && it->id == id;
      own = {replaced ? it->logit : state->shard.logits[IndexOf(state->shard, id)], 1};
    }
    sent.push_back(own);
  }
  ASSIGN_OR_RETURN(const std::vector<OwnedLogit> all, GatherItems(sent));
  for (size_t i = 0; i < rows.size(); ++i) {
    RowState& state = *rows[i];
    // 2^-40: the unit of Backend::ExpMass.
    const double log_sum_exp =
        state.raw_top[0].logit + std::log(static_cast<double>(state.head.raw_mass) * 0x1p-40);
    const auto logprob = [&](float logit) { return static_cast<float>(logit - log_sum_exp); };
    for (int rank = 0; rank < num_ranks_; ++rank) {
      const OwnedLogit& owned = all[rank * rows.size() + i];
      if (owned.owned) state.token.logprobs.token = {state.token.id, logprob(owned.logit)};
    }
    for (const Candidate& candidate : state.raw_top) {
      if (static_cast<int>(state.token.logprobs.top.size()) == state.params->num_logprobs) break;
      state.token.logprobs.top.push_back({candidate.id, logprob(candidate.logit)});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SampledToken>> Draw::Run(const TensorView& logits,
                                                    absl::Span<const SampleRow> rows) {
  Begin(logits, rows);
  FindMax(Select([](const RowState&) { return true; }));
  RETURN_IF_ERROR(ReadRaw(Select([](const RowState& s) { return s.wants_logprobs(); })));
  Process(Select([](const RowState& s) { return s.finite() && NeedsProcessing(*s.row); }));
  RETURN_IF_ERROR(ExchangeHeads());
  const auto noisy = [](const RowState& s) { return s.finite() && !s.params->greedy(); };
  RETURN_IF_ERROR(DrawWithNoise(Select(noisy)));
  RETURN_IF_ERROR(Filter(Select([&](const RowState& s) { return noisy(s) && s.filtered(); })));
  RETURN_IF_ERROR(
      FillLogprobs(Select([](const RowState& s) { return s.finite() && s.wants_logprobs(); })));
  std::vector<SampledToken> tokens;
  for (RowState& state : states_) tokens.push_back(std::move(state.token));
  return tokens;
}

}  // namespace

ShardSampler::ShardSampler(Backend* backend, VocabShard shard, int num_ranks)
    : backend_(backend), shard_(std::move(shard)), num_ranks_(num_ranks) {}

absl::StatusOr<std::vector<SampledToken>> ShardSampler::Sample(const TensorView& logits,
                                                               absl::Span<const SampleRow> rows,
                                                               Gather gather) {
  if (rows.empty()) return std::vector<SampledToken>();
  return Draw(backend_, shard_, num_ranks_, gather).Run(logits, rows);
}

}  // namespace krait
