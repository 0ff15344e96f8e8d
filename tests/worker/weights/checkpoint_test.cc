#include "worker/weights/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeTinyModel;
using testing::TinyModel;
using testing::TinyTensor;

constexpr char kQ[] = "model.layers.1.self_attn.q_proj.weight";

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest()
      : root_(::testing::TempDir() + "/checkpoint_test." +
              ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(root_);
    fs::create_directories(root_);
    testing::TinyModelOptions options;
    options.num_layers = 2;
    model_ = MakeTinyModel(options);
  }
  ~CheckpointTest() override { fs::remove_all(root_); }

  std::string Folder(int num_shards = 1) {
    const std::string dir = absl::StrCat(root_, "/folder", num_shards);
    EXPECT_TRUE(WriteTinyFolder(model_, dir, DType::kF32, num_shards).ok());
    return dir;
  }
  std::string Gguf() {
    const std::string path = root_ + "/tiny.gguf";
    EXPECT_TRUE(WriteTinyGguf(model_, path).ok());
    return path;
  }

  const std::string root_;
  TinyModel model_;
};

void ExpectHolds(const Checkpoint& checkpoint, const TinyModel& model) {
  EXPECT_EQ(checkpoint.tensors().size(), model.tensors.size());
  for (const auto& [name, tensor] : model.tensors) {
    ASSERT_TRUE(checkpoint.Expect(name, tensor.shape).ok()) << name;
    std::vector<float> values(tensor.values.size());
    ASSERT_TRUE(checkpoint.ReadRows(name, 0, tensor.shape[0], values.data()).ok());
    EXPECT_EQ(values, tensor.values) << name;
  }
}

TEST_F(CheckpointTest, FolderShardsAndGgufHoldTheSameModel) {
  for (const std::string& path : {Folder(), Folder(3), Gguf()}) {
    const auto checkpoint = Checkpoint::Open(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    ExpectHolds(*checkpoint, model_);
    EXPECT_THAT(checkpoint->NeverRead(), IsEmpty());
  }
}

// Slices of plain and of interleaved tensors against the whole, cut by hand.
TEST_F(CheckpointTest, SlicesAreTheWholesParts) {
  for (const std::string& path : {Folder(), Gguf()}) {
    const auto checkpoint = Checkpoint::Open(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (const char* name : {kQ, "model.embed_tokens.weight"}) {
      const TinyTensor& tensor = model_.tensors.at(name);
      const int64_t k = tensor.shape[1];
      std::vector<float> slice(11 * 6);
      ASSERT_TRUE(checkpoint->ReadSlice(name, 5, 16, 3, 9, slice.data()).ok());
      for (int64_t row = 0; row < 11; ++row) {
        for (int64_t col = 0; col < 6; ++col) {
          EXPECT_EQ(slice[row * 6 + col], tensor.values[(row + 5) * k + col + 3]);
        }
      }
    }
  }
}

TEST_F(CheckpointTest, ListsWhatWasNeverRead) {
  const auto checkpoint = Checkpoint::Open(Gguf());
  for (const auto& [name, tensor] : model_.tensors) {
    if (name == kQ) continue;
    std::vector<float> values(tensor.values.size());
    ASSERT_TRUE(checkpoint->ReadRows(name, 0, tensor.shape[0], values.data()).ok());
  }
  EXPECT_THAT(checkpoint->NeverRead(), ElementsAre(kQ));
  EXPECT_THAT(checkpoint->CheckAllRead().message(),
              HasSubstr("tiny.gguf: tensor blk.1.attn_q.weight: stored, but"));
}

TEST_F(CheckpointTest, RotaryTablesNeedNotBeRead) {
  model_.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{4}, {1, 2, 3, 4}};
  const auto checkpoint = Checkpoint::Open(Folder());
  EXPECT_EQ(checkpoint->NeverRead().size(), model_.tensors.size() - 1);
}

TEST_F(CheckpointTest, NamesFileTensorAndReason) {
  const auto checkpoint = Checkpoint::Open(Gguf());
  const absl::Status shape = checkpoint->Expect(kQ, {48, 47});
  EXPECT_EQ(shape.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(shape.message(),
            root_ +
                "/tiny.gguf: tensor blk.1.attn_q.weight: shape [48, 48] where the config needs "
                "[48, 47]");
  const absl::Status missing = checkpoint->Expect("model.layers.7.mlp.up_proj.weight", {1});
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(missing.message(), root_ + "/tiny.gguf: tensor blk.7.ffn_up.weight: missing");
}

TEST_F(CheckpointTest, RefusesValuesThatAreNotFinite) {
  model_.tensors[kQ].values[48 * 5 + 7] = std::nanf("");
  const auto checkpoint = Checkpoint::Open(Gguf());
  std::vector<float> values(48 * 48);
  EXPECT_TRUE(checkpoint->ReadRows(kQ, 0, 5, values.data()).ok());
  const absl::Status status = checkpoint->ReadRows(kQ, 2, 9, values.data());
  EXPECT_THAT(status.message(), HasSubstr("blk.1.attn_q.weight: value [5, 7] is not finite"));
}

TEST_F(CheckpointTest, AFileThatShrinksIsAnErrorNotACrash) {
  const std::string path = Gguf();
  const auto checkpoint = Checkpoint::Open(path);
  fs::resize_file(path, fs::file_size(path) / 2);
  std::vector<float> values(48);
  const absl::Status status = checkpoint->ReadRows("model.norm.weight", 0, 48, values.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("tiny.gguf: ends at byte"));
}

TEST_F(CheckpointTest, TruncatedFilesAreRefusedAtOpen) {
  for (const std::string& path : {Gguf(), Folder() + "/model.safetensors"}) {
    fs::resize_file(path, fs::file_size(path) - 1000);
    const std::string model =
        path == root_ + "/tiny.gguf" ? path : fs::path(path).parent_path().string();
    const absl::Status status = Checkpoint::Open(model).status();
    EXPECT_THAT(status.message(), HasSubstr(path + ": tensor "));
  }
}

TEST_F(CheckpointTest, DigestIsOfContentNotOfThreadsOrShards) {
  const auto one = Checkpoint::Open(Folder(1));
  const std::string digest = *one->WeightsDigest(1);
  EXPECT_EQ(digest.size(), 64u);
  EXPECT_EQ(*one->WeightsDigest(4), digest);
  EXPECT_EQ(*Checkpoint::Open(Folder(3))->WeightsDigest(2), digest);
  model_.tensors[kQ].values[100] += 1e-3f;
  EXPECT_NE(*Checkpoint::Open(Folder())->WeightsDigest(1), digest);
}

TEST_F(CheckpointTest, RanksMayReadAtTheSameTime) {
  const auto checkpoint = Checkpoint::Open(Gguf());
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&] { ExpectHolds(*checkpoint, model_); });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_THAT(checkpoint->NeverRead(), IsEmpty());
}

class CheckpointIndexTest : public CheckpointTest {
 protected:
  void WriteIndex(const std::string& dir, const std::string& weight_map) {
    std::ofstream(dir + "/model.safetensors.index.json")
        << "{\"weight_map\": {" << weight_map << "}}";
  }
  std::string ErrorOf(const std::string& dir) {
    return std::string(Checkpoint::Open(dir).status().message());
  }
};

TEST_F(CheckpointIndexTest, RefusesAnIndexThatLies) {
  const std::string dir = Folder(2);
  WriteIndex(dir, R"("x": "../model-1-of-2.safetensors")");
  EXPECT_THAT(ErrorOf(dir), HasSubstr("tensor x: \"../model-1-of-2.safetensors\" is no saf"));
  WriteIndex(dir, R"("x": "other.safetensors")");
  EXPECT_THAT(ErrorOf(dir), HasSubstr("tensor x: \"other.safetensors\" is no safetensors file"));
  WriteIndex(dir, R"("x": "model-1-of-2.safetensors")");
  EXPECT_THAT(ErrorOf(dir), HasSubstr("model-2-of-2.safetensors: not named by the folder's index"));
  WriteIndex(dir, R"("x": "model-1-of-2.safetensors", "y": "model-2-of-2.safetensors")");
  EXPECT_THAT(ErrorOf(dir), HasSubstr("model-1-of-2.safetensors: tensor x: missing"));
  fs::remove(dir + "/model.safetensors.index.json");
  EXPECT_THAT(ErrorOf(dir), HasSubstr("model.safetensors.index.json: missing"));
}

TEST_F(CheckpointIndexTest, RefusesATensorInTwoShards) {
  const std::string dir = Folder(2);
  fs::copy_file(dir + "/model-1-of-2.safetensors", dir + "/model-2-of-2.safetensors",
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(ErrorOf(dir), HasSubstr("model-2-of-2.safetensors: tensor "));
  EXPECT_THAT(ErrorOf(dir), HasSubstr("found twice"));
}

TEST_F(CheckpointTest, SaysWhichFilesAFolderLacksOrHasTooManyOf) {
  EXPECT_EQ(Checkpoint::Open(root_ + "/none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Checkpoint::Open(root_).status().message(), HasSubstr("holds neither"));
  Gguf();
  EXPECT_TRUE(Checkpoint::Open(root_).ok());
  fs::copy_file(root_ + "/tiny.gguf", root_ + "/copy.gguf");
  EXPECT_THAT(Checkpoint::Open(root_).status().message(), HasSubstr("several GGUF files"));
  const std::string dir = Folder();
  fs::remove(dir + "/config.json");
  EXPECT_THAT(Checkpoint::Open(dir).status().message(), HasSubstr("config.json: missing"));
}

TEST_F(CheckpointTest, RefusesGgufOfOtherArchitectures) {
  testing::GgufWriter writer;
  writer.AddString("general.architecture", "mamba");
  writer.Write(root_ + "/m.gguf");
  EXPECT_THAT(Checkpoint::Open(root_ + "/m.gguf").status().message(),
              HasSubstr("general.architecture: \"mamba\" is not supported"));
}

}  // namespace
}  // namespace krait
