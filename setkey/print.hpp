// SPDX-License-Identifier: BSD-2-Clause
// PF_KEY messages for people: the formats of setkey -D, -DP, -l and -v that scripts have parsed for twenty years.
// Pure text: the time comes in as an argument, only the time zone is the process's.
#pragma once

#include "pfkey/message.hpp"

#include <cstdint>
#include <string>

namespace latchkey::setkey {

struct PrintOptions {
    bool ports = false;       // -p
    std::int64_t now = 0;     // seconds since 1970
};

// One SA of a dump or of GET.
void append_sa(std::string& out, const Message& message, const PrintOptions& options);
// One policy of a dump.
void append_policy(std::string& out, const Message& message, const PrintOptions& options);
// It came from a socket, not from the SPD: no selectors.
bool is_socket_policy(const Message& message);

// -l: a heading, and one line per SA.
void append_short_heading(std::string& out);
void append_short_sa(std::string& out, const Message& message, const PrintOptions& options);

// -v: every field of a record, whether it is a proper message or not. Keys are shown by their length alone.
void append_record(std::string& out, Bytes record);
void append_hex_dump(std::string& out, Bytes record);

// "Nov 14 22:13:20 2023" in local time; 20 blanks for 0, never.
std::string time_text(std::uint64_t seconds);

}  // namespace latchkey::setkey
