#include "tests/support/datadriven.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace krait::testing {
namespace {

bool Rewriting() {
  if (std::getenv("KRAIT_REWRITE") != nullptr) return true;
  for (const std::string& arg : ::testing::internal::GetArgvs()) {
    if (arg == "--rewrite") return true;
  }
  return false;
}

DataCommand ParseCommand(const std::string& line, std::string position) {
  DataCommand command;
  command.position = std::move(position);
  std::istringstream words(line);
  words >> command.name;
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    command.args[word.substr(0, equals)] =
        equals == std::string::npos ? "" : word.substr(equals + 1);
  }
  return command;
}

std::string WithNewline(std::string text) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text;
}

}  // namespace

int DataCommand::Int(const std::string& key, int otherwise) const {
  const auto it = args.find(key);
  return it == args.end() ? otherwise : std::stoi(it->second);
}

std::string DataCommand::Text(const std::string& key, const std::string& otherwise) const {
  const auto it = args.find(key);
  return it == args.end() ? otherwise : it->second;
}

void RunDataDriven(const std::string& path,
                   const std::function<std::string(const DataCommand&)>& run) {
  std::ifstream in(path);
  ASSERT_TRUE(in) << "cannot open " << path;
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);

  std::string rewritten;
  int num_commands = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    absl::StrAppend(&rewritten, lines[i], "\n");
    if (lines[i].empty() || lines[i][0] == '#') continue;
    const DataCommand command = ParseCommand(lines[i], absl::StrCat(path, ":", i + 1));
    ++num_commands;
    std::string expected;
    if (i + 1 < lines.size() && lines[i + 1] == "----") {
      i += 2;
      for (; i < lines.size() && !lines[i].empty(); ++i) absl::StrAppend(&expected, lines[i], "\n");
      --i;
    }
    const std::string actual = WithNewline(run(command));
    if (!Rewriting()) {
      EXPECT_EQ(actual, expected) << command.position << ": " << command.name;
    }
    absl::StrAppend(&rewritten, "----\n", actual);
  }
  EXPECT_GT(num_commands, 0) << path << " holds no command";
  if (Rewriting()) std::ofstream(path) << rewritten;
}

}  // namespace krait::testing
