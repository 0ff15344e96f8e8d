#include "worker/speculative/lookahead_policy.h"

#include <algorithm>

namespace krait {
namespace {

constexpr double kFade = 0.97;             // of what a sequence's earlier drafts count, each draft
constexpr double kMaxStrength = 8;         // of the prior
constexpr double kStrengthRate = 1. / 16;  // each draft
constexpr double kCoverageRate = 0.2;
constexpr double kOverallRate = 0.05;     // of both, for sequences to come
constexpr double kMaxAcceptance = 0.995;  // so that a geometric series stays one
// Speculation must promise this much more than none: estimates err.
constexpr double kMargin = 1.03;
constexpr double kProbeShare = 0.015;  // of the time
constexpr int kMaxProbeHalvings = 2;   // of that share, one for each probe in vain
constexpr int kMinRoundsBetweenProbes = 8;

void Follow(double rate, double value, double& mean) { mean += rate * (value - mean); }

}  // namespace

LookaheadPolicy::Habit LookaheadPolicy::habit(SequenceId id) const {
  const auto it = habits_.find(id);
  return it == habits_.end() ? Habit{.coverage = prior_.coverage} : it->second;
}

double LookaheadPolicy::Acceptance(const Habit& habit) const {
  return (prior_.strength * prior_.acceptance + habit.accepted) / (prior_.strength + habit.judged);
}

// Before the first measurement only ratios matter.
double LookaheadPolicy::PassSeconds(double rows) const {
  return pass_cost_.measured() ? std::max(1e-9, pass_cost_.Seconds(rows)) : 1 + 0.07 * rows;
}

// By falling gain. A sequence's deeper drafts gain less, so any beginning of the list holds no
// draft without its predecessors.
std::vector<LookaheadPolicy::Step> LookaheadPolicy::Steps(
    absl::Span<const DraftLimit> limits) const {
  std::vector<Step> steps;
  for (size_t i = 0; i < limits.size(); ++i) {
    const Habit own = habit(limits[i].id);
    const double acceptance = std::min(Acceptance(own), kMaxAcceptance);
    double gain = own.coverage;
    for (int depth = 1; depth <= limits[i].max_draft_tokens; ++depth) {
      gain *= acceptance;
      steps.push_back({gain, own.coverage, depth, i});
    }
  }
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) {
    return a.gain != b.gain ? a.gain > b.gain : a.depth < b.depth;
  });
  return steps;
}

std::vector<int> LookaheadPolicy::Choose(absl::Span<const DraftLimit> limits) {
  std::vector<int> chosen(limits.size(), 0);
  const std::vector<Step> steps = Steps(limits);
  const double rows = static_cast<double>(limits.size());
  double tokens = rows, pass_rows = rows, best_rate = kMargin * rows / PassSeconds(rows);
  size_t best_size = 0;
  int deepest = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    tokens += steps[i].gain;
    pass_rows += steps[i].rows;
    deepest = std::max(deepest, steps[i].depth);
    const double rate = tokens / (PassSeconds(pass_rows) + draft_cost_.Seconds(deepest));
    if (rate > best_rate) {
      best_rate = rate;
      best_size = i + 1;
    }
  }
  for (size_t i = 0; i < best_size; ++i) {
    chosen[steps[i].index] = std::max(chosen[steps[i].index], steps[i].depth);
  }
  Probe(limits, chosen);
  return chosen;
}

void LookaheadPolicy::Probe(absl::Span<const DraftLimit> limits, std::vector<int>& chosen) {
  int idle = 0, rows = 0;
  for (size_t i = 0; i < limits.size(); ++i) {
    rows += 1 + chosen[i];
    idle += limits[i].max_draft_tokens > 0 && chosen[i] == 0;
  }
  if (idle == 0) StartProbeInterval();
  if (idle == 0 || rounds_since_probe_ < kMinRoundsBetweenProbes) return;
  const double share = kProbeShare / (1 << std::min(vain_probes_, kMaxProbeHalvings));
  const double cost = PassSeconds(rows + idle) - PassSeconds(rows) + draft_cost_.Seconds(1);
  if (seconds_since_probe_ * share < cost) return;
  StartProbeInterval();
  for (size_t i = 0; i < limits.size(); ++i) {
    if (limits[i].max_draft_tokens == 0 || chosen[i] > 0) continue;
    chosen[i] = 1;
    probed_.insert(limits[i].id);
  }
}

void LookaheadPolicy::StartProbeInterval() {
  rounds_since_probe_ = 0;
  seconds_since_probe_ = 0;
}

void LookaheadPolicy::JudgeProbe(absl::Span<const DraftOutcome> outcomes) {
  if (probed_.empty()) return;
  const bool hit = std::any_of(outcomes.begin(), outcomes.end(), [&](const DraftOutcome& outcome) {
    return outcome.accepted > 0 && probed_.contains(outcome.id);
  });
  vain_probes_ = hit ? 0 : vain_probes_ + 1;
  probed_.clear();
}

void LookaheadPolicy::OnRound(const DraftRound& round) {
  const double pass = absl::ToDoubleSeconds(round.pass);
  const double wait = absl::ToDoubleSeconds(round.draft_wait);
  if (!round.has_prefill && round.num_tokens > 0) pass_cost_.Add(round.num_tokens, pass);
  ++rounds_since_probe_;
  seconds_since_probe_ += pass + wait;
  JudgeProbe(round.outcomes);
  if (round.outcomes.empty()) return;

  int deepest = 0;
  for (const DraftOutcome& outcome : round.outcomes) {
    deepest = std::max(deepest, outcome.asked);
    Learn(outcome);
  }
  draft_cost_.Add(deepest, wait);
}

void LookaheadPolicy::Learn(const DraftOutcome& outcome) {
  Habit& own = habits_.try_emplace(outcome.id, habit(outcome.id)).first->second;
  const double came = outcome.proposed > 0 ? 1 : 0;
  Follow(kCoverageRate, came, own.coverage);
  Follow(kOverallRate, came, prior_.coverage);
  // Drafts behind the first rejected one were never judged.
  const int judged = std::min(outcome.accepted + 1, outcome.proposed);
  for (int i = 0; i < judged; ++i) {
    const double accepted = i < outcome.accepted ? 1 : 0;
    own.accepted = kFade * own.accepted + accepted;
    own.judged = kFade * own.judged + 1;
    Follow(kOverallRate, accepted, prior_.acceptance);
    prior_.strength = std::min(kMaxStrength, prior_.strength + kStrengthRate);
  }
}

}  // namespace krait
