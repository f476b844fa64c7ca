// SPDX-License-Identifier: BSD-2-Clause
// The part of <libpfkey.h> that reaches a host: key sockets of the default one. The rest of the library, in pfkey/,
// sends by pfkey_send() alone.
#include "pfkey/ipsec_error.hpp"
#include "pfkey/message.hpp"
#include "stack/client/api.hpp"
#include "stack/client/calls.hpp"

#include <latchkey/socket.h>
#include <libpfkey.h>

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <string>
#include <string_view>

using namespace latchkey;
using namespace latchkey::client;
using namespace latchkey::ipsec;

namespace {

// Opened once and kept: a daemon that gives up its privilege, or changes its root, still reaches it. Null: there is
// none now, errno says why. No lock, which a forked child could find held; the loser of a race closes its own.
latchkey_host* default_host()
{
    static constinit std::atomic<latchkey_host*> known{nullptr};
    if (auto* host = known.load(std::memory_order_acquire))
        return host;
    auto* opened = latchkey_host_open(nullptr);
    latchkey_host* other = nullptr;
    if (opened == nullptr || known.compare_exchange_strong(other, opened, std::memory_order_acq_rel))
        return opened;
    latchkey_host_close(opened);
    return other;
}

// Whether the preload library stands before the system's socket(). It has to know of our key sockets: what it does
// for a key daemon's other sockets depends on there being one.
bool is_preloaded()
{
    constexpr std::string_view library = "liblatchkey-preload.so";
    Dl_info definition{};
    return ::dladdr(std::bit_cast<void*>(&::socket), &definition) != 0 && definition.dli_fname != nullptr &&
           std::string_view(definition.dli_fname).ends_with(library);
}

// What a system without PF_KEY says, and where a host was looked for.
int no_host(int error)
{
    std::array<char, 128> path{};
    const bool named = latchkey_host_path(nullptr, path.data(), path.size()) >= 0;
    const auto detail = named ? "no Latchkey host at " + std::string(path.data()) : std::string("$LATCHKEY is not set");
    return refuse_errno(error == EACCES || error == EPERM || error == EMFILE ? error : EAFNOSUPPORT, detail);
}

int buffer_size(int so, int option)
{
    int bytes = 0;
    socklen_t size = sizeof bytes;
    return ::getsockopt(so, SOL_SOCKET, option, &bytes, &size) == 0 ? bytes : -1;
}

// Enlarges, never shrinks. False: the system does not allow that much.
bool enlarge(int so, int option, int bytes)
{
    return buffer_size(so, option) >= bytes || ::setsockopt(so, SOL_SOCKET, option, &bytes, sizeof bytes) == 0;
}

template <class Call> ssize_t restarted(Call call)
{
    ssize_t result = 0;
    do
        result = call();
    while (result < 0 && errno == EINTR);
    return result;
}

// The length of the record that waits, whatever it says about itself; 0: the host has ended.
ssize_t waiting(int so)
{
    std::array<char, sizeof(sadb_msg)> header;
    return restarted([&] { return ::recv(so, header.data(), header.size(), MSG_PEEK | MSG_TRUNC); });
}

bool is_whole(Bytes record)
{
    const auto header = peek_header(record);
    return header && std::size_t{header->units} * 8 == record.size();
}

}  // namespace

int pfkey_open()
{
    constexpr int send_bytes = 128 * 1024, least_receive_bytes = 128 * 1024;
    auto* host = default_host();
    if (host == nullptr)
        return no_host(errno);
    const int so = is_preloaded() ? ::socket(PF_KEY, SOCK_RAW, PF_KEY_V2)
                                  : latchkey_socket(host, PF_KEY, SOCK_RAW, PF_KEY_V2);
    if (so < 0)
        return errno == ENETDOWN || errno == ECONNREFUSED || errno == ENOENT ? no_host(errno)
                                                                             : refuse_errno(errno, "PF_KEY socket");
    // Large dumps take fewer turns; that it works does not depend on it.
    enlarge(so, SO_SNDBUF, send_bytes);
    for (int bytes = 2 * 1024 * 1024; bytes > least_receive_bytes && !enlarge(so, SO_RCVBUF, bytes); bytes /= 2)
        ;
    return accept(so);
}

void pfkey_close(int so)
{
    ::close(so);
    accept();
}

int pfkey_set_buffer_size(int so, int kib)
{
    constexpr int unit = 1024, most = 0x7fffffff / unit;
    if (kib > 0 && !enlarge(so, SO_RCVBUF, std::min(kib, most) * unit))
        return refuse_errno(errno, "SO_RCVBUF");
    const int bytes = buffer_size(so, SO_RCVBUF);
    return bytes < 0 ? refuse_errno(errno, "SO_RCVBUF") : accept(bytes / unit);
}

int pfkey_send(int so, sadb_msg* msg, int len)
{
    if (msg == nullptr || len < 0)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected a message and its length");
    const iovec piece{msg, static_cast<std::size_t>(len)};
    auto* host = kind_of(so) == control::SocketKind::key ? default_host() : nullptr;
    bool reached = false;
    ssize_t sent = host == nullptr ? -EAGAIN : send_decided(*host, so, {}, Pieces(&piece, 1), &reached);
    // A socket of another host, or another way to a host altogether, takes it as a record.
    const bool foreign = sent == -EBADF || sent == -ENOTSOCK;
    if (!reached || foreign)
        sent = ::send(so, msg, static_cast<std::size_t>(len), MSG_NOSIGNAL) < 0 ? -errno : len;
    return sent < 0 ? refuse_errno(static_cast<int>(-sent)) : accept(len);
}

sadb_msg* pfkey_recv(int so)
{
    const auto size = waiting(so);
    if (size <= 0)
        return refuse_errno(size == 0 ? ENETDOWN : errno), nullptr;
    auto* message = std::calloc(1, std::max(static_cast<std::size_t>(size), sizeof(sadb_msg)));
    if (message == nullptr)
        return refuse(EIPSEC_NO_BUFS), nullptr;
    const auto got = restarted([&] { return ::recv(so, message, static_cast<std::size_t>(size), 0); });
    if (got < 0) {
        refuse_errno(errno);
    } else if (got != size || !is_whole({static_cast<const std::uint8_t*>(message), static_cast<std::size_t>(got)})) {
        refuse(EIPSEC_INVAL_SADBMSG, "sadb_msg_len differs from the size of the message");
    } else {
        accept();
        return static_cast<sadb_msg*>(message);
    }
    std::free(message);
    return nullptr;
}
