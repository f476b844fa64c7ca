// SPDX-License-Identifier: BSD-2-Clause
// Which socket does a packet belong to? Outbound by lwIP's PCB (netif hints), inbound by address tuple before lwIP sees
// the packet. Handles are ids, never pointers; the socket manager keeps the table, the walk reads it.
#pragma once

#include "pfkey/policy.hpp"

#include <set>
#include <unordered_map>
#include <utility>

namespace latchkey {

using SocketHandle = std::uint32_t;   // 0: no socket

class SocketIndex {
public:
    void add_pcb(const void* pcb, SocketHandle socket) { by_pcb_[pcb] = socket; }
    void remove_pcb(const void* pcb) { by_pcb_.erase(pcb); }
    SocketHandle by_pcb(const void* pcb) const
    {
        const auto at = by_pcb_.find(pcb);
        return at == by_pcb_.end() ? 0 : at->second;
    }

    // An unspecified local or remote address and remote port 0 are wildcards (listener, unconnected UDP).
    void add_tuple(std::uint8_t protocol, const Endpoint& local, const Endpoint& remote, SocketHandle socket);
    // Several sockets may share a tuple (SO_REUSEADDR): each entry is removed with the socket that it was added with.
    void remove_tuple(std::uint8_t protocol, const Endpoint& local, const Endpoint& remote, SocketHandle socket);
    // flow as received: source is the remote side. The most specific entry wins; at most four probes.
    SocketHandle inbound(const Flow& flow) const;

    // IP_IPSEC_POLICY `bypass`: packets of this socket do not meet the SPD in this direction (KAME; an IKE daemon needs
    // it).
    void set_bypass(SocketHandle socket, Direction direction, bool on);
    bool bypasses(SocketHandle socket, Direction direction) const
    {
        return !bypass_.empty() && bypass_.contains({socket, direction});
    }
    bool any_bypass() const { return !bypass_.empty(); }
    void forget_bypass(SocketHandle socket);   // the handle may be given to another socket

private:
    struct Tuple {
        Endpoint local, remote;
        std::uint8_t protocol;
        bool operator==(const Tuple&) const = default;
    };
    struct TupleHash {
        std::size_t operator()(const Tuple& t) const
        {
            return mix(t.local.address.hash() ^ mix(t.remote.address.hash() ^ mix((std::uint64_t{t.local.port} << 32) |
                       (std::uint64_t{t.remote.port} << 8) | t.protocol)));
        }
    };
    std::unordered_map<const void*, SocketHandle> by_pcb_;
    std::set<std::pair<SocketHandle, Direction>> bypass_;   // few: key managers and the like
    std::unordered_multimap<Tuple, SocketHandle, TupleHash> by_tuple_;
};

}  // namespace latchkey
