// SPDX-License-Identifier: BSD-2-Clause
// The only symbol that liblatchkey-host.so shows: makes the host of this private copy of the stack.
#include "stack/instance.hpp"

#include "stack/host.hpp"

#include <unordered_map>

namespace latchkey {

namespace {

// xoshiro256**-like quality is not needed: a test's randomness must repeat from its seed, nothing else.
class SeededRng : public Rng {
public:
    explicit SeededRng(std::uint64_t seed) : state_(seed) {}
    void fill(MutableBytes out) override
    {
        for (auto& byte : out) {
            state_ += 0x9e3779b97f4a7c15u;
            byte = static_cast<std::uint8_t>(mix(state_) >> 24);
        }
    }

private:
    std::uint64_t state_;
};

class HostInstance : public Instance {
public:
    HostInstance(std::uint64_t seed, FrameSink out) : rng_(seed), out_(std::move(out)) {}

    std::string start(const HostConfig& config, Time now)
    {
        auto host = Host::create(config, rng_, now);
        if (!host)
            return host.error();
        host_ = std::move(*host);
        host_->frame_out = out_;
        host_->sockets().on_event = [this](SocketId id, unsigned events) { events_[id] |= events; };
        return {};
    }

    void frame_in(unsigned port, Bytes frame, Time now) override { host_->frame_in(port, frame, now); }
    bool step(Time now) override { return host_->step(now); }
    Time next_deadline() const override { return host_->next_deadline(); }

    Result<KeySocketId> key_open() override { return host_->engine().open_key_socket(); }
    void key_close(KeySocketId id) override { host_->engine().close_key_socket(id); }
    Result<> key_send(KeySocketId id, Bytes record, Time now) override { return host_->engine().handle(id, record, now); }
    Bytes key_front(KeySocketId id) const override { return host_->engine().front(id); }
    void key_pop(KeySocketId id, Time now) override { host_->engine().pop(id, now); }

    SysResult<SocketId> open(int domain, int type, int protocol) override
    {
        return host_->sockets().open(domain, type, protocol, {1, 0, 0});
    }
    void close(SocketId id) override { host_->sockets().close(id); }
    SysResult<> bind(SocketId id, const Endpoint& local) override { return host_->sockets().bind(id, local); }
    SysResult<> connect(SocketId id, const Endpoint& remote) override { return host_->sockets().connect(id, remote); }
    SysResult<> listen(SocketId id, int backlog) override { return host_->sockets().listen(id, backlog); }
    SysResult<SocketId> accept(SocketId id) override { return host_->sockets().accept(id); }
    SysResult<> shutdown(SocketId id, int how) override { return host_->sockets().shutdown(id, how); }
    SysResult<> set_option(SocketId id, int level, int name, Bytes value) override
    {
        return host_->sockets().set_option(id, level, name, value);
    }
    SysResult<std::size_t> get_option(SocketId id, int level, int name, MutableBytes room) override
    {
        return host_->sockets().get_option(id, level, name, room);
    }
    SysResult<std::size_t> write(SocketId id, Bytes data) override { return host_->sockets().write(id, data); }
    SysResult<std::size_t> read(SocketId id, MutableBytes room) override { return host_->sockets().read(id, room); }
    SysResult<> send_datagram(SocketId id, const Endpoint& to, Bytes payload) override
    {
        return host_->sockets().send_datagram(id, to, payload);
    }
    bool receive_datagram(SocketId id, Endpoint& from, std::vector<std::uint8_t>& payload) override
    {
        DatagramView view;
        if (!host_->sockets().front_datagram(id, view))
            return false;
        from = view.header.remote;
        payload.clear();
        for (const auto part : view.payload)
            payload.insert(payload.end(), part.begin(), part.end());
        host_->sockets().pop_datagram(id);
        return true;
    }
    unsigned take_events(SocketId id) override { return std::exchange(events_[id], 0u); }

    std::string stat(int style) override { return host_->stat(style); }
    Result<std::string> address(int verb, std::string_view text) override { return host_->address(verb, text); }
    Result<std::string> route(int verb, std::string_view text) override { return host_->route(verb, text); }
    Result<std::string> link(int verb, std::string_view text) override { return host_->link(verb, text); }
    Result<> set_tunable(std::string_view name, std::string_view value) override { return host_->set_tunable(name, value); }
    std::size_t buffers_in_use() const override { return host_->pool().in_use(); }
    std::int64_t tunable(Tunable id) const override { return host_->engine().tunables().get(id); }
    void on_log(std::function<void(std::string_view line)> log) override { host_->log = std::move(log); }

private:
    SeededRng rng_;
    FrameSink out_;
    std::unordered_map<SocketId, unsigned> events_;
    std::unique_ptr<Host> host_;
};

}  // namespace

}  // namespace latchkey

extern "C" __attribute__((visibility("default"))) latchkey::Instance*
latchkey_instance_create(const latchkey::HostConfig& config, std::uint64_t seed, latchkey::Time now,
                         const latchkey::FrameSink& frame_out, std::string* error)
{
    auto instance = std::make_unique<latchkey::HostInstance>(seed, frame_out);
    *error = instance->start(config, now);
    return error->empty() ? instance.release() : nullptr;
}
