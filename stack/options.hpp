// SPDX-License-Identifier: BSD-2-Clause
// latchkeyd's command line as a value.
#pragma once

#include "stack/host_config.hpp"
#include "stack/wire/wire.hpp"

#include <expected>
#include <span>
#include <string>

namespace latchkey {

struct DaemonOptions {
    std::string socket;                   // AF_UNIX path; empty: the default of the client library
    HostConfig host;
    std::vector<WireSpec> wires;          // one per interface of `host`
    std::string setkey;                   // script to load before the host is ready
    std::vector<std::string> tunables;    // NAME=VALUE
    bool foreground = false;
    int ready_fd = -1;
    enum class Action { run, help, version } action = Action::run;
};

// Errors say which argument was not understood and what was expected.
std::expected<DaemonOptions, std::string> parse_options(std::span<char* const> arguments);

std::string options_help();               // the text of --help; the manual page follows it
std::string default_socket_path();        // as latchkey_host_open(NULL) looks for it

}  // namespace latchkey
