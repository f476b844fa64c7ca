// SPDX-License-Identifier: BSD-2-Clause
// Runs a script against a key socket: parses, builds, sends, and tells what came back. Requests are pipelined: up to
// `window` are under way, each answer finds its request by sadb_msg_seq, and a refusal is told at its own line. Dumps
// wait for what is before them. main.cpp owns one Runner.
#pragma once

#include "setkey/build.hpp"
#include "setkey/channel.hpp"
#include "setkey/parser.hpp"
#include "setkey/print.hpp"

#include <bitset>
#include <cstdio>
#include <deque>

namespace latchkey::setkey {

enum class Style : std::uint8_t {
    script,   // -f: messages on stderr, "setkey: FILE:LINE:COLUMN: ..."; ends at the first command it cannot read
    line,     // -c and the like: messages on stdout; skips a command that it cannot read
};

struct RunnerOptions {
    Style style = Style::script;
    BuildOptions build;
    ParseOptions parse;
    std::uint32_t pid = 0;               // for sadb_msg_pid
    bool verbose = false;                // -v
    bool hex = false;                    // -h, -H
    bool ports = false;                  // -p
    bool dead = false;                   // -a: dump dead SAs as well
    bool brief = false;                  // -l: one line per SA
    bool hide_socket_policies = false;   // -N
    std::chrono::milliseconds patience{10'000};   // how long an answer may take
    std::function<std::int64_t()> now;   // seconds since 1970
};

class Runner {
public:
    Runner(KeyChannel& channel, RunnerOptions options, std::FILE* out, std::FILE* err);

    // REGISTER for no SA type: is there a host, and what does it offer? False: there is none, as told on err.
    bool greet();
    // Every command of the source. False: stop reading (exit, or the host is gone).
    bool run(const Source& source);
    // -x: everything that any key socket sends or receives, with the time, until the host is gone.
    void monitor(bool raw_time);

    std::size_t refused() const { return refused_; }          // commands that the host turned down
    std::size_t unreadable() const { return unreadable_; }    // commands that could not be parsed
    bool lost() const { return lost_; }                       // the host did not answer, or is gone

    static constexpr std::size_t window = 64;

private:
    // A request that waits for its answer; enough of it to name it.
    struct Pending {
        std::uint32_t seq = 0;
        std::uint8_t type = 0;
        bool copy = false;                      // of an `in` policy, for forwarded packets
        Verb verb = Verb::quit;
        std::size_t offset = 0;
        AddressExt source, destination;
        const SaProtocol* protocol = nullptr;
        std::uint32_t spi = 0;
        std::uint8_t direction = 0;
        const Algorithm* cipher = nullptr;
        const Algorithm* auth = nullptr;
        std::string text() const;
    };

    void parse_error(const Diagnostic& error);
    void submit(const Command& command, const Message& message, bool copy);
    bool transmit();
    bool receive(std::chrono::milliseconds wait);
    void drain(std::size_t allowed);
    void answer(Bytes record);
    bool settle(const Pending& request, const MessageHeader& header, Bytes record);
    void show(const Pending& request, Bytes record);
    void refuse(const Pending& request, int error);
    void empty_table(const Pending& request);
    std::string missing_algorithm(const Pending& request) const;

    void tell(std::size_t offset, const std::string& text);
    void lose(const std::string& text);
    void trace(Bytes record);
    void write_text();
    PrintOptions print_options() const;

    KeyChannel& channel_;
    RunnerOptions options_;
    std::FILE* out_;
    std::FILE* err_;
    const Source* source_ = nullptr;
    std::deque<Pending> pending_;
    std::vector<std::uint8_t> outgoing_, incoming_;
    std::string text_;                   // for out_, written in large pieces
    std::uint32_t next_seq_;
    std::bitset<256> offered_ciphers_, offered_auths_;
    bool greeted_ = false;
    std::size_t progress_ = 0;           // answers so far
    std::size_t refused_ = 0, unreadable_ = 0;
    bool lost_ = false;
};

}  // namespace latchkey::setkey
