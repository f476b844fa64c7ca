// SPDX-License-Identifier: BSD-2-Clause
// How the values of message.hpp look on the wire: one format per kind of extension, for the table in tables.hpp.
// parse() gets the extension behind its 4-byte header and may rely on the size limits of the table; size() counts the
// header; emit() writes what follows the header, without the padding at the end.
#pragma once

#include "pfkey/message.hpp"

namespace latchkey::formats {

struct SaFormat {
    static Result<SaExt> parse(wire::Reader in);
    static constexpr std::size_t size(const SaExt&) { return 16; }
    static void emit(wire::Writer& out, const SaExt& sa);
};

struct LifetimeFormat {
    static Result<Lifetime> parse(wire::Reader in);
    static constexpr std::size_t size(const Lifetime&) { return 32; }
    static void emit(wire::Writer& out, const Lifetime& lifetime);
};

struct AddressFormat {
    static Result<AddressExt> parse(wire::Reader in);
    static std::size_t size(const AddressExt& address);
    static void emit(wire::Writer& out, const AddressExt& address);
};

struct KeyFormat {
    static Result<KeyExt> parse(wire::Reader in);
    static std::size_t size(const KeyExt& key);
    static void emit(wire::Writer& out, const KeyExt& key);
};

struct IdentityFormat {
    static Result<IdentityExt> parse(wire::Reader in);
    static std::size_t size(const IdentityExt& identity);
    static void emit(wire::Writer& out, const IdentityExt& identity);
};

struct ProposalFormat {
    static Result<ProposalExt> parse(wire::Reader in);
    static std::size_t size(const ProposalExt& proposal);
    static void emit(wire::Writer& out, const ProposalExt& proposal);
};

struct SupportedFormat {
    static Result<std::vector<SupportedAlgorithm>> parse(wire::Reader in);
    static std::size_t size(const std::vector<SupportedAlgorithm>& list);
    static void emit(wire::Writer& out, const std::vector<SupportedAlgorithm>& list);
};

struct SpiRangeFormat {
    static Result<SpiRangeExt> parse(wire::Reader in);
    static constexpr std::size_t size(const SpiRangeExt&) { return 16; }
    static void emit(wire::Writer& out, const SpiRangeExt& range);
};

struct PolicyFormat {
    static Result<PolicyExt> parse(wire::Reader in);
    static std::size_t size(const PolicyExt& policy);
    static void emit(wire::Writer& out, const PolicyExt& policy);
};

struct Sa2Format {
    static Result<Sa2Ext> parse(wire::Reader in);
    static constexpr std::size_t size(const Sa2Ext&) { return 16; }
    static void emit(wire::Writer& out, const Sa2Ext& sa2);
};

// A number at the start of an extension of 8 bytes. A NAT-T port is in network order, everything else in host order.
template <std::unsigned_integral T, wire::Order Order = wire::Order::host> struct NumberFormat {
    static Result<T> parse(wire::Reader in);
    static constexpr std::size_t size(T) { return 8; }
    static void emit(wire::Writer& out, T number);
};
using NattTypeFormat = NumberFormat<std::uint8_t>;
using PortFormat = NumberFormat<std::uint16_t, wire::Order::network>;

struct OpaqueFormat {
    static Result<Bytes> parse(wire::Reader in);
    static std::size_t size(Bytes body);
    static void emit(wire::Writer& out, Bytes body);
};

// Words, ended by the padding.
struct TextFormat {
    static Result<std::string_view> parse(wire::Reader in);
    static std::size_t size(std::string_view text);
    static void emit(wire::Writer& out, std::string_view text);
};

}  // namespace latchkey::formats
