// SPDX-License-Identifier: BSD-2-Clause
#include "tests/stack/fake_host.hpp"

#include "stack/client/descriptors.hpp"
#include "stack/client/protocol.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <map>
#include <thread>

namespace latchkey::test {

namespace {

using namespace control;

constexpr std::size_t largest_datagram = 65'507;

struct Socket {
    SocketKind kind;
    int fd;   // the host's end
    bool listening = false;
    unsigned echoes = 0;
    std::string reason{};
};

struct FakeTunable {
    std::int64_t value, min, max;
    bool read_only = false;
};

class Server {
public:
    explicit Server(int listener) : listener_(listener) {}

    [[noreturn]] void run()
    {
        for (;;) {
            std::vector<pollfd> wait{{listener_, POLLIN, 0}};
            for (const int fd : channels_)
                wait.push_back({fd, POLLIN, 0});
            for (const auto& [cookie, socket] : sockets_)
                if (socket.kind != SocketKind::tcp)
                    wait.push_back({socket.fd, POLLIN, 0});
            ::poll(wait.data(), wait.size(), -1);
            for (const auto& one : wait)
                if (one.revents != 0)
                    serve(one.fd);
        }
    }

private:
    struct Incoming {
        std::vector<std::uint8_t> record;
        int fd = -1;
        ucred credentials{};
    };

    void serve(int fd)
    {
        if (fd == listener_)
            return add_channel(::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
        if (std::find(channels_.begin(), channels_.end(), fd) == channels_.end())
            return echo(fd);
        Incoming in;
        if (!receive(fd, in)) {
            std::erase(channels_, fd);
            ::close(fd);
            return;
        }
        const auto request = Request::parse(in.record);
        if (request && request->op == Op::new_channel)
            return add_channel(in.fd);
        if (request)
            answer(fd, *request, in);
        if (in.fd >= 0)
            ::close(in.fd);
    }

    void add_channel(int fd)
    {
        const int on = 1;
        ::setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
        channels_.push_back(fd);
    }

    static bool receive(int fd, Incoming& in)
    {
        in.record.resize(max_record);
        iovec piece{in.record.data(), in.record.size()};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(ucred))> control{};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const auto got = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
        if (got <= 0)
            return false;
        in.record.resize(static_cast<std::size_t>(got));
        for (auto* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
            if (part->cmsg_type == SCM_RIGHTS)
                std::memcpy(&in.fd, CMSG_DATA(part), sizeof in.fd);
            if (part->cmsg_type == SCM_CREDENTIALS)
                std::memcpy(&in.credentials, CMSG_DATA(part), sizeof in.credentials);
        }
        return true;
    }

    void reply(int channel, Reply reply, int fd = -1)
    {
        std::vector<std::uint8_t> raw(reply.size());
        wire::Writer out(raw, wire::Order::host);
        reply.emit(out);
        client::send_record(channel, raw, fd);
    }

    void answer(int channel, const Request& request, const Incoming& in)
    {
        const auto done = [&](int result, Bytes payload = {}) {
            reply(channel, {.id = request.id, .result = result, .payload = payload});
        };
        const auto socket = sockets_.find(in.fd >= 0 ? client::socket_cookie(in.fd) : 0);
        if (in.fd >= 0 && socket == sockets_.end())
            return done(-ENOTSOCK);
        switch (request.op) {
        case Op::hello: return done(request.arg[0] == protocol_version ? 0 : -EPROTO, text("fake"));
        case Op::socket: return open(channel, request);
        case Op::send:
            return done(socket->second.kind == SocketKind::icmp ? ping(socket->second, request)
                                                                : send(socket->second, request.payload));
        case Op::getsockopt:
            if (request.arg[0] == SOL_SOCKET && request.arg[1] == SO_ACCEPTCONN)
                return done(0, std::array<std::uint8_t, 4>{socket->second.listening});
            return get_option(channel, request, in.credentials);
        case Op::listen:
            socket->second.listening = true;
            return done(listen(socket->second.fd, request.arg[0]));
        case Op::connect: return connect(channel, request);
        case Op::getsockname:
            return reply(channel, {.id = request.id,
                                   .address = socket_address({Address::v4(192, 0, 2, 7), 7})});
        case Op::stat: {
            const std::string all(stat_size, 's');
            const auto at = std::min(static_cast<std::size_t>(request.arg[1]), all.size());
            return done(stat_size, text(std::string_view(all).substr(at, 70'000)));
        }
        case Op::address:
            if (request.arg[0] != 0)
                return done(-EEXIST, text("it has that one\n"));
            return done(21, text("192.0.2.7/24 dev lk0\n"));
        case Op::route: return done(-ENETUNREACH);
        case Op::sysctl: {
            const auto [result, lines] = sysctl(request.arg[0], std::string(request.payload.begin(), request.payload.end()));
            return done(result < 0 ? result : static_cast<int>(lines.size()), text(lines));
        }
        case Op::reason: return done(0, text(socket->second.reason));
        default: return done(0);
        }
    }

    static Bytes text(std::string_view words)
    {
        return {static_cast<const std::uint8_t*>(static_cast<const void*>(words.data())), words.size()};
    }

    void open(int channel, const Request& request)
    {
        const bool stream = request.arg[0] != 15 && request.arg[1] == SOCK_STREAM;
        const bool icmp = request.arg[2] == IPPROTO_ICMP || request.arg[2] == IPPROTO_ICMPV6;
        const auto kind = request.arg[0] == 15 ? SocketKind::key
            : stream                           ? SocketKind::tcp
            : icmp                             ? SocketKind::icmp
                                               : SocketKind::udp;
        std::array<int, 2> ends{};
        ::socketpair(AF_UNIX, (stream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, ends.data());
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        const auto label = std::string(socket_name_prefix) + static_cast<char>(kind) + ':' + std::to_string(::getpid())
            + '.' + std::to_string(++names_);
        std::copy(label.begin(), label.end(), name.sun_path + 1);
        ::bind(ends[0], client::as_sockaddr(name),
               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + label.size()));
        sockets_[client::socket_cookie(ends[1])] = {.kind = kind, .fd = ends[0]};
        reply(channel, {.id = request.id}, ends[1]);
        ::close(ends[1]);
    }

    static int send(Socket& socket, Bytes message)
    {
        if (socket.kind != SocketKind::key)
            return message.size() > largest_datagram ? -EMSGSIZE : static_cast<int>(message.size());
        if (message.size() < 16 || wire::load<std::uint16_t>(message.subspan<4, 2>(), wire::Order::host) * 8u
                != message.size()) {
            socket.reason = "not a whole message";
            return -EINVAL;
        }
        client::send_record(socket.fd, message, -1);
        client::send_record(socket.fd, message, -1);
        return static_cast<int>(message.size());
    }

    static int ping(Socket& socket, const Request& request)
    {
        const auto to = parse_socket_address(request.address);
        if (!to || to->address == Address::v4(192, 0, 2, 66))
            return -EPERM;
        std::vector<std::uint8_t> raw(data_header_size + request.payload.size());
        wire::Writer out(raw);
        DataHeader{.remote = *to, .ttl = 61}.emit(out);
        out.put<std::uint8_t>(to->address.is_v4() ? 0 : 129);
        out.put(request.payload.subspan(1));
        const bool lost = to->address == Address::v4(192, 0, 2, 99);
        for (int copies = lost ? 0 : ++socket.echoes == 2 ? 2 : 1; copies > 0; --copies)
            client::send_record(socket.fd, raw, -1);
        return static_cast<int>(request.payload.size());
    }

    // A datagram goes back whole, header included; a PF_KEY message that came without the interposer once.
    void echo(int fd)
    {
        std::vector<std::uint8_t> record(max_record);
        const auto got = ::recv(fd, record.data(), record.size(), 0);
        if (got > 0)
            client::send_record(fd, Bytes(record).first(static_cast<std::size_t>(got)), -1);
        else
            std::erase_if(sockets_, [&](const auto& entry) {
                return entry.second.fd == fd && ::close(fd) == 0;
            });
    }

    void get_option(int channel, const Request& request, const ucred& credentials)
    {
        if (request.arg[0] == slow_level)
            std::this_thread::sleep_for(std::chrono::milliseconds(request.arg[1]));
        const bool who = request.arg[0] == credentials_level;
        std::array<std::uint8_t, 8> raw{};
        wire::Writer out(raw, wire::Order::host);
        out.put<std::uint32_t>(static_cast<std::uint32_t>(who ? credentials.pid : request.arg[0]));
        out.put<std::uint32_t>(who ? credentials.uid : static_cast<std::uint32_t>(request.arg[1]));
        reply(channel, {.id = request.id, .payload = raw});
    }

    static int listen(int fd, int backlog)
    {
        for (int i = 0; i < backlog; ++i) {
            std::array<int, 2> ends{};
            ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data());
            const auto digit = static_cast<char>('0' + i);
            (void)!::write(ends[0], &digit, 1);
            ::close(ends[0]);
            std::array<std::uint8_t, data_header_size> raw{};
            wire::Writer out(raw);
            DataHeader{.remote = {Address::v4(192, 0, 2, 1), static_cast<std::uint16_t>(1000 + i)}}.emit(out);
            client::send_record(fd, raw, ends[1]);
            ::close(ends[1]);
        }
        return 0;
    }

    void connect(int channel, const Request& request)
    {
        const auto peer = parse_socket_address(request.address);
        if (peer && peer->port == 1 && request.arg[0] == 0)
            return;
        const int result = !peer ? -EINVAL : peer->port == 2 ? -ECONNREFUSED : request.arg[0] != 0 ? -EINPROGRESS : 0;
        reply(channel, {.id = request.id, .result = result});
    }

    std::pair<int, std::string> sysctl(int verb, const std::string& request)
    {
        const auto name = request.substr(0, request.find('='));
        const auto at = tunables_.find(name);
        std::string all;
        for (const auto& [known, row] : tunables_) {
            if (verb == 0)
                all += known + "=" + std::to_string(row.value) + "\n";
            else if (known == name || name.empty())
                all += known + (row.read_only ? "\tcomputed\t0\t" : "\tinteger\t0\t") + std::to_string(row.min) + "\t"
                    + std::to_string(row.max) + "\tabout " + known + "\n";
        }
        if (verb == 0 || (verb == 3 && (name.empty() || at != tunables_.end())))
            return {0, all};
        if (at == tunables_.end())
            return {-ENOENT, "no tunable has this name"};
        auto& row = at->second;
        if (verb == 1)
            return {0, std::to_string(row.value)};
        const auto value = std::strtoll(request.c_str() + name.size() + 1, nullptr, 0);
        if (row.read_only || value < row.min || value > row.max)
            return {row.read_only ? -EPERM : -EINVAL, row.read_only ? "only to be read" : "outside the range"};
        row.value = value;
        return {0, ""};
    }

    std::map<std::string, FakeTunable> tunables_{{"net.inet.ipsec.ecn", {0, -1, 1}},
                                                 {"net.inet.ipsec.used", {1, 0, 1, true}},
                                                 {"net.key.debug", {0, 0, 0x7fffffff}},
                                                 {"net.key.spi_maxval", {0x0fffffff, 256, 0xffffffff}}};
    int listener_;
    unsigned names_ = 0;
    std::vector<int> channels_;
    std::map<std::uint64_t, Socket> sockets_;   // by the cookie of the client's end
};

}  // namespace

FakeHost::FakeHost()
{
    std::string name = "/tmp/latchkey-test-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    ::chmod(directory_.c_str(), 0755);
    path_ = directory_ + "/host.sock";
    start();
}

FakeHost::~FakeHost()
{
    kill();
    ::rmdir(directory_.c_str());
}

void FakeHost::start()
{
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::copy(path_.begin(), path_.end(), name.sun_path);
    const int listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (::bind(listener, client::as_sockaddr(name), sizeof name) < 0 || ::listen(listener, 64) < 0)
        std::abort();
    process_ = ::fork();
    if (process_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::signal(SIGINT, SIG_IGN);
        ::signal(SIGALRM, SIG_IGN);
        Server(listener).run();
    }
    ::close(listener);
}

void FakeHost::kill()
{
    if (process_ > 0) {
        ::kill(process_, SIGKILL);
        ::waitpid(process_, nullptr, 0);
    }
    process_ = -1;
    ::unlink(path_.c_str());
}

}  // namespace latchkey::test
