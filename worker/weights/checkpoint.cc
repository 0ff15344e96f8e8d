#include "worker/weights/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/gguf_reader.h"
#include "common/json.h"
#include "common/logging.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "worker/weights/gguf_names.h"
#include "worker/weights/safetensors_file.h"
#include "worker/weights/synthetic_weights.h"

namespace krait {
namespace {

// Bytes of one read when decoding or hashing: large enough to stream, small enough for a cache.
constexpr int64_t kPieceBytes = 1 << 20;

absl::Status Missing(const std::string& file, std::string_view name) {
  return absl::NotFoundError(absl::StrCat(file, ": tensor ", ToAbsl(name), ": missing"));
}

std::optional<int64_t> FirstNotFinite(const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) return i;
  }
  return std::nullopt;
}

absl::Status BadIndex(const std::string& path, const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", reason));
}

// tensor -> the shard's path, from model.safetensors.index.json.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const ModelFiles& files) {
  ASSIGN_OR_RETURN(const JsonValue root, ReadJsonFile(files.index_json));
  const JsonValue* weight_map = root.Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object()) {
    return BadIndex(files.index_json, "weight_map is no object");
  }
  std::map<std::string, std::string> shard_of;
  std::set<std::string> used;
  for (const auto& [tensor, shard] : weight_map->as_object()) {
    const std::string file = shard.is_string() ? shard.as_string() : "";
    const std::string path = (std::filesystem::path(files.directory) / file).string();
    // Only files of the folder: a name with a path in it matches none of them.
    if (file.find('/') != std::string::npos ||
        !std::binary_search(files.shards.begin(), files.shards.end(), path)) {
      return BadIndex(files.index_json, absl::StrCat("tensor ", tensor, ": ", QuoteJson(file),
                                                     " is no safetensors file of the folder"));
    }
    shard_of[tensor] = path;
    used.insert(path);
  }
  for (const std::string& shard : files.shards) {
    if (used.count(shard) == 0) return BadIndex(shard, "not named by the folder's index");
  }
  return shard_of;
}

// The tensors of the index and those of the shards are the same, each in its shard.
absl::Status CheckIndex(const Checkpoint& checkpoint, const ModelFiles& files) {
  ASSIGN_OR_RETURN(const auto shard_of, ReadIndex(files));
  const std::vector<std::string> paths = checkpoint.file_paths();
  for (const auto& [name, shard] : shard_of) {
    const auto tensor = checkpoint.tensors().find(name);
    if (tensor == checkpoint.tensors().end()) return Missing(shard, name);
    if (paths[tensor->second.file] != shard) {
      return BadIndex(files.index_json,
                      absl::StrCat("tensor ", name, ": lies in ", paths[tensor->second.file],
                                   ", not in ", shard));
    }
  }
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (shard_of.count(name) != 0) continue;
    return BadIndex(paths[tensor.file],
                    absl::StrCat("tensor ", name, ": not in the folder's index"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DigestTensor(const InputFile& file, const CheckpointTensor& tensor) {
  Sha256 hash;
  hash.UpdateField(tensor.name);
  hash.UpdateField(tensor.type->name);
  hash.UpdateInt(static_cast<int64_t>(tensor.shape.size()));
  for (int64_t dim : tensor.shape) hash.UpdateInt(dim);
  std::vector<char> piece(std::min<uint64_t>(tensor.num_bytes, kPieceBytes));
  for (uint64_t done = 0; done < tensor.num_bytes; done += piece.size()) {
    piece.resize(std::min<uint64_t>(piece.size(), tensor.num_bytes - done));
    RETURN_IF_ERROR(file.ReadAt(tensor.offset + done, absl::MakeSpan(piece)));
    hash.Update({piece.data(), piece.size()});
  }
  return hash.FinishHex();
}

}  // namespace

bool IsRecomputedTensor(std::string_view name) {
  return absl::EndsWith(ToAbsl(name), ".rotary_emb.inv_freq");
}

int64_t CheckpointTensor::row_size() const {
  int64_t size = 1;
  for (size_t i = 1; i < shape.size(); ++i) size *= shape[i];
  return size;
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& path) {
  Checkpoint checkpoint;
  ASSIGN_OR_RETURN(checkpoint.files_, ModelFiles::Find(path));
  RETURN_IF_ERROR(checkpoint.files_.is_gguf() ? checkpoint.AddGguf() : checkpoint.AddSafetensors());
  return checkpoint;
}

Checkpoint Checkpoint::Synthetic(std::map<std::string, std::vector<int64_t>> shapes,
                                 uint64_t seed) {
  Checkpoint checkpoint;
  checkpoint.synthetic_seed_ = seed;
  for (auto& [name, shape] : shapes) {
    CheckpointTensor tensor{.name = name, .stored_name = name, .shape = std::move(shape)};
    tensor.type = StorageTypeFromSafetensors("F32");
    tensor.num_bytes = static_cast<uint64_t>(tensor.num_elements()) * sizeof(float);
    CHECK_OK(checkpoint.Add(std::move(tensor)));
  }
  return checkpoint;
}

std::vector<std::string> Checkpoint::file_paths() const {
  std::vector<std::string> paths;
  if (synthetic_seed_) paths.push_back("synthetic");
  for (const InputFile& file : open_files_) paths.push_back(file.path());
  return paths;
}

absl::Status Checkpoint::AtTensor(const CheckpointTensor& tensor,
                                  const absl::Status& status) const {
  return absl::Status(status.code(), absl::StrCat(file_paths()[tensor.file], ": tensor ",
                                                  tensor.stored_name, ": ", status.message()));
}

absl::Status Checkpoint::Add(CheckpointTensor tensor) {
  const std::string name = tensor.name;
  const auto [it, inserted] = tensors_.emplace(name, tensor);
  if (!inserted) return AtTensor(tensor, absl::InvalidArgumentError("found twice"));
  marks_.try_emplace(name);
  return absl::OkStatus();
}

absl::Status Checkpoint::AddGguf() {
  ASSIGN_OR_RETURN(const GgufHeader header, GgufHeader::Read(files_.gguf));
  ASSIGN_OR_RETURN(InputFile file, InputFile::Open(files_.gguf));
  open_files_.push_back(std::move(file));
  ASSIGN_OR_RETURN(const GgufNaming naming, GgufNaming::FromHeader(header));
  for (const GgufTensorInfo& info : header.tensors()) {
    CheckpointTensor tensor;
    tensor.stored_name = info.name;
    tensor.shape.assign(info.shape.rbegin(), info.shape.rend());
    tensor.type = StorageTypeFromGguf(info.type);
    tensor.offset = info.offset;
    tensor.num_bytes = info.num_bytes;
    CHECK(tensor.type != nullptr) << "ggml type " << info.type << " passed the header's check";
    const absl::Status named = naming.Apply(tensor);
    if (!named.ok()) return AtTensor(tensor, named);
    RETURN_IF_ERROR(Add(std::move(tensor)));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::AddSafetensors() {
  for (const std::string& path : files_.shards) {
    ASSIGN_OR_RETURN(InputFile file, InputFile::Open(path));
    open_files_.push_back(std::move(file));
    ASSIGN_OR_RETURN(std::vector<SafetensorsTensor> stored,
                     ReadSafetensorsHeader(open_files_.back()));
    for (SafetensorsTensor& info : stored) {
      CheckpointTensor tensor;
      tensor.name = info.name;
      tensor.stored_name = std::move(info.name);
      tensor.shape = std::move(info.shape);
      tensor.type = info.type;
      tensor.file = static_cast<int>(open_files_.size()) - 1;
      tensor.offset = info.offset;
      tensor.num_bytes = info.num_bytes;
      RETURN_IF_ERROR(Add(std::move(tensor)));
    }
  }
  return files_.index_json.empty() ? absl::OkStatus() : CheckIndex(*this, files_);
}

absl::StatusOr<const CheckpointTensor*> Checkpoint::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return &found->second;
  const std::string file = files_.index_json.empty() ? file_paths().front() : files_.index_json;
  return Missing(file, StoredName(files_, name));
}

absl::Status Checkpoint::Expect(std::string_view name, absl::Span<const int64_t> shape) const {
  ASSIGN_OR_RETURN(const CheckpointTensor* tensor, Find(name));
  if (absl::MakeConstSpan(tensor->shape) != shape) {
    return AtTensor(*tensor, absl::InvalidArgumentError(absl::StrCat(
                                 "shape [", absl::StrJoin(tensor->shape, ", "),
                                 "] where the config needs [", absl::StrJoin(shape, ", "), "]")));
  }
  if (tensor->type->to_floats == nullptr && !tensor->type->is_integer) {
    return AtTensor(*tensor, absl::InvalidArgumentError(
                                 absl::StrCat("type ", tensor->type->name, " is not supported")));
  }
  return absl::OkStatus();
}

// From byte `begin` of the tensor.
absl::Status Checkpoint::ReadStored(const CheckpointTensor& tensor, int64_t begin,
                                    absl::Span<char> bytes) const {
  bytes_read_->fetch_add(static_cast<int64_t>(bytes.size()), std::memory_order_relaxed);
  return open_files_[tensor.file].ReadAt(tensor.offset + static_cast<uint64_t>(begin), bytes);
}

// Elements [begin, end) in stored order. Whole blocks are read and decoded, a piece at a time.
absl::Status Checkpoint::ReadFlat(const CheckpointTensor& tensor, int64_t begin, int64_t end,
                                  float* out) const {
  if (synthetic_seed_) {
    const SyntheticTensor values(*synthetic_seed_, tensor.name, tensor.shape.back());
    for (int64_t i = begin; i < end; ++i) out[i - begin] = values(i);
    return absl::OkStatus();
  }
  const StorageType& type = *tensor.type;
  const int64_t last_block = (end + type.block_elements - 1) / type.block_elements;
  const int64_t step = std::max<int64_t>(1, kPieceBytes / type.block_bytes);
  std::vector<char> bytes;
  std::vector<float> decoded;
  for (int64_t block = begin / type.block_elements; block < last_block; block += step) {
    const int64_t count = std::min(step, last_block - block);
    bytes.resize(count * type.block_bytes);
    decoded.resize(count * type.block_elements);
    RETURN_IF_ERROR(ReadStored(tensor, block * type.block_bytes, absl::MakeSpan(bytes)));
    type.to_floats(reinterpret_cast<const uint8_t*>(bytes.data()), count, decoded.data());
    const int64_t first = block * type.block_elements;
    const int64_t from = std::max(begin, first);
    const int64_t to = std::min(end, first + count * type.block_elements);
    std::copy(decoded.begin() + (from - first), decoded.begin() + (to - first),
              out + (from - begin));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::ReadRows(std::string_view name, int64_t row_begin, int64_t row_end,
                                  float* out) const {
  ASSIGN_OR_RETURN(const CheckpointTensor* tensor, Find(name));
  return ReadSlice(name, row_begin, row_end, 0, tensor->row_size(), out);
}

absl::Status Checkpoint::ReadSlice(std::string_view name, int64_t row_begin, int64_t row_end,
                                   int64_t col_begin, int64_t col_end, float* out) const {
  ASSIGN_OR_RETURN(const CheckpointTensor* tensor, Find(name));
  const int64_t row_size = tensor->row_size();
  CHECK(0 <= row_begin && row_begin <= row_end && row_end <= tensor->num_rows()) << tensor->name;
  CHECK(0 <= col_begin && col_begin <= col_end && col_end <= row_size) << tensor->name;
  if (tensor->type->to_floats == nullptr) {
    return AtTensor(*tensor, absl::InvalidArgumentError(
                                 absl::StrCat("type ", tensor->type->name, " holds no floats")));
  }
  marks_.find(name)->second.read.store(true, std::memory_order_relaxed);
  const int64_t width = col_end - col_begin;
  const int64_t head_dim = tensor->interleaved_head_dim;
  if (width == row_size && head_dim == 0) {
    RETURN_IF_ERROR(ReadFlat(*tensor, row_begin * row_size, row_end * row_size, out));
  } else {
    for (int64_t row = row_begin; row < row_end; ++row) {
      const int64_t start = StoredRow(row, head_dim) * row_size;
      RETURN_IF_ERROR(
          ReadFlat(*tensor, start + col_begin, start + col_end, out + (row - row_begin) * width));
    }
  }
  if (const auto bad = FirstNotFinite(out, (row_end - row_begin) * width)) {
    return AtTensor(*tensor, absl::InvalidArgumentError(
                                 absl::StrCat("value [", row_begin + *bad / width, ", ",
                                              col_begin + *bad % width, "] is not finite")));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> Checkpoint::ReadIntegers(std::string_view name) const {
  ASSIGN_OR_RETURN(const CheckpointTensor* tensor, Find(name));
  const std::string_view type = tensor->type->name;
  if (type != "I32" && type != "I64") {
    return AtTensor(*tensor, absl::InvalidArgumentError(
                                 absl::StrCat("type ", tensor->type->name, ", I32 or I64 wanted")));
  }
  marks_.find(name)->second.read.store(true, std::memory_order_relaxed);
  std::vector<char> bytes(tensor->num_bytes);
  RETURN_IF_ERROR(ReadStored(*tensor, 0, absl::MakeSpan(bytes)));
  std::vector<int64_t> values(tensor->num_elements());
  for (size_t i = 0; i < values.size(); ++i) {
    if (type == "I64") {
      std::memcpy(&values[i], bytes.data() + 8 * i, 8);
    } else {
      int32_t value;
      std::memcpy(&value, bytes.data() + 4 * i, 4);
      values[i] = value;
    }
  }
  return values;
}

std::vector<std::string> Checkpoint::NeverRead() const {
  std::vector<std::string> names;
  for (const auto& [name, mark] : marks_) {
    if (!mark.read.load(std::memory_order_relaxed) && !IsRecomputedTensor(name))
      names.push_back(name);
  }
  return names;
}

absl::Status Checkpoint::CheckAllRead() const {
  const std::vector<std::string> names = NeverRead();
  if (names.empty()) return absl::OkStatus();
  return AtTensor(tensors_.find(names.front())->second,
                  absl::InvalidArgumentError(absl::StrCat(
                      "stored, but the model has no place for it (one of ", names.size(), ")")));
}

absl::StatusOr<std::string> Checkpoint::WeightsDigest(int num_threads) const {
  if (synthetic_seed_) return absl::StrCat("synthetic-", *synthetic_seed_);
  std::vector<const CheckpointTensor*> order;
  for (const auto& [name, tensor] : tensors_) order.push_back(&tensor);
  std::vector<absl::StatusOr<std::string>> digests(order.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < order.size(); i = next++) {
      digests[i] = DigestTensor(open_files_[order[i]->file], *order[i]);
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < num_threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  Sha256 all;
  for (const auto& digest : digests) {
    if (!digest.ok()) return digest.status();
    all.UpdateField(*digest);
  }
  return all.FinishHex();
}

}  // namespace krait
