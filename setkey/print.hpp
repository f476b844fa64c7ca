// SPDX-License-Identifier: BSD-2-Clause
// PF_KEY messages for people: the formats of setkey -D, -DP, -l and -v that scripts have parsed for twenty years.
// Pure text: the time comes in as an argument, only the time zone is the process's.
#pragma once

#include "pfkey/algorithms.hpp"
#include "pfkey/message.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace latchkey::setkey {

struct PrintOptions {
    bool ports = false;       // -p
    std::int64_t now = 0;     // seconds since 1970
    bool one_line = false;    // --oneline: an entry is one line, its fields separated by single spaces
};

// One SA of a dump or of GET.
void append_sa(std::string& out, const Message& message, const PrintOptions& options);
// One policy of a dump.
void append_policy(std::string& out, const Message& message, const PrintOptions& options);
// The port fields of a selector with this protocol hold ports, not a type and code or a key.
bool shows_ports(std::uint8_t protocol);
// It came from a socket, not from the SPD: no selectors.
bool is_socket_policy(const Message& message);

// -l: a heading, and one line per SA.
void append_short_heading(std::string& out);
void append_short_sa(std::string& out, const Message& message, const PrintOptions& options);

// -v: every field of a record, whether it is a proper message or not. Keys are shown by their length alone.
void append_record(std::string& out, Bytes record);
// 16 bytes to a line, each line with its offset.
void append_hex_dump(std::string& out, Bytes record);
// -x: what a record says, in a line: "ADD esp 10.0.0.1 -> 10.0.0.2 spi=0x00001000 seq=1 pid=7: File exists".
void append_summary(std::string& out, Bytes record);
// What X_PROMISC wraps; any other record as it is.
Bytes unwrapped(Bytes record);

// "Nov 14 22:13:20 2023" in local time; 20 blanks for 0, never.
std::string time_text(std::uint64_t seconds);

// The words of the formats; a number that has none is "unknown", or stands for itself.
std::string address_text(const Endpoint& endpoint);   // with its zone
std::string_view mode_text(std::uint8_t mode);
std::string_view state_text(std::uint8_t state);
std::string algorithm_text(AlgorithmKind kind, std::uint8_t id);
std::string printable(std::string_view text);         // anything but ASCII letters, digits and marks: a dot
void append_hex(std::string& out, Bytes bytes);

}  // namespace latchkey::setkey
