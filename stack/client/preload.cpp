// SPDX-License-Identifier: BSD-2-Clause
// The preload library: gives an unmodified program PF_KEY sockets of the host that $LATCHKEY names. Interposed are
// socket() for PF_KEY; the calls that send, since on a PF_KEY socket they return when the host has decided; those by
// which a privilege-separated daemon loses the host's path, so that the connection exists before; and setsockopt() for
// the two options that a key manager sets on its own sockets. Everything else is the kernel's, because a socket is a
// real descriptor. Nothing here locks, allocates for usual messages, or relies on constructors having run.
#include "stack/client/calls.hpp"
#include "stack/client/descriptors.hpp"

#include <net/pfkeyv2.h>
#include <netinet6/ipsec.h>

#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <bit>

#define LATCHKEY_INTERPOSED extern "C" [[gnu::visibility("default")]]

using namespace latchkey;
using namespace latchkey::client;

namespace {

// The next definition of a function, as the dynamic linker orders them; looked up once.
template <class Function> class Next {
public:
    constexpr explicit Next(const char* name) : name_(name) {}

    Function* get()
    {
        if (auto* known = function_.load(std::memory_order_relaxed))
            return known;
        auto* found = std::bit_cast<Function*>(::dlsym(RTLD_NEXT, name_));
        function_.store(found, std::memory_order_relaxed);
        return found;
    }

    template <class... Arguments> auto operator()(Arguments... arguments) { return get()(arguments...); }

private:
    const char* name_;
    std::atomic<Function*> function_{nullptr};
};

constinit Next<int(int, int, int)> next_socket("socket");
constinit Next<ssize_t(int, const void*, std::size_t, int)> next_send("send");
constinit Next<ssize_t(int, const void*, std::size_t, int, const sockaddr*, socklen_t)> next_sendto("sendto");
constinit Next<ssize_t(int, const msghdr*, int)> next_sendmsg("sendmsg");
constinit Next<ssize_t(int, const void*, std::size_t)> next_write("write");
constinit Next<ssize_t(int, const iovec*, int)> next_writev("writev");
constinit Next<int(int, int, int, const void*, socklen_t)> next_setsockopt("setsockopt");
constinit Next<int(const char*)> next_chroot("chroot");
constinit Next<int(uid_t)> next_setuid("setuid");
constinit Next<int(uid_t)> next_seteuid("seteuid");
constinit Next<int(uid_t, uid_t)> next_setreuid("setreuid");
constinit Next<int(uid_t, uid_t, uid_t)> next_setresuid("setresuid");

constinit Host the_host;
constinit std::atomic<int> host_path_state{1};   // 1: not yet known; else the result of set_path
constinit std::atomic<bool> had_key_socket{false};

// The default host, as the environment was when the library was loaded. Null: there is none. No lock, which a signal
// handler or a forked child could find held; two threads that both come first write the same.
Host* default_host()
{
    if (host_path_state.load(std::memory_order_acquire) == 1)
        host_path_state.store(the_host.set_path(nullptr), std::memory_order_release);
    return host_path_state.load(std::memory_order_relaxed) == 0 ? &the_host : nullptr;
}

// dlsym() is not for signal handlers: everything is looked up before the program runs, if that is possible.
[[gnu::constructor]] void look_up()
{
    next_socket.get();
    next_send.get();
    next_sendto.get();
    next_sendmsg.get();
    next_write.get();
    next_writev.get();
    next_setsockopt.get();
    next_chroot.get();
    next_setuid.get();
    next_seteuid.get();
    next_setreuid.get();
    next_setresuid.get();
    default_host();
}

// There is no way to the host from here.
bool out_of_reach(int error)
{
    return error == -ENOENT || error == -ECONNREFUSED || error == -ENETDOWN || error == -EACCES;
}

// The checks in a kernel's order.
int open_key_socket(int type, int protocol)
{
    constexpr int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    if ((type & ~flags) != SOCK_RAW)
        return (type & ~(flags | 0xf)) != 0 ? -EINVAL : -ESOCKTNOSUPPORT;
    if (protocol != PF_KEY_V2)
        return -EPROTONOSUPPORT;
    Host* host = default_host();
    if (host == nullptr)
        return -EAFNOSUPPORT;
    const int fd = open_socket(*host, PF_KEY, type, protocol);
    if (fd >= 0)
        had_key_socket.store(true, std::memory_order_relaxed);
    // Without a host the program meets what a kernel without PF_KEY says.
    return fd < 0 && fd != -EACCES && out_of_reach(fd) ? -EAFNOSUPPORT : fd;
}

// Whether `fd` is a PF_KEY socket of ours. Only asked of the kernel where it can matter: every write of the program
// passes here. A process that has not made such a socket may have inherited one; what it sends well-formed then has
// the size of a message (something malformed goes the asynchronous way).
bool is_key_socket(int fd, std::size_t size)
{
    constexpr std::size_t header = 16, unit = 8;
    const bool possible = size >= header && size % unit == 0 && size <= control::max_record;
    if (!possible && !had_key_socket.load(std::memory_order_relaxed))
        return false;
    return kind_of(fd) == control::SocketKind::key;
}

// Sends on a PF_KEY socket. If the host cannot be asked from here (its path is out of reach and no connection was made
// in time) the message goes as a plain record, and the answers come asynchronously.
ssize_t send_key(int fd, Pieces pieces, int flags)
{
    if ((flags & MSG_OOB) != 0)
        return or_errno<ssize_t>(-EOPNOTSUPP);
    bool reached = false;
    Host* host = default_host();
    const ssize_t sent = host == nullptr ? -ENOENT : send_decided(*host, fd, {}, pieces, &reached);
    // The default host may not be the one that the socket is of (a program that takes a host's path as an argument).
    const bool of_another_host = reached && sent == -ENOTCONN;
    if (!of_another_host && (reached || !out_of_reach(static_cast<int>(sent))))
        return or_errno(sent);
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces.data());
    message.msg_iovlen = pieces.size();
    const auto queued = next_sendmsg(fd, &message, flags | MSG_NOSIGNAL);
    return queued < 0 && errno == EPIPE ? or_errno<ssize_t>(-ENETDOWN) : queued;
}

ssize_t send_key(int fd, const void* data, std::size_t size, int flags)
{
    const iovec piece{const_cast<void*>(data), size};
    return send_key(fd, Pieces(&piece, 1), flags);
}

// ---- what a key manager asks of the kernel's sockets that it speaks IKE on ------------------------------------

bool is_internet_socket(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && (domain == AF_INET || domain == AF_INET6);
}

bool is_policy_option(int level, int name)
{
    return (level == IPPROTO_IP && name == IP_IPSEC_POLICY) || (level == IPPROTO_IPV6 && name == IPV6_IPSEC_POLICY);
}

// A policy that asks for no protection; well-formed by what Linux looks at (not the extension's type: OpenIKED sends
// another).
bool asks_for_clear(const void* value, socklen_t size)
{
    struct sadb_x_policy policy{};
    if (value == nullptr || size < sizeof policy)
        return false;
    std::memcpy(&policy, value, sizeof policy);
    const bool sound = policy.sadb_x_policy_len * std::size_t{8} <= size
        && (policy.sadb_x_policy_dir == IPSEC_DIR_INBOUND || policy.sadb_x_policy_dir == IPSEC_DIR_OUTBOUND);
    return sound
        && (policy.sadb_x_policy_type == IPSEC_POLICY_BYPASS || policy.sadb_x_policy_type == IPSEC_POLICY_ENTRUST);
}

bool asks_for_encapsulation(const void* value, socklen_t size)
{
    int kind = 0;
    if (value == nullptr || size < sizeof kind)
        return false;
    std::memcpy(&kind, value, sizeof kind);
    return kind == UDP_ENCAP_ESPINUDP;
}

// A kernel without IPsec, or without the right to configure it, refuses these. But what is asked already holds: the
// policies that this program manages are the host's, which a socket of the kernel does not meet; and it is the host
// that takes ESP out of UDP, on its own ports, as its SAs say.
bool holds_anyway(int fd, int level, int name, const void* value, socklen_t size)
{
    if (!had_key_socket.load(std::memory_order_relaxed) || !is_internet_socket(fd))
        return false;
    return is_policy_option(level, name) ? asks_for_clear(value, size) : asks_for_encapsulation(value, size);
}

// After what follows, the host's path may be out of reach or forbidden.
void prepare_for_confinement()
{
    const int error_before = errno;
    if (Host* host = default_host())
        host->connect_trunk();
    errno = error_before;
}

}  // namespace

LATCHKEY_INTERPOSED int socket(int domain, int type, int protocol) noexcept
{
    return domain == PF_KEY ? or_errno(open_key_socket(type, protocol)) : next_socket(domain, type, protocol);
}

LATCHKEY_INTERPOSED ssize_t send(int fd, const void* data, std::size_t size, int flags)
{
    return is_key_socket(fd, size) ? send_key(fd, data, size, flags) : next_send(fd, data, size, flags);
}

LATCHKEY_INTERPOSED ssize_t sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* address,
                                   socklen_t address_size)
{
    return is_key_socket(fd, size) ? send_key(fd, data, size, flags)
                                   : next_sendto(fd, data, size, flags, address, address_size);
}

LATCHKEY_INTERPOSED ssize_t sendmsg(int fd, const msghdr* message, int flags)
{
    const auto pieces = message == nullptr ? Pieces{} : Pieces(message->msg_iov, message->msg_iovlen);
    return is_key_socket(fd, total_size(pieces)) ? send_key(fd, pieces, flags) : next_sendmsg(fd, message, flags);
}

LATCHKEY_INTERPOSED ssize_t write(int fd, const void* data, std::size_t size)
{
    return is_key_socket(fd, size) ? send_key(fd, data, size, 0) : next_write(fd, data, size);
}

LATCHKEY_INTERPOSED ssize_t writev(int fd, const iovec* list, int count)
{
    const auto pieces = list == nullptr || count < 0 ? Pieces{} : Pieces(list, static_cast<std::size_t>(count));
    return is_key_socket(fd, total_size(pieces)) ? send_key(fd, pieces, 0) : next_writev(fd, list, count);
}

LATCHKEY_INTERPOSED int setsockopt(int fd, int level, int name, const void* value, socklen_t size) noexcept
{
    const int error_before = errno;
    const int result = next_setsockopt(fd, level, name, value, size);
    if (result == 0 || !(is_policy_option(level, name) || (level == IPPROTO_UDP && name == UDP_ENCAP)))
        return result;
    const int refusal = errno;
    const bool holds = holds_anyway(fd, level, name, value, size);
    errno = holds ? error_before : refusal;
    return holds ? 0 : result;
}

LATCHKEY_INTERPOSED int chroot(const char* path) noexcept
{
    prepare_for_confinement();
    return next_chroot(path);
}

LATCHKEY_INTERPOSED int setuid(uid_t uid) noexcept
{
    prepare_for_confinement();
    return next_setuid(uid);
}

LATCHKEY_INTERPOSED int seteuid(uid_t uid) noexcept
{
    prepare_for_confinement();
    return next_seteuid(uid);
}

LATCHKEY_INTERPOSED int setreuid(uid_t real, uid_t effective) noexcept
{
    prepare_for_confinement();
    return next_setreuid(real, effective);
}

LATCHKEY_INTERPOSED int setresuid(uid_t real, uid_t effective, uid_t saved) noexcept
{
    prepare_for_confinement();
    return next_setresuid(real, effective, saved);
}
