// SPDX-License-Identifier: BSD-2-Clause
// -v and -x: a record field by field, in the manner of kdebug_sadb(). What is no proper message is shown as far as it
// can be read.
#include "pfkey/tables.hpp"
#include "setkey/print.hpp"
#include "setkey/text.hpp"

#include <array>
#include <cinttypes>
#include <concepts>
#include <type_traits>

namespace latchkey::setkey {

namespace {

void append_text(std::string& out, const SaExt& sa)
{
    put(out, "sadb_sa{ spi=%" PRIu32 " replay=%u state=%u\n  auth=%u encrypt=%u flags=0x%08" PRIx32 " }\n", sa.spi,
        sa.replay, sa.state, sa.auth, sa.encrypt, sa.flags);
}

void append_text(std::string& out, const Lifetime& lifetime)
{
    put(out, "sadb_lifetime{ alloc=%" PRIu32 ", bytes=%llu\n  addtime=%llu, usetime=%llu }\n", lifetime.allocations,
        wide(lifetime.bytes), wide(lifetime.addtime), wide(lifetime.usetime));
}

void append_text(std::string& out, const AddressExt& address)
{
    put(out, "sadb_address{ proto=%u prefixlen=%u }\n", address.protocol, address.prefix_length);
    put(out, "sockaddr{ %s port=%u scope=%" PRIu32 " }\n", address.endpoint.address.text().c_str(),
        address.endpoint.port, address.endpoint.scope);
}

void append_text(std::string& out, const KeyExt& key)
{
    put(out, "sadb_key{ bits=%u }\n", key.bits);
}

void append_text(std::string& out, const IdentityExt& identity)
{
    put(out, "sadb_ident{ type=%u id=%llu\n  '", identity.type, wide(identity.id));
    out += printable(identity.text) + "' }\n";
}

void append_text(std::string& out, const ProposalExt& proposal)
{
    put(out, "sadb_prop{ replay=%u\n", proposal.replay);
    for (const auto& c : proposal.combinations)
        put(out, "sadb_comb{ auth=%u encrypt=%u flags=0x%04x\n  auth_minbits=%u auth_maxbits=%u encrypt_minbits=%u "
                 "encrypt_maxbits=%u }\n",
            c.auth, c.encrypt, c.flags, c.auth_min, c.auth_max, c.encrypt_min, c.encrypt_max);
    out += "}\n";
}

void append_text(std::string& out, const std::vector<SupportedAlgorithm>& supported)
{
    out += "sadb_sup{\n";
    for (const auto& row : supported)
        put(out, "  { id=%u ivlen=%u min=%u max=%u }\n", row.id, row.iv, row.min_bits, row.max_bits);
    out += "}\n";
}

void append_text(std::string& out, const SpiRangeExt& range)
{
    put(out, "sadb_spirange{ min=0x%08" PRIx32 " max=0x%08" PRIx32 " }\n", range.min, range.max);
}

void append_text(std::string& out, const Sa2Ext& sa2)
{
    put(out, "sadb_x_sa2{ mode=%u reqid=%" PRIu32 " sequence=%" PRIu32 " }\n", sa2.mode, sa2.reqid, sa2.sequence);
}

void append_text(std::string& out, const PolicyExt& policy)
{
    put(out, "sadb_x_policy{ type=%u dir=%u id=%" PRIx32 " priority=%" PRIu32 " }\n", policy.type, policy.direction,
        policy.id, policy.priority);
    for (const auto& request : policy.requests) {
        put(out, " { proto=%u mode=%u level=%u reqid=%" PRIu32, request.protocol, static_cast<unsigned>(request.mode),
            static_cast<unsigned>(request.level), request.reqid);
        if (request.tunnel_source.family() != Family::none)
            out += ' ' + request.tunnel_source.text() + '-' + request.tunnel_destination.text();
        out += " }\n";
    }
}

// The others are a number, a text or bytes that PF_KEY carries without looking.
template <class Row, std::unsigned_integral Number>
void append_value(std::string& out, const Row& row, Number number)
{
    if constexpr (std::is_same_v<typename Row::Codec, formats::NattTypeFormat>)
        put(out, "sadb_x_nat_t_type{ type=%u }\n", number);
    else if constexpr (std::is_same_v<typename Row::Codec, formats::PortFormat>)
        put(out, "sadb_x_nat_t_port{ port=%u }\n", number);
    else
        put(out, "%.*s{ %llu }\n", static_cast<int>(row.name.size()), row.name.data(), wide(number));
}

void append_value(std::string& out, const auto& row, std::string_view text)
{
    out.append(row.name).append("{ '").append(printable(text)).append("' }\n");
}

void append_value(std::string& out, const auto& row, Bytes opaque)
{
    put(out, "%.*s{ %zu bytes }\n", static_cast<int>(row.name.size()), row.name.data(), opaque.size());
}

template <class Value>
    requires requires(std::string& out, const Value& value) { append_text(out, value); }
void append_value(std::string& out, const auto&, const Value& value)
{
    append_text(out, value);
}

// One extension alone: wrapped as a message of its own, so that the codec reads it.
void append_extension(std::string& out, Bytes header, Bytes extension)
{
    std::vector<std::uint8_t> alone(header.begin(), header.end());
    alone.insert(alone.end(), extension.begin(), extension.end());
    wire::Writer(alone, wire::Order::host).put_at<std::uint16_t>(4, static_cast<std::uint16_t>(alone.size() / 8));
    const auto message = Message::parse(alone);
    if (!message) {
        out.append("malformed: ").append(message.error().reason).append("\n");
        return;
    }
    const auto show = [&](const auto& row) {
        if ((*message).*row.member)
            append_value(out, row, *((*message).*row.member));
    };
    std::apply([&](const auto&... row) { (show(row), ...); }, extensions);
}

}  // namespace

void append_record(std::string& out, Bytes record)
{
    constexpr std::size_t header_size = 16;
    record = unwrapped(record);
    const auto header = peek_header(record);
    if (!header)
        return put(out, "a record of %zu bytes is no PF_KEY message\n", record.size());
    put(out, "sadb_msg{ version=%u type=%u errno=%u satype=%u\n  len=%u reserved=0 seq=%" PRIu32 " pid=%" PRIu32 " }\n",
        header->version, header->type, header->error, header->satype, header->units, header->seq, header->pid);
    auto rest = record.subspan(header_size);
    while (!rest.empty()) {
        wire::Reader in(rest, wire::Order::host);
        const std::size_t units = in.get<std::uint16_t>();
        const auto type = in.get<std::uint16_t>();
        if (!in.ok() || units == 0 || units * 8 > rest.size()) {
            out += "malformed: the length of an extension is wrong\n";
            return;
        }
        put(out, "sadb_ext{ len=%zu type=%u }\n", units, type);
        append_extension(out, record.first(header_size), rest.first(units * 8));
        rest = rest.subspan(units * 8);
    }
}

void append_hex_dump(std::string& out, Bytes record)
{
    constexpr std::size_t width = 16;
    for (std::size_t at = 0; at < record.size(); at += width) {
        put(out, "%08zx: ", at);
        for (const auto byte : record.subspan(at, std::min(width, record.size() - at)))
            put(out, "%02x ", byte);
        out += '\n';
    }
}

}  // namespace latchkey::setkey
