// SPDX-License-Identifier: BSD-2-Clause
// setkey(8) scripts: text in, one Command at a time out. Recursive descent over the Lexer; every error names the place,
// what was expected and what came. The runner calls it; nothing is sent from here.
#pragma once

#include "setkey/command.hpp"
#include "setkey/lexer.hpp"

#include <expected>
#include <functional>
#include <string>

namespace latchkey::setkey {

struct Diagnostic {
    enum class Kind : std::uint8_t {
        syntax,
        value,     // well-formed, but the value cannot be right
        refused,   // understood, but not supported here; the commands behind it still make sense
    };
    Kind kind = Kind::syntax;
    std::size_t offset = 0;
    std::string text;
};

// All addresses of a host name, of one family or (none) of both.
using Resolver = std::function<std::vector<Endpoint>(const std::string& name, Family family)>;
std::vector<Endpoint> resolve_name(const std::string& name, Family family);   // getaddrinfo

struct ParseOptions {
    bool numeric = false;   // -n: addresses only, no names
    Resolver resolve = resolve_name;
};

// How much of a text that still grows is whole commands: up to and including the last ';'.
std::size_t complete_commands(std::string_view text);

// Fails sticky, as the wire Reader does: after the first error every step is a no-op, and next() reports it.
class Parser {
public:
    explicit Parser(const Source& source, ParseOptions options = {});

    // The next command; no value at the end of the text. After an error the parser stands where it failed.
    std::expected<std::optional<Command>, Diagnostic> next();

    // Skips the rest of a command that failed. False: there was no ';' any more.
    bool recover();

private:
    void statement(Command& out);
    TableSpec table_command();

    SaSpec sa_command(Verb verb);
    void sa_protocol(SaSpec& sa);
    void spi(SaSpec& sa);
    bool sa_option(SaSpec& sa);
    void flag(SaSpec& sa);
    bool sa_algorithm(SaSpec& sa);
    void cipher(SaSpec& sa);
    void auth(SaSpec& sa);
    void compression(SaSpec& sa);
    const Algorithm* algorithm(AlgorithmKind kind);
    SecretBytes key(const Algorithm& algorithm);
    SecretBytes hex_key(const Token& token);
    void check_sa(Verb verb, const SaSpec& sa, std::size_t at);

    PolicySpec policy_command();
    void upper(PolicySpec& spec);
    void upper_details(PolicySpec& spec);
    PolicyExt policy();

    void family_options();
    std::vector<Endpoint> addresses();
    std::vector<Endpoint> addresses_with_port();
    SelectorEnd selector_end();
    std::uint16_t optional_port();
    void security_context();
    void check_families(const std::vector<Endpoint>& a, const std::vector<Endpoint>& b, std::size_t at);

    std::uint64_t number(std::string_view what, std::uint64_t limit);
    bool accept(std::string_view word);
    bool accept(char mark);
    void expect(char mark, std::string_view what);
    void expected(std::string_view what);
    void expected_one_of(std::string_view what, const std::vector<std::string_view>& words);
    void fail(std::size_t offset, std::string text, Diagnostic::Kind kind = Diagnostic::Kind::value);
    bool failed() const { return error_.has_value(); }
    const Token& token() const { return lexer_.peek(); }

    ParseOptions options_;
    Lexer lexer_;
    std::optional<Diagnostic> error_;
    Family family_ = Family::none;   // -4 and -6 of the current command
    bool numeric_ = false;           // -n of the current command
};

}  // namespace latchkey::setkey
