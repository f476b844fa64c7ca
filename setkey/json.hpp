// SPDX-License-Identifier: BSD-2-Clause
// PF_KEY messages for programs: the objects of setkey --json. The members of an SA and of a policy are always the
// same ones (setkey(8) lists them); what does not apply is null. Times are seconds since 1970, 64-bit numbers are
// numbers, and keys are left out unless asked for.
#pragma once

#include "pfkey/message.hpp"

#include <cstdint>
#include <string>

namespace latchkey::setkey {

struct JsonOptions {
    bool keys = false;   // --keys
};

// One object each, without a new line behind it.
void append_json_sa(std::string& out, const Message& message, const JsonOptions& options);
void append_json_policy(std::string& out, const Message& message);

// Any record: its header, and a member for each extension that it has. `microseconds`: when it came, since 1970;
// negative: not known.
void append_json_record(std::string& out, Bytes record, std::int64_t microseconds, const JsonOptions& options);

}  // namespace latchkey::setkey
