// SPDX-License-Identifier: BSD-2-Clause
// Drives a simulated host as people do: setkey scripts, sockets, a look at the wire.
#pragma once

#include "support/sim.hpp"

#include <string>

namespace latchkey::sim {

// Runs a setkey script on the host's key engine. Returns "" or what was refused, with its line.
std::string setkey(World& world, Instance& host, std::string_view script);

// One PF_KEY message from `socket`; the answers are returned as bytes.
std::vector<std::vector<std::uint8_t>> key_exchange(World& world, Instance& host, KeySocketId socket, const Message& message);
std::vector<std::vector<std::uint8_t>> key_receive(World& world, Instance& host, KeySocketId socket);

struct Endpoints {   // the two hosts of a pair, by address
    Address a, b;
};

// Both directions of a manually keyed pair for the host at `from`: SAs both ways and `require` policies out, in and fwd.
struct Protection {
    std::string algorithm = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213";
    bool tunnel = false;
    Endpoints inner, outer;          // of a tunnel; transport uses inner
    std::string upper = "any";       // upper-layer protocol of the policies
    std::string port;                // "[4444]" on the side of b, or empty
    std::string level = "require";
    bool in_udp = false;             // ESP in UDP, port 4500 on both sides
    bool compressed = false;         // IPComp inside ESP
    std::string ah{};                // an AH algorithm: AH in transport mode around ESP
};
std::string pair_script(const Protection& p, bool for_a);

// What a frame on the wire is.
struct Sniffed {
    bool ip = false;                 // IPv4 or IPv6
    bool esp = false;                // ESP, or a fragment of it
    bool link_control = false;       // neighbour discovery, MLD, IGMP
    bool fragment = false;
    std::size_t ip_size = 0;
    Address source, destination;
};
Sniffed look(Bytes frame);

}  // namespace latchkey::sim
