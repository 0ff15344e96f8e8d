#pragma once

// Golden text for policies. A file holds cases of the form
//
//   # a comment
//   command key=value key=value
//   ----
//   expected output
//
// separated by an empty line. With KRAIT_REWRITE=1 in the environment, or --rewrite among the
// test's arguments, the file is written anew with the actual output, to be reviewed as a diff.

#include <functional>
#include <map>
#include <string>

namespace krait::testing {

struct DataCommand {
  std::string name;
  std::map<std::string, std::string> args;
  std::string position;  // "file:line", for messages

  bool has(const std::string& key) const { return args.contains(key); }
  int Int(const std::string& key, int otherwise) const;
  std::string Text(const std::string& key, const std::string& otherwise = "") const;
};

// Runs every case of the file at `path` (from the source root) and expects `run` to return the
// golden text. Records a test failure for each difference.
void RunDataDriven(const std::string& path,
                   const std::function<std::string(const DataCommand&)>& run);

}  // namespace krait::testing
