// SPDX-License-Identifier: BSD-2-Clause
// errno in words, for the wires.
#pragma once

#include "stack/fd.hpp"

#include <expected>
#include <string>

namespace latchkey {

// "what: reason" from errno, as the error of a Result.
std::unexpected<std::string> system_failure(const std::string& what);

}  // namespace latchkey
