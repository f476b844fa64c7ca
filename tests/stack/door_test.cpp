// SPDX-License-Identifier: BSD-2-Clause
// The door with raw AF_UNIX clients: the path, channels, requests, datagrams, PF_KEY, and clients that misbehave.
#include "tests/stack/door_fixture.hpp"

#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>
#include <sys/wait.h>

using namespace latchkey;
using namespace latchkey::test;
using control::Op;

namespace {

std::vector<std::uint8_t> key_message(std::uint8_t type, std::uint8_t satype, std::uint32_t seq,
                                      std::uint32_t pid = 4711)
{
    std::vector<std::uint8_t> raw(16);
    wire::Writer out(raw, wire::Order::host);
    out.put<std::uint8_t>(PF_KEY_V2);
    out.put<std::uint8_t>(type);
    out.put<std::uint8_t>(0);
    out.put<std::uint8_t>(satype);
    out.put<std::uint16_t>(2);
    out.put<std::uint16_t>(0);
    out.put<std::uint32_t>(seq);
    out.put<std::uint32_t>(pid);
    return raw;
}

// SADB_ADD of an ESP SA with the null cipher and HMAC-SHA1, as setkey would send it.
std::vector<std::uint8_t> add_sa(std::uint32_t spi)
{
    auto raw = key_message(SADB_ADD, SADB_SATYPE_ESP, spi);
    const auto put16 = [&](unsigned v) {
        std::array<std::uint8_t, 2> b;
        wire::store<std::uint16_t>(b, static_cast<std::uint16_t>(v), wire::Order::host);
        raw.insert(raw.end(), b.begin(), b.end());
    };
    put16(2), put16(SADB_EXT_SA);
    std::array<std::uint8_t, 4> wire_spi;
    wire::store<std::uint32_t>(wire_spi, spi, wire::Order::network);
    raw.insert(raw.end(), wire_spi.begin(), wire_spi.end());
    for (const int v : {4, SADB_SASTATE_MATURE, SADB_AALG_SHA1HMAC, SADB_EALG_NULL, 0, 0, 0, 0})
        raw.push_back(static_cast<std::uint8_t>(v));
    for (const unsigned which : {SADB_EXT_ADDRESS_SRC, SADB_EXT_ADDRESS_DST}) {
        put16(3), put16(which);
        for (const int v : {255, 32, 0, 0})
            raw.push_back(static_cast<std::uint8_t>(v));
        const auto address = control::socket_address(at(which == SADB_EXT_ADDRESS_SRC ? "10.0.0.1" : "10.0.0.2", 0));
        raw.insert(raw.end(), address.begin(), address.end());
    }
    put16(4), put16(SADB_EXT_KEY_AUTH), put16(160), put16(0);
    raw.insert(raw.end(), 24, 0x55);
    wire::store<std::uint16_t>(MutableBytes(raw).subspan<4, 2>(), static_cast<std::uint16_t>(raw.size() / 8),
                               wire::Order::host);
    return raw;
}

std::uint32_t spi_of(Bytes message)
{
    for (auto rest = message.subspan(16); rest.size() >= 8;) {
        if (wire::load<std::uint16_t>(rest.subspan<2, 2>(), wire::Order::host) == SADB_EXT_SA)
            return wire::load<std::uint32_t>(rest.subspan<4, 4>(), wire::Order::network);
        const std::size_t size = wire::load<std::uint16_t>(rest.first<2>(), wire::Order::host) * 8u;
        rest = size == 0 || size > rest.size() ? Bytes{} : rest.subspan(size);
    }
    return 0;
}

std::vector<std::uint8_t> take_record(const Fd& fd)
{
    std::vector<std::uint8_t> room(66'000);
    const auto record = receive_record(fd.get(), room);
    return record ? std::vector<std::uint8_t>(record->bytes.begin(), record->bytes.end()) : std::vector<std::uint8_t>{};
}

}  // namespace

// ---- the path -----------------------------------------------------------------------------------------------

TEST_CASE("path: mode, removal at the end, a stale one is taken over, anything else is left alone")
{
    DoorFixture f({.mode = 0640});
    struct stat found{};
    REQUIRE(::stat(f.path.c_str(), &found) == 0);
    CHECK((found.st_mode & 0777) == 0640);
    const auto refused = [&](const std::string& path) {
        const auto door = Door::open(path, f.sockets, f.control);
        return door ? std::string("opened") : door.error();
    };
    CHECK(refused(f.path) == "another host is listening on this path");
    CHECK(refused("") == "a socket path has 1 to 107 characters");
    CHECK(refused(std::string(108, 'x')) == "a socket path has 1 to 107 characters");
    CHECK(refused(f.directory + "/none/host.sock") == "No such file or directory");
    const auto plain = f.directory + "/file";
    std::ofstream(plain) << "precious";
    CHECK(refused(plain) == "there is a file of another kind at this path");
    CHECK(std::filesystem::file_size(plain) == 8);

    std::filesystem::rename(f.path, f.path + ".moved");   // somebody else's socket at our path
    {
        auto other = listen_on(f.path, 0600);
        REQUIRE(other);
        f.door.reset();
        CHECK(std::filesystem::exists(f.path));
    }
    auto again = Door::open(f.path, f.sockets, f.control);   // nobody listens on it any more
    REQUIRE(again);
    again->reset();
    CHECK_FALSE(std::filesystem::exists(f.path));
}

// ---- channels and requests ----------------------------------------------------------------------------------

TEST_CASE("hello: the host's name, or EPROTO for another version")
{
    DoorFixture f;
    RawClient c(f);
    const auto reply = c.call({.op = Op::hello, .id = 7, .arg = {control::protocol_version, 0, 0}});
    CHECK(reply.result == 0);
    CHECK(reply.id == 7);
    CHECK(text_of(reply.payload) == "test host");
    CHECK(c.call({.op = Op::hello, .arg = {99, 0, 0}}).result == -EPROTO);
    CHECK(c.call({.op = static_cast<Op>(4000)}).result == -EOPNOTSUPP);
}

TEST_CASE("a request without a descriptor, with one that is no socket, or with a stranger's")
{
    DoorFixture f;
    RawClient c(f);
    const Fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC)), stranger(::socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK(c.call({.op = Op::listen}).result == -EBADF);
    CHECK(c.call({.op = Op::listen}, file.get()).result == -ENOTSOCK);
    CHECK(c.call({.op = Op::listen}, stranger.get()).result == -EBADF);
    CHECK(c.call({.op = Op::listen}, c.channel()).result == -EBADF);
}

TEST_CASE("socket: kinds, and the name by which a client knows its descriptor again")
{
    DoorFixture f;
    RawClient c(f);
    struct Row {
        int domain, type, protocol;
        char letter;
        int native;
    };
    for (const auto& row :
         {Row{AF_INET, SOCK_STREAM, 0, 't', SOCK_STREAM}, Row{AF_INET6, SOCK_DGRAM, 0, 'u', SOCK_SEQPACKET},
          Row{AF_INET, SOCK_DGRAM, IPPROTO_ICMP, 'i', SOCK_SEQPACKET},
          Row{AF_KEY, SOCK_RAW, PF_KEY_V2, 'k', SOCK_SEQPACKET}}) {
        const auto fd = c.socket(row.domain, row.type | SOCK_NONBLOCK | SOCK_CLOEXEC, row.protocol);
        sockaddr_un name{};
        socklen_t size = sizeof name;
        REQUIRE(::getpeername(fd.get(), static_cast<sockaddr*>(static_cast<void*>(&name)), &size) == 0);
        CHECK(name.sun_path[0] == '\0');
        CHECK(std::string(name.sun_path + 1, 11) == std::string("latchkey/") + row.letter + ":");
        CHECK(native_option(fd.get(), SO_TYPE) == row.native);
        CHECK(c.get(fd, SOL_SOCKET, SO_DOMAIN) == row.domain);
    }
    c.socket(AF_UNIX, SOCK_STREAM, 0, -EAFNOSUPPORT);
    f.settle();
    CHECK(f.sockets.size() == 0);   // all descriptors were closed
}

TEST_CASE("texts: long ones come in pieces, errors with their reason")
{
    DoorFixture f;
    RawClient c(f);
    for (int i = 0; i < 9000; ++i)
        f.control.long_text += "counter_" + std::to_string(i) + " 12345\n";
    std::string got;
    for (int offset = 0;; offset = static_cast<int>(got.size())) {
        const auto reply = c.call({.op = Op::stat, .arg = {1, offset, 0}});
        CHECK(reply.result == static_cast<int>(f.control.long_text.size()));
        if (reply.payload.empty())
            break;
        got += text_of(reply.payload);
    }
    CHECK(got == f.control.long_text);
    CHECK(text_of(c.call({.op = Op::stat}).payload) == "for people\n");
    CHECK(text_of(c.call({.op = Op::route}).payload) == "default via 10.0.0.254\n");
    CHECK(text_of(c.call({.op = Op::link}).payload) == "net0 up\n");
    CHECK(c.call({.op = Op::address, .arg = {1, 0, 0}, .payload = bytes_of("10.9.9.9/24")}).result >= 0);
    CHECK(f.control.last == "10.9.9.9/24");
    const auto refused = c.call({.op = Op::address, .arg = {2, 0, 0}, .payload = bytes_of("10.9.9.9/24")});
    CHECK(refused.result == -EADDRNOTAVAIL);
    CHECK(text_of(refused.payload) == "no such address");
    CHECK(text_of(c.call({.op = Op::sysctl}).payload) == "net.inet.ipsec.dfbit=2\n");
    CHECK(text_of(c.call({.op = Op::sysctl, .arg = {1, 0, 0}, .payload = bytes_of("net.inet.ipsec.dfbit")}).payload) == "2");
    CHECK(c.call({.op = Op::sysctl, .arg = {2, 0, 0}, .payload = bytes_of("net.inet.ipsec.dfbit=1")}).result >= 0);
    CHECK(f.control.last == "net.inet.ipsec.dfbit=1");
}

TEST_CASE("a channel passed over another serves a child of fork, and credentials are taken per request")
{
    if (geteuid() != 0) {
        MESSAGE("skipped: setuid() in a child needs root");
        return;
    }
    DoorFixture f;
    RawClient parent(f);
    const auto shared = parent.socket(AF_INET, SOCK_DGRAM);
    const pid_t child = fork();
    if (child == 0) {
        int status = 0;
        const auto check = [&](bool ok, int which) { status = status == 0 && !ok ? which : status; };
        std::array<int, 2> ends{};
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends.data()) != 0)
            _exit(1);
        const Fd mine(ends[0]), hosts(ends[1]);
        // Straight away, before the host has seen its end: the request waits there and needs credentials all the same.
        send_request(mine.get(), {.op = Op::socket, .id = 1, .arg = {AF_KEY, SOCK_RAW, PF_KEY_V2}});
        send_request(parent.channel(), {.op = Op::new_channel}, hosts.get());
        check(take_reply(mine.get(), 5000).result == 0, 2);
        const auto address = control::socket_address(at("10.0.0.1", 5555));
        send_request(mine.get(), {.op = Op::bind, .id = 2, .address = address}, shared.get());   // the parent's socket
        check(take_reply(mine.get(), 5000).result == 0, 3);
        check(setgid(1000) == 0 && setuid(1000) == 0, 4);
        send_request(mine.get(), {.op = Op::socket, .id = 3, .arg = {AF_KEY, SOCK_RAW, PF_KEY_V2}});
        check(take_reply(mine.get(), 5000).result == -EPERM, 5);
        send_request(mine.get(), {.op = Op::socket, .id = 4, .arg = {AF_INET, SOCK_DGRAM, 0}});
        check(take_reply(mine.get(), 5000).result == 0, 6);
        send_request(mine.get(), {.op = Op::address, .id = 5, .arg = {1, 0, 0}});
        check(take_reply(mine.get(), 5000).result == -EPERM, 7);
        send_request(mine.get(), {.op = Op::address, .id = 6});
        check(take_reply(mine.get(), 5000).result >= 0, 8);
        for (int verb = 0; verb <= 3; ++verb) {   // only the third sets
            send_request(mine.get(), {.op = Op::sysctl, .id = 7, .arg = {verb, 0, 0}});
            const auto result = take_reply(mine.get(), 5000).result;
            check(verb == 2 ? result == -EPERM : result >= 0, 9);
        }
        _exit(status);
    }
    int status = -1;
    while (waitpid(child, &status, WNOHANG) == 0) {
        f.turn();
        usleep(200);
    }
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(parent.name(Op::getsockname, shared).port == 5555);
    f.settle();
    CHECK(f.sockets.size() == 1);   // what the child had is gone, the shared one stays
}

TEST_CASE("new_channel with nothing, a file, a stream, or a listening socket is counted and ignored")
{
    DoorFixture f;
    RawClient c(f);
    f.settle();
    const auto before = open_descriptors();
    const Fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC)), stream(::socket(AF_UNIX, SOCK_STREAM, 0));
    send_request(c.channel(), {.op = Op::new_channel});
    send_request(c.channel(), {.op = Op::new_channel}, file.get());
    send_request(c.channel(), {.op = Op::new_channel}, stream.get());
    f.settle();
    const auto ours = c.socket(AF_INET, SOCK_DGRAM);   // these would never hang up
    const auto second = connect_channel(f.path);
    send_request(c.channel(), {.op = Op::new_channel}, ours.get());
    send_request(c.channel(), {.op = Op::new_channel}, second.get());
    f.settle();
    CHECK(f.door->counters().malformed == 5);
    CHECK(open_descriptors() == before + 6);   // both ends of two, and ours
    CHECK(c.call({.op = Op::hello, .arg = {control::protocol_version, 0, 0}}).result == 0);
}

TEST_CASE("channels beyond the limit are closed, the others go on")
{
    DoorFixture f({.channels = 3});
    std::vector<Fd> channels;
    for (int i = 0; i < 6; ++i)
        channels.push_back(connect_channel(f.path));
    f.settle();
    int open = 0;
    for (const auto& fd : channels)
        open += (poll_now(fd, POLLIN) & POLLHUP) == 0 ? 1 : 0;
    CHECK(open == 3);
    CHECK(f.door->counters().channels_refused == 3);
    channels.clear();
    f.settle();
    RawClient late(f);
    CHECK(late.call({.op = Op::hello, .arg = {control::protocol_version, 0, 0}}).result == 0);
}

TEST_CASE("channels of which a client gave us both ends go when it has ended and they are in the way")
{
    DoorFixture f({.channels = 8});
    std::array<int, 2> sent{}, leave{};
    REQUIRE(pipe(sent.data()) == 0);
    REQUIRE(pipe(leave.data()) == 0);
    const pid_t child = fork();
    if (child == 0) {
        ::close(leave[1]);
        const auto trunk = connect_channel(f.path);
        for (int i = 0; i < 4; ++i) {
            std::array<int, 2> ends{};
            if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends.data()) != 0)
                _exit(1);
            for (const int fd : ends)
                send_request(trunk.get(), {.op = Op::new_channel}, fd);
        }
        char byte = 0;
        _exit(::write(sent[1], "", 1) == 1 && ::read(leave[0], &byte, 1) == 0 ? 0 : 1);
    }
    ::close(sent[1]);
    ::close(leave[0]);
    char byte = 0;
    REQUIRE(::read(sent[0], &byte, 1) == 1);   // everything is on its way
    f.settle();
    CHECK(f.door->counters().channels == 8);
    ::close(leave[1]);                         // now it ends
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    ::close(sent[0]);
    f.settle();
    RawClient first(f), second(f);             // there is room for one without them
    for (auto* c : {&first, &second})
        CHECK(c->call({.op = Op::hello, .arg = {control::protocol_version, 0, 0}}).result == 0);
}

TEST_CASE("garbage on a channel: EINVAL if there is somebody to answer, else the channel is closed")
{
    DoorFixture f;
    RawClient good(f);
    const auto fd = good.socket(AF_INET, SOCK_DGRAM);
    std::vector<std::uint8_t> raw(200);
    const std::vector<std::uint8_t> payload(20, 'p');
    const auto address = control::socket_address(at("10.0.0.1", 1));
    wire::Writer out(raw, wire::Order::host);
    control::Request{.op = Op::bind, .id = 77, .address = address, .payload = payload}.emit(out);
    const auto whole = out.written();
    for (std::size_t n = 1; n < whole.size(); ++n) {   // every prefix
        CAPTURE(n);
        const auto channel = connect_channel(f.path);
        REQUIRE(::send(channel.get(), whole.data(), n, 0) == static_cast<ssize_t>(n));
        f.settle(3);
        if (n < 8) {
            CHECK((poll_now(channel, POLLIN) & POLLHUP) != 0);
        } else {
            const auto reply = take_reply(channel.get());
            CHECK(reply.result == -EINVAL);
            CHECK(reply.id == 77);
        }
    }
    const std::vector<std::uint8_t> huge(control::max_record + 100, 0x01);
    const auto channel = connect_channel(f.path);
    REQUIRE(::send(channel.get(), huge.data(), huge.size(), 0) == static_cast<ssize_t>(huge.size()));
    f.settle(3);
    CHECK(take_reply(channel.get()).result == -EINVAL);
    CHECK(good.get(fd, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);
}

TEST_CASE("descriptors that nobody asked for do not stay open")
{
    DoorFixture f;
    RawClient c(f);
    const auto udp = c.socket(AF_INET, SOCK_DGRAM);
    f.settle();
    const auto before = open_descriptors();
    std::array<int, 10> fds{};
    for (auto& fd : fds)
        fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (const int target : {c.channel(), udp.get()}) {
        alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof fds)> ancillary{};
        std::array<std::uint8_t, 24> record{};
        iovec piece{record.data(), record.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = ancillary.data();
        message.msg_controllen = ancillary.size();
        auto* head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fds);
        std::memcpy(CMSG_DATA(head), fds.data(), sizeof fds);
        REQUIRE(::sendmsg(target, &message, 0) == static_cast<ssize_t>(record.size()));
    }
    for (const int fd : fds)
        ::close(fd);
    f.settle();
    CHECK(open_descriptors() == before);
}

// ---- datagrams ----------------------------------------------------------------------------------------------

TEST_CASE("UDP through descriptors: addresses, connected peers, large ones decided at once")
{
    DoorFixture f;
    RawClient c(f);
    const auto a = c.socket(AF_INET, SOCK_DGRAM), b = c.socket(AF_INET, SOCK_DGRAM);
    CHECK(c.bind(a, at("10.0.0.1", 5000)) == 0);
    CHECK(c.bind(b, at("10.0.0.1", 5001)) == 0);
    CHECK(c.bind(b, at("10.0.0.1", 5002)) == -EINVAL);
    CHECK(c.name(Op::getsockname, a) == at("10.0.0.1", 5000));
    CHECK(c.call({.op = Op::getpeername}, a.get()).result == -ENOTCONN);
    REQUIRE(send_datagram(a, at("10.0.0.1", 5001), "one"));
    f.settle(4);
    control::DataHeader header;
    CHECK(take_datagram(b, &header) == "one");
    CHECK(header.remote == at("10.0.0.1", 5000));
    CHECK(header.ttl == 64);

    CHECK(c.connect(b, at("10.0.0.1", 5000)) == 0);
    CHECK(c.name(Op::getpeername, b) == at("10.0.0.1", 5000));
    REQUIRE(send_datagram(b, {}, "two"));
    REQUIRE(send_datagram(b, {}, ""));
    f.settle(4);
    CHECK(take_datagram(a) == "two");
    CHECK(take_datagram(a) == "");
    CHECK(take_datagram(a) == "(none)");

    const std::string large(65'507, 'L');
    CHECK(c.send(b, bytes_of(large)).result == 65'507);
    CHECK(c.send(b, bytes_of(large + "x")).result == -EMSGSIZE);
    CHECK(c.send(a, bytes_of("x")).result == -EDESTADDRREQ);
    CHECK(c.send(a, bytes_of("x"), at("192.0.2.1", 1)).result == -ENETUNREACH);
    f.settle(4);
    CHECK(take_datagram(a) == large);

    REQUIRE(send_datagram(a, at("192.0.2.1", 1), "nobody is told at once"));
    f.settle(2);
    CHECK(c.get(a, SOL_SOCKET, SO_ERROR) == ENETUNREACH);
    const std::array<std::uint8_t, 5> brief{};
    REQUIRE(::send(a.get(), brief.data(), brief.size(), 0) == 5);
    REQUIRE(::send(a.get(), brief.data(), 0, 0) == 0);   // an empty record is not the end
    REQUIRE(send_datagram(a, at("10.0.0.1", 5001), "three"));
    f.settle(4);
    CHECK(f.door->counters().records_malformed == 2);
    CHECK(take_datagram(b) == "three");
}

TEST_CASE("order: what was sent before a control call goes out under the old state, and before close() everything")
{
    DoorFixture f;
    RawClient c(f);
    const auto a = c.socket(AF_INET, SOCK_DGRAM);
    auto b = c.socket(AF_INET, SOCK_DGRAM);
    REQUIRE(c.bind(a, at("10.0.0.1", 5000)) == 0);
    for (int ttl = 1; ttl <= 20; ++ttl) {
        REQUIRE(send_datagram(b, at("10.0.0.1", 5000), "before"));
        REQUIRE(c.set(b, IPPROTO_IP, IP_TTL, ttl) == 0);
    }
    for (int i = 0; i < 150; ++i)   // more than one turn takes in
        REQUIRE(send_datagram(b, at("10.0.0.1", 5000), "last"));
    b.reset();
    f.settle();
    control::DataHeader header;
    for (int ttl = 0; ttl < 20; ++ttl) {
        CHECK(take_datagram(a, &header) == "before");
        CHECK(header.ttl == (ttl == 0 ? 64 : ttl));
    }
    int n = 0;
    for (; take_datagram(a) == "last"; ++n)
        f.turn();
    CHECK(n == 150);
    CHECK(f.sockets.size() == 1);
}

TEST_CASE("ping through a descriptor")
{
    DoorFixture f;
    RawClient c(f);
    const auto fd = c.socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    const std::string request("\x08\0\0\0\0\0\0\x01hello", 13);
    REQUIRE(send_datagram(fd, at("10.0.0.1", 0), request));
    f.settle(4);
    const auto reply = take_datagram(fd);
    CHECK(reply.substr(0, 2) == std::string("\0\0", 2));
    CHECK(reply.substr(6) == request.substr(6));
}

// ---- PF_KEY -------------------------------------------------------------------------------------------------

TEST_CASE("PF_KEY: the answer is on the descriptor when send() returns, malformed is EINVAL with nothing queued")
{
    DoorFixture f;
    RawClient c(f);
    const auto fd = c.socket(AF_KEY, SOCK_RAW, PF_KEY_V2), other = c.socket(AF_KEY, SOCK_RAW, PF_KEY_V2);
    CHECK(c.send(fd, key_message(SADB_FLUSH, SADB_SATYPE_ESP, 9)).result == 16);
    CHECK(take_record(fd) == key_message(SADB_FLUSH, SADB_SATYPE_ESP, 9));
    CHECK(c.send(fd, bytes_of("garbage")).result == -EINVAL);
    CHECK(c.send(fd, {}).result == -EINVAL);
    CHECK(take_record(fd).empty());
    f.settle(3);
    CHECK(take_record(other).size() == 16);   // a flush is told to everybody

    // A descriptor that nobody interposes works too; what is malformed comes back with an errno inside.
    const auto get = key_message(SADB_DUMP, SADB_SATYPE_ESP, 3);
    REQUIRE(::send(other.get(), get.data(), get.size(), 0) == 16);
    REQUIRE(::send(other.get(), get.data(), 15, 0) == 15);
    f.settle(3);
    const auto empty = take_record(other);
    REQUIRE(empty.size() >= 16);
    CHECK(empty[1] == SADB_DUMP);
    const auto malformed = take_record(other);
    REQUIRE(malformed.size() >= 3);
    CHECK(malformed[2] == EINVAL);
}

TEST_CASE("PF_KEY: why the latest refused message was refused, socket by socket")
{
    DoorFixture f;
    RawClient c(f);
    const auto fd = c.socket(AF_KEY, SOCK_RAW, PF_KEY_V2), other = c.socket(AF_KEY, SOCK_RAW, PF_KEY_V2);
    const auto why = [&](const Fd& key) {
        const auto reply = c.call({.op = Op::reason}, key.get());
        CHECK(reply.result == 0);
        return text_of(reply.payload);
    };
    CHECK(why(fd).empty());
    CHECK(c.send(fd, key_message(SADB_FLUSH, SADB_SATYPE_ESP, 1)).result == 16);
    CHECK(why(fd).empty());
    CHECK(c.send(fd, bytes_of("garbage")).result == -EINVAL);   // refused by send()
    const auto malformed = why(fd);
    CHECK(!malformed.empty());
    CHECK(c.send(fd, key_message(SADB_DELETE, SADB_SATYPE_ESP, 2)).result == 16);   // refused by the answer
    const auto refused = why(fd);
    CHECK(!refused.empty());
    CHECK(refused != malformed);
    CHECK(c.send(fd, key_message(SADB_FLUSH, SADB_SATYPE_ESP, 3)).result == 16);
    CHECK(why(fd) == refused);
    CHECK(why(other).empty());

    const auto udp = c.socket(AF_INET, SOCK_DGRAM);
    CHECK(c.call({.op = Op::reason}, udp.get()).result == -EOPNOTSUPP);
    CHECK(c.call({.op = Op::reason}).result == -EBADF);
}

TEST_CASE("PF_KEY: a dump of 2,000 SAs through a descriptor of 8 KiB, one record at a time, is complete")
{
    DoorFixture f({.send_buffer = 8192});
    RawClient c(f);
    const auto fd = c.socket(AF_KEY, SOCK_RAW, PF_KEY_V2);
    for (std::uint32_t spi = 0x1000; spi < 0x1000 + 2000; ++spi) {
        REQUIRE(c.send(fd, add_sa(spi)).result > 0);
        const auto answer = take_record(fd);
        REQUIRE(answer.size() >= 16);
        REQUIRE(answer[2] == 0);
    }
    REQUIRE(c.send(fd, key_message(SADB_DUMP, SADB_SATYPE_ESP, 1)).result == 16);
    const auto other = c.socket(AF_INET, SOCK_DGRAM);
    std::vector<bool> seen(2000);
    std::size_t records = 0;
    bool last = false;
    while (!last) {
        auto record = take_record(fd);
        if (record.empty()) {
            f.settle(1);
            record = take_record(fd);
        }
        REQUIRE(record.size() > 32);
        REQUIRE(record[1] == SADB_DUMP);
        REQUIRE(record[2] == 0);
        last = wire::load<std::uint32_t>(Bytes(record).subspan<8, 4>(), wire::Order::host) == 0;
        const auto spi = spi_of(record);
        REQUIRE(spi - 0x1000 < 2000);
        CHECK_FALSE(seen[spi - 0x1000]);
        seen[spi - 0x1000] = true;
        ++records;
        if (records % 500 == 0)
            CHECK(c.get(other, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);   // others are served meanwhile
    }
    CHECK(records == 2000);
    f.settle(3);
    CHECK(take_record(fd).empty());
}

TEST_CASE("PF_KEY: a dump of 5,000 policies through a descriptor of 8 KiB, one record at a time, is complete")
{
    DoorFixture f({.send_buffer = 8192});
    RawClient c(f);
    const auto fd = c.socket(AF_KEY, SOCK_RAW, PF_KEY_V2);
    Message add;
    add.type = SADB_X_SPDADD;
    add.policy = PolicyExt{IPSEC_POLICY_DISCARD, IPSEC_DIR_OUTBOUND, 0, 0, {}};
    add.source = AddressExt{ip_proto::udp, 32, at("10.0.0.1", 0)};
    for (unsigned i = 0; i < 5000; ++i) {
        add.destination = AddressExt{ip_proto::udp, 32, at("10.0.0.2", static_cast<std::uint16_t>(i + 1))};
        REQUIRE(c.send(fd, add.bytes()).result > 0);
        REQUIRE(take_record(fd).size() > 16);
    }
    Message dump;
    dump.type = SADB_X_SPDDUMP;
    REQUIRE(c.send(fd, dump.bytes()).result == 16);
    std::vector<bool> seen(5001);
    std::size_t most = 0;
    for (std::size_t records = 0; records < 5000; ++records) {
        auto record = take_record(fd);
        if (record.empty()) {
            f.settle(1);
            record = take_record(fd);
        }
        const auto message = Message::parse(record);
        REQUIRE(message.has_value());
        REQUIRE(message->destination.has_value());
        const auto number = message->destination->endpoint.port;
        CHECK_FALSE(seen[number]);
        seen[number] = true;
        CHECK((message->seq == 0) == (records == 4999));
        std::size_t queued = 0;
        for (KeySocketId id = 0; id < 4; ++id)
            queued += f.engine.stats(id).queued_bytes;
        REQUIRE(queued <= EngineLimits{}.queue_bytes);
        most = std::max(most, queued);
    }
    CHECK(most > 0);   // it was the limit that held it
}

// ---- clients that misbehave ---------------------------------------------------------------------------------

TEST_CASE("a client that never reads is not waited for")
{
    DoorFixture f;
    RawClient lazy(f), busy(f);
    const auto sink = lazy.socket(AF_INET, SOCK_DGRAM), deaf = lazy.socket(AF_KEY, SOCK_RAW, PF_KEY_V2);
    REQUIRE(lazy.bind(sink, at("10.0.0.1", 5000)) == 0);
    const auto a = busy.socket(AF_INET, SOCK_DGRAM), b = busy.socket(AF_INET, SOCK_DGRAM);
    const auto key = busy.socket(AF_KEY, SOCK_RAW, PF_KEY_V2);
    REQUIRE(busy.bind(b, at("10.0.0.1", 5001)) == 0);
    const std::string payload(1000, 'q');
    for (int i = 0; i < 2000; ++i) {
        REQUIRE(send_datagram(a, at("10.0.0.1", 5000), payload));
        REQUIRE(send_datagram(a, at("10.0.0.1", 5001), payload));
        f.settle(2);
        REQUIRE(take_datagram(b) == payload);
        if (i % 10 == 0) {
            REQUIRE(busy.send(key, key_message(SADB_FLUSH, SADB_SATYPE_ESP, 1)).result == 16);
            REQUIRE(take_record(key).size() == 16);
        }
    }
    CHECK(f.sockets.counters().datagrams_dropped > 1000);   // a bounded queue each in the descriptor and in the socket
    CHECK(f.sockets.counters().datagrams_dropped < 1950);
    // Requests without ever taking an answer: the channel is closed, not fed.
    for (int i = 0; i < 5000; ++i) {
        std::array<std::uint8_t, 24> raw{};
        wire::Writer out(raw, wire::Order::host);
        control::Request{.op = Op::hello, .arg = {control::protocol_version, 0, 0}}.emit(out);
        if (::send(lazy.channel(), raw.data(), raw.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            break;
        f.turn();
    }
    CHECK(busy.get(a, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);
    CHECK_FALSE(f.turn());   // and nothing spins
}

TEST_CASE("clients killed at every step leave nothing behind")
{
    DoorFixture f;
    f.settle();
    const auto before = open_descriptors();
    for (int steps = 0; steps <= 9; ++steps) {
        CAPTURE(steps);
        const pid_t child = fork();
        if (child == 0) {
            int left = steps;
            const auto step = [&] {
                if (left-- == 0)
                    raise(SIGKILL);
            };
            step();
            const auto channel = connect_channel(f.path);
            step();
            send_request(channel.get(), {.op = Op::socket, .arg = {AF_INET, SOCK_STREAM, 0}});
            step();
            const auto listener = take_reply(channel.get(), 5000).fd;
            step();
            const auto address = control::socket_address(at("10.0.0.1", 7100));
            send_request(channel.get(), {.op = Op::bind, .address = address}, listener.get());
            (void)take_reply(channel.get(), 5000);
            send_request(channel.get(), {.op = Op::listen, .arg = {4, 0, 0}}, listener.get());
            step();
            (void)take_reply(channel.get(), 5000);
            send_request(channel.get(), {.op = Op::socket, .arg = {AF_INET, SOCK_STREAM, 0}});
            const auto client = take_reply(channel.get(), 5000).fd;
            send_request(channel.get(), {.op = Op::connect, .address = address}, client.get());
            step();   // the reply is on its way
            (void)take_reply(channel.get(), 5000);
            step();   // the accepted connection lies in the listener's descriptor
            const std::string data(100'000, 'd');
            (void)::send(client.get(), data.data(), data.size(), MSG_DONTWAIT);
            step();
            send_request(channel.get(), {.op = Op::socket, .arg = {AF_KEY, SOCK_RAW, PF_KEY_V2}});
            const auto key = take_reply(channel.get(), 5000).fd;
            step();
            send_request(channel.get(), {.op = Op::send, .payload = key_message(SADB_REGISTER, SADB_SATYPE_ESP, 1)},
                         key.get());
            raise(SIGKILL);
        }
        int status = 0;
        while (waitpid(child, &status, WNOHANG) == 0) {
            f.turn();
            usleep(100);
        }
        CHECK(WIFSIGNALED(status));
        f.settle();
        for (int i = 0; i < 100 && f.sockets.size() != 0; ++i)
            f.lo.advance(std::chrono::milliseconds(50)), f.turn();
        CHECK(f.sockets.size() == 0);
        CHECK(open_descriptors() == before);
    }
}
