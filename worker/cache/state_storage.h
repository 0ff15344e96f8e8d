#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/tensor.h"
#include "worker/cache/cache_spec.h"

namespace krait {

// One recurrent layer's slots on this rank.
struct StateSlots {
  TensorView state;      // [num_slots, state_elements], f32
  TensorView ring;       // [num_slots, ring_length, ring_width], f32
  TensorView conv_ring;  // [num_slots, conv_length, conv_width], f32
};

// The memory behind state slot ids: one rank's recurrent states and rings, allocated once. It knows
// neither sequences nor which slots are free. Rank thread only.
class StateStorage {
 public:
  // `backend` outlives the storage. RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<std::unique_ptr<StateStorage>> Create(RecurrentStateSpec spec,
                                                              int num_slots, Backend* backend);

  // `layer` counts recurrent layers only.
  StateSlots Layer(int layer) const;

  // The only way a state is ever copied: a fork. Speculation, preemption and rollback never need
  // it.
  void CopySlot(StateSlotId from, StateSlotId to);
  int64_t num_copies() const { return num_copies_; }

  // Fills a slot with NaN in every layer, so that a read of what was not written shows.
  void Poison(StateSlotId slot);

  const RecurrentStateSpec& spec() const { return spec_; }
  int num_slots() const { return num_slots_; }

 private:
  struct LayerTensors {
    Tensor state, ring, conv_ring;
  };

  StateStorage(RecurrentStateSpec spec, int num_slots, Backend* backend,
               std::vector<LayerTensors> layers);
  // Calls visit(rows of `slot`) for every tensor.
  template <typename Visit>
  void ForEachTensor(const Visit& visit) const;

  const RecurrentStateSpec spec_;
  const int num_slots_;
  Backend* const backend_;
  const std::vector<LayerTensors> layers_;
  int64_t num_copies_ = 0;
};

}  // namespace krait
