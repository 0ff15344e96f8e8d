#pragma once

// One interface over a GGUF file, a safetensors file, and an index with shards. Tensors have their
// Hugging Face names (model.layers.0.self_attn.q_proj.weight) and row order, whatever the file.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/input_file.h"
#include "worker/weights/model_files.h"
#include "worker/weights/storage_type.h"

namespace krait {

// Where a tensor lies. "Row" is an index of the first dimension; a vector has rows of one number.
struct CheckpointTensor {
  std::string name;            // Hugging Face name
  std::string stored_name;     // as the file has it
  std::vector<int64_t> shape;  // slowest dimension first
  const StorageType* type = nullptr;
  int file = 0;  // index into Checkpoint::file_paths()
  uint64_t offset = 0;
  uint64_t num_bytes = 0;
  // GGUF keeps the two halves of each q and k head interleaved; reads undo it. 0: order is as is.
  int64_t interleaved_head_dim = 0;

  int64_t num_rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t row_size() const;
  int64_t num_elements() const { return num_rows() * row_size(); }
};

// Rotary tables that some exporters store; they follow from the config, so nobody reads them.
bool IsRecomputedTensor(std::string_view name);

// Constant after Open but for the marks of what was read, which are atomic: ranks read at the same
// time. Every error names file, tensor and reason.
class Checkpoint {
 public:
  // Reads and checks all headers; reads no tensor. `path` as ModelFiles::Find takes it.
  static absl::StatusOr<Checkpoint> Open(const std::string& path);

  // Tensors that lie in no file: SyntheticTensor computes them when they are read.
  static Checkpoint Synthetic(std::map<std::string, std::vector<int64_t>> shapes, uint64_t seed);

  const ModelFiles& files() const { return files_; }
  std::vector<std::string> file_paths() const;
  const std::map<std::string, CheckpointTensor, std::less<>>& tensors() const { return tensors_; }
  bool Has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }

  // NOT_FOUND if there is no such tensor, INVALID_ARGUMENT if its shape is another.
  absl::Status Expect(std::string_view name, absl::Span<const int64_t> shape) const;

  // Rows [row_begin, row_end) as f32, dense, into caller memory; or of these rows only the columns
  // [col_begin, col_end). INVALID_ARGUMENT if a value is not finite; DATA_LOSS if the file is
  // shorter than it was. Ranges outside the tensor are a bug (CHECK).
  absl::Status ReadRows(std::string_view name, int64_t row_begin, int64_t row_end,
                        float* out) const;
  absl::Status ReadSlice(std::string_view name, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, float* out) const;

  // All values of an I32 or I64 tensor.
  absl::StatusOr<std::vector<int64_t>> ReadIntegers(std::string_view name) const;

  // Tensors that nobody has read and that no IsRecomputedTensor: weights that the model would
  // silently ignore.
  std::vector<std::string> NeverRead() const;

  // Like NeverRead, as an error naming the first of them; OK if there are none.
  absl::Status CheckAllRead() const;

  // As stored, of what ReadRows, ReadSlice and ReadIntegers have read so far.
  int64_t bytes_read() const { return *bytes_read_; }

  // SHA-256 in hex over names, shapes, types and stored bytes of all tensors, in the order of
  // their names: the same for every tensor-parallel degree. Reads the files once; `num_threads`
  // only makes it faster.
  absl::StatusOr<std::string> WeightsDigest(int num_threads = 1) const;

 private:
  struct ReadMark {
    mutable std::atomic<bool> read{false};
  };

  Checkpoint() = default;
  absl::Status AddGguf();
  absl::Status AddSafetensors();
  absl::Status Add(CheckpointTensor tensor);
  absl::Status AtTensor(const CheckpointTensor& tensor, const absl::Status& status) const;
  absl::StatusOr<const CheckpointTensor*> Find(std::string_view name) const;
  absl::Status ReadStored(const CheckpointTensor& tensor, int64_t begin,
                          absl::Span<char> bytes) const;
  absl::Status ReadFlat(const CheckpointTensor& tensor, int64_t begin, int64_t end,
                        float* out) const;

  std::optional<uint64_t> synthetic_seed_;
  ModelFiles files_;
  std::vector<InputFile> open_files_;
  std::map<std::string, CheckpointTensor, std::less<>> tensors_;
  std::map<std::string, ReadMark, std::less<>> marks_;
  std::unique_ptr<std::atomic<int64_t>> bytes_read_ = std::make_unique<std::atomic<int64_t>>(0);
};

}  // namespace krait
