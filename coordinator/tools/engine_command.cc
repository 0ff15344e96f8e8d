#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common/build_info.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/sibling.h"

namespace krait {
namespace {

int ExecEngine(const std::string& subcommand, const std::vector<std::string>& arguments) {
  const std::string engine = SiblingBinary("krait-engine");
  std::vector<std::string> words = {engine, subcommand};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(engine.c_str(), argv.data());
  std::cerr << "krait: cannot run " << engine << ": " << std::strerror(errno) << "\n";
  return kExitUnavailable;
}

void AddForwarded(CLI::App& app, CommandRun& run, const std::string& name,
                  const std::string& description) {
  CLI::App* command = app.add_subcommand(name, description);
  command->allow_extras();
  command->prefix_command();  // everything after the name belongs to krait-engine, --help too
  command->set_help_flag();
  command->callback([command, name, &run] {
    run = [name, arguments = command->remaining()] { return ExecEngine(name, arguments); };
  });
}

}  // namespace

void AddEngineCommands(CLI::App& app, CommandRun& run) {
  AddForwarded(app, run, "inspect", "Print what a checkpoint holds");
  AddForwarded(app, run, "convert",
               "Write a checkpoint as a Hugging Face folder, or cut a draft out of it");
  AddForwarded(app, run, "bench", "Measure: bench decode runs the engine without RPC");
}

}  // namespace krait
