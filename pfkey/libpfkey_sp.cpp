// SPDX-License-Identifier: BSD-2-Clause
// The pfkey_send_ functions of <libpfkey.h> about policies.
#include "pfkey/libpfkey_record.hpp"

#include <array>
#include <tuple>

using namespace latchkey;
using namespace latchkey::ipsec;

namespace {

constexpr int bare_policy = sizeof(sadb_x_policy);   // without requests

struct Selector {
    const sockaddr* source;
    unsigned source_prefix;
    const sockaddr* destination;
    unsigned destination_prefix;
    unsigned protocol;
};

struct Checked {
    AddressExt source, destination;
    Bytes policy;
};

// A policy whose own length is another one would make all that follows it in the message unreadable.
std::optional<Bytes> policy_of(const char* policy, int size)
{
    if (policy == nullptr || size < bare_policy || size % 8 != 0) {
        refuse(EIPSEC_INVAL_ARGUMENT, "expected a policy and the length that ipsec_get_policylen() says");
        return std::nullopt;
    }
    const Bytes bytes(static_cast<const std::uint8_t*>(static_cast<const void*>(policy)),
                      static_cast<std::size_t>(size));
    if (std::size_t{wire::load<std::uint16_t>(bytes.first<2>(), wire::Order::host)} * 8 != bytes.size()) {
        refuse(EIPSEC_INVAL_POLICY, "sadb_x_policy_len differs from the length that is given");
        return std::nullopt;
    }
    return bytes;
}

std::optional<Checked> check(const Selector& s, const char* policy, int size)
{
    const auto ends = ends_of(s.source, s.destination);
    if (!ends)
        return std::nullopt;
    const unsigned bits = ends->source.address.bits();
    if (s.source_prefix > bits || s.destination_prefix > bits) {
        refuse(EIPSEC_INVAL_PREFIXLEN, "a prefix is longer than the address");
        return std::nullopt;
    }
    const auto bytes = policy_of(policy, size);
    if (!bytes)
        return std::nullopt;
    const auto protocol = static_cast<std::uint8_t>(s.protocol);
    return Checked{{protocol, static_cast<std::uint8_t>(s.source_prefix), ends->source},
                   {protocol, static_cast<std::uint8_t>(s.destination_prefix), ends->destination},
                   *bytes};
}

int send_policy(int so, unsigned type, const Selector& selector, std::uint64_t lifetime, std::uint64_t validtime,
                const char* policy, int size, std::uint32_t seq)
{
    const auto checked = check(selector, policy, size);
    if (!checked)
        return -1;
    Record record(type, SADB_SATYPE_UNSPEC, seq, checked->policy.size());
    record.add<formats::AddressFormat>(SADB_EXT_ADDRESS_SRC, checked->source);
    record.add<formats::AddressFormat>(SADB_EXT_ADDRESS_DST, checked->destination);
    record.add<formats::LifetimeFormat>(SADB_EXT_LIFETIME_HARD, Lifetime{0, 0, lifetime, validtime});
    record.add(checked->policy);
    return record.send(so);
}

// Without requests: what a policy is deleted or announced by.
int send_index(int so, unsigned type, const Selector& selector, const char* policy, int size, std::uint32_t seq)
{
    if (size != bare_policy)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected a policy without requests");
    return send_policy(so, type, selector, 0, 0, policy, size, seq);
}

int send_id(int so, unsigned type, std::uint32_t id)
{
    Record record(type, SADB_SATYPE_UNSPEC, 0);
    record.add<formats::PolicyFormat>(SADB_X_EXT_POLICY, PolicyExt{0, 0, id, 0, {}});
    return record.send(so);
}

// Both addresses in one piece: inside this extension they are not padded.
std::vector<std::uint8_t> kmaddress_body(const Ends& ends, std::size_t bare_size)
{
    std::vector<std::uint8_t> body(4 + 2 * bare_size);
    wire::Writer out(body);
    out.zero(4);
    for (const auto& end : {ends.source, ends.destination}) {
        std::array<std::uint8_t, 32> padded{};
        wire::Writer address(padded, wire::Order::host);
        emit_sockaddr(address, end);
        out.put(Bytes(padded).first(bare_size));
    }
    return body;
}

}  // namespace

int pfkey_send_spdadd(int so, sockaddr* src, unsigned prefs, sockaddr* dst, unsigned prefd, unsigned proto,
                      char* policy, int policylen, std::uint32_t seq)
{
    return pfkey_send_spdadd2(so, src, prefs, dst, prefd, proto, 0, 0, policy, policylen, seq);
}

int pfkey_send_spdadd2(int so, sockaddr* src, unsigned prefs, sockaddr* dst, unsigned prefd, unsigned proto,
                       std::uint64_t ltime, std::uint64_t vtime, char* policy, int policylen, std::uint32_t seq)
{
    return send_policy(so, SADB_X_SPDADD, {src, prefs, dst, prefd, proto}, ltime, vtime, policy, policylen, seq);
}

int pfkey_send_spdupdate(int so, sockaddr* src, unsigned prefs, sockaddr* dst, unsigned prefd, unsigned proto,
                         char* policy, int policylen, std::uint32_t seq)
{
    return pfkey_send_spdupdate2(so, src, prefs, dst, prefd, proto, 0, 0, policy, policylen, seq);
}

int pfkey_send_spdupdate2(int so, sockaddr* src, unsigned prefs, sockaddr* dst, unsigned prefd, unsigned proto,
                          std::uint64_t ltime, std::uint64_t vtime, char* policy, int policylen, std::uint32_t seq)
{
    return send_policy(so, SADB_X_SPDUPDATE, {src, prefs, dst, prefd, proto}, ltime, vtime, policy, policylen, seq);
}

int pfkey_send_spddelete(int so, sockaddr* src, unsigned prefs, sockaddr* dst, unsigned prefd, unsigned proto,
                         char* policy, int policylen, std::uint32_t seq)
{
    return send_index(so, SADB_X_SPDDELETE, {src, prefs, dst, prefd, proto}, policy, policylen, seq);
}

int pfkey_send_spdsetidx(int so, sockaddr* src, unsigned prefs, sockaddr* dst, unsigned prefd, unsigned proto,
                         char* policy, int policylen, std::uint32_t seq)
{
    return send_index(so, SADB_X_SPDSETIDX, {src, prefs, dst, prefd, proto}, policy, policylen, seq);
}

int pfkey_send_spddelete2(int so, std::uint32_t spid)
{
    return send_id(so, SADB_X_SPDDELETE2, spid);
}

int pfkey_send_spdget(int so, std::uint32_t spid)
{
    return send_id(so, SADB_X_SPDGET, spid);
}

int pfkey_send_spdflush(int so)
{
    return Record(SADB_X_SPDFLUSH, SADB_SATYPE_UNSPEC, 0).send(so);
}

int pfkey_send_spddump(int so)
{
    return Record(SADB_X_SPDDUMP, SADB_SATYPE_UNSPEC, 0).send(so);
}

int pfkey_send_migrate(int so, sockaddr* local, sockaddr* remote, sockaddr* src, unsigned prefs, sockaddr* dst,
                       unsigned prefd, unsigned proto, char* policy, int policylen, std::uint32_t seq)
{
    const auto checked = check({src, prefs, dst, prefd, proto}, policy, policylen);
    const auto managers = checked ? ends_of(local, remote) : std::nullopt;
    if (!managers)
        return -1;
    Record record(SADB_X_MIGRATE, SADB_SATYPE_UNSPEC, seq, checked->policy.size());
    const auto body = kmaddress_body(*managers, sysdep_sa_len(local));
    record.add<formats::OpaqueFormat>(SADB_X_EXT_KMADDRESS, Bytes(body));
    record.add<formats::AddressFormat>(SADB_EXT_ADDRESS_SRC, checked->source);
    record.add<formats::AddressFormat>(SADB_EXT_ADDRESS_DST, checked->destination);
    record.add(checked->policy);
    return record.send(so);
}
