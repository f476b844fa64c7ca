// SPDX-License-Identifier: BSD-2-Clause
// A whole host behind one interface of virtual functions. lwIP keeps its state in globals, so several hosts in one process
// are several private copies of the host library (liblatchkey-host.so), each loaded by itself; this is what they show.
#pragma once

#include "stack/host_config.hpp"
#include "stack/sockets.hpp"

namespace latchkey {

class Instance {
public:
    virtual ~Instance() = default;

    virtual void frame_in(unsigned port, Bytes frame, Time now) = 0;
    virtual bool step(Time now) = 0;                 // true: more work is waiting
    virtual Time next_deadline() const = 0;

    virtual Result<KeySocketId> key_open() = 0;
    virtual void key_close(KeySocketId id) = 0;
    virtual Result<> key_send(KeySocketId id, Bytes record, Time now) = 0;
    virtual Bytes key_front(KeySocketId id) const = 0;
    virtual void key_pop(KeySocketId id, Time now) = 0;

    virtual SysResult<SocketId> open(int domain, int type, int protocol) = 0;
    virtual void close(SocketId id) = 0;
    virtual SysResult<> bind(SocketId id, const Endpoint& local) = 0;
    virtual SysResult<> connect(SocketId id, const Endpoint& remote) = 0;
    virtual SysResult<> listen(SocketId id, int backlog) = 0;
    virtual SysResult<SocketId> accept(SocketId id) = 0;
    virtual SysResult<> shutdown(SocketId id, int how) = 0;
    virtual SysResult<> set_option(SocketId id, int level, int name, Bytes value) = 0;
    virtual SysResult<std::size_t> get_option(SocketId id, int level, int name, MutableBytes room) = 0;
    virtual SysResult<std::size_t> write(SocketId id, Bytes data) = 0;
    virtual SysResult<std::size_t> read(SocketId id, MutableBytes room) = 0;
    virtual SysResult<> send_datagram(SocketId id, const Endpoint& to, Bytes payload) = 0;
    virtual bool receive_datagram(SocketId id, Endpoint& from, std::vector<std::uint8_t>& payload) = 0;
    virtual unsigned take_events(SocketId id) = 0;   // socket_event bits since the last call

    virtual std::string stat(int style) = 0;
    virtual Result<std::string> address(int verb, std::string_view text) = 0;
    virtual Result<std::string> route(int verb, std::string_view text) = 0;
    virtual Result<std::string> link(int verb, std::string_view text) = 0;
    virtual Result<> set_tunable(std::string_view name, std::string_view value) = 0;
    virtual std::size_t buffers_in_use() const = 0;
    virtual std::int64_t tunable(Tunable id) const = 0;
    virtual void on_log(std::function<void(std::string_view line)> log) = 0;
};

using FrameSink = std::function<void(unsigned port, Bytes frame)>;

// What the library exports, as "latchkey_instance_create". Null on a bad configuration, with the reason in *error.
using InstanceCreate = Instance*(const HostConfig& config, std::uint64_t seed, Time now, const FrameSink& frame_out,
                                 std::string* error);

}  // namespace latchkey
