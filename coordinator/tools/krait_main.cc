// `krait`: the command line of a cluster.

#include <grpc/support/log.h>

#include <cstdlib>

#include "common/build_info.h"
#include "coordinator/tools/command.h"

namespace {

using AddCommand = void (*)(CLI::App&, krait::CommandRun&);
constexpr AddCommand kCommands[] = {&krait::AddUpCommand, &krait::AddGenerateCommand,
                                    &krait::AddStatusCommand, &krait::AddEngineCommands};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("krait: serve hybrid Mamba/attention language models, speculatively", "krait");
  app.set_version_flag("--version", krait::VersionLine("krait"));
  app.require_subcommand(1);
  krait::CommandRun run;
  for (AddCommand add : kCommands) add(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return krait::kExitUsage;
  }
  return run();
}
