// The subcommands that need no cluster: krait-engine's, under krait's name.

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/sibling.h"

namespace krait {
namespace {

int RunEngine(const char* command, const CommandWords& words) {
  std::string program = SiblingPath("krait-engine");
  std::vector<std::string> storage = {program, command};
  storage.insert(storage.end(), words.begin(), words.end());
  std::vector<char*> argv;
  for (std::string& word : storage) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  return FailCommand(command, absl::UnavailableError(absl::StrCat("cannot start ", program, ": ",
                                                                  std::strerror(errno))));
}

}  // namespace

int RunInspect(const CommandWords& words) { return RunEngine("inspect", words); }
int RunConvert(const CommandWords& words) { return RunEngine("convert", words); }
int RunBench(const CommandWords& words) { return RunEngine("bench", words); }

}  // namespace krait
