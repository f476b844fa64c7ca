// SPDX-License-Identifier: BSD-2-Clause
// Spaces at the ends of lines are part of the traditional formats.
#include "setkey/print.hpp"

#include "pfkey/policy_string.hpp"
#include "setkey/command.hpp"
#include "setkey/protocols.hpp"
#include "setkey/text.hpp"

#include <array>
#include <cinttypes>
#include <ctime>
#include <net/if.h>

namespace latchkey::setkey {

namespace {

std::string address_text(const Endpoint& endpoint)
{
    auto out = endpoint.address.text();
    if (endpoint.scope != 0) {
        std::array<char, IF_NAMESIZE> name{};
        out += '%';
        out += if_indextoname(endpoint.scope, name.data()) != nullptr ? std::string(name.data())
                                                                      : std::to_string(endpoint.scope);
    }
    return out;
}

std::string in_brackets(std::string_view text)
{
    return '[' + std::string(text) + ']';
}

std::string_view mode_text(std::uint8_t mode)
{
    for (const auto& row : mode_words)
        if (static_cast<std::uint8_t>(row.mode) == mode)
            return row.word;
    return "unknown";
}

std::string algorithm_text(AlgorithmKind kind, std::uint8_t id)
{
    const auto* row = algorithm_by_id(kind, id);
    return row != nullptr ? std::string(row->name) : std::to_string(id);
}

std::string_view state_text(std::uint8_t state)
{
    static constexpr std::array<std::string_view, 4> names{"larval", "mature", "dying", "dead"};
    return state < names.size() ? names[state] : "unknown";
}

// A missing lifetime counts as one without limits.
const Lifetime& lifetime_or_none(const std::optional<Lifetime>& lifetime)
{
    static const Lifetime none;
    return lifetime ? *lifetime : none;
}

std::uint64_t age(const Lifetime& current, std::int64_t now)
{
    const auto made = static_cast<std::int64_t>(current.addtime);
    return made == 0 || now < made ? 0 : static_cast<std::uint64_t>(now - made);
}

}  // namespace

std::string time_text(std::uint64_t seconds)
{
    if (seconds == 0)
        return std::string(20, ' ');
    const auto when = static_cast<std::time_t>(seconds);
    std::tm fields{};
    std::array<char, 64> text{};
    if (localtime_r(&when, &fields) == nullptr)
        return std::to_string(seconds);
    std::strftime(text.data(), text.size(), "%b %e %H:%M:%S %Y", &fields);
    return text.data();
}

// ---- security associations ------------------------------------------------------------------------------------------

namespace {

void append_ends(std::string& out, const Message& m, const PrintOptions& options)
{
    const auto end = [&](const AddressExt& address, const std::optional<std::uint16_t>& natt_port) {
        out += address_text(address.endpoint);
        if (m.natt_type && natt_port)
            out += in_brackets(std::to_string(*natt_port));
        else if (options.ports && address.endpoint.port != 0)
            out += in_brackets(std::to_string(address.endpoint.port));
        out += ' ';
    };
    end(*m.source, m.natt_source_port);
    end(*m.destination, m.natt_destination_port);
    out += '\n';
}

// Groups of four bytes, eight of them to a line.
void append_key_line(std::string& out, std::string_view label, const std::string& algorithm, Bytes key)
{
    static constexpr std::string_view digits = "0123456789abcdef";
    out.append("\t").append(label).append(": ").append(algorithm).append(" ");
    for (std::size_t i = 0; i < key.size(); ++i) {
        if (i != 0 && i % 32 == 0)
            out += '\n';
        if (i % 4 == 0)
            out += ' ';
        out += digits[key[i] >> 4];
        out += digits[key[i] & 0xf];
    }
    out += '\n';
}

void append_transforms(std::string& out, const Message& m)
{
    if (m.satype == SADB_X_SATYPE_IPCOMP)
        out += "\tC: " + algorithm_text(AlgorithmKind::compression, m.sa->encrypt) + ' ';   // and no new line
    else if (m.satype == SADB_SATYPE_ESP && m.cipher_key)
        append_key_line(out, "E", algorithm_text(AlgorithmKind::cipher, m.sa->encrypt), m.cipher_key->key);
    if (m.auth_key)
        append_key_line(out, "A", algorithm_text(AlgorithmKind::auth, m.sa->auth), m.auth_key->key);
}

void append_lifetimes(std::string& out, const Message& m, std::int64_t now)
{
    const auto& current = *m.current;
    const auto& hard = lifetime_or_none(m.hard);
    const auto& soft = lifetime_or_none(m.soft);
    out += "\tcreated: " + time_text(current.addtime);
    out += "\tcurrent: " + time_text(static_cast<std::uint64_t>(now)) + '\n';
    put(out, "\tdiff: %llu(s)\thard: %llu(s)\tsoft: %llu(s)\n", wide(age(current, now)), wide(hard.addtime),
        wide(soft.addtime));
    out += "\tlast: " + time_text(current.usetime);
    put(out, "\thard: %llu(s)\tsoft: %llu(s)\n", wide(hard.usetime), wide(soft.usetime));
    put(out, "\tcurrent: %llu(bytes)\thard: %llu(bytes)\tsoft: %llu(bytes)\n", wide(current.bytes), wide(hard.bytes),
        wide(soft.bytes));
    put(out, "\tallocated: %" PRIu32 "\thard: %" PRIu32 "\tsoft: %" PRIu32 "\n", current.allocations, hard.allocations,
        soft.allocations);
}

// What every dumped SA must have; false: the reason is printed instead.
bool sa_is_complete(std::string& out, const Message& m)
{
    const auto* missing = !m.sa                           ? "no SA extension.\n"
                          : !m.source || !m.destination   ? "no ADDRESS extension.\n"
                          : !m.sa2                        ? "no SA2 extension.\n"
                          : !m.current                    ? "no LIFETIME_CURRENT extension.\n"
                                                          : nullptr;
    if (missing != nullptr)
        out += missing;
    return missing == nullptr;
}

}  // namespace

void append_sa(std::string& out, const Message& m, const PrintOptions& options)
{
    if (!sa_is_complete(out, m))
        return;
    append_ends(out, m, options);
    out.append("\t").append(m.natt_type ? "esp-udp" : satype_name(m.satype)).append(" mode=").append(
        mode_text(m.sa2->mode));
    put(out, " spi=%" PRIu32 "(0x%08" PRIx32 ") reqid=%" PRIu32 "(0x%08" PRIx32 ")\n", m.sa->spi, m.sa->spi,
        m.sa2->reqid, m.sa2->reqid);
    if (m.natt_type && m.natt_original)
        out += "\tNAT OA=" + address_text(m.natt_original->endpoint) + '\n';
    append_transforms(out, m);
    put(out, "\tseq=0x%08" PRIx32 " replay=%" PRIu32 " flags=0x%08" PRIx32 " state=", m.sa2->sequence,
        m.sa_replay.value_or(m.sa->replay), m.sa->flags);
    out.append(state_text(m.sa->state)).append(" \n");
    append_lifetimes(out, m, options.now);
    // The reference count is the reserved field of the header: no host that speaks the Linux layout fills it.
    put(out, "\tsadb_seq=%" PRIu32 " pid=%" PRIu32 " refcnt=0\n", m.seq, m.pid);
}

void append_short_heading(std::string& out)
{
    out += "time p    s spi      ltime    src -> dst\n";
}

void append_short_sa(std::string& out, const Message& m, const PrintOptions& options)
{
    if (!sa_is_complete(out, m))
        return;
    const auto now = static_cast<std::time_t>(options.now);
    std::tm fields{};
    localtime_r(&now, &fields);
    static constexpr std::string_view states = "LMDd";
    put(out, "%02d%02d %-4.*s %c %08" PRIx32 " %3llu/%-4llu ", fields.tm_hour, fields.tm_min,
        static_cast<int>(satype_name(m.satype).size()), satype_name(m.satype).data(),
        m.sa->state < states.size() ? states[m.sa->state] : '?', m.sa->spi, wide(age(*m.current, options.now)),
        wide(lifetime_or_none(m.hard).addtime));
    out += address_text(m.source->endpoint) + " -> " + address_text(m.destination->endpoint) + '\n';
}

// ---- policies -------------------------------------------------------------------------------------------------------

namespace {

bool shows_ports(std::uint8_t protocol)
{
    return !has_type_and_code(protocol) && protocol != gre;
}

std::string selector_text(const AddressExt& end)
{
    auto out = address_text(end.endpoint);
    if (end.prefix_length != end.endpoint.address.bits())
        out += '/' + std::to_string(end.prefix_length);
    if (shows_ports(end.protocol))
        out += in_brackets(end.endpoint.port == 0 ? "any" : std::to_string(end.endpoint.port));
    return out + ' ';
}

// The protocol, and what stands in its port fields when those are no ports.
std::string upper_text(const AddressExt& source, const AddressExt& destination)
{
    const auto protocol = source.protocol;
    auto out = upper_protocol_name(protocol);
    const unsigned a = source.endpoint.port, b = destination.endpoint.port;
    if (a == 0 && b == 0)
        return out;
    if (has_type_and_code(protocol))
        out += ' ' + std::to_string(a) + ',' + std::to_string(b);
    else if (protocol == gre)
        out += ' ' + std::to_string(a << 16 | b);
    return out;
}

}  // namespace

bool is_socket_policy(const Message& m)
{
    return !m.source || !m.destination;
}

void append_policy(std::string& out, const Message& m, const PrintOptions& options)
{
    if (!m.policy) {
        out += "no X_POLICY extension.\n";
        return;
    }
    if (is_socket_policy(m))
        // Linux' ids tell: three bits of direction, and those of a socket begin at 3.
        out += m.policy->id % 8 >= 3 ? "(per-socket policy)\n" : "(no selector, probably per-socket policy)\n";
    else
        out += selector_text(*m.source) + selector_text(*m.destination) + upper_text(*m.source, *m.destination) + '\n';
    out += '\t' + policy_text(*m.policy, "\n\t", options.ports) + '\n';
    const auto& current = lifetime_or_none(m.current);
    const auto& hard = lifetime_or_none(m.hard);
    out += "\tcreated: " + time_text(current.addtime) + "  lastused: " + time_text(current.usetime) + '\n';
    put(out, "\tlifetime: %llu(s) validtime: %llu(s)\n", wide(hard.addtime), wide(hard.usetime));
    put(out, "\tspid=%" PRIu32 " seq=%" PRIu32 " pid=%" PRIu32 "\n\trefcnt=0\n", m.policy->id, m.seq, m.pid);
}

}  // namespace latchkey::setkey
