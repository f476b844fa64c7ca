// SPDX-License-Identifier: BSD-2-Clause
// One host: lwIP, key engine, IPsec walk, choke layer, sockets. Steppable: frames in, frames out, client calls in, step(now),
// next_deadline(); it reads no clock and owns no file descriptor. lwIP has globals, so one Host per copy of this code.
#pragma once

#include "pfkey/engine.hpp"
#include "stack/choke.hpp"
#include "stack/host_config.hpp"
#include "stack/host_control.hpp"
#include "stack/sockets.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace latchkey {

class Host : public HostControl {
public:
    // Errors of the configuration come back as text; `now` is the host's first instant.
    static std::expected<std::unique_ptr<Host>, std::string> create(const HostConfig& config, Rng& rng, Time now);
    ~Host() override;

    // An Ethernet frame from, or to, the wire of interface net<port>.
    void frame_in(unsigned port, Bytes frame, Time now);
    std::function<void(unsigned port, Bytes frame)> frame_out;

    // An address, route or link has changed, in words: "address add 10.0.0.1/24 dev net0".
    std::function<void(std::string_view event)> on_change;

    // One line for people, about something that a debug tunable asks for; a flood is cut to a few lines a second.
    std::function<void(std::string_view line)> log;

    bool step(Time now);                   // true: more work is waiting
    Time next_deadline() const;

    Engine& engine() { return *engine_; }
    Sockets& sockets() { return *sockets_; }
    Walk& walk() { return *walk_; }
    PacketPool& pool() { return pool_; }

    // HostControl: what the `latchkey` tool asks for.
    std::string stat(int style) override;
    Result<std::string> address(int verb, std::string_view text) override;
    Result<std::string> route(int verb, std::string_view text) override;
    Result<std::string> link(int verb, std::string_view text) override;
    Result<std::string> sysctl(int verb, std::string_view text) override;
    const std::string& name() const override { return config_.name; }

    Result<> set_tunable(std::string_view name, std::string_view value);

private:
    Host(const HostConfig& config, Rng& rng, Time now);
    std::string configure();               // empty, or what is wrong
    Interface& add_interface(unsigned port, const InterfaceConfig* config);
    void add_loopback();
    Result<> add_address(Interface& to, const Prefix& address);
    Result<> remove_address(const Prefix& address, const std::string& interface);
    Result<> add_route(const RouteConfig& route);
    Interface* find_interface(std::string_view name);
    void apply_tunables();
    std::int64_t computed(Tunable id) const;
    void log_drop(Drop why, const Packet& packet);
    void log_refused(KeySocketId socket, std::uint8_t type, const Error& error);
    void say(std::string_view line);
    void changed(std::string_view event);

    HostConfig config_;
    Rng& rng_;
    PacketPool pool_;
    RouteTable routes_;
    SocketIndex index_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<CipherBackend> cipher_;
    std::unique_ptr<Walk> walk_;
    std::vector<std::unique_ptr<Interface>> interfaces_;
    std::unique_ptr<Choke> choke_;
    std::unique_ptr<Sockets> sockets_;
    std::uint64_t generation_ = 0;
    Time log_second_{0};
    unsigned log_lines_ = 0, log_left_out_ = 0;   // in that second
};

}  // namespace latchkey
