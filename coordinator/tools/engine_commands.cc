// The subcommands that need no cluster: krait-engine's, under krait's name.

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/sibling.h"

namespace krait {
namespace {

int RunEngine(const char* command, const std::vector<std::string>& words) {
  std::string program = SiblingPath("krait-engine");
  std::vector<std::string> storage = absl::StrSplit(command, ' ');
  storage.insert(storage.begin(), program);
  storage.insert(storage.end(), words.begin(), words.end());
  std::vector<char*> argv;
  for (std::string& word : storage) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  return EndCommand(command, absl::UnavailableError(absl::StrCat("cannot start ", program, ": ",
                                                                 std::strerror(errno))));
}

// Every word after the name is krait-engine's to read, --help and --version too.
std::function<int()> Forward(const char* command, CLI::App& app) {
  app.prefix_command();
  app.set_help_flag();
  app.set_version_flag();
  return [command, &app] { return RunEngine(command, app.remaining()); };
}

}  // namespace

std::function<int()> DeclareInspect(CLI::App& app) { return Forward("inspect", app); }
std::function<int()> DeclareConvert(CLI::App& app) { return Forward("convert", app); }
std::function<int()> DeclareBenchDecode(CLI::App& app) { return Forward("bench decode", app); }

}  // namespace krait
