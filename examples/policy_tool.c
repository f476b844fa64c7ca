/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program as one writes it for KAME's libipsec, here with liblatchkey-ipsec: adds, deletes and lists the policies
 * of a Latchkey host ($LATCHKEY).
 *
 *   policy_tool add SOURCE DESTINATION POLICY      policy_tool add 10.0.0.1 10.0.0.2 'out ipsec esp/transport//require'
 *   policy_tool delete SOURCE DESTINATION DIRECTION
 *   policy_tool list
 */
#include <arpa/inet.h>
#include <libpfkey.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { any_protocol = 255 };

static int complain(const char *what)
{
    const char *detail = latchkey_ipsec_detail();

    fprintf(stderr, "policy_tool: %s: %s", what, ipsec_strerror());
    /* For a policy text: which column, what was expected there. */
    if (latchkey_ipsec_error() != EIPSEC_SYSTEM_ERROR && *detail != '\0')
        fprintf(stderr, " (%s)", detail);
    fputc('\n', stderr);
    return 1;
}

/* An address, and its length in bits. */
static unsigned read_address(const char *text, struct sockaddr_storage *name)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)name;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)name;

    memset(name, 0, sizeof *name);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        return 32;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        return 128;
    }
    fprintf(stderr, "policy_tool: %s: not an address\n", text);
    exit(2);
}

/* The host's verdict. Policies that other programs change are told to us as well: ours has our number. */
static int await(int so, uint32_t seq, const char *what)
{
    struct sadb_msg *answer;

    while ((answer = pfkey_recv(so)) != NULL) {
        const int ours = answer->sadb_msg_seq == seq;
        const int error = answer->sadb_msg_errno;

        free(answer);
        if (ours && error != 0)
            fprintf(stderr, "policy_tool: %s: %s\n", what, strerror(error));
        if (ours)
            return error != 0;
    }
    return complain(what);
}

static int change(int so, int add, char **words)
{
    struct sockaddr_storage source, destination;
    const unsigned source_bits = read_address(words[0], &source);
    const unsigned destination_bits = read_address(words[1], &destination);
    char *policy = ipsec_set_policy(words[2], (int)strlen(words[2]));
    int (*send)(int, struct sockaddr *, unsigned, struct sockaddr *, unsigned, unsigned, char *, int, uint32_t) =
        add ? pfkey_send_spdadd : pfkey_send_spddelete;
    int sent;

    if (policy == NULL)
        return complain(words[2]);
    sent = send(so, (struct sockaddr *)&source, source_bits, (struct sockaddr *)&destination, destination_bits,
                any_protocol, policy, ipsec_get_policylen(policy), 1);
    free(policy);
    return sent < 0 ? complain(words[2]) : await(so, 1, words[2]);
}

/* One message for each policy; the last has the number 0. */
static int list(int so)
{
    struct sadb_msg *policy;
    int more = 1;

    if (pfkey_send_spddump(so) < 0)
        return complain("list");
    while (more) {
        policy = pfkey_recv(so);
        if (policy == NULL)
            return complain("list");
        if (policy->sadb_msg_errno != 0) {
            puts(policy->sadb_msg_errno == ENOENT ? "No policies." : strerror(policy->sadb_msg_errno));
            more = 0;
        } else if (policy->sadb_msg_type == SADB_X_SPDDUMP) {
            pfkey_spdump(policy);
            more = policy->sadb_msg_seq != 0;
        }
        free(policy);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const int add = argc == 5 && strcmp(argv[1], "add") == 0;
    int so, status;

    if (!add && !(argc == 5 && strcmp(argv[1], "delete") == 0) && !(argc == 2 && strcmp(argv[1], "list") == 0)) {
        fputs("usage: policy_tool add|delete SOURCE DESTINATION POLICY | list\n", stderr);
        return 2;
    }
    so = pfkey_open();
    if (so < 0)
        return complain("no PF_KEY");
    status = argc == 2 ? list(so) : change(so, add, argv + 2);
    pfkey_close(so);
    return status;
}
