#include "common/config_command_line.h"

#include <utility>
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

using Flag = std::pair<std::string, std::string>;  // name, value

// The flag at `arguments[index]`; moves `index` to the last argument that belongs to it.
absl::StatusOr<Flag> TakeFlag(absl::Span<const std::string> arguments, size_t& index) {
  const std::string& argument = arguments[index];
  if (!absl::StartsWith(argument, "--")) {
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", argument, "\""));
  }
  const size_t equals = argument.find('=');
  if (equals != std::string::npos) {
    return Flag(argument.substr(2, equals - 2), argument.substr(equals + 1));
  }
  if (++index == arguments.size()) {
    return absl::InvalidArgumentError(absl::StrCat(argument, " needs a value"));
  }
  return Flag(argument.substr(2), arguments[index]);
}

void AppendFields(const Descriptor& message, const std::string& prefix, std::string& help) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    const std::string name = absl::StrCat(prefix, field.name());
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      AppendFields(*field.message_type(), name + ".", help);
    } else {
      absl::StrAppend(&help, "  --", name, "=", field.is_repeated() ? "list of " : "",
                      field.type_name(), "\n");
    }
  }
}

}  // namespace

absl::StatusOr<CommandLineRequest> ParseConfigCommandLine(absl::Span<const std::string> arguments,
                                                          google::protobuf::Message& config) {
  std::vector<Flag> overrides;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--help" || arguments[i] == "-h") return CommandLineRequest{.help = true};
    if (arguments[i] == "--version") return CommandLineRequest{.version = true};
    ASSIGN_OR_RETURN(Flag flag, TakeFlag(arguments, i));
    if (flag.first == "config") {
      RETURN_IF_ERROR(LoadConfigFile(flag.second, config));
    } else {
      overrides.push_back(std::move(flag));
    }
  }
  for (const auto& [name, value] : overrides) {
    const std::string field = absl::StrReplaceAll(name, {{"-", "_"}});
    RETURN_IF_ERROR(ApplyOverride(absl::StrCat(field, "=", value), config));
  }
  return CommandLineRequest{};
}

std::string ConfigFieldsHelp(const google::protobuf::Message& config) {
  std::string help;
  AppendFields(*config.GetDescriptor(), "", help);
  return help;
}

}  // namespace krait
