// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/engine_impl.hpp"

#include <algorithm>

namespace latchkey {

std::uint64_t Engine::Impl::wall(Time at) const
{
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(at).count() + wall_offset;
    return static_cast<std::uint64_t>(std::max<std::int64_t>(seconds, 0));
}

// Addresses of SAs carry no upper-layer protocol and no port; KAME says so with 255 (any).
AddressExt Engine::Impl::address_ext(const Address& address)
{
    return {ip_proto::any, static_cast<std::uint8_t>(address.bits()), {address, 0, 0}};
}

// The window of SADB_EXT_SA has 8 bits; SADB_X_EXT_SA_REPLAY says it all, to who knows it.
SaExt Engine::Impl::sa_ext(const Sa& sa)
{
    const auto id_of = [](const Algorithm* row) { return row == nullptr ? std::uint8_t{0} : row->sadb_id; };
    const auto window = static_cast<std::uint8_t>(std::min<std::uint32_t>(sa.replay.size(), 255));
    return {sa.spi, window, static_cast<std::uint8_t>(sa.state), id_of(sa.auth), id_of(sa.cipher), sa.flags};
}

void Engine::Impl::describe_natt(const Sa& sa, Message& out)
{
    if (sa.natt == nullptr)
        return;
    const NatTraversal& natt = *sa.natt;
    out.natt_type = natt.type;
    out.natt_source_port = natt.source_port;
    out.natt_destination_port = natt.destination_port;
    if (natt.original)
        out.natt_original = address_ext(*natt.original);
    if (natt.original_remote)
        out.natt_original_remote = address_ext(*natt.original_remote);
    if (natt.fragment != 0)
        out.natt_fragment = natt.fragment;
}

void Engine::Impl::describe(const Sa& sa, Message& out) const
{
    out.sa = sa_ext(sa);
    out.sa_replay = sa.replay.size();
    describe_natt(sa, out);
    out.sa2 = Sa2Ext{static_cast<std::uint8_t>(sa.mode), static_cast<std::uint32_t>(sa.sequence), sa.reqid};
    out.current = sa.current;
    if (sa.hard != Lifetime{})
        out.hard = sa.hard;
    if (sa.soft != Lifetime{})
        out.soft = sa.soft;
    out.source = address_ext(sa.source);
    out.destination = address_ext(sa.destination);
    if (sa.proxy)
        out.proxy = AddressExt{ip_proto::any, sa.proxy->length, {sa.proxy->address, 0, 0}};
    const auto identity_ext = [](const Identity& i) { return IdentityExt{i.type, i.id, i.text}; };
    if (sa.source_identity)
        out.source_identity = identity_ext(*sa.source_identity);
    if (sa.destination_identity)
        out.destination_identity = identity_ext(*sa.destination_identity);
}

void Engine::Impl::describe_keys(const Sa& sa, Message& out) const
{
    const auto key_ext = [](const SecretBytes& key) {
        return KeyExt{static_cast<std::uint16_t>(key.size() * 8), key.bytes()};
    };
    if (sa.cipher != nullptr)
        out.cipher_key = key_ext(sa.cipher_key);
    if (sa.auth != nullptr)
        out.auth_key = key_ext(sa.auth_key);
}

void Engine::Impl::describe(const Policy& policy, Message& out) const
{
    const auto& s = policy.selector;
    out.policy = PolicyExt{static_cast<std::uint16_t>(policy.action), static_cast<std::uint8_t>(policy.direction),
                           policy.id, policy.priority, policy.requests};
    // PF_KEY has one port per address; a range (from another policy language) shows as its first port.
    const auto side = [&](const Prefix& prefix, PortRange ports) {
        return AddressExt{s.protocol, prefix.length, {prefix.address, ports.any() ? std::uint16_t{0} : ports.low, 0}};
    };
    out.source = side(s.source, s.source_port);
    out.destination = side(s.destination, s.destination_port);
    out.current = Lifetime{0, 0, wall(policy.created), policy.last_used == Time{0} ? 0 : wall(policy.last_used)};
    out.hard = Lifetime{0, 0, policy.lifetime, policy.validtime};
}

}  // namespace latchkey
