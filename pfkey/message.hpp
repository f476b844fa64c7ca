// SPDX-License-Identifier: BSD-2-Clause
// PF_KEY messages as values. parse() is the only way in (it enforces what RFC 2367 §2 calls well-formed; such errors
// make send() fail with EINVAL), emit() the only way out. Variable parts are views into the parsed buffer, or into
// memory of the caller that outlives the Message.
#pragma once

#include "pfkey/policy.hpp"
#include "pfkey/sa.hpp"

#include <net/pfkeyv2.h>

#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace latchkey {

struct SaExt {
    std::uint32_t spi = 0;          // host order
    std::uint8_t replay = 0;        // packets
    std::uint8_t state = 0;
    std::uint8_t auth = 0;
    std::uint8_t encrypt = 0;
    std::uint32_t flags = 0;
    bool operator==(const SaExt&) const = default;
};

struct AddressExt {
    std::uint8_t protocol = 0;
    std::uint8_t prefix_length = 0;
    Endpoint endpoint;
    bool operator==(const AddressExt&) const = default;
};

struct KeyExt {
    std::uint16_t bits = 0;
    Bytes key;                      // (bits + 7) / 8 bytes
    bool operator==(const KeyExt& other) const;
};

struct IdentityExt {
    std::uint16_t type = 0;
    std::uint64_t id = 0;
    std::string_view text;          // without the NUL
    bool operator==(const IdentityExt&) const = default;
};

struct SpiRangeExt {
    std::uint32_t min = 0, max = 0;
    bool operator==(const SpiRangeExt&) const = default;
};

struct Sa2Ext {
    std::uint8_t mode = 0;
    std::uint32_t sequence = 0;
    std::uint32_t reqid = 0;
    bool operator==(const Sa2Ext&) const = default;
};

struct PolicyExt {
    std::uint16_t type = 0;         // IPSEC_POLICY_*
    std::uint8_t direction = 0;
    std::uint32_t id = 0;
    std::uint32_t priority = 0;
    std::vector<Request> requests;  // raw values: mode and level are not yet checked
    bool operator==(const PolicyExt&) const = default;
};

struct SupportedAlgorithm {
    std::uint8_t id = 0, iv = 0;
    std::uint16_t min_bits = 0, max_bits = 0;
    bool operator==(const SupportedAlgorithm&) const = default;
};

struct Combination {                // struct sadb_comb
    std::uint8_t auth = 0, encrypt = 0;
    std::uint16_t flags = 0, auth_min = 0, auth_max = 0, encrypt_min = 0, encrypt_max = 0;
    Lifetime soft, hard;
    bool operator==(const Combination&) const = default;
};

struct ProposalExt {
    std::uint8_t replay = 0;
    std::vector<Combination> combinations;
    bool operator==(const ProposalExt&) const = default;
};

struct Message {
    std::uint8_t type = 0;          // SADB_*
    std::uint8_t error = 0;         // sadb_msg_errno
    std::uint8_t satype = 0;        // SADB_SATYPE_*
    std::uint32_t seq = 0;
    std::uint32_t pid = 0;

    std::optional<SaExt> sa;
    std::optional<Lifetime> current, hard, soft;
    std::optional<AddressExt> source, destination, proxy;
    std::optional<KeyExt> auth_key, cipher_key;
    std::optional<IdentityExt> source_identity, destination_identity;
    std::optional<Bytes> sensitivity;              // the extension's body, kept opaque
    std::optional<ProposalExt> proposal;
    std::optional<std::vector<SupportedAlgorithm>> supported_auth, supported_encrypt;
    std::optional<SpiRangeExt> spi_range;
    std::optional<PolicyExt> policy;
    std::optional<Sa2Ext> sa2;
    std::optional<std::uint8_t> natt_type;
    std::optional<std::uint16_t> natt_source_port, natt_destination_port;   // host order
    std::optional<AddressExt> natt_original;
    std::optional<Bytes> km_private, security_context, kmaddress, filter;   // bodies, kept opaque
    std::optional<AddressExt> natt_original_remote;                         // BSD, private numbers from here on
    std::optional<std::uint16_t> natt_fragment;                             // bytes
    std::optional<std::uint32_t> sa_replay;                                 // packets
    std::optional<AddressExt> new_source, new_destination;
    std::optional<std::string_view> reason;                                 // why the message was refused
    Bytes wrapped;                  // SADB_X_PROMISC only: the message inside (not parsed), or empty

    // The whole record; sadb_msg_len must equal its size. Checks form, not values: an address of a family other than
    // AF_INET and AF_INET6 becomes one of Family::none, for the engine to refuse (EAFNOSUPPORT, a semantic error).
    static Result<Message> parse(Bytes record);
    // Extensions in the order of pfkey/tables.hpp; reserved and padding bytes are zero.
    std::size_t size() const;
    void emit(wire::Writer& out) const;            // Writer must have host order and an aligned start
    std::vector<std::uint8_t> bytes() const;
    bool operator==(const Message& other) const;   // by content, not by where the views point
};

// The header of a record without looking at its extensions; null if it is shorter than 16 bytes.
struct MessageHeader {
    std::uint8_t version = 0, type = 0, error = 0, satype = 0;
    std::uint16_t units = 0;        // length in 8-byte units
    std::uint32_t seq = 0, pid = 0;
};
std::optional<MessageHeader> peek_header(Bytes record);

// Names for people: "ADD", "esp"; "?" if unknown.
std::string_view message_name(unsigned type);
std::string_view extension_name(unsigned type);
std::string_view satype_name(unsigned satype);
std::optional<std::uint8_t> satype_of_protocol(std::uint8_t ip_protocol);
std::optional<std::uint8_t> protocol_of_satype(std::uint8_t satype);

// A struct sockaddr as PF_KEY carries it (no sa_len), padded to 8 bytes. Family::none stands for any other family:
// 16 zero bytes when written, Errc::bad_family when read.
Result<Endpoint> parse_sockaddr(wire::Reader& in);
std::size_t sockaddr_size(Family family);          // padded
void emit_sockaddr(wire::Writer& out, const Endpoint& endpoint);

// The body of sadb_x_policy with its requests, as setsockopt(IP_IPSEC_POLICY) and the extension carry it
// (extension header included). Tunnel end points of other or of different families are values for the caller to refuse.
Result<PolicyExt> parse_policy(Bytes extension);
std::size_t policy_size(const PolicyExt& policy);
void emit_policy(wire::Writer& out, const PolicyExt& policy);

}  // namespace latchkey
