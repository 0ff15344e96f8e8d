#pragma once

// RETURN_IF_ERROR and ASSIGN_OR_RETURN with upstream's names: this toolchain's Abseil has neither.
//
//   RETURN_IF_ERROR(file.Read(&header));
//   ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define KRAIT_MACRO_CONCAT_INNER(a, b) a##b
#define KRAIT_MACRO_CONCAT(a, b) KRAIT_MACRO_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expression)                                                             \
  do {                                                                                          \
    if (::absl::Status krait_status_ = (expression); !krait_status_.ok()) return krait_status_; \
  } while (false)

#define ASSIGN_OR_RETURN(left, expression) \
  ASSIGN_OR_RETURN_IMPL(KRAIT_MACRO_CONCAT(krait_status_or_, __LINE__), left, expression)
#define ASSIGN_OR_RETURN_IMPL(variable, left, expression)  \
  auto variable = (expression);                            \
  if (!variable.ok()) return std::move(variable).status(); \
  left = std::move(variable).value()
