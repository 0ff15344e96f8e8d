#pragma once

#include <string_view>

namespace krait {

// The trace id (32 hexadecimal digits) of a W3C traceparent header, 00-TRACE-PARENT-FLAGS or a
// later version that begins like it; a view into `header`. Empty if it is no valid one: the
// recommendation wants such a header ignored.
std::string_view TraceIdOf(std::string_view header);

}  // namespace krait
