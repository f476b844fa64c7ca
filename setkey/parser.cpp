// SPDX-License-Identifier: BSD-2-Clause
// The walk over commands, and what all of them share: addresses, ports, numbers, errors. Security associations are in
// parser_sa.cpp, policies in parser_policy.cpp.
#include "setkey/parser.hpp"

#include "setkey/words.hpp"

#include <cstring>
#include <memory>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace latchkey::setkey {

namespace {

constexpr LexerRules rules(";[]/", '#');

}  // namespace

Parser::Parser(const Source& source, ParseOptions options)
    : options_(std::move(options)), lexer_(source.text(), rules)
{
}

std::expected<std::optional<Command>, Diagnostic> Parser::next()
{
    error_.reset();
    while (accept(';'))   // an empty command is none
        ;
    if (token().kind == TokenKind::end)
        return std::nullopt;
    std::optional<Command> command(std::in_place);
    statement(*command);
    expect(';', "';'");
    if (failed())
        return std::unexpected(std::move(*error_));
    return command;
}

std::size_t complete_commands(std::string_view text)
{
    std::size_t end = 0;
    for (Lexer lexer(text, rules); lexer.peek().kind != TokenKind::end;)
        if (const auto token = lexer.next(); token.is(';'))
            end = token.end();
    return end;
}

bool Parser::recover()
{
    return lexer_.skip_past(';');
}

void Parser::statement(Command& out)
{
    family_ = Family::none;
    numeric_ = options_.numeric;
    out.offset = token().offset;
    const auto* row = token().is_word() ? find_word(verb_words, token().text) : nullptr;
    if (row == nullptr)
        return expected_one_of("a command", words_of(verb_words));
    lexer_.next();
    out.verb = row->verb;
    switch (row->verb) {
    case Verb::add:
    case Verb::update:
    case Verb::getspi:
    case Verb::get:
    case Verb::erase:
    case Verb::erase_all: out.body = sa_command(row->verb); return;
    case Verb::spd_add:
    case Verb::spd_update:
    case Verb::spd_erase: out.body = policy_command(); return;
    case Verb::flush:
    case Verb::dump: out.body = table_command(); return;
    case Verb::spd_flush:
    case Verb::spd_dump:
    case Verb::quit: return;
    }
}

TableSpec Parser::table_command()
{
    if (token().is(';'))
        return {};
    const auto* protocol = token().is_word() ? find_word(sa_protocols, token().text) : nullptr;
    if (protocol == nullptr) {
        expected_one_of("a security protocol or ';'", words_of(sa_protocols));
        return {};
    }
    lexer_.next();
    return {protocol->satype};
}

// ---- addresses ------------------------------------------------------------------------------------------------------

namespace {

// An address as written, an IPv6 zone behind '%' included.
std::optional<Endpoint> literal(std::string_view word)
{
    const auto percent = word.find('%');
    const auto address = Address::parse(word.substr(0, percent));
    if (!address)
        return std::nullopt;
    Endpoint out{*address};
    if (percent == word.npos)
        return out;
    const auto zone = word.substr(percent + 1);
    if (const auto index = parse_number(zone); index && *index <= max32)
        out.scope = static_cast<std::uint32_t>(*index);
    else
        out.scope = if_nametoindex(std::string(zone).c_str());
    return address->is_v6() && out.scope != 0 ? std::optional(out) : std::nullopt;
}

// The platform's sockaddr holds the address in network order already; only bytes are copied.
Endpoint endpoint_of(const addrinfo& found)
{
    Endpoint out;
    if (found.ai_family == AF_INET) {
        sockaddr_in from{};
        std::array<std::uint8_t, 4> raw{};
        std::memcpy(&from, found.ai_addr, sizeof from);
        std::memcpy(raw.data(), &from.sin_addr, raw.size());
        out.address = Address::v4(raw);
    } else if (found.ai_family == AF_INET6) {
        sockaddr_in6 from{};
        std::array<std::uint8_t, 16> raw{};
        std::memcpy(&from, found.ai_addr, sizeof from);
        std::memcpy(raw.data(), &from.sin6_addr, raw.size());
        out.address = Address::v6(raw);
        out.scope = from.sin6_scope_id;
    }
    return out;
}

}  // namespace

std::vector<Endpoint> resolve_name(const std::string& name, Family family)
{
    addrinfo hints{};
    hints.ai_family = family == Family::v4 ? AF_INET : family == Family::v6 ? AF_INET6 : AF_UNSPEC;
    hints.ai_socktype = SOCK_DGRAM;   // one entry per address, not one per socket type
    addrinfo* found = nullptr;
    if (getaddrinfo(name.c_str(), nullptr, &hints, &found) != 0)
        return {};
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
    std::vector<Endpoint> out;
    for (const auto* entry = found; entry != nullptr; entry = entry->ai_next)
        if (const auto endpoint = endpoint_of(*entry);
            endpoint.address.family() != Family::none && std::ranges::find(out, endpoint) == out.end())
            out.push_back(endpoint);
    return out;
}

// -4, -6, -n, also run together as -4n.
void Parser::family_options()
{
    while (token().is_word() && token().text.size() > 1 && token().text[0] == '-' &&
           token().text.find_first_not_of("46n", 1) == std::string_view::npos)
        for (const char c : lexer_.next().text.substr(1)) {
            if (c == 'n')
                numeric_ = true;
            else
                family_ = c == '4' ? Family::v4 : Family::v6;
        }
}

std::vector<Endpoint> Parser::addresses()
{
    if (failed())
        return {};
    if (!token().is_word() || token().text.starts_with('-')) {
        expected(numeric_ ? "an address" : "an address or a host name");
        return {};
    }
    const auto word = lexer_.next();
    if (const auto found = literal(word.text)) {
        if (family_ != Family::none && found->address.family() != family_)
            fail(word.offset, shown(word) + (family_ == Family::v4 ? " is no IPv4 address" : " is no IPv6 address"));
        return {*found};
    }
    if (numeric_) {
        fail(word.offset, "expected an address, got " + shown(word), Diagnostic::Kind::syntax);
        return {};
    }
    auto found = options_.resolve(std::string(word.text), family_);
    if (found.empty())
        fail(word.offset, "no address is known for host name " + shown(word));
    return found;
}

std::vector<Endpoint> Parser::addresses_with_port()
{
    auto out = addresses();
    const auto port = optional_port();
    for (auto& endpoint : out)
        endpoint.port = port;
    return out;
}

// [PORT] or [any]; 0 stands for any.
std::uint16_t Parser::optional_port()
{
    if (!accept('['))
        return 0;
    const auto port = accept("any") ? 0 : number("a port or 'any'", 0xffff);
    expect(']', "']'");
    return static_cast<std::uint16_t>(port);
}

void Parser::check_families(const std::vector<Endpoint>& a, const std::vector<Endpoint>& b, std::size_t at)
{
    if (failed())
        return;
    for (const auto& x : a)
        for (const auto& y : b)
            if (x.address.family() == y.address.family())
                return;
    fail(at, "source and destination have no address family in common");
}

// ---- single tokens and errors ---------------------------------------------------------------------------------------

std::uint64_t Parser::number(std::string_view what, std::uint64_t limit)
{
    if (failed())
        return 0;
    const auto value = token().is_word() ? parse_number(token().text) : std::nullopt;
    if (!value) {
        expected(what);
        return 0;
    }
    const auto word = lexer_.next();
    if (*value > limit)
        fail(word.offset, shown(word) + " is too big: " + std::string(what) + " is at most " + std::to_string(limit));
    return *value;
}

bool Parser::accept(std::string_view word)
{
    if (failed() || !token().is(word))
        return false;
    lexer_.next();
    return true;
}

bool Parser::accept(char mark)
{
    if (failed() || !token().is(mark))
        return false;
    lexer_.next();
    return true;
}

void Parser::expect(char mark, std::string_view what)
{
    if (!accept(mark))
        expected(what);
}

void Parser::expected(std::string_view what)
{
    fail(token().offset, "expected " + std::string(what) + ", got " + shown(token()), Diagnostic::Kind::syntax);
}

void Parser::expected_one_of(std::string_view what, const std::vector<std::string_view>& words)
{
    auto text = "expected " + std::string(what) + ", got " + shown(token());
    if (const auto meant = token().is_word() ? nearest(token().text, words) : std::string_view{}; !meant.empty())
        text += " (did you mean '" + std::string(meant) + "'?)";
    fail(token().offset, std::move(text), Diagnostic::Kind::syntax);
}

void Parser::fail(std::size_t offset, std::string text, Diagnostic::Kind kind)
{
    if (!failed())
        error_ = Diagnostic{kind, offset, std::move(text)};
}

}  // namespace latchkey::setkey
