#pragma once

// Drives an op that keeps a recurrent state through schedules of steps, as a scheduler would: final
// tokens, drafts of which some are accepted, several sequences in one call. Inputs are a function
// of the position, except those of drafts that will be rejected: those are other numbers.

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/ops/recurrent_batch.h"
#include "tests/kernels/kernel_test_util.h"

namespace krait::kernels {

// What one step does to one sequence.
struct StepShape {
  int num_final = 1;
  int num_drafts = 0;
  int num_accepted = 0;  // of the drafts: those have their positions' true inputs
};

// Where one sequence stands.
struct HarnessSequence {
  int slot = 0;
  int committed = 0;
  int state_position = 0;
};

// The arrays behind a RecurrentBatch.
struct BatchArrays {
  std::vector<int32_t> query_start = {0}, slots, first_position, final_position, state_position,
                       parents;

  void Add(const HarnessSequence& sequence, int final_tokens, int num_tokens) {
    query_start.push_back(query_start.back() + num_tokens);
    slots.push_back(sequence.slot);
    first_position.push_back(sequence.committed);
    final_position.push_back(sequence.committed + final_tokens);
    state_position.push_back(sequence.state_position);
  }
  RecurrentBatch batch() const {
    return {.num_sequences = static_cast<int>(slots.size()),
            .query_start = query_start.data(),
            .slots = slots.data(),
            .first_position = first_position.data(),
            .final_position = final_position.data(),
            .state_position = state_position.data(),
            .parents = parents.empty() ? nullptr : parents.data()};
  }
};

// One op with its memory and parameters.
class RecurrentOp {
 public:
  virtual ~RecurrentOp() = default;
  // Floats that a token brings and takes.
  virtual int64_t input_width() const = 0;
  virtual int64_t output_width() const = 0;
  virtual int64_t max_drafts() const = 0;
  // `inputs` [num_tokens, input_width]; returns [num_tokens, output_width].
  virtual std::vector<float> Run(Backend& backend, const RecurrentBatch& batch,
                                 std::vector<float> inputs, StateTraffic* traffic) = 0;
  // What is stored of a sequence, in canonical form: what later outputs may depend on.
  virtual std::vector<float> Canonical(Backend& backend, const HarnessSequence& sequence) = 0;
};

// The inputs of a token of sequence `seed`.
inline std::vector<float> TrueInput(int64_t width, uint32_t seed, int position) {
  return Gaussian(width, seed * 100003u + static_cast<uint32_t>(position), 0.7f);
}

// Runs one step of several sequences in one call; returns each one's outputs of the tokens that it
// keeps, and moves the sequences on.
inline std::vector<std::vector<float>> RunStep(Backend& backend, RecurrentOp& op,
                                               absl::Span<HarnessSequence* const> sequences,
                                               absl::Span<const StepShape> steps,
                                               absl::Span<const uint32_t> seeds,
                                               StateTraffic* traffic = nullptr) {
  BatchArrays arrays;
  std::vector<float> inputs;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const StepShape& step = steps[s];
    arrays.Add(*sequences[s], step.num_final, step.num_final + step.num_drafts);
    for (int i = 0; i < step.num_final + step.num_drafts; ++i) {
      const bool kept = i < step.num_final + step.num_accepted;
      const std::vector<float> row = TrueInput(
          op.input_width(), kept ? seeds[s] : seeds[s] + 77777u, sequences[s]->committed + i);
      inputs.insert(inputs.end(), row.begin(), row.end());
    }
  }
  const std::vector<float> outputs = op.Run(backend, arrays.batch(), std::move(inputs), traffic);
  std::vector<std::vector<float>> kept;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int tokens = steps[s].num_final + steps[s].num_accepted;
    const auto first = outputs.begin() + arrays.query_start[s] * op.output_width();
    kept.emplace_back(first, first + tokens * op.output_width());
    sequences[s]->state_position = sequences[s]->committed + steps[s].num_final;
    sequences[s]->committed += tokens;
  }
  return kept;
}

// One sequence through a whole schedule: the outputs of all tokens it keeps.
inline std::vector<float> RunSchedule(Backend& backend, RecurrentOp& op, HarnessSequence& sequence,
                                      absl::Span<const StepShape> schedule, uint32_t seed,
                                      StateTraffic* traffic = nullptr) {
  std::vector<float> outputs;
  HarnessSequence* const sequences[] = {&sequence};
  for (const StepShape& step : schedule) {
    const auto kept = RunStep(backend, op, sequences, {&step, 1}, {&seed, 1}, traffic);
    outputs.insert(outputs.end(), kept[0].begin(), kept[0].end());
  }
  return outputs;
}

// Token by token.
inline std::vector<StepShape> PlainSchedule(int num_tokens) {
  return std::vector<StepShape>(num_tokens);
}

// Prompt chunks first, then rounds of drafts: exactly `num_tokens` in all.
inline std::vector<StepShape> RandomSchedule(int num_tokens, int max_drafts,
                                             std::mt19937& generator) {
  const auto random = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(generator);
  };
  std::vector<StepShape> schedule;
  int left = num_tokens;
  for (int prompt = random(1, num_tokens); prompt > 0;) {
    const int chunk = std::min(prompt, random(1, 100));
    schedule.push_back({.num_final = chunk});
    prompt -= chunk;
    left -= chunk;
  }
  while (left > 0) {
    StepShape step;
    step.num_drafts = random(0, max_drafts);
    step.num_accepted = std::min(left - 1, random(0, step.num_drafts));
    schedule.push_back(step);
    left -= 1 + step.num_accepted;
  }
  return schedule;
}

}  // namespace krait::kernels
