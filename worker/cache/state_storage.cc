#include "worker/cache/state_storage.h"

#include <limits>
#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {

absl::StatusOr<std::unique_ptr<StateStorage>> StateStorage::Create(RecurrentStateSpec spec,
                                                                   int num_slots,
                                                                   Backend* backend) {
  CHECK_GT(num_slots, 0);
  std::vector<LayerTensors> layers(spec.layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    const RecurrentLayerSpec& layer = spec.layers[i];
    ASSIGN_OR_RETURN(layers[i].state,
                     backend->Allocate(DType::kF32, {num_slots, layer.state_elements}));
    ASSIGN_OR_RETURN(layers[i].ring, backend->Allocate(DType::kF32, {num_slots, layer.ring_length,
                                                                     layer.ring_width}));
    ASSIGN_OR_RETURN(
        layers[i].conv_ring,
        backend->Allocate(DType::kF32, {num_slots, layer.conv_length, layer.conv_width}));
  }
  return std::unique_ptr<StateStorage>(
      new StateStorage(std::move(spec), num_slots, backend, std::move(layers)));
}

StateStorage::StateStorage(RecurrentStateSpec spec, int num_slots, Backend* backend,
                           std::vector<LayerTensors> layers)
    : spec_(std::move(spec)),
      num_slots_(num_slots),
      backend_(backend),
      layers_(std::move(layers)) {}

StateSlots StateStorage::Layer(int layer) const {
  CHECK(0 <= layer && layer < static_cast<int>(layers_.size()));
  const LayerTensors& tensors = layers_[layer];
  return {tensors.state.view(), tensors.ring.view(), tensors.conv_ring.view()};
}

template <typename Visit>
void StateStorage::ForEachTensor(const Visit& visit) const {
  for (const LayerTensors& layer : layers_) {
    for (const Tensor* tensor : {&layer.state, &layer.ring, &layer.conv_ring}) {
      visit(tensor->view());
    }
  }
}

void StateStorage::CopySlot(StateSlotId from, StateSlotId to) {
  CHECK(0 <= from && from < num_slots_ && 0 <= to && to < num_slots_ && from != to);
  ++num_copies_;
  ForEachTensor([&](const TensorView& view) {
    std::vector<float> host(view.row_stride);
    backend_->CopyToHost(view.Rows(from, from + 1), host.data());
    backend_->CopyFromHost(host.data(), view.Rows(to, to + 1));
  });
}

void StateStorage::Poison(StateSlotId slot) {
  CHECK(0 <= slot && slot < num_slots_);
  ForEachTensor([&](const TensorView& view) {
    const std::vector<float> poison(view.row_stride, std::numeric_limits<float>::quiet_NaN());
    backend_->CopyFromHost(poison.data(), view.Rows(slot, slot + 1));
  });
}

}  // namespace krait
