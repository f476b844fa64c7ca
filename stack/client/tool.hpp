// SPDX-License-Identifier: BSD-2-Clause
// What the commands of the `latchkey` tool share: their table, options, ways to complain, the host they talk to.
#pragma once

#include "stack/client/channel.hpp"

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace latchkey::tool {

enum Exit : int { exit_ok = 0, exit_failed = 1, exit_usage = 2 };

using Words = std::span<char* const>;

struct Command {
    std::string_view name, usage, summary;
    std::string_view details;                  // for --help; may be empty
    int (*run)(const Command& self, Words words);
};
std::span<const Command> commands();

struct Option {
    std::string_view name;                     // "-c" or "--socket"
    std::string_view value;                    // a placeholder; empty: the option takes none
    std::string_view help;
    std::function<bool(std::string_view)> set; // false: the value is not acceptable
};

// Takes the options at the front of `words`, up to the first other word or past "--". Nothing: go on; else the exit
// status, everything having been said (--help included).
std::optional<int> take_options(const Command& command, std::span<const Option> options, Words& words);

// "latchkey: ..." on standard error; the result is the exit status.
int fail(std::string_view text);
int fail_usage(const Command& command, std::string_view text);

// "; did you mean ...?", or nothing if no candidate is near.
std::string suggestion(std::string_view word, std::span<const std::string_view> candidates);

// The option --socket, for every command.
Option socket_option(std::string& path);

// Connects to the host and checks that the two understand each other; empty path: the default. False: complained.
bool open_host(client::Host& host, const std::string& path);

// Why the host refused: its own words, if client::text_call() brought any, else what errno says.
std::string host_reason(const std::string& text, int error);

// The whole of `text` as a number between the limits.
bool parse_number(std::string_view text, double low, double high, double& number);
bool parse_number(std::string_view text, long low, long high, long& number);

int run_program(const Command& self, Words words);
int run_ping(const Command& self, Words words);
int run_stat(const Command& self, Words words);
int run_configure(const Command& self, Words words);   // address, route, link
int run_sysctl(const Command& self, Words words);
int run_algs(const Command& self, Words words);
int run_monitor(const Command& self, Words words);

// Why the preload library would not reach into a program. `path` is what exec would be given.
struct Refusal {
    std::string reason, remedy;
};
std::optional<Refusal> why_not_preload(const std::string& path);

// As execvp(3) looks for it; nothing if there is none.
std::optional<std::string> find_program(std::string_view name);

}  // namespace latchkey::tool
