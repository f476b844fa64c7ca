// SPDX-License-Identifier: BSD-2-Clause
// Addresses, host names, ports and service names, as SAs and policies have them.
#include "setkey/parser.hpp"
#include "setkey/words.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace latchkey::setkey {

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

std::uint16_t port_of(in_port_t in_network_order)
{
    std::array<std::uint8_t, 2> raw{};
    std::memcpy(raw.data(), &in_network_order, raw.size());
    return wire::field<std::uint16_t>(raw, 0);
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
        out.port = port_of(from.sin_port);
    } else if (found.ai_family == AF_INET6) {
        sockaddr_in6 from{};
        std::array<std::uint8_t, 16> raw{};
        std::memcpy(&from, found.ai_addr, sizeof from);
        std::memcpy(raw.data(), &from.sin6_addr, raw.size());
        out.address = Address::v6(raw);
        out.scope = from.sin6_scope_id;
        out.port = port_of(from.sin6_port);
    }
    return out;
}

}  // namespace

std::optional<std::uint16_t> resolve_service(const std::string& name)
{
    addrinfo* found = nullptr;
    if (getaddrinfo(nullptr, name.c_str(), nullptr, &found) != 0)
        return std::nullopt;
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
    return endpoint_of(*found).port;
}

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

// -4, -6, -n, also run together as -4n. -4 with -6 means both families, as without.
void Parser::family_options()
{
    bool v4 = false, v6 = false;
    while (token().is_word() && token().text.size() > 1 && token().text[0] == '-' &&
           token().text.find_first_not_of("46n", 1) == std::string_view::npos) {
        const auto letters = lexer_.next().text;
        v4 |= letters.find('4') != letters.npos;
        v6 |= letters.find('6') != letters.npos;
        numeric_ |= letters.find('n') != letters.npos;
    }
    family_ = v4 == v6 ? Family::none : v4 ? Family::v4 : Family::v6;
}

namespace {

bool is_address_range(std::string_view word)
{
    const auto dash = word.find('-');
    return dash != word.npos && Address::parse(word.substr(0, dash)) && Address::parse(word.substr(dash + 1));
}

}  // namespace

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
    if (is_address_range(word.text)) {
        fail(word.offset, "expected one address, or ADDRESS/LENGTH for many (PF_KEY has no other ranges), got " +
                              shown(word), Diagnostic::Kind::syntax);
        return {};
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

// For what is not done for every address of a host name.
Endpoint Parser::one_address(std::string_view of_what)
{
    const auto word = token();
    const auto found = addresses();
    if (found.size() > 1)
        fail(word.offset, shown(word) + " has " + std::to_string(found.size()) + " addresses, " +
                              std::string(of_what) + " takes one (-4 and -6 choose a family)");
    return found.empty() ? Endpoint{} : found.front();
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
    const auto value = accept("any") ? std::uint16_t{0} : port();
    expect(']', "']'");
    return value;
}

namespace {

// "1024-2047"
bool is_number_range(std::string_view word)
{
    const auto dash = word.find('-');
    return dash != word.npos && parse_number(word.substr(0, dash)) && parse_number(word.substr(dash + 1));
}

}  // namespace

std::uint16_t Parser::port()
{
    constexpr std::string_view what = "a port, a service name or 'any'";
    const auto word = token();
    if (failed() || !word.is_word() || parse_number(word.text))
        return static_cast<std::uint16_t>(number(what, 0xffff));
    if (is_number_range(word.text))
        fail(word.offset, "expected one port or 'any' (PF_KEY has no port ranges), got " + shown(word),
             Diagnostic::Kind::syntax);
    else if (const auto found = options_.service(std::string(word.text)))
        return lexer_.next(), *found;
    else
        expected(what);
    return 0;
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

}  // namespace latchkey::setkey
