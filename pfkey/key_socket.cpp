// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/key_socket.hpp"

namespace latchkey {

namespace {

bool wants(const KeySocket& socket, std::uint8_t satype)
{
    if (satype == SADB_SATYPE_UNSPEC)
        return socket.registered.any();
    return satype < socket.registered.size() && socket.registered[satype];
}

}  // namespace

Result<KeySocketId> KeySockets::open()
{
    if (sockets_.size() >= max_sockets_)
        return fail(Errc::no_memory, "too many key sockets are open");
    do
        ++last_;
    while (last_ == 0 || sockets_.contains(last_));
    sockets_.try_emplace(last_);
    return last_;
}

void KeySockets::close(KeySocketId id)
{
    if (KeySocket* socket = find(id)) {
        set_promiscuous(*socket, false);
        sockets_.erase(id);
    }
}

KeySocket* KeySockets::find(KeySocketId id)
{
    const auto found = sockets_.find(id);
    return found == sockets_.end() ? nullptr : &found->second;
}

const KeySocket* KeySockets::find(KeySocketId id) const
{
    const auto found = sockets_.find(id);
    return found == sockets_.end() ? nullptr : &found->second;
}

void KeySockets::deliver(Recipients to, KeySocketId sender, std::uint8_t satype, Record record)
{
    if (promiscuous_ != 0)
        copy_to_promiscuous(record);
    if (to != Recipients::one)
        for (auto& [id, socket] : sockets_)
            if (id != sender && (to == Recipients::all || wants(socket, satype)))
                offer(id, socket, record);
    if (KeySocket* own = find(sender))
        push(sender, *own, std::move(record));
}

void KeySockets::set_promiscuous(KeySocket& socket, bool on)
{
    promiscuous_ += on;
    promiscuous_ -= socket.promiscuous;
    socket.promiscuous = on;
}

void KeySockets::pop(KeySocket& socket)
{
    if (socket.queue.empty())
        return;
    socket.bytes -= socket.queue.front().size();
    socket.queue.pop_front();
}

bool KeySockets::anybody_registered(std::uint8_t satype) const
{
    for (const auto& [id, socket] : sockets_)
        if (wants(socket, satype))
            return true;
    return false;
}

void KeySockets::push(KeySocketId id, KeySocket& socket, Record record)
{
    socket.bytes += record.size();
    socket.queue.push_back(std::move(record));
    if (socket.queue.size() == 1 && on_readable)
        on_readable(id);
}

void KeySockets::offer(KeySocketId id, KeySocket& socket, const Record& record)
{
    if (socket.bytes + record.size() > queue_bytes_)
        ++socket.dropped;
    else
        push(id, socket, record);
}

// RFC 2367 §3.1.11: the message as it is, behind a header of its own.
void KeySockets::copy_to_promiscuous(const Record& record)
{
    Message wrapper;
    wrapper.type = SADB_X_PROMISC;
    wrapper.wrapped = record;
    const Record wrapped = wrapper.bytes();
    for (auto& [id, socket] : sockets_)
        if (socket.promiscuous)
            offer(id, socket, wrapped);
}

}  // namespace latchkey
