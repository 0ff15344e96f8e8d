#include "worker/sampling/shard_sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "common/status_macros.h"
#include "worker/sampling/candidate_cut.h"
#include "worker/sampling/filtered_draw.h"
#include "worker/sampling/logits_processors.h"
#include "worker/sampling/mass_draw.h"
#include "worker/sampling/row_logprobs.h"
#include "worker/sampling/row_state.h"
#include "worker/sampling/shard_exchange.h"

namespace krait {
namespace {

// What one rank sends about a row that is drawn with noise, after its RowHead.
struct RowDraw {
  GumbelBest best;
  uint64_t mass = 0;
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
  Draw(Backend* backend, Backend* host, const VocabShard& shard, int num_ranks,
       ShardSampler::Gather gather)
      : backend_(backend), host_(host), shard_(shard), exchange_(num_ranks, gather) {}

  absl::StatusOr<std::vector<SampledToken>> Run(const TensorView& logits,
                                                absl::Span<const SampleRow> rows);

 private:
  void Begin(const TensorView& logits, absl::Span<const SampleRow> rows);
  void FindMax(const RowStates& rows);
  void Process(const RowStates& rows);
  absl::Status ExchangeHeads();
  absl::Status DrawWithNoise(const RowStates& rows);

  template <typename Predicate>
  RowStates Select(Predicate predicate) {
    RowStates selected;
    for (RowState& state : states_) {
      if (predicate(state)) selected.push_back(&state);
    }
    return selected;
  }

  Backend* const backend_;
  Backend* const host_;
  const VocabShard& shard_;
  const ShardExchange exchange_;
  std::vector<RowState> states_;
  int max_shard_size_ = 0;
};

void Draw::Begin(const TensorView& logits, absl::Span<const SampleRow> rows) {
  states_.resize(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    states_[i].row = &rows[i];
    states_[i].params = rows[i].params;
    const int64_t logits_row = rows[i].logits_row < 0 ? i : rows[i].logits_row;
    states_[i].shard = {logits.row<float>(logits_row), shard_.size(), shard_.begin,
                        shard_.ids.empty() ? nullptr : shard_.ids.data()};
    states_[i].head.shard_size = shard_.size();
  }
}

void Draw::FindMax(const RowStates& rows) {
  std::vector<LogitsShard> shards;
  for (const RowState* state : rows) shards.push_back(state->shard);
  std::vector<RowMax> maxima(rows.size());
  backend_->FindRowMax(shards, absl::MakeSpan(maxima));
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i]->head.max = maxima[i].max;
    rows[i]->head.finite = maxima[i].finite ? 1 : 0;
  }
}

// Whether the row is finite has been seen on its raw logits; a mask makes none of them a fault.
void Draw::Process(const RowStates& rows) {
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

// Every rank learns each row's maximum, whether it is finite, its greedy token and its raw mass.
absl::Status Draw::ExchangeHeads() {
  const RowStates greedy =
      Select([](const RowState& s) { return s.finite() && s.params->greedy(); });
  std::vector<GumbelRow> argmax;
  for (RowState* state : greedy) {
    argmax.push_back(NoiseRow(*state, -std::numeric_limits<float>::infinity()));
  }
  std::vector<GumbelBest> best(argmax.size());
  backend_->GumbelArgmax(argmax, absl::MakeSpan(best));
  for (size_t i = 0; i < greedy.size(); ++i) greedy[i]->head.greedy = best[i];

  std::vector<RowHead> sent;
  for (const RowState& state : states_) sent.push_back(state.head);
  ASSIGN_OR_RETURN(const std::vector<RowHead> all, exchange_.GatherItems(sent));
  for (size_t i = 0; i < states_.size(); ++i) {
    RowHead merged;
    for (int rank = 0; rank < exchange_.num_ranks(); ++rank) {
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

// Draws the rows that no more than noise is needed for, and sums the others' masses.
absl::Status Draw::DrawWithNoise(const RowStates& rows) {
  if (rows.empty()) return absl::OkStatus();
  const auto by_noise = [](const RowState& s) { return !s.filtered() && !s.drawn_by_masses(); };
  std::vector<GumbelRow> noise_rows;
  std::vector<MassRow> mass_rows;
  for (const RowState* state : rows) {
    if (by_noise(*state)) {
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
    sent.push_back(by_noise(*state) ? RowDraw{best[next_best++], 0}
                                    : RowDraw{{}, masses[next_mass++]});
  }
  ASSIGN_OR_RETURN(const std::vector<RowDraw> all, exchange_.GatherItems(sent));
  for (size_t i = 0; i < rows.size(); ++i) {
    RowDraw merged;
    for (int rank = 0; rank < exchange_.num_ranks(); ++rank) {
      KeepBetter(all[rank * rows.size() + i].best, merged.best);
      merged.mass += all[rank * rows.size() + i].mass;
    }
    rows[i]->token.id = merged.best.id;
    rows[i]->total_mass = merged.mass;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SampledToken>> Draw::Run(const TensorView& logits,
                                                    absl::Span<const SampleRow> rows) {
  Begin(logits, rows);
  FindMax(Select([](const RowState&) { return true; }));
  RETURN_IF_ERROR(ReadRawLogits(backend_, exchange_,
                                Select([](const RowState& s) { return s.wants_logprobs(); })));
  Process(Select([](const RowState& s) { return s.finite() && NeedsProcessing(*s.row); }));
  RETURN_IF_ERROR(ExchangeHeads());
  const auto noisy = [](const RowState& s) { return s.finite() && !s.params->greedy(); };
  RETURN_IF_ERROR(DrawWithNoise(Select(noisy)));
  RETURN_IF_ERROR(DrawFiltered(
      backend_, host_, exchange_, max_shard_size_,
      Select([&](const RowState& s) { return noisy(s) && s.filtered() && !s.drawn_by_masses(); })));
  RETURN_IF_ERROR(DrawByMasses(backend_, shard_, exchange_, max_shard_size_,
                               Select([](const RowState& s) { return s.drawn_by_masses(); })));
  RETURN_IF_ERROR(FillLogprobs(backend_, shard_, exchange_, Select([](const RowState& s) {
                                 return s.finite() && s.wants_logprobs();
                               })));
  std::vector<SampledToken> tokens;
  for (RowState& state : states_) tokens.push_back(std::move(state.token));
  return tokens;
}

}  // namespace

ShardSampler::ShardSampler(Backend* backend, VocabShard shard, int num_ranks)
    : backend_(backend),
      host_(CreateCpuBackend({})),
      shard_(std::move(shard)),
      num_ranks_(num_ranks) {}

absl::StatusOr<std::vector<SampledToken>> ShardSampler::Sample(const TensorView& logits,
                                                               absl::Span<const SampleRow> rows,
                                                               Gather gather) {
  if (rows.empty()) return std::vector<SampledToken>();
  return Draw(backend_, host_.get(), shard_, num_ranks_, gather).Run(logits, rows);
}

}  // namespace krait
