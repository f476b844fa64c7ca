// SPDX-License-Identifier: BSD-2-Clause
// Runs a script against a key socket: parses, builds, sends, and tells what came back. Requests are pipelined: up to
// `window` are under way, each answer finds its request by sadb_msg_seq, and a refusal is told at its own line. Dumps
// wait for what is before them. With --atomic the host keeps what it is sent until all of it is there. main.cpp owns
// one Runner.
#pragma once

#include "setkey/build.hpp"
#include "setkey/channel.hpp"
#include "setkey/json.hpp"
#include "setkey/output.hpp"
#include "setkey/parser.hpp"
#include "setkey/print.hpp"

#include <bitset>
#include <cstdio>
#include <deque>
#include <set>

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
    bool one_line = false;               // --oneline
    bool json = false;                   // --json, for dumps
    JsonOptions with;                    // --keys
    bool hide_socket_policies = false;   // -N
    std::chrono::milliseconds patience{10'000};   // how long an answer may take
    std::function<std::int64_t()> now;   // seconds since 1970
};

class Runner {
public:
    Runner(KeyChannel& channel, RunnerOptions options, Output& out, std::FILE* err);

    // REGISTER for no SA type: is there a host, and what does it offer? False: there is none, as told on err.
    bool greet();
    // Every command of the source. False: stop reading (exit, or the host is gone).
    bool run(const Source& source);
    // --atomic: all commands of the source or none. Counts as one refusal if it is none.
    void run_as_one(const Source& source);
    // -D and -F: a command without a script.
    bool run(Verb table_command);
    // -DPt: what a host without policies of interfaces answers.
    void show_nothing(Verb dump);

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
        bool attempt = false;                   // we can do without: a refusal is not told
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

    // A message of a batch: no more of it is remembered, a file may hold many.
    struct Kept {
        std::size_t offset = 0;                 // of its command
        std::size_t nth = 0;                    // among the messages of the command
        std::size_t number = 0;                 // among those of the source
    };
    // What went wrong with one.
    struct BatchFailure {
        std::uint32_t seq = 0;
        int error = 0;
        std::string reason;
    };

    void parse_error(const Diagnostic& error);
    void execute(const Command& command);
    Pending pending_for(const Command& command, const Message& message, bool copy) const;
    std::uint32_t take_seq();
    void submit(Pending request, const Message& message);
    bool ask_for(const Message& request, bool attempt);
    int transmit(const Message& message, std::uint32_t seq);
    bool receive(std::chrono::milliseconds wait);
    void drain(std::size_t allowed);
    void answer(Bytes record);
    bool settle(const Pending& request, const MessageHeader& header, Bytes record);
    void show(const Pending& request, Bytes record);
    void show_entry(const Pending& request, const Message& message);
    void refuse(const Pending& request, int error, Bytes record);
    static std::string reason_in(Bytes record);
    std::string refusal_text(const Pending& request, int error, const std::string& reason) const;
    void empty_table(const Pending& request);
    void open_list(Verb dump);
    void close_list();
    std::string missing_algorithm(const Pending& request) const;

    // runner_batch.cpp
    bool fits_a_batch(const Source& source);
    bool try_batch(const Source& source, std::set<std::size_t>& left_out);
    bool control_batch(std::uint8_t what);
    void send_batch(const Source& source, const std::set<std::size_t>& left_out);
    void keep(const Message& message, const Kept& place);
    void batch_answer(const MessageHeader& header, Bytes record);
    std::optional<Pending> failed_request(const Source& source) const;
    void tell_of_the_whole(const std::string& text);

    void tell(std::size_t offset, const std::string& text);
    void lose(const std::string& text);
    void trace(Bytes record);
    PrintOptions print_options() const;

    KeyChannel& channel_;
    RunnerOptions options_;
    Output& out_;
    std::FILE* err_;
    const Source* source_ = nullptr;
    std::deque<Pending> pending_;
    std::vector<std::uint8_t> outgoing_, incoming_;
    std::uint32_t next_seq_;
    std::bitset<256> offered_ciphers_, offered_auths_;
    bool greeted_ = false;
    bool list_begun_ = false;            // --json: the next entry is not the first
    std::size_t progress_ = 0;           // answers so far
    std::size_t refused_ = 0, unreadable_ = 0;
    bool lost_ = false;

    std::vector<Kept> kept_;             // what the host keeps for us, in the order of the seqs
    std::uint32_t first_kept_ = 0;       // seq
    std::optional<BatchFailure> failure_;
    int batch_error_ = 0;                // of the last begin or commit
};

}  // namespace latchkey::setkey
