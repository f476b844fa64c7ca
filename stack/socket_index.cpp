// SPDX-License-Identifier: BSD-2-Clause
#include "stack/socket_index.hpp"

namespace latchkey {

namespace {

// Every wildcard has one spelling in the table: 0.0.0.0 or :: locally, no address and port 0 remotely. Zones are left
// out because a packet does not show one.
Endpoint local_key(const Endpoint& local)
{
    return {local.address, local.port, 0};
}

Endpoint remote_key(const Endpoint& remote)
{
    return remote.port == 0 || remote.address.is_unspecified() ? Endpoint{} : Endpoint{remote.address, remote.port, 0};
}

}  // namespace

void SocketIndex::add_tuple(std::uint8_t protocol, const Endpoint& local, const Endpoint& remote, SocketHandle socket)
{
    by_tuple_.emplace(Tuple{local_key(local), remote_key(remote), protocol}, socket);
}

void SocketIndex::remove_tuple(std::uint8_t protocol, const Endpoint& local, const Endpoint& remote,
                               SocketHandle socket)
{
    const auto [first, last] = by_tuple_.equal_range(Tuple{local_key(local), remote_key(remote), protocol});
    for (auto at = first; at != last; ++at)
        if (at->second == socket) {
            by_tuple_.erase(at);
            return;
        }
}

SocketHandle SocketIndex::inbound(const Flow& flow) const
{
    if (!flow.has_ports)
        return 0;
    const Endpoint remote{flow.source, flow.source_port, 0};
    const Endpoint local{flow.destination, flow.destination_port, 0};
    const Endpoint any{Address::any(flow.destination.family()), flow.destination_port, 0};
    for (const auto& [here, there] : {std::pair{local, remote}, {any, remote}, {local, Endpoint{}}, {any, Endpoint{}}})
        if (const auto at = by_tuple_.find(Tuple{here, there, flow.protocol}); at != by_tuple_.end())
            return at->second;
    return 0;
}

void SocketIndex::set_bypass(SocketHandle socket, Direction direction, bool on)
{
    if (on)
        bypass_.emplace(socket, direction);
    else
        bypass_.erase({socket, direction});
}

void SocketIndex::forget_bypass(SocketHandle socket)
{
    for (const auto direction : {Direction::in, Direction::out})
        bypass_.erase({socket, direction});
}

}  // namespace latchkey
