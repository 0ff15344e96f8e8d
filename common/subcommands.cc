#include "common/subcommands.h"

#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#include "common/build_info.h"

namespace krait {
namespace {

using Groups = std::map<std::string, CLI::App*>;

// The application that is called `subcommand.name`, below its group's if it has two words.
CLI::App* AddSubcommand(const Subcommand& subcommand, const std::string& version, CLI::App& root,
                        Groups& groups) {
  const std::string name = subcommand.name;
  const size_t space = name.find(' ');
  if (space == std::string::npos) return root.add_subcommand(name, subcommand.summary);
  CLI::App*& group = groups[name.substr(0, space)];
  if (group == nullptr) {
    group = root.add_subcommand(name.substr(0, space), subcommand.summary);
    SetUpApp(*group, version);
    group->require_subcommand(1);
  } else {
    group->description(group->get_description() + "; " + subcommand.summary);
  }
  return group->add_subcommand(name.substr(space + 1), subcommand.summary);
}

}  // namespace

void SetUpApp(CLI::App& app, const std::string& version_line) {
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.set_help_flag("--help", "this text");
  app.set_version_flag("--version", version_line, "version and build");
}

std::string CheckNotNegative(const std::string& text) {
  return text.starts_with('-') ? "must be 0 to 2^64 - 1, got " + text : "";
}

int RunSubcommands(const char* program, const char* description,
                   absl::Span<const Subcommand> subcommands, int argc, const char* const* argv) {
  CLI::App root(description, program);
  const std::string version = VersionLine(program);
  SetUpApp(root, version);
  root.require_subcommand(1);
  Groups groups;
  std::vector<std::pair<CLI::App*, std::function<int()>>> runs;
  for (const Subcommand& subcommand : subcommands) {
    CLI::App* app = AddSubcommand(subcommand, version, root, groups);
    SetUpApp(*app, version);
    runs.push_back({app, subcommand.declare(*app)});
  }
  try {
    root.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return root.exit(success);  // prints help or version
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s (--help says more)\n", program, error.what());
    return kExitUsage;
  }
  for (const auto& [app, run] : runs) {
    if (app->parsed()) return run();
  }
  return kExitUsage;
}

}  // namespace krait
