// SPDX-License-Identifier: BSD-2-Clause
// setkey(8) scripts: text in, one Command at a time out. Recursive descent over the Lexer; every error names the place,
// what was expected and what came. The runner and check.hpp call it; nothing is sent from here.
#pragma once

#include "setkey/command.hpp"
#include "setkey/lexer.hpp"

#include <expected>
#include <functional>
#include <string>

namespace latchkey::setkey {

// All addresses of a host name, of one family or (none) of both.
using Resolver = std::function<std::vector<Endpoint>(const std::string& name, Family family)>;
std::vector<Endpoint> resolve_name(const std::string& name, Family family);   // getaddrinfo
// The port of a service name.
using ServiceResolver = std::function<std::optional<std::uint16_t>(const std::string& name)>;
std::optional<std::uint16_t> resolve_service(const std::string& name);        // getaddrinfo

struct ParseOptions {
    bool numeric = false;   // -n: addresses only, no names
    Resolver resolve = resolve_name;
    ServiceResolver service = resolve_service;
};

// How much of a text that still grows is whole commands: up to and including the last ';'.
std::size_t complete_commands(std::string_view text);

// The first line behind the first one of `text` that begins with a command: its offset, or the size of the text.
std::size_t next_command_line(std::string_view text);

// Fails sticky, as the wire Reader does: after the first error every step is a no-op, and next() reports it.
class Parser {
public:
    explicit Parser(const Source& source, ParseOptions options = {});

    // The next command; no value at the end of the text. After an error the parser stands in the command that failed.
    std::expected<std::optional<Command>, Diagnostic> next();

    // Goes behind the command that failed: behind its ';', or to the next line that begins with a command, for a ';' or
    // a quote may be what is missing. False: there is neither.
    bool recover();

private:
    void statement(Command& out);
    TableSpec table_command();

    // parser_sa.cpp; `at` is the place of the option, whose word is read
    SaSpec sa_command(Verb verb);
    void sa_protocol(SaSpec& sa);
    void spi(SaSpec& sa);
    bool sa_option(SaSpec& spec, bool keyed);
    void mode(SaSpec& sa, std::size_t at);
    void reqid(SaSpec& sa, std::size_t at);
    void replay(SaSpec& sa, std::size_t at);
    void flag(SaSpec& sa);
    std::uint64_t lifetime(SaSpec& sa, std::size_t at, std::string_view what);
    void nat_traversal(SaSpec& sa, std::size_t at);
    void nat_fragment(SaSpec& sa, std::size_t at);
    void hardware_interface(std::size_t at);
    void security_context(std::size_t at);
    void check_sa(Verb verb, const SaSpec& sa);
    void check_algorithms(Verb verb, const SaSpec& sa);

    // parser_keys.cpp
    void cipher(SaSpec& sa, std::size_t at);
    void auth(SaSpec& sa, std::size_t at);
    void compression(SaSpec& sa, std::size_t at);
    const Algorithm* algorithm(AlgorithmKind kind);
    bool withdrawn_cipher();
    SecretBytes key(const Algorithm& algorithm);
    SecretBytes any_key();
    SecretBytes hex_key(const Token& token);

    // parser_policy.cpp
    PolicySpec policy_command();
    void tagged_policy(PolicySpec& spec);
    SelectorEnd selector_end();
    void upper(PolicySpec& spec);
    void upper_details(PolicySpec& spec);
    void policy(PolicySpec& spec);
    std::string policy_text();

    // parser_address.cpp
    void family_options();
    std::vector<Endpoint> addresses();
    Endpoint one_address(std::string_view of_what);
    std::vector<Endpoint> addresses_with_port();
    std::uint16_t optional_port();
    std::uint16_t port();
    void check_families(const std::vector<Endpoint>& a, const std::vector<Endpoint>& b, std::size_t at);

    // parser.cpp
    std::uint64_t number(std::string_view what, std::uint64_t limit);
    bool accept(std::string_view word);
    bool accept(char mark);
    void expect(char mark, std::string_view what);
    void expected(std::string_view what);
    void expected_one_of(std::string_view what, const std::vector<std::string_view>& words);
    void fail(std::size_t offset, std::string text, Diagnostic::Kind kind = Diagnostic::Kind::value);
    // The rest of the command is still read: what is wrong with it comes first.
    void refuse(std::size_t offset, std::string text);
    void note(std::size_t offset, std::string text);
    bool failed() const { return error_.has_value(); }
    const Token& token() const { return lexer_.peek(); }

    std::string_view text_;
    ParseOptions options_;
    Lexer lexer_;
    std::size_t begin_ = 0;          // of the current command
    std::optional<Diagnostic> error_, refusal_;
    std::vector<Diagnostic> notes_;
    Family family_ = Family::none;   // -4 and -6 of the current command
    bool numeric_ = false;           // -n of the current command
};

}  // namespace latchkey::setkey
