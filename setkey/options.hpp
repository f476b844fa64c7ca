// SPDX-License-Identifier: BSD-2-Clause
// The command line of setkey. One table: getopt, --help and the test of the man page read it.
#pragma once

#include "setkey/runner.hpp"

#include <expected>
#include <string>
#include <vector>

namespace latchkey::setkey {

enum class Task : std::uint8_t {
    help,
    version,
    commands,   // -c
    file,       // -f FILE
    dump,       // -D
    flush,      // -F
    monitor,    // -x
    show,       // FILE ...: records that were saved
    check,      // --check, -n: no host is asked
};

struct Invocation {
    Task task = Task::help;
    std::string file;           // of -f, -c (as -) and --check
    std::vector<std::string> files;   // of `show`
    std::string socket;         // --socket; empty: the default host
    bool policies = false;      // -P
    bool raw_time = false;      // -xx
    bool interfaces = false;    // -t: policies of interfaces only
    bool atomic = false;        // --atomic
    bool check = false;         // --check
    std::optional<bool> strict; // --strict, --no-strict; nothing: as the task has it
    RunnerOptions runner;
};

struct OptionRow {
    int code;                   // the letter, or a number above 255 for a long name alone
    const char* name;           // long name; null: none
    const char* argument;       // null: none
    const char* help;
};
std::span<const OptionRow> option_rows();

// The error is a line for stderr.
std::expected<Invocation, std::string> parse_options(int argc, char** argv);
std::string usage();

// What main() returns, given what happened: -c keeps the traditional 0.
int exit_status(const Invocation& invocation, std::size_t refused, std::size_t unreadable, bool lost);

}  // namespace latchkey::setkey
