// SPDX-License-Identifier: BSD-2-Clause
// The host side of the control protocol, reduced to what tests of the client side need, in a process of its own. It
// answers from the request alone, so that a test can tell whose answer it got; it has no stack.
#pragma once

#include <sys/types.h>

#include <string>

namespace latchkey::test {

// What the fake host does beyond the obvious:
//   send (PF_KEY)        a message of the wrong length is -EINVAL; otherwise it comes back twice on the socket
//   send (datagram)      more than 65,507 bytes: -EMSGSIZE
//   datagrams            come back to the sender
//   send (ICMP echo)     to 192.0.2.66: -EPERM; to 192.0.2.99: lost; otherwise answered, the second of a socket twice
//   getsockopt           `credentials_level`: pid and uid of this request; `slow_level`: answers after `name` ms, then
//                        as others; others: level and name as two 32-bit numbers
//   listen               at once, one connection per unit of backlog is there, from 192.0.2.1 port 1000 + n; it sends
//                        "n" and ends
//   connect              to port 1: never answered; to port 2: ECONNREFUSED
//   hello                its name is "fake"
//   stat                 `stat_size` bytes in several parts
//   sysctl               four tunables: net.key.debug (0 to 0x7fffffff), net.key.spi_maxval (256 to 0xffffffff),
//                        net.inet.ipsec.ecn (-1 to 1), and net.inet.ipsec.used (1), which is read only
//   reason               "not a whole message" once a PF_KEY message had the wrong length
inline constexpr int credentials_level = 90001, slow_level = 90002;
inline constexpr std::size_t stat_size = 150'000;

class FakeHost {
public:
    FakeHost();    // at a path of its own
    ~FakeHost();
    FakeHost(const FakeHost&) = delete;
    FakeHost& operator=(const FakeHost&) = delete;

    const char* path() const { return path_.c_str(); }
    const std::string& directory() const { return directory_; }
    void start();
    void kill();   // without warning
    pid_t process() const { return process_; }

private:
    std::string directory_, path_;
    pid_t process_ = -1;
};

}  // namespace latchkey::test
