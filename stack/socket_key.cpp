// SPDX-License-Identifier: BSD-2-Clause
// Key sockets: the engine's, by socket id.
#include "stack/socket.hpp"

#include <net/pfkeyv2.h>

namespace latchkey {

PfKeySocket::PfKeySocket(SocketContext& host, SocketId id, KeySocketId key, const Credentials& by)
    : Socket(host, id, AF_KEY, SOCK_RAW, PF_KEY_V2, by), key_(key)
{
    host_.key_sockets.emplace(key, id);
}

PfKeySocket::~PfKeySocket()
{
    host_.key_sockets.erase(key_);
    host_.engine.close_key_socket(key_);
}

SysResult<> PfKeySocket::send(Bytes record, bool supervised, Time now)
{
    if (!supervised) {
        host_.engine.handle_unsupervised(key_, record, now);
        return {};
    }
    if (const auto handled = host_.engine.handle(key_, record, now); !handled)
        return sys_error(handled.error().number());
    return {};
}

Bytes PfKeySocket::front() const
{
    return host_.engine.front(key_);
}

void PfKeySocket::pop(Time now)
{
    host_.engine.pop(key_, now);
}

std::string_view PfKeySocket::reason() const
{
    return host_.engine.last_error(key_);
}

}  // namespace latchkey
