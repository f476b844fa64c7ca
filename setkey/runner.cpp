// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/runner.hpp"

#include "setkey/protocols.hpp"
#include "setkey/text.hpp"

#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <utility>

namespace latchkey::setkey {

namespace {

constexpr std::size_t largest_record = 128 * 1024;

// An ADD whose seq equals that of a pending ACQUIRE answers it. Hosts count ACQUIREs up from 1, we begin high.
constexpr std::uint32_t first_seq = 0x80000001u;

// Dumps number their answers themselves. GETSPI and UPDATE belong together by their seq: ours have 0, as those of every
// setkey. So these go one at a time.
bool goes_alone(std::uint8_t type)
{
    return type == SADB_DUMP || type == SADB_X_SPDDUMP || type == SADB_GETSPI || type == SADB_UPDATE;
}

bool is_dump(const Verb verb)
{
    return verb == Verb::dump || verb == Verb::spd_dump;
}

bool means_absent(int error)
{
    return error == ENOENT || error == ESRCH;
}

bool means_unsupported(int error)
{
    return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == EPROTONOSUPPORT;
}

}  // namespace

Runner::Runner(KeyChannel& channel, RunnerOptions options, Output& out, std::FILE* err)
    : channel_(channel), options_(std::move(options)), out_(out), err_(err), incoming_(largest_record),
      next_seq_(first_seq)
{
}

bool Runner::run(const Source& source)
{
    source_ = &source;
    bool more = true;
    for (Parser parser(source, options_.parse); more && !lost_;) {
        const auto command = parser.next();
        if (!command) {
            parse_error(command.error());
            const bool stop = options_.style == Style::script && command.error().kind != Diagnostic::Kind::refused;
            if (stop || !parser.recover())
                break;
        } else if (!*command) {
            break;
        } else if ((*command)->verb == Verb::quit) {
            more = false;
        } else {
            execute(**command);
        }
    }
    drain(0);
    out_.flush();
    source_ = nullptr;
    return more && !lost_;
}

bool Runner::run(Verb table_command)
{
    Command command;
    command.verb = table_command;
    execute(command);
    drain(0);
    out_.flush();
    return !lost_;
}

void Runner::execute(const Command& command)
{
    for (const auto& note : command.notes)
        tell(note.offset, "warning: " + note.text);
    build(command, options_.build, [&](const Message& message, bool copy) {
        auto request = pending_for(command, message, copy);
        if (!goes_alone(message.type))
            request.seq = take_seq();
        submit(std::move(request), message);
    });
}

void Runner::parse_error(const Diagnostic& error)
{
    drain(0);   // so that errors come in the order of their lines
    if (error.kind == Diagnostic::Kind::refused) {
        ++refused_;
        return tell(error.offset, error.text);
    }
    ++unreadable_;
    tell(error.offset, (error.kind == Diagnostic::Kind::syntax ? "syntax error: " : "") + error.text);
    if (options_.style == Style::script)
        tell(error.offset, "parse failed: the commands above are applied, this one and the rest are not");
}

// ---- requests -------------------------------------------------------------------------------------------------------

Runner::Pending Runner::pending_for(const Command& command, const Message& message, bool copy) const
{
    Pending request;
    request.type = message.type;
    request.copy = copy;
    request.verb = command.verb;
    request.offset = command.offset;
    request.source = message.source.value_or(AddressExt{});
    request.destination = message.destination.value_or(AddressExt{});
    request.direction = message.policy ? message.policy->direction : std::uint8_t{0};
    if (const auto* sa = std::get_if<SaSpec>(&command.body)) {
        request.protocol = sa->protocol;
        request.spi = sa->spi;
        request.cipher = sa->cipher;
        request.auth = sa->auth;
    }
    return request;
}

std::uint32_t Runner::take_seq()
{
    const auto seq = next_seq_;
    next_seq_ = next_seq_ == UINT32_MAX ? first_seq : next_seq_ + 1;
    return seq;
}

void Runner::submit(Pending request, const Message& message)
{
    const bool alone = goes_alone(message.type);
    drain(alone ? 0 : window - 1);
    if (lost_)
        return;
    if (is_dump(request.verb))
        open_list(request.verb);
    const auto seq = request.seq;
    pending_.push_back(std::move(request));
    if (const int error = transmit(message, seq); error != 0 && !lost_) {
        // Refused at once: no answer will come.
        const auto refused = pending_.back();
        pending_.pop_back();
        refuse(refused, error, {});
    } else if (alone) {
        drain(0);
    }
}

// Hands a message over; while there is no room for it, takes answers in. The error is that of a refusal at once, or
// the host is lost.
int Runner::transmit(const Message& message, std::uint32_t seq)
{
    outgoing_.resize(message.size());
    wire::Writer out(outgoing_, wire::Order::host);
    message.emit(out);
    constexpr std::size_t seq_at = 8, pid_at = 12;   // in struct sadb_msg
    out.put_at<std::uint32_t>(seq_at, seq);
    out.put_at<std::uint32_t>(pid_at, options_.pid);
    trace(outgoing_);
    const auto deadline = std::chrono::steady_clock::now() + options_.patience;
    int error = channel_.send(outgoing_);
    while (error == EAGAIN && !lost_ && std::chrono::steady_clock::now() < deadline) {
        while (receive(std::chrono::milliseconds(0)))
            ;
        error = channel_.send(outgoing_);
    }
    sodium_memzero(outgoing_.data(), outgoing_.size());   // keys
    if (error != 0 && error != EINVAL && error != EMSGSIZE)
        lose(std::string("the host does not take requests: ") + std::strerror(error));
    return error;
}

// ---- answers --------------------------------------------------------------------------------------------------------

// Waits until no more than `allowed` requests are under way.
void Runner::drain(std::size_t allowed)
{
    if (pending_.size() <= allowed)
        return;
    // When the window is full, half of it at once: it saves turns between the two processes.
    const auto target = allowed == window - 1 ? window / 2 : allowed;
    auto deadline = std::chrono::steady_clock::now() + options_.patience;
    while (pending_.size() > target && !lost_) {
        const auto before = progress_;
        receive(options_.patience);
        const auto now = std::chrono::steady_clock::now();
        if (progress_ != before)
            deadline = now + options_.patience;
        else if (now >= deadline && !lost_)
            lose("the host does not answer");
    }
}

// Takes one record in. False: none came in time.
bool Runner::receive(std::chrono::milliseconds wait)
{
    const auto size = channel_.receive(incoming_, wait);
    if (size > 0) {
        answer(Bytes(incoming_).first(static_cast<std::size_t>(size)));
        return true;
    }
    if (size == -EMSGSIZE)
        return true;   // somebody's record, longer than any answer to us
    if (size != -EAGAIN)
        lose(size == 0 ? std::string("the host closed the key socket")
                       : std::string("the key socket failed: ") + std::strerror(static_cast<int>(-size)));
    return false;
}

// Every key socket also hears what others did; pid and seq tell what is ours. Answers come in the order of the
// requests: one that is overtaken got no answer, its record did not fit the queue of the socket.
void Runner::answer(Bytes record)
{
    trace(record);
    const auto header = peek_header(record);
    if (!header || header->pid != options_.pid)
        return;
    const auto match = std::ranges::find_if(pending_, [&](const Pending& p) {
        return p.type == header->type && (p.seq == header->seq || is_dump(p.verb));
    });
    if (match == pending_.end())
        return batch_answer(*header, record);
    ++progress_;
    for (auto overtaken = match - pending_.begin(); overtaken > 0; --overtaken) {
        ++refused_;
        tell(pending_.front().offset, pending_.front().text() + ": the answer was lost");
        pending_.pop_front();
    }
    if (settle(pending_.front(), *header, record))
        pending_.pop_front();
}

// False: more answers will come.
bool Runner::settle(const Pending& request, const MessageHeader& header, Bytes record)
{
    if (request.type == SADB_X_BATCH)
        batch_error_ = header.error;
    if (header.error != 0) {
        refuse(request, header.error, record);
        return true;
    }
    if (request.type == SADB_REGISTER || request.verb == Verb::get || request.verb == Verb::getspi ||
        is_dump(request.verb))
        show(request, record);
    const bool last = !is_dump(request.verb) || header.seq == 0;
    if (last && is_dump(request.verb))
        close_list();
    return last;
}

void Runner::show(const Pending& request, Bytes record)
{
    const auto message = Message::parse(record);
    if (!message)
        return tell(request.offset, request.text() + ": malformed answer: " + std::string(message.error().reason));
    if (request.type == SADB_REGISTER) {
        greeted_ = true;
        for (const auto& row : message->supported_encrypt.value_or(std::vector<SupportedAlgorithm>{}))
            offered_ciphers_.set(row.id);
        for (const auto& row : message->supported_auth.value_or(std::vector<SupportedAlgorithm>{}))
            offered_auths_.set(row.id);
    } else if (request.verb == Verb::getspi && message->sa) {
        put(out_.text, "spi=%" PRIu32 "(0x%08" PRIx32 ")\n", message->sa->spi, message->sa->spi);
    } else {
        show_entry(request, *message);
    }
    out_.flush_if_large();
}

// One SA or policy, unless it is of a kind that is not shown.
void Runner::show_entry(const Pending& request, const Message& message)
{
    const bool dump = is_dump(request.verb), policy = request.verb == Verb::spd_dump;
    const bool dead = message.sa && message.sa->state == SADB_SASTATE_DEAD;
    if (policy ? options_.hide_socket_policies && is_socket_policy(message) : dump && dead && !options_.dead)
        return;
    auto& text = out_.text;
    if (dump && options_.json) {
        text += std::exchange(list_begun_, true) ? ",\n " : "\n ";
        policy ? append_json_policy(text, message) : append_json_sa(text, message, options_.with);
    } else if (policy) {
        append_policy(text, message, print_options());
    } else if (dump && options_.brief) {
        append_short_sa(text, message, print_options());
    } else {
        append_sa(text, message, print_options());
    }
}

// What stands before and behind the entries of a dump. A list that is not closed was cut short.
void Runner::open_list(Verb dump)
{
    list_begun_ = false;
    if (options_.json)
        out_.text += '[';
    else if (options_.brief && dump == Verb::dump)
        append_short_heading(out_.text);
}

void Runner::close_list()
{
    if (options_.json)
        out_.text += list_begun_ ? "\n]\n" : "]\n";
}

// ---- what went wrong ------------------------------------------------------------------------------------------------

namespace {

std::string end_text(const AddressExt& end)
{
    auto out = end.endpoint.address.text();
    if (end.prefix_length != end.endpoint.address.bits())
        out += '/' + std::to_string(end.prefix_length);
    if (end.endpoint.port != 0)
        out += '[' + std::to_string(end.endpoint.port) + ']';
    return out;
}

}  // namespace

// "add 10.0.0.1 10.0.0.2 esp 0x100", "spdadd 10.0.0.0/24 10.1.0.0/24 tcp -P in"
std::string Runner::Pending::text() const
{
    if (type == SADB_REGISTER)
        return "register";
    if (type == SADB_X_BATCH)
        return "--atomic";
    std::string out(row_of(verb).word);
    if (source.endpoint.address.family() != Family::none)
        out += ' ' + end_text(source) + ' ' + end_text(destination);
    if (protocol != nullptr)
        out += ' ' + std::string(protocol->word);
    if (protocol != nullptr && verb != Verb::erase_all)
        put(out, " 0x%" PRIx32, spi);
    static constexpr std::string_view directions[] = {"any", "in", "out", "fwd"};
    if (direction != 0 && direction < std::size(directions))
        out += ' ' + (source.protocol == ip_proto::any ? "any" : upper_protocol_name(source.protocol)) + " -P " + std::string(directions[direction]);
    return out;
}

void Runner::refuse(const Pending& request, int error, Bytes record)
{
    if (request.attempt)
        return;
    if (is_dump(request.verb) && means_absent(error))
        return empty_table(request);
    // The companion of an `in` policy may be missing: -k made the policy, or another program.
    if (request.copy && request.verb == Verb::spd_erase && means_absent(error))
        return;
    ++refused_;
    tell(request.offset, refusal_text(request, error, reason_in(record)));
}

// What a host that knows X_REASON says about its errno.
std::string Runner::reason_in(Bytes record)
{
    const auto message = Message::parse(record);
    return message && message->reason ? printable(*message->reason) : std::string();
}

// The traditional words come first, then what the host says about it if it was asked to (greet()).
std::string Runner::refusal_text(const Pending& request, int error, const std::string& reason) const
{
    const bool lookup = request.verb == Verb::get || request.verb == Verb::erase || request.verb == Verb::spd_erase;
    auto out = request.text() + ": " + (lookup && means_absent(error) ? "No entry" : std::strerror(error));
    const auto missing = means_unsupported(error) ? missing_algorithm(request) : std::string();
    if (missing.empty() && !reason.empty())
        out += " (" + reason + ')';
    return out + missing;
}

// Nothing went wrong: the words are those that scripts look for.
void Runner::empty_table(const Pending& request)
{
    if (options_.json)
        return close_list();
    const std::string text = request.verb == Verb::dump ? "No SAD entries" : "No SPD entries";
    if (options_.style == Style::script)
        return tell(request.offset, text);
    out_.text += text + ".\n";
}

void Runner::show_nothing(Verb dump)
{
    Pending request;
    request.verb = dump;
    open_list(dump);
    empty_table(request);
    out_.flush();
}

// An errno cannot say which algorithm it was.
std::string Runner::missing_algorithm(const Pending& request) const
{
    std::string out;
    if (!greeted_)
        return out;
    if (request.cipher != nullptr && !offered_ciphers_.test(request.cipher->sadb_id))
        out += " (this host does not offer " + std::string(request.cipher->name) + ')';
    if (request.auth != nullptr && !offered_auths_.test(request.auth->sadb_id))
        out += " (this host does not offer " + std::string(request.auth->name) + ')';
    return out;
}

void Runner::lose(const std::string& text)
{
    if (lost_)
        return;
    lost_ = true;
    pending_.clear();
    out_.flush();
    std::fprintf(err_, "setkey: %s\n", text.c_str());
}

void Runner::tell(std::size_t offset, const std::string& text)
{
    const auto where = source_ != nullptr ? source_->where(offset) + ": " : std::string();
    if (options_.style == Style::line) {
        out_.text += where + text + ".\n";
        return;
    }
    out_.flush();
    std::fprintf(err_, "setkey: %s%s\n", where.c_str(), text.c_str());
}

// ---- greeting, output -----------------------------------------------------------------------------------------------

// The first time with the extensions that ask for reasons in words and for wide replay windows; a host that does not
// know them may refuse the message for it.
bool Runner::greet()
{
    Message request;
    request.type = SADB_REGISTER;
    auto asking = request;
    asking.reason = std::string_view{};
    asking.sa_replay = 0;
    if (!ask_for(asking, true) && !lost_)
        ask_for(request, false);
    out_.flush();
    return !lost_;
}

// One message without a command behind it. False: refused, or the host is lost.
bool Runner::ask_for(const Message& message, bool attempt)
{
    Pending request;
    request.type = message.type;
    request.attempt = attempt;
    request.seq = take_seq();
    submit(std::move(request), message);
    drain(0);
    return !lost_ && (message.type != SADB_REGISTER || greeted_);
}

void Runner::trace(Bytes record)
{
    if (options_.verbose)
        append_record(out_.text, record);
    if (options_.verbose && options_.hex)
        append_hex_dump(out_.text, record);
}

PrintOptions Runner::print_options() const
{
    return {options_.ports, options_.now ? options_.now() : 0, options_.one_line};
}

}  // namespace latchkey::setkey
