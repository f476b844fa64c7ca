// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/build.hpp"

#include <algorithm>

namespace latchkey::setkey {

namespace {

constexpr std::uint8_t udp_encap_espinudp = 2;   // sadb_x_nat_t_type_type, RFC 3948
constexpr std::uint32_t widest_octet = 255;

AddressExt whole_address(const Endpoint& endpoint)
{
    return {IPSEC_ULPROTO_ANY, static_cast<std::uint8_t>(endpoint.address.bits()), endpoint};
}

// Every pair of one family: a host name stands for all its addresses.
template <class F> void each_pair(const std::vector<Endpoint>& sources, const std::vector<Endpoint>& destinations, F f)
{
    for (const auto& source : sources)
        for (const auto& destination : destinations)
            if (source.address.family() == destination.address.family())
                f(source, destination);
}

// ---- security associations ------------------------------------------------------------------------------------------

std::uint16_t port_or(const Endpoint& endpoint, std::uint16_t otherwise)
{
    return endpoint.port != 0 ? endpoint.port : otherwise;
}

// The UDP port has an extension of its own.
AddressExt original_address(Endpoint endpoint)
{
    endpoint.port = 0;
    return whole_address(endpoint);
}

KeyExt key_extension(const SecretBytes& key)
{
    return {static_cast<std::uint16_t>(key.size() * 8), key.bytes()};
}

void set_lifetimes(Message& message, const SaSpec& sa)
{
    const Lifetime none;
    if (sa.hard != none)
        message.hard = sa.hard;
    if (sa.soft != none)
        message.soft = sa.soft;
}

// The ports are those of -natt; esp-udp has them at its addresses, which are not known yet.
void set_nat_traversal(Message& message, const NattSpec& natt)
{
    message.natt_type = udp_encap_espinudp;
    if (natt.original)
        message.natt_original = original_address(*natt.original);
    if (natt.original_remote) {
        message.natt_original_remote = original_address(*natt.original_remote);
        message.natt_source_port = port_or(*natt.original, natt_port);
        message.natt_destination_port = port_or(*natt.original_remote, natt_port);
    }
    message.natt_fragment = natt.fragment;
}

// What ADD and UPDATE carry besides.
void set_algorithms(Message& message, const SaSpec& sa)
{
    const auto* transform = sa.compression != nullptr ? sa.compression : sa.cipher;
    message.sa->auth = sa.auth != nullptr ? sa.auth->sadb_id : std::uint8_t{SADB_AALG_NONE};
    message.sa->encrypt = transform != nullptr ? transform->sadb_id : std::uint8_t{SADB_EALG_NONE};
    // A window wider than the octet of sadb_sa goes into its own extension (FreeBSD).
    if (sa.replay > widest_octet)
        message.sa_replay = sa.replay;
    if (sa.cipher != nullptr)
        message.cipher_key = key_extension(sa.cipher_key);
    // `-E null` sends an empty key, `-A null` sends none, as in ipsec-tools.
    if (sa.auth != nullptr && !sa.auth_key.empty())
        message.auth_key = key_extension(sa.auth_key);
}

Message sa_message(Verb verb, const SaSpec& sa)
{
    Message message;
    message.type = row_of(verb).message;
    message.satype = sa.protocol->satype;
    if (verb == Verb::erase_all)   // DELETE without an SA extension means every SA of the pair
        return message;
    // Every other message says what it was told, as those of ipsec-tools and the BSDs do.
    message.sa = SaExt{.spi = sa.spi,
                       .replay = static_cast<std::uint8_t>(std::min(sa.replay, widest_octet)),
                       .flags = sa.flags};
    message.sa2 = Sa2Ext{static_cast<std::uint8_t>(sa.mode), 0, sa.reqid};
    if (verb == Verb::get || verb == Verb::erase)
        return message;
    set_lifetimes(message, sa);
    if (sa.natt)
        set_nat_traversal(message, *sa.natt);
    if (verb != Verb::getspi)
        set_algorithms(message, sa);
    else if (sa.spi != 0)   // 0: the host picks one
        message.spi_range = SpiRangeExt{sa.spi, sa.spi};
    return message;
}

void build_sa(Verb verb, const SaSpec& sa, const MessageSink& sink)
{
    auto message = sa_message(verb, sa);
    each_pair(sa.sources, sa.destinations, [&](const Endpoint& source, const Endpoint& destination) {
        message.source = whole_address(source);
        message.destination = whole_address(destination);
        if (sa.protocol->udp_encapsulated && message.natt_type) {
            message.natt_source_port = port_or(source, natt_port);
            message.natt_destination_port = port_or(destination, natt_port);
        }
        sink(message, false);
    });
}

// ---- policies -------------------------------------------------------------------------------------------------------

AddressExt selector(const SelectorEnd& end, const Endpoint& endpoint, std::uint8_t protocol)
{
    const auto all = static_cast<std::uint8_t>(endpoint.address.bits());
    return {protocol, end.prefix_length.value_or(all), endpoint};
}

// A forwarded packet came in by any SA that satisfies the policy: `unique` cannot be asked of it.
PolicyExt forward_copy(PolicyExt policy)
{
    policy.direction = IPSEC_DIR_FWD;
    for (auto& request : policy.requests)
        if (request.level == Level::unique) {
            request.level = Level::require;
            request.reqid = 0;
        }
    return policy;
}

void build_policy(Verb verb, const PolicySpec& spec, const BuildOptions& options, const MessageSink& sink)
{
    Message message;
    message.type = row_of(verb).message;
    message.policy = spec.policy;
    const bool doubled = options.forward_copies && spec.policy.direction == IPSEC_DIR_INBOUND;
    std::optional<Message> copy;
    if (doubled) {
        copy = message;
        copy->policy = forward_copy(spec.policy);
    }
    const auto send = [&](Message& to, const Endpoint& source, const Endpoint& destination, bool is_copy) {
        to.source = selector(spec.source, source, spec.protocol);
        to.destination = selector(spec.destination, destination, spec.protocol);
        sink(to, is_copy);
    };
    each_pair(spec.source.addresses, spec.destination.addresses, [&](const Endpoint& a, const Endpoint& b) {
        send(message, a, b, false);
        if (copy)
            send(*copy, a, b, true);
    });
}

void build_bare(Verb verb, std::uint8_t satype, const MessageSink& sink)
{
    Message message;
    message.type = row_of(verb).message;
    message.satype = satype;
    sink(message, false);
}

}  // namespace

void build(const Command& command, const BuildOptions& options, const MessageSink& sink)
{
    if (const auto* sa = std::get_if<SaSpec>(&command.body))
        return build_sa(command.verb, *sa, sink);
    if (const auto* policy = std::get_if<PolicySpec>(&command.body))
        return build_policy(command.verb, *policy, options, sink);
    if (command.verb != Verb::quit)
        build_bare(command.verb, std::get<TableSpec>(command.body).satype, sink);
}

}  // namespace latchkey::setkey
