// SPDX-License-Identifier: BSD-2-Clause
// A wire carries Ethernet frames between this host and others. Decorators (pcap, faults) wear any wire.
#pragma once

#include "pfkey/engine.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace latchkey {

// Frames are Ethernet frames without preamble and checksum. Shorter or longer ones are refused, in both directions.
inline constexpr std::size_t min_frame = 14;
inline constexpr std::size_t max_frame = 65535;

struct WireStats {
    std::uint64_t sent = 0, received = 0;
    std::uint64_t dropped = 0;   // did not fit a full queue, or the peer was gone; by chance, on a wire with faults
    std::uint64_t refused = 0;   // shorter than min_frame or longer than max_frame
};

class Wire {
public:
    virtual ~Wire() = default;

    // Takes a frame; it may be dropped or sent later, never partly. Does not block.
    virtual void send(Bytes frame, Time now) = 0;

    // Hands up to `budget` received frames to `sink` (views valid during the call). Returns how many; fewer than
    // budget means that nothing more is waiting. Does not block.
    virtual std::size_t receive(const std::function<void(MutableBytes)>& sink, std::size_t budget, Time now) = 0;

    // File descriptors to wait on; the set may change after send() or receive() (see generation()).
    struct Watch {
        int fd;
        bool readable, writable;
    };
    virtual std::vector<Watch> watches() const { return {}; }
    virtual unsigned generation() const { return 0; }   // moves when watches() changed

    // When this wire wants receive() called without any fd event (held frames of the fault decorator).
    virtual Time next_deadline() const { return Time::max(); }

    virtual std::string name() const = 0;
    virtual WireStats stats() const { return {}; }
};

// "tap:NAME" or "unix:PATH", then options after commas: pcap=FILE, loss=PERCENT, duplicate=PERCENT, reorder=PERCENT,
// corrupt=PERCENT, seed=N. PATH is a directory that all hosts of one segment share (made if absent, mode 0700).
// The error text says which part was not understood and what was expected.
// With both, a capture shows what went out after the faults.
struct WireSpec {
    std::string kind = {}, target = {};
    std::string pcap = {};
    double loss = 0, duplicate = 0, reorder = 0, corrupt = 0;   // 0..1
    std::uint64_t seed = 1;
};
std::expected<WireSpec, std::string> parse_wire_spec(std::string_view text);
std::expected<std::unique_ptr<Wire>, std::string> open_wire(const WireSpec& spec);

std::expected<std::unique_ptr<Wire>, std::string> open_tap(const std::string& name);
std::expected<std::unique_ptr<Wire>, std::string> open_segment(const std::string& directory);
std::expected<std::unique_ptr<Wire>, std::string> add_pcap(std::unique_ptr<Wire> inner, const std::string& file,
                                                           std::int64_t wall_offset_seconds);
std::unique_ptr<Wire> add_faults(std::unique_ptr<Wire> inner, const WireSpec& faults);

}  // namespace latchkey
