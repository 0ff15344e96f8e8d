#include "coordinator/server/command_line.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/config_loader.h"
#include "common/status_macros.h"

namespace krait {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

struct Flag {
  std::string name;
  std::string value;
};

// The flag at `arguments[index]`; moves `index` to the last argument that belongs to it.
absl::StatusOr<Flag> TakeFlag(absl::Span<const std::string> arguments, size_t& index) {
  const std::string& argument = arguments[index];
  if (!absl::StartsWith(argument, "--")) {
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", argument, "\""));
  }
  const size_t equals = argument.find('=');
  Flag flag{argument.substr(2, equals == std::string::npos ? equals : equals - 2), ""};
  if (equals != std::string::npos) {
    flag.value = argument.substr(equals + 1);
  } else if (++index < arguments.size()) {
    flag.value = arguments[index];
  } else {
    return absl::InvalidArgumentError(absl::StrCat(argument, " needs a value"));
  }
  return flag;
}

void AppendFields(const Descriptor& message, const std::string& prefix, std::string& help) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    const std::string name = absl::StrCat(prefix, field.name());
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      AppendFields(*field.message_type(), name + ".", help);
    } else {
      absl::StrAppend(&help, "  --", name, "=", field.type_name(), "\n");
    }
  }
}

}  // namespace

absl::StatusOr<CoordinatorCommandLine> ParseCoordinatorCommandLine(
    absl::Span<const std::string> arguments) {
  CoordinatorCommandLine line;
  std::vector<Flag> overrides;
  for (size_t i = 0; i < arguments.size(); ++i) {
    line.help |= arguments[i] == "--help";
    line.version |= arguments[i] == "--version";
    if (line.help || line.version) return line;
    ASSIGN_OR_RETURN(Flag flag, TakeFlag(arguments, i));
    if (flag.name == "config") {
      RETURN_IF_ERROR(LoadConfigFile(flag.value, line.config));
    } else {
      overrides.push_back(std::move(flag));
    }
  }
  for (const Flag& flag : overrides) {
    const std::string field = absl::StrReplaceAll(flag.name, {{"-", "_"}});
    RETURN_IF_ERROR(ApplyOverride(absl::StrCat(field, "=", flag.value), line.config));
  }
  return line;
}

std::string CoordinatorHelp() {
  std::string help =
      "usage: krait-coordinator [--config FILE] [--field=value ...]\n"
      "Takes requests, tokenizes, admits, and places them on workers. FILE is JSON;\n"
      "proto/krait/config.proto says what each field means and its default.\n"
      "  --help\n  --version\n";
  AppendFields(*CoordinatorConfig::descriptor(), "", help);
  return absl::StrCat(help,
                      "exit codes: 0 drained; 64 usage or configuration; 65 bad model data;\n"
                      "            69 something needed cannot be had; 70 internal error\n");
}

}  // namespace krait
