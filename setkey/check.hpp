// SPDX-License-Identifier: BSD-2-Clause
// A script as a whole, without a host: every error of every command, and what is legal but hardly meant. --check prints
// the report; nothing is sent.
#pragma once

#include "setkey/parser.hpp"

#include <cstddef>
#include <vector>

namespace latchkey::setkey {

struct CheckReport {
    std::vector<Diagnostic> errors, warnings;   // in the order of the text
    std::size_t commands = 0;                   // that could be read
};

// Which rows of algorithms[] a host has; no function: all that the table knows.
using Offers = std::function<bool(const Algorithm&)>;

CheckReport check_script(const Source& source, const ParseOptions& options, const Offers& offers = {});

}  // namespace latchkey::setkey
