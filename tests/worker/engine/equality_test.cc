// The equalities that carry correctness: however a generation is computed, its tokens and logprobs
// have the same bits.

#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/choices_log.h"
#include "tests/support/counting_observer.h"
#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/overflow_model.h"
#include "tests/support/sink_log.h"
#include "tests/support/slow_readers.h"
#include "tests/support/spoiling_proposer.h"
#include "tests/support/tiny_checkpoint.h"
#include "worker/engine/engine.h"
#include "worker/speculative/draft_model_proposer.h"
#include "worker/speculative/ngram_proposer.h"

namespace krait {
namespace {

using testing::ChoicesLog;
using testing::CountingObserver;
using testing::SinkLog;
using testing::SpoilingProposer;
using testing::TinyModel;

constexpr int kMaxTokens = 40;

struct Generation {
  std::vector<TokenId> prompt;
  SamplingParams sampling;
  StopParams stop{.max_tokens = kMaxTokens};
};

struct Output {
  std::vector<TokenId> token_ids;
  std::vector<PositionLogprobs> logprobs;
};

void ExpectSame(const Output& a, const Output& b, const std::string& what) {
  EXPECT_EQ(a.token_ids, b.token_ids) << what;
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size()) << what;
  for (size_t i = 0; i < a.logprobs.size(); ++i) {
    EXPECT_EQ(a.logprobs[i].token.logprob, b.logprobs[i].token.logprob) << what << " at " << i;
    ASSERT_EQ(a.logprobs[i].top.size(), b.logprobs[i].top.size());
    for (size_t j = 0; j < a.logprobs[i].top.size(); ++j) {
      EXPECT_EQ(a.logprobs[i].top[j].id, b.logprobs[i].top[j].id) << what << " at " << i;
      EXPECT_EQ(a.logprobs[i].top[j].logprob, b.logprobs[i].top[j].logprob) << what << " at " << i;
    }
  }
}

// Keeps only the first layers: what `krait convert --layers` makes.
void CutLayers(TinyModel& model, int64_t num_layers) {
  for (int64_t layer = num_layers; layer < model.options.num_layers; ++layer) {
    std::erase_if(model.tensors, [&](const auto& item) {
      return absl::StrContains(item.first, absl::StrCat("layers.", layer, "."));
    });
  }
  model.options.num_layers = num_layers;
}

// A kind of model whose generations are compared.
struct ModelKind {
  const char* name;
  testing::TinyModelOptions options;
  const char* mixers = "AAAA";  // HybridOptions::mixers
};
const ModelKind kModelKinds[] = {
    {"full", {}},           {"windowed", {.sliding_window = 11}},
    {"mamba1", {}, "1A1A"}, {"mamba2", {}, "2A2A"},
    {"mixed", {}, "12A2"},  {"recurrent", {}, "2221"},
};
constexpr const char* kKindNames[] = {"full", "windowed", "mamba1", "mamba2", "mixed", "recurrent"};

const ModelKind& FindModelKind(const std::string& name) {
  for (const ModelKind& kind : kModelKinds) {
    if (kind.name == name) return kind;
  }
  LOG(FATAL) << name;
}

class EqualityTest : public ::testing::Test {
 protected:
  explicit EqualityTest(const char* kind) : kind_(FindModelKind(kind)) {}

  static void SetUpTestSuite() {
    dir_ = new std::string(absl::StrCat(::testing::TempDir(), "krait-equality-", getpid()));
    for (const ModelKind& kind : kModelKinds) WriteModels(kind);
  }
  static void TearDownTestSuite() {
    std::filesystem::remove_all(*dir_);
    delete dir_;
  }

  // The target and its drafts.
  static void WriteModels(const ModelKind& kind) {
    const std::string root = absl::StrCat(*dir_, "/", kind.name, "/");
    const TinyModel target =
        testing::MakeHybridModel({.mixers = kind.mixers, .base = kind.options});
    CHECK_OK(testing::WriteTinyFolder(target, root + "target"));
    TinyModel cut = target;
    CutLayers(cut, 2);
    CHECK_OK(testing::WriteTinyFolder(cut, root + "cut"));
    TinyModel noisy = target;
    testing::AddNoise(noisy, 0.012f, 5);
    CHECK_OK(testing::WriteTinyFolder(noisy, root + "noisy"));
    std::vector<TokenId> map;
    for (TokenId id = 0; id < target.options.vocab_size; ++id) {
      if (id % 4 != 1) map.push_back(id);
    }
    CHECK_OK(testing::WriteTinyDraftFolder(target, map, root + "reduced"));
  }
  std::string Path(const std::string& name) const {
    return absl::StrCat(*dir_, "/", kind_.name, "/", name);
  }

  EngineConfig Config() const {
    EngineConfig config;
    config.group.model_path = Path("target");
    config.group.runner.weight_dtype = DType::kF32;
    config.group.runner.num_pages = 400;
    config.max_running = 8;
    config.max_num_batched_tokens = 128;
    config.proposal_deadline = absl::Seconds(20);  // a busy machine must not lose drafts
    return config;
  }

  std::unique_ptr<Proposer> Draft(const std::string& name, const Clock* clock,
                                  bool chains = false) const {
    if (name == "none") return nullptr;
    if (name == "ngram") return std::make_unique<NgramProposer>(NgramOptions{.min_ngram = 1});
    DraftModelOptions options{.model_path = Path(name), .max_sequences = 8, .chains = chains};
    options.runner.weight_dtype = DType::kF32;
    options.runner.num_pages = 400;
    auto proposer = DraftModelProposer::Create(options, clock);
    EXPECT_TRUE(proposer.ok()) << proposer.status();
    return *std::move(proposer);
  }

  std::unique_ptr<Engine> Make(const EngineConfig& config, std::unique_ptr<Proposer> proposer) {
    observer_.Reset();
    auto engine = Engine::Create(config, std::move(proposer), &clock_, &observer_, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  static std::shared_ptr<SinkLog> Submit(Engine& engine, const std::string& id,
                                         const Generation& generation,
                                         std::optional<int> max_draft_tokens = std::nullopt) {
    auto sink = std::make_shared<SinkLog>();
    Submit(engine, id, generation, max_draft_tokens, sink);
    return sink;
  }
  static void Submit(Engine& engine, const std::string& id, const Generation& generation,
                     std::optional<int> max_draft_tokens, std::shared_ptr<TokenSink> sink) {
    GenerationRequest request{.request_id = id, .prompt = generation.prompt};
    request.sampling = generation.sampling;
    request.stop = generation.stop;
    request.max_draft_tokens = max_draft_tokens;
    const absl::Status status = engine.Submit(std::move(request), std::move(sink));
    EXPECT_TRUE(status.ok()) << status;
  }

  static Output Await(SinkLog& sink) {
    sink.ended.WaitForNotification();
    EXPECT_TRUE(sink.status.ok()) << sink.status;
    return {sink.token_ids, sink.logprobs};
  }

  // One after the other.
  static std::vector<Output> RunAlone(Engine& engine, const std::vector<Generation>& generations) {
    std::vector<Output> outputs;
    for (const Generation& generation : generations) {
      outputs.push_back(Await(*Submit(engine, "one", generation)));
    }
    engine.WaitIdle(absl::InfiniteDuration());
    return outputs;
  }

  // A model of 512 tokens ends on every fifth one, unless it may not.
  static void AddEnds(int min_tokens, Generation& generation) {
    for (TokenId id = 3; id < 320; id += 5) generation.stop.stop_token_ids.push_back(id);
    for (TokenId id = 321; id < 512; id += 5) generation.stop.eos_ids.push_back(id);
    generation.sampling.min_tokens = min_tokens;
  }

  static std::vector<LogitBias> Biases() {
    std::vector<LogitBias> biases;
    for (TokenId id = 1; id < 512; id += 2) {
      biases.push_back({id, 0.25f * static_cast<float>(id % 17) - 2});
    }
    return biases;
  }

  // Greedy and seeded, with and without processors and logprobs.
  static std::vector<Generation> Generations() {
    std::mt19937 random(3);
    std::vector<Generation> generations;
    const SamplingParams kinds[] = {{.temperature = 0, .num_logprobs = 3},
                                    {.temperature = 0,
                                     .repetition_penalty = 1.3f,
                                     .presence_penalty = 0.3f,
                                     .frequency_penalty = 0.2f},
                                    {.temperature = 1, .seed = 11, .num_logprobs = 0},
                                    {.temperature = 0.8f, .top_k = 50, .top_p = 0.95f, .seed = 12},
                                    {.temperature = 0.7f,
                                     .top_p = 0.9f,
                                     .min_p = 0.02f,
                                     .repetition_penalty = 1.2f,
                                     .presence_penalty = 0.2f,
                                     .frequency_penalty = 0.6f,
                                     .seed = 13,
                                     .num_logprobs = 2},
                                    {.temperature = 1.2f, .min_p = 0.05f, .seed = 14},
                                    {.temperature = 1, .seed = 11, .choice = 3, .num_logprobs = 0},
                                    {.temperature = 0, .num_logprobs = 2, .logit_bias = Biases()},
                                    {.temperature = 0.9f,
                                     .top_k = 40,
                                     .top_p = 0.9f,
                                     .min_p = 0.01f,
                                     .repetition_penalty = 1.2f,
                                     .presence_penalty = 0.2f,
                                     .frequency_penalty = 0.6f,
                                     .seed = 15,
                                     .num_logprobs = 20,
                                     .logit_bias = Biases(),
                                     .min_tokens = 23}};
    for (const SamplingParams& sampling : kinds) {
      for (int length : {1, 19, 75}) {
        Generation& generation = generations.emplace_back();
        generation.sampling = sampling;
        for (int i = 0; i < length; ++i) generation.prompt.push_back(random() % 512);
        if (sampling.min_tokens > 0) AddEnds(sampling.min_tokens, generation);
      }
    }
    return generations;
  }

  // TP 1, no drafts, one generation at a time, whole prompts.
  const std::vector<Output>& Reference() {
    static auto* references = new std::map<std::string, std::vector<Output>>();
    std::vector<Output>& reference = (*references)[kind_.name];
    if (reference.empty()) reference = RunAlone(*Make(Config(), nullptr), Generations());
    return reference;
  }

  void ExpectEqualsReference(const std::vector<Output>& outputs, const std::string& what) {
    const std::vector<Output>& reference = Reference();
    ASSERT_EQ(outputs.size(), reference.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      ExpectSame(outputs[i], reference[i], absl::StrCat(what, " generation ", i));
    }
  }

  static std::string* dir_;
  const ModelKind& kind_;
  RealClock clock_;
  CountingObserver observer_;
};

std::string* EqualityTest::dir_ = nullptr;

class ModelEqualityTest : public EqualityTest, public ::testing::WithParamInterface<const char*> {
 protected:
  ModelEqualityTest() : EqualityTest(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Models, ModelEqualityTest, ::testing::ValuesIn(kKindNames),
                         [](const auto& info) { return std::string(info.param); });

// A sliding window hides something from the prompts of 19 and 75 tokens; other mixers do more.
TEST_P(ModelEqualityTest, ModelsDifferFromEachOther) {
  const std::vector<Output> own = Reference();
  const std::string other = kind_.name == std::string("full") ? "windowed" : "full";
  EngineConfig config = Config();
  config.group.model_path = absl::StrCat(*dir_, "/", other, "/target");
  const std::vector<Output> others = RunAlone(*Make(config, nullptr), Generations());
  int different = 0;
  for (size_t i = 0; i < own.size(); ++i) different += own[i].token_ids != others[i].token_ids;
  EXPECT_EQ(different, static_cast<int>(own.size()));
}

TEST_P(ModelEqualityTest, OutputsDifferFromEachOther) {
  std::set<std::vector<TokenId>> distinct;
  for (const Output& output : Reference()) {
    EXPECT_GE(output.token_ids.size(), 23u);
    distinct.insert(output.token_ids);
  }
  EXPECT_EQ(distinct.size(), Reference().size()) << "or the equalities say little";
}

// What does not depend on the kind of model.
class SamplingEqualityTest : public EqualityTest {
 protected:
  SamplingEqualityTest() : EqualityTest("full") {}
};

// Rows whose draft is not finite run without drafts; the others keep theirs.
TEST_F(SamplingEqualityTest, ADraftThatOverflowsChangesNothing) {
  const std::vector<Output>& reference = Reference();
  const std::vector<Generation> generations = Generations();
  testing::TinyModel draft =
      testing::MakeHybridModel({.mixers = kind_.mixers, .base = kind_.options});
  testing::PlantOverflow(generations[1].prompt[5], draft);
  CHECK_OK(testing::WriteTinyFolder(draft, Path("overflows")));
  EngineConfig config = Config();
  config.fixed_draft_tokens = true;
  config.max_draft_tokens = 3;
  auto engine = Make(config, Draft("overflows", &clock_));
  std::vector<std::shared_ptr<SinkLog>> sinks;
  for (size_t i = 0; i < generations.size(); ++i) {
    sinks.push_back(Submit(*engine, absl::StrCat(i), generations[i]));
  }
  for (size_t i = 0; i < generations.size(); ++i) {
    ExpectSame(Await(*sinks[i]), reference[i], absl::StrCat("generation ", i));
  }
  EXPECT_EQ(sinks[1]->speculation.proposed, 0) << "its prompt overflows";
  EXPECT_TRUE(engine->WaitIdle(absl::InfiniteDuration()));
  EXPECT_GT(observer_.counts().accepted_tokens, 10);
  EXPECT_EQ(observer_.counts().non_finite, 0);
}

// Four choices of one request, among others that come and go, for every K: each is what it is
// alone.
TEST_F(SamplingEqualityTest, AChoiceEqualsItselfAloneForEveryK) {
  std::vector<Generation> kinds = {Generations()[9], Generations()[25]};
  std::vector<std::vector<Output>> alone;
  for (const Generation& kind : kinds) {
    std::vector<Generation> choices(4, kind);
    for (uint32_t choice = 0; choice < 4; ++choice) choices[choice].sampling.choice = choice;
    alone.push_back(RunAlone(*Make(Config(), nullptr), choices));
  }
  for (int k = 0; k <= 8; ++k) {
    EngineConfig config = Config();
    config.fixed_draft_tokens = true;
    config.max_draft_tokens = k;
    auto engine = Make(config, Draft(k % 2 == 0 ? "noisy" : "reduced", &clock_));
    for (size_t kind = 0; kind < kinds.size(); ++kind) {
      auto neighbour = Submit(*engine, "neighbour", Generations()[4], 3);
      GenerationRequest request{.request_id = "choices", .prompt = kinds[kind].prompt};
      request.sampling = kinds[kind].sampling;
      request.stop = kinds[kind].stop;
      request.num_choices = 4;
      auto sink = std::make_shared<ChoicesLog>(4);
      ASSERT_TRUE(engine->Submit(std::move(request), sink).ok());
      sink->ended.WaitForNotification();
      std::set<std::vector<TokenId>> distinct;
      for (int choice = 0; choice < 4; ++choice) {
        const ChoicesLog::Choice& got = sink->choices[choice];
        ExpectSame({got.token_ids, got.logprobs}, alone[kind][choice],
                   absl::StrCat("k=", k, " kind ", kind, " choice ", choice));
        distinct.insert(got.token_ids);
      }
      EXPECT_EQ(distinct.size(), 4u);
      ExpectSame(Await(*neighbour), Reference()[4], "neighbour");
    }
    engine->WaitIdle(absl::InfiniteDuration());
    EXPECT_EQ(observer_.counts().accepted_tokens > 0, k > 0);
  }
}

TEST_F(SamplingEqualityTest, ASeedsChoicesDiffer) {
  std::set<std::vector<TokenId>> distinct;
  auto engine = Make(Config(), nullptr);
  for (uint32_t choice = 0; choice < 4; ++choice) {
    Generation generation{.prompt = {5, 6, 7}, .sampling = {.temperature = 1, .seed = 8}};
    generation.sampling.choice = choice;
    distinct.insert(RunAlone(*engine, {generation})[0].token_ids);
  }
  EXPECT_EQ(distinct.size(), 4u);
}

// Every fifth token ends: without the mask hardly any generation would come so far.
TEST_F(SamplingEqualityTest, NothingEndsBeforeMinTokensAndItsEndsAreDrawnAfter) {
  for (const char* draft : {"none", "noisy"}) {
    EngineConfig config = Config();
    config.fixed_draft_tokens = true;
    config.max_draft_tokens = 6;
    auto engine = Make(config, Draft(draft, &clock_));
    int ended_early = 0, ended_at_once = 0;
    for (uint64_t seed = 0; seed < 30; ++seed) {
      Generation generation{.prompt = {5, 6, 7}, .sampling = {.temperature = 1, .seed = seed}};
      AddEnds(11, generation);
      const size_t masked = RunAlone(*engine, {generation})[0].token_ids.size();
      EXPECT_GE(masked, 12u);
      ended_at_once += masked == 12;
      generation.sampling.min_tokens = 0;
      ended_early += RunAlone(*engine, {generation})[0].token_ids.size() < 12;
    }
    EXPECT_GT(ended_early, 20) << draft;
    EXPECT_GT(ended_at_once, 0) << draft << ": token 12 may be an end";
  }
}

TEST_P(ModelEqualityTest, TensorParallelDegreesAgree) {
  Reference();
  for (int ranks : {2, 3}) {
    EngineConfig config = Config();
    config.group.tensor_parallel_size = ranks;
    config.group.num_threads = ranks;
    config.fixed_draft_tokens = true;
    config.max_draft_tokens = ranks;
    ExpectEqualsReference(RunAlone(*Make(config, Draft("noisy", &clock_)), Generations()),
                          absl::StrCat("ranks=", ranks));
    EXPECT_GT(observer_.counts().accepted_tokens, 0);
  }
}

// The same with a process a rank, here a thread that joins as one: Gloo between all of them.
TEST_P(ModelEqualityTest, RanksOfSeveralProcessesAgree) {
  signal(SIGPIPE, SIG_IGN);  // as the processes do
  Reference();
  for (int ranks : {2, 3}) {
    EngineConfig config = Config();
    config.group.tensor_parallel_size = ranks;
    config.group.num_threads = 1;
    config.fixed_draft_tokens = true;
    config.max_draft_tokens = ranks;
    config.group.runner.max_draft_tokens = ranks;
    config.group.runner.num_state_slots = config.max_running;
    config.group.runner.max_tokens = config.max_num_batched_tokens;
    config.group.runner.max_logits = config.max_num_batched_tokens;
    config.group.processes.num_processes = ranks;
    config.group.processes.port = (*FrameListener::Listen("127.0.0.1", 0))->port();
    std::vector<std::thread> followers;
    for (int process = 1; process < ranks; ++process) {
      followers.emplace_back([options = config.group, process]() mutable {
        options.processes.process_index = process;
        const auto group = RankGroup::Create(options);
        ASSERT_TRUE(group.ok()) << group.status();
        const absl::Status status = (*group)->Follow(absl::Seconds(60));
        EXPECT_TRUE(status.ok()) << status;
      });
    }
    ExpectEqualsReference(RunAlone(*Make(config, Draft("noisy", &clock_)), Generations()),
                          absl::StrCat("processes=", ranks));
    EXPECT_GT(observer_.counts().accepted_tokens, 0);
    for (std::thread& follower : followers) follower.join();
  }
}

TEST_P(ModelEqualityTest, ChunkedPrefillEqualsOneShot) {
  Reference();
  for (int chunk : {8, 13}) {
    EngineConfig config = Config();
    config.max_num_batched_tokens = chunk;
    ExpectEqualsReference(RunAlone(*Make(config, nullptr), Generations()),
                          absl::StrCat("chunk=", chunk));
  }
}

struct ModelAndDraft {
  const char* model;
  const char* draft;
};

TEST_P(ModelEqualityTest, EveryAcceptedLengthOfEveryKEqualsNone) {
  const std::vector<Generation> generations = Generations();
  std::vector<std::vector<TokenId>> whole;
  for (size_t i = 0; i < generations.size(); ++i) {
    whole.push_back(generations[i].prompt);
    const std::vector<TokenId>& output = Reference()[i].token_ids;
    whole.back().insert(whole.back().end(), output.begin(), output.end());
  }
  for (int k = 1; k <= 8; ++k) {
    EngineConfig config = Config();
    config.fixed_draft_tokens = true;
    config.max_draft_tokens = k;
    auto engine = Make(config, std::make_unique<SpoilingProposer>(whole));
    ExpectEqualsReference(RunAlone(*engine, generations), absl::StrCat("k=", k));
    for (int accepted = 0; accepted <= k; ++accepted) {
      EXPECT_GT(observer_.counts().accepted_of[k][accepted], 0) << accepted << " of " << k;
    }
  }
}

class DraftEqualityTest : public EqualityTest, public ::testing::WithParamInterface<ModelAndDraft> {
 protected:
  DraftEqualityTest() : EqualityTest(GetParam().model) {}
};

TEST_P(DraftEqualityTest, AnyKEqualsNone) {
  const std::string name = GetParam().draft;
  Reference();
  int64_t draft_tokens = 0, accepted_tokens = 0;
  std::map<int, std::map<int, int64_t>> accepted_of;
  for (int k = 1; k <= 8; ++k) {
    EngineConfig config = Config();
    config.fixed_draft_tokens = true;
    config.max_draft_tokens = k;
    ExpectEqualsReference(RunAlone(*Make(config, Draft(name, &clock_, k % 2 == 1)), Generations()),
                          absl::StrCat(name, " k=", k));
    draft_tokens += observer_.counts().draft_tokens;
    accepted_tokens += observer_.counts().accepted_tokens;
    accepted_of[k] = observer_.counts().accepted_of[k];
  }
  const double acceptance = static_cast<double>(accepted_tokens) / draft_tokens;
  RecordProperty("acceptance", absl::StrCat(acceptance));
  std::printf("draft %s: acceptance %.3f of %ld\n", name.c_str(), acceptance,
              static_cast<long>(draft_tokens));
  EXPECT_GT(draft_tokens, 100);
  if (name == "target") {
    EXPECT_EQ(accepted_tokens, draft_tokens) << "the same noise and processors on the same path";
  }
  if (name == "noisy") {
    EXPECT_GT(acceptance, 0.4);
    EXPECT_LT(acceptance, 0.8);
    for (int k : {1, 2, 3, 4}) {
      for (int accepted = 0; accepted <= k; ++accepted) {
        EXPECT_GT(accepted_of[k][accepted], 0) << accepted << " of " << k;
      }
    }
  }
}

std::vector<ModelAndDraft> ModelsAndDrafts() {
  std::vector<ModelAndDraft> all;
  for (const char* model : kKindNames) {
    for (const char* draft : {"ngram", "cut", "target", "noisy", "reduced"}) {
      all.push_back({model, draft});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Drafts, DraftEqualityTest, ::testing::ValuesIn(ModelsAndDrafts()),
                         [](const auto& info) {
                           return absl::StrCat(info.param.model, "_", info.param.draft);
                         });

TEST_P(ModelEqualityTest, AdaptiveKEqualsNone) {
  Reference();
  ExpectEqualsReference(RunAlone(*Make(Config(), Draft("noisy", &clock_)), Generations()),
                        "adaptive");
}

// Eight rows of different lengths, kinds and K, that join and leave at random.
TEST_P(ModelEqualityTest, AloneEqualsAmongOthers) {
  const std::vector<Output>& reference = Reference();
  const std::vector<Generation> generations = Generations();
  EngineConfig config = Config();
  config.fixed_draft_tokens = true;
  config.max_draft_tokens = 5;
  config.max_num_batched_tokens = 48;
  auto engine = Make(config, Draft("noisy", &clock_));
  std::mt19937 random(9);
  struct Live {
    size_t which;
    std::shared_ptr<SinkLog> sink;
  };
  std::vector<Live> live;
  std::vector<std::shared_ptr<SinkLog>> leavers;
  for (int i = 0; i < 120; ++i) {
    const size_t which = random() % generations.size();
    const int drafts = random() % 3 == 0 ? 0 : 1 + random() % 5;
    auto sink = Submit(*engine, absl::StrCat(i), generations[which], drafts);
    if (random() % 4 == 0) {
      leavers.push_back(sink);
      if (i % 2 == 0) engine->Abort(absl::StrCat(i), absl::CancelledError("left"));
    } else {
      live.push_back({which, sink});
    }
    if (i % 8 == 7) live[random() % live.size()].sink->ended.WaitForNotification();
  }
  for (Live& one : live) {
    ExpectSame(Await(*one.sink), reference[one.which], absl::StrCat("generation ", one.which));
  }
  engine->WaitIdle(absl::InfiniteDuration());
  EXPECT_GT(observer_.counts().mixed_steps, 10)
      << "steps shared by prefill, speculating and plain sequences";
  for (const auto& sink : leavers) EXPECT_TRUE(sink->ended.HasBeenNotified());
}

// Pages for two or three of the longest: generations are preempted while others grow, during their
// prefill, with drafts under way, or being computed again.
TEST_P(ModelEqualityTest, PreemptedEqualsUndisturbed) {
  const std::vector<Output>& reference = Reference();
  const std::vector<Generation> generations = Generations();
  for (int ranks : {1, 2, 3}) {
    for (const char* draft : {"none", "noisy", "cut"}) {
      if (ranks > 1 && absl::string_view(draft) == "cut") continue;
      EngineConfig config = Config();
      config.group.tensor_parallel_size = ranks;
      config.group.num_threads = ranks;
      config.group.runner.num_pages = 19;  // of 16 tokens
      config.reserved_output_tokens = 2;
      config.max_num_batched_tokens = 40;
      config.fixed_draft_tokens = true;
      config.max_draft_tokens = 3;
      auto engine = Make(config, Draft(draft, &clock_));
      std::vector<std::shared_ptr<SinkLog>> sinks;
      for (size_t i = 0; i < generations.size(); ++i) {
        sinks.push_back(Submit(*engine, absl::StrCat(i), generations[i], i % 4));
      }
      for (size_t i = 0; i < generations.size(); ++i) {
        ExpectSame(Await(*sinks[i]), reference[i],
                   absl::StrCat("ranks=", ranks, " draft=", draft, " generation ", i));
      }
      EXPECT_TRUE(engine->WaitIdle(absl::InfiniteDuration()));
      EXPECT_EQ(engine->Load().pages_used, 0);
      EXPECT_GT(observer_.counts().preemptions, 10);
      EXPECT_GT(observer_.counts().recomputed_tokens, 100);
      std::printf("ranks=%d draft=%s: %ld preemptions, %ld tokens computed again\n", ranks, draft,
                  static_cast<long>(observer_.counts().preemptions),
                  static_cast<long>(observer_.counts().recomputed_tokens));
    }
  }
}

// All readers stop reading over and over; while they do, their pages may go to those that read.
TEST_P(ModelEqualityTest, PausedEqualsUndisturbed) {
  const std::vector<Output>& reference = Reference();
  const std::vector<Generation> generations = Generations();
  for (const char* draft : {"none", "noisy"}) {
    EngineConfig config = Config();
    config.group.runner.num_pages = 24;  // of 16 tokens
    config.reserved_output_tokens = 2;
    config.max_num_batched_tokens = 40;
    config.fixed_draft_tokens = true;
    config.max_draft_tokens = 3;
    auto engine = Make(config, Draft(draft, &clock_));
    testing::SlowReaders readers(engine.get());
    std::vector<std::shared_ptr<SinkLog>> sinks;
    for (size_t i = 0; i < generations.size(); ++i) {
      const std::string id = absl::StrCat(i);
      sinks.push_back(std::make_shared<SinkLog>());
      Submit(*engine, id, generations[i], i % 4,
             readers.Add(id, 1 + static_cast<int>(i) % 5, sinks[i]));
    }
    while (readers.ResumeOne(4)) {
    }
    for (size_t i = 0; i < generations.size(); ++i) {
      ExpectSame(Await(*sinks[i]), reference[i], absl::StrCat("draft=", draft, " generation ", i));
    }
    EXPECT_TRUE(engine->WaitIdle(absl::InfiniteDuration()));
    EXPECT_EQ(engine->Load().pages_used, 0);
    EXPECT_GT(readers.num_pauses(), 50);
    EXPECT_GT(observer_.counts().recomputed_tokens, 100);
  }
}

// Steps that are started before the last one is finished, as on a device that works while the host
// goes on. Its generations draw on their own; every other one may end at any token, which is known
// a step late.
class RunsAheadTest : public ModelEqualityTest {
 protected:
  static std::vector<Generation> Plain() {
    std::mt19937 random(4);
    std::vector<Generation> generations;
    const SamplingParams kinds[] = {{.temperature = 0},
                                    {.temperature = 1, .seed = 11},
                                    {.temperature = 1.2f, .min_p = 0.05f, .seed = 14},
                                    {.temperature = 1, .seed = 11, .choice = 3}};
    for (const SamplingParams& sampling : kinds) {
      for (int length : {1, 2, 19, 75}) {
        Generation& generation = generations.emplace_back();
        generation.sampling = sampling;
        for (int i = 0; i < length; ++i) generation.prompt.push_back(random() % 512);
        if (length % 2 == 0) AddEnds(0, generation);
      }
    }
    return generations;
  }
  EngineConfig Ahead() const {
    EngineConfig config = Config();
    config.group.runs_ahead = true;
    return config;
  }
  std::vector<Output> StepByStep() {
    EngineConfig config = Config();
    config.group.runs_ahead = false;
    std::vector<Output> outputs = RunAlone(*Make(config, nullptr), Plain());
    EXPECT_EQ(observer_.counts().steps_ahead, 0);
    return outputs;
  }
  // All at once; at the end nothing is held.
  void ExpectSameTogether(Engine& engine, const std::vector<Output>& expected) {
    std::vector<std::shared_ptr<SinkLog>> sinks;
    const std::vector<Generation> generations = Plain();
    for (size_t i = 0; i < generations.size(); ++i) {
      sinks.push_back(Submit(engine, absl::StrCat(i), generations[i]));
    }
    for (size_t i = 0; i < generations.size(); ++i) {
      ExpectSame(Await(*sinks[i]), expected[i], absl::StrCat("generation ", i));
    }
    EXPECT_TRUE(engine.WaitIdle(absl::InfiniteDuration()));
    EXPECT_EQ(engine.Load().pages_used, 0);
  }
};
INSTANTIATE_TEST_SUITE_P(Models, RunsAheadTest, ::testing::ValuesIn(kKindNames),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(RunsAheadTest, EqualsStepByStep) {
  const std::vector<Output> expected = StepByStep();
  auto engine = Make(Ahead(), nullptr);
  const std::vector<Output> alone = RunAlone(*engine, Plain());
  for (size_t i = 0; i < alone.size(); ++i) {
    ExpectSame(alone[i], expected[i], absl::StrCat("alone ", i));
  }
  ExpectSameTogether(*engine, expected);
  EXPECT_GT(observer_.counts().steps_ahead, 200);
  EXPECT_LT(observer_.counts().steps_ahead, observer_.counts().steps)
      << "the first of a generation follows nothing";
}

// An end that is known beforehand costs no step more; one that a token decides may.
TEST_P(RunsAheadTest, AKnownLengthTakesNoStepMore) {
  auto engine = Make(Ahead(), nullptr);
  RunAlone(*engine, {Plain()[0], Plain()[0], Plain()[0]});
  engine.reset();
  observer_.CountsOnce([](const auto& counts) { return counts.steps >= 3 * kMaxTokens; });
  EXPECT_EQ(observer_.counts().steps, 3 * kMaxTokens);
  EXPECT_EQ(observer_.counts().steps_ahead, 3 * (kMaxTokens - 1));
}

// Of a group of ranks, which draw on the host: then all is known at once, and still finished late.
TEST_P(RunsAheadTest, RanksThatDrawOnTheHostDoToo) {
  const std::vector<Output> expected = StepByStep();
  EngineConfig config = Ahead();
  config.group.tensor_parallel_size = 2;
  config.group.num_threads = 2;
  ExpectSameTogether(*Make(config, nullptr), expected);
  EXPECT_GT(observer_.counts().steps_ahead, 30);
}

TEST_P(RunsAheadTest, PreemptedEqualsStepByStep) {
  const std::vector<Output> expected = StepByStep();
  EngineConfig config = Ahead();
  config.group.runner.num_pages = 12;  // of 16 tokens
  config.reserved_output_tokens = 2;
  config.max_num_batched_tokens = 20;
  ExpectSameTogether(*Make(config, nullptr), expected);
  EXPECT_GT(observer_.counts().preemptions, 5);
  EXPECT_GT(observer_.counts().steps_ahead, 50);
}

TEST_P(RunsAheadTest, PausedEqualsStepByStep) {
  const std::vector<Output> expected = StepByStep();
  const std::vector<Generation> generations = Plain();
  EngineConfig config = Ahead();
  config.group.runner.num_pages = 16;  // of 16 tokens
  config.reserved_output_tokens = 2;
  config.max_num_batched_tokens = 40;
  auto engine = Make(config, nullptr);
  testing::SlowReaders readers(engine.get());
  std::vector<std::shared_ptr<SinkLog>> sinks;
  for (size_t i = 0; i < generations.size(); ++i) {
    const std::string id = absl::StrCat(i);
    sinks.push_back(std::make_shared<SinkLog>());
    Submit(*engine, id, generations[i], std::nullopt,
           readers.Add(id, 1 + static_cast<int>(i) % 5, sinks[i]));
  }
  while (readers.ResumeOne(4)) {
  }
  for (size_t i = 0; i < generations.size(); ++i) {
    ExpectSame(Await(*sinks[i]), expected[i], absl::StrCat("generation ", i));
  }
  EXPECT_TRUE(engine->WaitIdle(absl::InfiniteDuration()));
  EXPECT_EQ(engine->Load().pages_used, 0);
  EXPECT_GT(readers.num_pauses(), 20);
  EXPECT_GT(observer_.counts().steps_ahead, 20);
}

// With sequences that have drafts, lists of candidates, logprobs and penalties come and go: where
// one of them runs, steps follow each other again.
TEST_P(RunsAheadTest, AmongOthersThatCannotEqualsAlone) {
  const std::vector<Output>& reference = Reference();
  const std::vector<Output> expected = StepByStep();
  const std::vector<Generation> others = Generations(), plain = Plain();
  EngineConfig config = Ahead();
  config.fixed_draft_tokens = true;
  config.max_draft_tokens = 5;
  config.max_num_batched_tokens = 48;
  auto engine = Make(config, Draft("noisy", &clock_));
  std::mt19937 random(9);
  std::vector<std::shared_ptr<SinkLog>> sinks;
  std::vector<const Output*> outputs;
  for (int i = 0; i < 100; ++i) {
    const bool own = i % 20 < 14;
    const size_t which = random() % (own ? plain.size() : others.size());
    sinks.push_back(Submit(*engine, absl::StrCat(i), own ? plain[which] : others[which],
                           own ? 0 : static_cast<int>(random() % 4)));
    outputs.push_back(own ? &expected[which] : &reference[which]);
    if (random() % 6 == 0) {
      engine->Abort(absl::StrCat(i), absl::CancelledError("left"));
      sinks.back()->ended.WaitForNotification();
      sinks.pop_back();
      outputs.pop_back();
    }
    if (i % 7 == 6) sinks[random() % sinks.size()]->ended.WaitForNotification();
  }
  for (size_t i = 0; i < sinks.size(); ++i) {
    ExpectSame(Await(*sinks[i]), *outputs[i], absl::StrCat("submission ", i));
  }
  EXPECT_TRUE(engine->WaitIdle(absl::InfiniteDuration()));
  EXPECT_EQ(engine->Load().pages_used, 0);
  EXPECT_GT(observer_.counts().steps_ahead, 10);
  EXPECT_GT(observer_.counts().accepted_tokens, 10);
}

// Hardly ever right.
class WrongProposer final : public Proposer {
 public:
  void Begin(SequenceId, absl::Span<const TokenId>, int, const SamplingParams&) override {}
  void Release(SequenceId) override {}
  ProposalOutcome last_outcome() const override { return {}; }
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration) override {
    std::vector<std::vector<TokenId>> drafts;
    for (const ProposalRow& row : rows) {
      drafts.emplace_back();
      for (int i = 0; i < row.num_draft_tokens; ++i) {
        drafts.back().push_back(static_cast<TokenId>(random_() % 512));
      }
    }
    return drafts;
  }

 private:
  std::mt19937 random_{5};
};

// Drafts that do not pay are soon asked for now and then only, and the steps between run ahead.
TEST_P(RunsAheadTest, StepsWithoutDraftsDoSoBetweenThoseWithThem) {
  const std::vector<Output> expected = StepByStep();
  EngineConfig config = Ahead();
  config.max_draft_tokens = 4;
  auto engine = Make(config, std::make_unique<WrongProposer>());
  for (int round = 0; round < 3; ++round) ExpectSameTogether(*engine, expected);
  EXPECT_GT(observer_.counts().draft_tokens, 10);
  EXPECT_GT(observer_.counts().steps_ahead, 20);
}

// A draft that dies, comes back, and now and then lies.
class FlakyProposer final : public Proposer {
 public:
  explicit FlakyProposer(std::unique_ptr<Proposer> draft) : draft_(std::move(draft)) {}
  void Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
             const SamplingParams& sampling) override {
    draft_->Begin(id, prompt, prompt_tokens, sampling);
  }
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration budget) override {
    if (random_() % 4 == 0) return {};
    auto drafts = draft_->Propose(rows, budget);
    for (auto& list : drafts) {
      if (random_() % 3 != 0 || list.empty()) continue;
      list[random_() % list.size()] = static_cast<TokenId>(random_() % 600) - 40;
    }
    if (random_() % 5 == 0) {
      for (const ProposalRow& row : rows) draft_->Release(row.id);  // it has lost its memory
    }
    return drafts;
  }
  void Release(SequenceId id) override { draft_->Release(id); }
  ProposalOutcome last_outcome() const override { return draft_->last_outcome(); }
  std::string_view disabled_reason() const override { return random_() % 10 == 0 ? "gone" : ""; }

 private:
  std::unique_ptr<Proposer> draft_;
  mutable std::mt19937 random_{4};
};

TEST_P(ModelEqualityTest, ADraftThatDiesAndLiesChangesNothing) {
  Reference();
  EngineConfig config = Config();
  config.fixed_draft_tokens = true;
  config.max_draft_tokens = 4;
  auto engine = Make(config, std::make_unique<FlakyProposer>(Draft("noisy", &clock_)));
  ExpectEqualsReference(RunAlone(*engine, Generations()), "flaky");
  EXPECT_GT(observer_.counts().malformed, 10);
  EXPECT_GT(observer_.counts().accepted_tokens, 10);
}

}  // namespace
}  // namespace krait
