// SPDX-License-Identifier: BSD-2-Clause
// pfkey_send() and pfkey_recv() on any descriptor that keeps records, without a host; what a host decides is in
// tests/include/bsd_source.c.
#include <libpfkey.h>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Received = std::unique_ptr<sadb_msg, Free>;

class Pair {
public:
    Pair() { REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends_.data()) == 0); }
    ~Pair()
    {
        ::close(ends_[0]);
        hang_up();
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;

    int program() const { return ends_[0]; }
    void give(const void* data, std::size_t size) const { REQUIRE(::send(ends_[1], data, size, 0) >= 0); }
    ssize_t take(void* data, std::size_t size) const { return ::recv(ends_[1], data, size, MSG_DONTWAIT); }
    void hang_up()
    {
        if (ends_[1] >= 0)
            ::close(ends_[1]);
        ends_[1] = -1;
    }

private:
    std::array<int, 2> ends_{};
};

sadb_msg header(std::size_t size)
{
    sadb_msg message{};
    message.sadb_msg_version = PF_KEY_V2;
    message.sadb_msg_type = SADB_DUMP;
    message.sadb_msg_len = static_cast<std::uint16_t>(PFKEY_UNIT64(size));
    return message;
}

}  // namespace

TEST_CASE("messages come whole, one by one, whatever their size")
{
    const Pair pair;
    std::vector<char> large(100'000);
    const auto start = header(large.size());
    std::memcpy(large.data(), &start, sizeof start);
    large.back() = 'x';
    const auto small = header(sizeof(sadb_msg));
    pair.give(large.data(), large.size());
    pair.give(&small, sizeof small);

    const Received first(pfkey_recv(pair.program()));
    REQUIRE(first);
    CHECK(std::memcmp(first.get(), large.data(), large.size()) == 0);
    CHECK(latchkey_ipsec_error() == EIPSEC_NO_ERROR);
    const Received second(pfkey_recv(pair.program()));
    REQUIRE(second);
    CHECK(second->sadb_msg_len == 2);
}

TEST_CASE("a record that is no message is dropped, the next one is read")
{
    const Pair pair;
    const auto good = header(sizeof(sadb_msg)), too_long = header(24);
    pair.give("short", 5);
    pair.give(&too_long, sizeof too_long);
    pair.give(&good, sizeof good);
    for (int i = 0; i < 2; ++i) {
        CHECK(pfkey_recv(pair.program()) == nullptr);
        CHECK(latchkey_ipsec_error() == EIPSEC_INVAL_SADBMSG);
    }
    CHECK(Received(pfkey_recv(pair.program())));
}

TEST_CASE("nothing to read, nobody there, no socket")
{
    Pair pair;
    REQUIRE(::fcntl(pair.program(), F_SETFL, O_NONBLOCK) == 0);
    CHECK(pfkey_recv(pair.program()) == nullptr);
    CHECK(errno == EAGAIN);
    CHECK(latchkey_ipsec_error() == EIPSEC_SYSTEM_ERROR);
    CHECK(std::string(ipsec_strerror()) == std::strerror(EAGAIN));
    pair.hang_up();
    CHECK(pfkey_recv(pair.program()) == nullptr);
    CHECK(errno == ENETDOWN);
    auto message = header(sizeof(sadb_msg));
    CHECK(pfkey_send(pair.program(), &message, sizeof message) == -1);   // and no SIGPIPE
    CHECK(errno == EPIPE);
    CHECK(pfkey_recv(-1) == nullptr);
    CHECK(errno == EBADF);
    CHECK(pfkey_send(-1, &message, sizeof message) == -1);
    CHECK(errno == EBADF);
    CHECK(pfkey_send(pair.program(), nullptr, 16) == -1);
    CHECK(pfkey_send(pair.program(), &message, -1) == -1);
    CHECK(latchkey_ipsec_error() == EIPSEC_INVAL_ARGUMENT);
}

TEST_CASE("sending hands over the bytes and returns their number")
{
    const Pair pair;
    CHECK(pfkey_send_flush(pair.program(), SADB_SATYPE_AH) == 16);
    sadb_msg got{};
    REQUIRE(pair.take(&got, sizeof got) == sizeof got);
    CHECK(got.sadb_msg_type == SADB_FLUSH);
    CHECK(got.sadb_msg_satype == SADB_SATYPE_AH);
    CHECK(got.sadb_msg_pid == static_cast<std::uint32_t>(::getpid()));
}

TEST_CASE("buffers grow and never shrink")
{
    const Pair pair;
    const int before = pfkey_set_buffer_size(pair.program(), 0);
    REQUIRE(before > 0);
    CHECK(pfkey_set_buffer_size(pair.program(), 1) == before);
    CHECK(pfkey_set_buffer_size(pair.program(), before + 1) >= before);
    CHECK(pfkey_set_buffer_size(-1, 64) == -1);
}

TEST_CASE("without a host: a system without PF_KEY, and where one was looked for")
{
    ::setenv("LATCHKEY", "/nonexistent/host.sock", 1);
    CHECK(pfkey_open() == -1);
    CHECK(errno == EAFNOSUPPORT);
    CHECK(std::string(ipsec_strerror()) ==
          "Address family not supported by protocol: no Latchkey host at /nonexistent/host.sock");
}
