// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/key_socket.hpp"

#include <sodium/utils.h>

#include <algorithm>

namespace latchkey {

namespace {

constexpr std::size_t header_size = 16;   // struct sadb_msg

// GET and DUMP answer with keys.
void wipe(Record& record)
{
    sodium_memzero(record.data(), record.size());
}

// f(type, extension) for each extension of a record that this host built. X_PROMISC carries a message instead.
template <class F> void each_extension(Bytes record, F f)
{
    if (peek_header(record)->type == SADB_X_PROMISC)
        return;
    for (Bytes rest = record.subspan(header_size); !rest.empty();) {
        wire::Reader in(rest, wire::Order::host);
        const std::size_t size = std::size_t{in.get<std::uint16_t>()} * 8;
        f(in.get<std::uint16_t>(), rest.first(size));
        rest = rest.subspan(size);
    }
}

std::uint64_t private_extensions(Bytes record)
{
    std::uint64_t carried = 0;
    each_extension(record, [&](unsigned type, Bytes) { carried |= KeySocket::private_bit(type); });
    return carried;
}

Record without(Bytes record, std::uint64_t unknown)
{
    Record out(record.begin(), record.begin() + header_size);
    each_extension(record, [&](unsigned type, Bytes extension) {
        if ((KeySocket::private_bit(type) & unknown) == 0)
            out.insert(out.end(), extension.begin(), extension.end());
    });
    wire::Writer(out, wire::Order::host).put_at<std::uint16_t>(4, static_cast<std::uint16_t>(out.size() / 8));
    return out;
}

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
        std::ranges::for_each(socket->queue, wipe);
        if (socket->dump)
            wipe(socket->dump->held);
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
    announce(to, sender, satype, record);
    KeySocket* own = find(sender);
    if (own == nullptr)
        return;
    const std::uint64_t unknown = private_extensions(record) & ~own->known;
    push(sender, *own, unknown != 0 ? without(record, unknown) : std::move(record));
}

void KeySockets::announce(Recipients to, KeySocketId sender, std::uint8_t satype, const Record& record)
{
    if (promiscuous_ == 0 && to == Recipients::one)
        return;
    const std::uint64_t carried = private_extensions(record);
    if (promiscuous_ != 0)
        copy_to_promiscuous(record, carried);
    if (to == Recipients::one)
        return;
    for (auto& [id, socket] : sockets_) {
        if (id == sender || (to == Recipients::registered && !wants(socket, satype)))
            continue;
        const std::uint64_t unknown = carried & ~socket.known;
        offer(id, socket, unknown != 0 ? without(record, unknown) : record);
    }
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
    wipe(socket.queue.front());
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

// RFC 2367 §3.1.11: the message as it is, behind a header of its own. As in KAME it is what the host sends; what clients
// send is not shown (Linux does, keys included). Message types of this stack alone concern nobody but their sender.
void KeySockets::copy_to_promiscuous(const Record& record, std::uint64_t carried)
{
    if (peek_header(record)->type > SADB_MAX)
        return;
    const auto wrap = [](Bytes inner) {
        Message wrapper;
        wrapper.type = SADB_X_PROMISC;
        wrapper.wrapped = inner;
        return wrapper.bytes();
    };
    for (auto& [id, socket] : sockets_) {
        const std::uint64_t unknown = carried & ~socket.known;
        if (!socket.promiscuous)
            continue;
        Record wrapped = unknown != 0 ? wrap(without(record, unknown)) : wrap(record);
        offer(id, socket, wrapped);
        wipe(wrapped);
    }
}

}  // namespace latchkey
