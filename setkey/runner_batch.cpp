// SPDX-License-Identifier: BSD-2-Clause
// --atomic: the host keeps the messages of a file and applies them with the commit, all or none (SADB_X_BATCH in
// net/pfkeyv2.h). It does not answer what it keeps, so they go out as fast as it takes them.
#include "setkey/runner.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

namespace latchkey::setkey {

namespace {

// A file that takes companions away which never were there is sent again for each of them: not without end.
constexpr std::size_t most_left_out = 100;

bool wants_an_answer(Verb verb)
{
    return verb == Verb::get || verb == Verb::getspi || verb == Verb::dump || verb == Verb::spd_dump;
}

}  // namespace

void Runner::run_as_one(const Source& source)
{
    source_ = &source;
    std::set<std::size_t> left_out;   // messages that turned out to be superfluous, by their number
    if (fits_a_batch(source))
        while (!try_batch(source, left_out))
            ;
    out_.flush();
    source_ = nullptr;
}

// Reads everything before anything is sent. False: told what is in the way.
bool Runner::fits_a_batch(const Source& source)
{
    const auto before = refused_ + unreadable_;
    for (Parser parser(source, options_.parse);;) {
        const auto command = parser.next();
        if (!command) {
            const auto& error = command.error();
            ++(error.kind == Diagnostic::Kind::refused ? refused_ : unreadable_);
            tell(error.offset, (error.kind == Diagnostic::Kind::syntax ? "syntax error: " : "") + error.text);
            if (parser.recover())
                continue;
        }
        if (!command || !*command || (*command)->verb == Verb::quit)
            break;
        for (const auto& note : (*command)->notes)
            tell(note.offset, "warning: " + note.text);
        if (wants_an_answer((*command)->verb)) {
            ++unreadable_;
            tell((*command)->offset, "'" + std::string(row_of((*command)->verb).word) +
                                         "' shows something: it cannot be part of an atomic file");
        }
    }
    if (refused_ + unreadable_ == before)
        return true;
    tell_of_the_whole("nothing is applied");
    return false;
}

// True: applied, or told why not. False: to be tried again, with one more message left out.
bool Runner::try_batch(const Source& source, std::set<std::size_t>& left_out)
{
    failure_.reset();
    kept_.clear();
    if (!control_batch(SADB_X_BATCH_BEGIN)) {
        refused_ += !lost_;
        tell_of_the_whole(lost_ ? "nothing is applied" : "this host does not apply a file as a whole: nothing is applied");
        return true;
    }
    send_batch(source, left_out);
    if (lost_) {
        tell_of_the_whole("nothing is applied");   // the host drops a batch whose socket closes
        return true;
    }
    const bool applied = control_batch(failure_ ? SADB_X_BATCH_ABANDON : SADB_X_BATCH_COMMIT) && !failure_;
    if (lost_)
        tell_of_the_whole(failure_ ? "nothing is applied" : "whether the file is applied is not known");
    if (applied || lost_)
        return true;
    const auto request = failed_request(source);
    const bool superfluous = request && request->copy && request->verb == Verb::spd_erase &&
                             (failure_->error == ENOENT || failure_->error == ESRCH);
    if (superfluous && left_out.size() < most_left_out) {
        left_out.insert(kept_[failure_->seq - first_kept_].number);
        return false;
    }
    ++refused_;
    if (request)
        tell(request->offset, refusal_text(*request, failure_->error, failure_->reason));
    else
        tell_of_the_whole(std::strerror(batch_error_));
    tell_of_the_whole("nothing is applied");
    return true;
}

// False: refused, or the host is lost.
bool Runner::control_batch(std::uint8_t what)
{
    Message message;
    message.type = SADB_X_BATCH;
    message.satype = what;
    batch_error_ = EINVAL;   // unless an answer says something else: a send() that fails has none
    ask_for(message, true);
    return !lost_ && batch_error_ == 0;
}

void Runner::send_batch(const Source& source, const std::set<std::size_t>& left_out)
{
    std::size_t number = 0;
    for (Parser parser(source, options_.parse); !failure_ && !lost_;) {
        const auto command = parser.next();
        if (!command || !*command || (*command)->verb == Verb::quit)
            break;
        std::size_t nth = 0;
        build(**command, options_.build, [&](const Message& message, bool) {
            const Kept place{(*command)->offset, nth++, number++};
            if (!failure_ && !lost_ && !left_out.contains(place.number))
                keep(message, place);
        });
    }
}

void Runner::keep(const Message& message, const Kept& place)
{
    const auto seq = take_seq();
    if (kept_.empty())
        first_kept_ = seq;
    kept_.push_back(place);
    if (const int error = transmit(message, seq); error != 0 && !lost_ && !failure_)
        failure_ = BatchFailure{seq, error, {}};
    // This socket also hears what others do, and what is malformed is answered at once.
    if (kept_.size() % window == 0)
        while (!lost_ && receive(std::chrono::milliseconds(0)))
            ;
}

void Runner::batch_answer(const MessageHeader& header, Bytes record)
{
    if (header.error == 0 || failure_ || header.seq < first_kept_ || header.seq - first_kept_ >= kept_.size())
        return;
    ++progress_;
    failure_ = BatchFailure{header.seq, header.error, reason_in(record)};
}

// The message that failed, read again.
std::optional<Runner::Pending> Runner::failed_request(const Source& source) const
{
    if (!failure_)
        return std::nullopt;
    const auto& place = kept_[failure_->seq - first_kept_];
    const Source part("", source.text().substr(place.offset));
    Parser parser(part, options_.parse);
    auto command = parser.next();
    if (!command || !*command)
        return std::nullopt;
    (*command)->offset = place.offset;
    std::optional<Pending> out;
    std::size_t nth = 0;
    build(**command, options_.build, [&](const Message& message, bool copy) {
        if (nth++ == place.nth)
            out = pending_for(**command, message, copy);
    });
    return out;
}

void Runner::tell_of_the_whole(const std::string& text)
{
    const auto* source = std::exchange(source_, nullptr);
    tell(0, text);
    source_ = source;
}

}  // namespace latchkey::setkey
