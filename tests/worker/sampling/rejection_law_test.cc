// The law of rejection sampling's tokens, whatever the draft: a million samples for each pair of
// target and draft, held against the target's law by chi-square. KRAIT_STATISTICS=full runs every
// pair with every number of drafts.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/rejection_uniforms.h"
#include "gtest/gtest.h"
#include "tests/support/chi_square.h"
#include "tests/support/plain_law.h"
#include "worker/sampling/rejection_sampler.h"

namespace krait {
namespace {

using testing::Cell;
using testing::ChanceOf;
using testing::Law;

constexpr int kSamples = 1'000'000;
constexpr int kBatch = 250;  // samples that are drawn together: they stay in the cache
constexpr int kTokens = 3;   // of a sample that are looked at
// All of the suite's checks together fail by chance once in a million suites; there are fewer than
// 1,000 of them, and the seeds are fixed.
constexpr double kLeastChance = 1e-9;

absl::Status OneRank(absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
  std::memcpy(recv.data(), send.data(), send.size());
  return absl::OkStatus();
}

using Logits = std::vector<float>;

// A target and a draft, by the logits they give. After token t all ids are t % num_contexts further
// on, so that a token's law depends on the one before.
struct Pair {
  std::string name;
  Logits target, draft;
  SamplingParams params;
  int num_contexts = 3;
};

Logits Turned(const Logits& logits, int by) {
  Logits turned(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) turned[(i + by) % logits.size()] = logits[i];
  return turned;
}

Law LawOf(const Logits& logits, const SamplingParams& params) {
  return testing::PlainLaw(logits, {.params = &params});
}

// As a draft keeps them.
SharedMasses MassesOf(Logits logits, SamplingParams params) {
  const auto backend = CreateCpuBackend({});
  const int n = static_cast<int>(logits.size());
  ShardSampler sampler(backend.get(), {.begin = 0, .end = n}, 1);
  const SampleRow row{.params = &params, .rule = DrawRule::kPropose};
  const auto drawn =
      sampler.Sample(TensorView(logits.data(), DType::kF32, {1, n}), {&row, 1}, OneRank);
  CHECK_OK(drawn.status());
  return (*drawn)[0].masses;
}

// The laws of one pair, by context.
struct Model {
  explicit Model(const Pair& pair) : pair(pair) {
    for (int c = 0; c < pair.num_contexts; ++c) {
      target.push_back(MassesOf(Turned(pair.target, c), pair.params));
      draft.push_back(MassesOf(Turned(pair.draft, c), pair.params));
      p.push_back(LawOf(Turned(pair.target, c), pair.params));
      q.push_back(LawOf(Turned(pair.draft, c), pair.params));
    }
  }
  int ContextAfter(TokenId token) const { return token % pair.num_contexts; }
  int vocab() const { return static_cast<int>(pair.target.size()); }

  const Pair& pair;
  std::vector<SharedMasses> target, draft;
  std::vector<Law> p, q;
};

struct Sample {
  uint64_t seed = 0;
  std::vector<TokenId> tokens;
  std::vector<TokenId> drafts;  // of the round under way
  int first_accepted = -1;      // of the first round

  GumbelKey Key(size_t ahead) const {
    return {.seed = seed, .position = static_cast<int64_t>(5 + tokens.size() + ahead)};
  }
  int Context(const Model& model, size_t ahead) const {
    if (ahead > 0) return model.ContextAfter(drafts[ahead - 1]);
    return tokens.empty() ? 0 : model.ContextAfter(tokens.back());
  }
};

// Speculative decoding of many sequences at a time: `k` drafts in the first round, then no more
// than tokens are left but one.
class Decoder {
 public:
  Decoder(const Model& model, int k) : model_(model), k_(k), exchange_(1, OneRank) {}

  void Decode(absl::Span<Sample> samples) {
    for (bool first = true;; first = false) {
      active_.clear();
      for (Sample& sample : samples) {
        if (sample.tokens.size() < kTokens) active_.push_back(&sample);
      }
      if (active_.empty()) return;
      const int most = first ? k_ : std::min(k_, kTokens - 2);
      for (int i = 0; i < most; ++i) Propose(first);
      Verify(first);
    }
  }

 private:
  void Draw(const std::vector<SharedMasses>& masses) {
    const auto masses_of = [&](size_t row) { return masses[contexts_[row]].get(); };
    CHECK_OK(DrawByRejection(absl::MakeSpan(rows_), masses_of, exchange_));
  }
  void Clear() {
    rows_.clear();
    contexts_.clear();
  }

  void Propose(bool first) {
    Clear();
    drafting_.clear();
    for (Sample* sample : active_) {
      const size_t ahead = sample->drafts.size();
      if (!first && sample->tokens.size() + ahead + 1 >= kTokens) continue;
      drafting_.push_back(sample);
      rows_.push_back({.token_bits = UniformBits(sample->Key(ahead), UniformPurpose::kPropose)});
      contexts_.push_back(sample->Context(model_, ahead));
    }
    Draw(model_.draft);
    for (size_t i = 0; i < drafting_.size(); ++i) drafting_[i]->drafts.push_back(rows_[i].token);
  }

  void Verify(bool first) {
    Clear();
    for (Sample* sample : active_) {
      for (size_t j = 0; j <= sample->drafts.size(); ++j) AddRow(*sample, j);
    }
    Draw(model_.target);
    size_t row = 0;
    for (Sample* sample : active_) {
      const size_t num_rows = sample->drafts.size() + 1;
      size_t drawn = 0;
      for (; drawn < num_rows && rows_[row + drawn].token != kNoToken; ++drawn) {
        sample->tokens.push_back(rows_[row + drawn].token);
      }
      if (first) sample->first_accepted = static_cast<int>(drawn) - 1;
      sample->drafts.clear();
      row += num_rows;
    }
  }

  void AddRow(const Sample& sample, size_t j) {
    const int context = sample.Context(model_, j);
    const GumbelKey key = sample.Key(j);
    VerifiedRow row{.token_bits = UniformBits(key, UniformPurpose::kReplace)};
    if (j < sample.drafts.size()) {
      row.draft = sample.drafts[j];
      row.draft_masses = model_.draft[context].get();
      row.target_mass = model_.target[context]->MassOf(row.draft);
      row.target_total = model_.target[context]->total;
      row.accept_uniform = UniformOf(UniformBits(key, UniformPurpose::kAccept));
    }
    rows_.push_back(row);
    contexts_.push_back(context);
  }

  const Model& model_;
  const int k_;
  const ShardExchange exchange_;
  std::vector<Sample*> active_, drafting_;
  std::vector<VerifiedRow> rows_;
  std::vector<int> contexts_;  // of the rows
};

// What was seen, by token sequences.
struct Counts {
  std::vector<double> joint;      // [vocab^3], if that is few
  std::vector<double> marginals;  // [kTokens, vocab]
  std::vector<double> accepted;   // [k + 1], of the first round
  std::vector<double> after;      // [2, vocab, vocab]: first draft accepted or not; tokens 1 and 2
};

constexpr int kMostJoint = 16;  // tokens of a vocabulary whose joint law is counted

Counts Count(const Model& model, int k) {
  const int v = model.vocab();
  const bool joint = v <= kMostJoint;
  Counts counts{.joint = std::vector<double>(joint ? v * v * v : 0),
                .marginals = std::vector<double>(kTokens * v),
                .accepted = std::vector<double>(k + 1),
                .after = std::vector<double>(joint ? 2 * v * v : 0)};
  Decoder decoder(model, k);
  std::vector<Sample> samples(kBatch);
  for (int begin = 0; begin < kSamples; begin += kBatch) {
    for (int i = 0; i < kBatch; ++i) {
      samples[i].seed = static_cast<uint64_t>(begin + i);
      samples[i].tokens.clear();  // keeps its memory
    }
    decoder.Decode(absl::MakeSpan(samples));
    for (const Sample& sample : samples) {
      const std::vector<TokenId>& t = sample.tokens;
      for (int i = 0; i < kTokens; ++i) ++counts.marginals[i * v + t[i]];
      ++counts.accepted[sample.first_accepted];
      if (!joint) continue;
      ++counts.joint[(t[0] * v + t[1]) * v + t[2]];
      ++counts.after[((sample.first_accepted > 0) * v + t[0]) * v + t[1]];
    }
  }
  return counts;
}

// The law of the token after those of law `before`.
Law Next(const Model& model, const std::vector<Law>& step, const Law& before) {
  Law next(model.vocab(), 0);
  for (int t = 0; t < model.vocab(); ++t) {
    const Law& law = step[model.ContextAfter(t)];
    for (int i = 0; i < model.vocab() && before[t] > 0; ++i) next[i] += before[t] * law[i];
  }
  return next;
}

void CheckMarginals(const Model& model, const Counts& counts) {
  Law law = model.p[0];
  for (int i = 0; i < kTokens; ++i) {
    std::vector<Cell> cells;
    for (int t = 0; t < model.vocab(); ++t) {
      cells.push_back({counts.marginals[i * model.vocab() + t], law[t] * kSamples});
    }
    EXPECT_GT(ChanceOf(cells), kLeastChance) << "token " << i + 1;
    if (i + 1 < kTokens) law = Next(model, model.p, law);
  }
}

void CheckJoint(const Model& model, const Counts& counts) {
  const int v = model.vocab();
  std::vector<Cell> cells;
  for (int a = 0; a < v; ++a) {
    for (int b = 0; b < v; ++b) {
      for (int c = 0; c < v; ++c) {
        const double law =
            model.p[0][a] * model.p[model.ContextAfter(a)][b] * model.p[model.ContextAfter(b)][c];
        cells.push_back({counts.joint[(a * v + b) * v + c], law * kSamples});
      }
    }
  }
  EXPECT_GT(ChanceOf(cells), kLeastChance) << "joint law of three tokens";
}

// How many of the first round's drafts were accepted: at least j with probability sum of
// min(p, q) over all paths of j.
void CheckAccepted(const Model& model, const Counts& counts) {
  std::vector<Law> both(model.p.size(), Law(model.vocab()));
  for (size_t c = 0; c < both.size(); ++c) {
    for (int t = 0; t < model.vocab(); ++t) both[c][t] = std::min(model.p[c][t], model.q[c][t]);
  }
  std::vector<Cell> cells;
  Law path = both[0];
  double before = 1;
  for (const double seen : counts.accepted) {
    const bool last = cells.size() + 1 == counts.accepted.size();
    double mass = 0;
    for (const double p : path) mass += p;
    cells.push_back({seen, (before - (last ? 0 : mass)) * kSamples});
    before = mass;
    path = Next(model, both, path);
  }
  EXPECT_GT(ChanceOf(cells), kLeastChance) << "accepted drafts";
}

// Once the first token is known, the second one's law is the target's, whether or not the first was
// a draft that was accepted.
void CheckIndependence(const Model& model, const Counts& counts) {
  const int v = model.vocab();
  std::vector<Cell> cells;
  int groups = 0;
  for (int first = 0; first < 2 * v; ++first) {
    double seen = 0;
    for (int t = 0; t < v; ++t) seen += counts.after[first * v + t];
    if (seen < 1000) continue;
    ++groups;
    for (int t = 0; t < v; ++t) {
      const double p = model.p[model.ContextAfter(first % v)][t];
      cells.push_back({counts.after[first * v + t], p * seen});
    }
  }
  EXPECT_GT(ChanceOf(cells, groups), kLeastChance) << "second token after acceptance";
}

void CheckLaw(const Pair& pair, int k) {
  SCOPED_TRACE(absl::StrCat(pair.name, " k=", k));
  const Model model(pair);
  const Counts counts = Count(model, k);
  CheckMarginals(model, counts);
  CheckAccepted(model, counts);
  if (counts.joint.empty()) return;
  CheckJoint(model, counts);
  CheckIndependence(model, counts);
}

constexpr float kNever = -1000;  // a logit that leaves no probability

Logits Random(int n, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  Logits logits(n);
  for (float& l : logits) l = normal(random);
  return logits;
}

Logits By(int n, const std::function<float(int)>& logit) {
  Logits logits(n);
  for (int i = 0; i < n; ++i) logits[i] = logit(i);
  return logits;
}

// A draft that is much too sure of the target's likeliest token.
Logits Overconfident(Logits target) {
  *std::max_element(target.begin(), target.end()) += 2.5f;
  return target;
}

Logits WithoutTail(const Logits& target, int kept) {
  Logits falling = target;
  std::sort(falling.begin(), falling.end(), std::greater<>());
  return By(static_cast<int>(target.size()),
            [&](int i) { return target[i] < falling[kept - 1] ? kNever : target[i]; });
}

struct Case {
  Pair pair;
  int k = 1;  // the number of drafts without KRAIT_STATISTICS=full
};

std::vector<Case> Cases() {
  const int v = 12;
  const Logits target = Random(v, 1.5f, 1), draft = Random(v, 1.5f, 2);
  const auto one_hot = [](TokenId id, float other) {
    return [=](int i) { return i == id ? 0.0f : other; };
  };
  std::vector<Case> cases = {
      {{"four tokens", Random(4, 1, 3), Random(4, 1, 4)}, 7},
      {{"equal", target, target}, 2},
      {{"disjoint", By(v, [](int i) { return i % 2 ? kNever : 0.1f * i; }),
        By(v, [](int i) { return i % 2 ? -0.1f * i : kNever; })},
       1},
      {{"overconfident", target, Overconfident(target)}, 4},
      {{"draft without the tail", target, WithoutTail(target, 4)}, 2},
      {{"one-hot target", By(v, one_hot(5, kNever)), draft}, 1},
      {{"one-hot draft", target, By(v, one_hot(3, kNever))}, 2},
      {{"near-uniform", By(64, [](int i) { return 0.02f * (i % 3); }),
        By(64, [](int i) { return 0.05f * (i % 5); })},
       1},
      {{"ties", By(v, [](int i) { return i / 3 % 2; }), By(v, [](int i) { return i / 4 % 2; })}, 2},
      {{"top_k", target, draft, {.top_k = 5}}, 1},
      {{"top_p", target, draft, {.top_p = 0.8f}}, 2},
      {{"min_p", target, draft, {.min_p = 0.15f}}, 1},
      {{"temperature 0.1", target, draft, {.temperature = 0.1f}}, 1},
      {{"temperature 2", target, draft, {.temperature = 2}}, 4},
      {{"128,256 tokens",
        By(128'256, one_hot(77'777, -27)),
        By(128'256, one_hot(77'777, -19)),
        {},
        1},
       1},
  };
  return cases;
}

TEST(RejectionLawTest, TokensHaveTheTargetsLawWhateverTheDraft) {
  const char* statistics = std::getenv("KRAIT_STATISTICS");
  const bool full = statistics != nullptr && std::string(statistics) == "full";
  for (const Case& one : Cases()) {
    if (!full) {
      CheckLaw(one.pair, one.k);
      continue;
    }
    for (const int k : {1, 2, 4, 7}) CheckLaw(one.pair, k);
  }
}

}  // namespace
}  // namespace krait
