// SPDX-License-Identifier: BSD-2-Clause
// For the tests of setkey/: scripts as text in, commands and records out.
#pragma once

#include "setkey/build.hpp"
#include "setkey/parser.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace latchkey::setkey::test {

// Names of these tests; nothing is looked up outside.
inline std::vector<Endpoint> known_names(const std::string& name, Family family)
{
    std::vector<Endpoint> out;
    if (name == "both" && family != Family::v6)
        out.insert(out.end(), {{*Address::parse("192.0.2.1")}, {*Address::parse("192.0.2.2")}});
    if (name == "both" && family != Family::v4)
        out.push_back({*Address::parse("2001:db8::1")});
    if (name == "six" && family != Family::v4)
        out.push_back({*Address::parse("2001:db8::6")});
    return out;
}

inline std::optional<std::uint16_t> known_services(const std::string& name)
{
    return name == "http" ? std::optional<std::uint16_t>(80) : std::nullopt;
}

inline ParseOptions options()
{
    return {.numeric = false, .resolve = known_names, .service = known_services};
}

inline std::string read(const std::string& file)
{
    std::ifstream in(std::string(LATCHKEY_TEST_DATA "/setkey/") + file, std::ios::binary);
    REQUIRE_MESSAGE(in.good(), file);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The commands up to the end or the first error, which is "" or "LINE:COLUMN: TEXT".
struct Parsed {
    std::vector<Command> commands;
    std::string error;
};

inline Parsed parse(std::string_view text)
{
    const Source source("", text);
    Parser parser(source, options());
    Parsed out;
    for (;;) {
        auto command = parser.next();
        if (!command) {
            out.error = source.where(command.error().offset).substr(1) + ": " + command.error().text;
            return out;
        }
        if (!*command)
            return out;
        out.commands.push_back(std::move(**command));
    }
}

using Record = std::vector<std::uint8_t>;

inline std::vector<Record> records(const std::vector<Command>& commands, bool forward_copies)
{
    std::vector<Record> out;
    for (const auto& command : commands)
        build(command, {forward_copies}, [&](const Message& message, bool) { out.push_back(message.bytes()); });
    return out;
}

}  // namespace latchkey::setkey::test
