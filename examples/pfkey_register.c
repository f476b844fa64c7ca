/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PF_KEY by hand (RFC 2367): asks a Latchkey host which algorithms it has for ESP, and prints them. The same code
 * runs with socket(PF_KEY, SOCK_RAW, PF_KEY_V2) under `latchkey run`.
 *
 *   pfkey_register
 */
#include <latchkey/socket.h>
#include <net/pfkeyv2.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* PF_KEY counts lengths in units of eight bytes. */
enum { unit = 8, largest = 65536 };

static void print_algorithms(const char *title, const unsigned char *at, size_t size)
{
    struct sadb_alg algorithm;
    size_t offset;

    for (offset = sizeof(struct sadb_supported); offset + sizeof algorithm <= size; offset += sizeof algorithm) {
        memcpy(&algorithm, at + offset, sizeof algorithm);
        printf("%s %u: %u to %u bits, IV %u bytes\n", title, (unsigned)algorithm.sadb_alg_id,
               (unsigned)algorithm.sadb_alg_minbits, (unsigned)algorithm.sadb_alg_maxbits,
               (unsigned)algorithm.sadb_alg_ivlen);
    }
}

/* Every extension begins with its length and type. */
static int print_reply(const unsigned char *reply, size_t size)
{
    struct sadb_ext extension;
    size_t at, length;

    for (at = sizeof(struct sadb_msg); at + sizeof extension <= size; at += length) {
        memcpy(&extension, reply + at, sizeof extension);
        length = (size_t)extension.sadb_ext_len * unit;
        if (length == 0 || length > size - at) {
            fprintf(stderr, "pfkey_register: malformed reply\n");
            return 1;
        }
        if (extension.sadb_ext_type == SADB_EXT_SUPPORTED_AUTH)
            print_algorithms("authentication", reply + at, length);
        if (extension.sadb_ext_type == SADB_EXT_SUPPORTED_ENCRYPT)
            print_algorithms("encryption", reply + at, length);
    }
    return 0;
}

int main(void)
{
    static unsigned char reply[largest];
    struct sadb_msg request = {.sadb_msg_version = PF_KEY_V2,
                               .sadb_msg_type = SADB_REGISTER,
                               .sadb_msg_satype = SADB_SATYPE_ESP,
                               .sadb_msg_len = sizeof request / unit,
                               .sadb_msg_seq = 1};
    struct sadb_msg header;
    latchkey_host *host = latchkey_host_open(NULL);
    ssize_t got;
    int fd;

    if (host == NULL || (fd = latchkey_pfkey_open(host)) < 0) {
        perror("pfkey_register: no PF_KEY socket of the host ($LATCHKEY)");
        return 1;
    }
    request.sadb_msg_pid = (uint32_t)getpid();
    if (latchkey_send(host, fd, &request, sizeof request, 0) < 0) {
        perror("pfkey_register: send");
        return 1;
    }
    /* Messages for other programs may come as well: the reply has our pid and number. */
    do {
        got = recv(fd, reply, sizeof reply, 0);
        if (got < (ssize_t)sizeof header) {
            perror("pfkey_register: recv");
            return 1;
        }
        memcpy(&header, reply, sizeof header);
    } while (header.sadb_msg_pid != request.sadb_msg_pid || header.sadb_msg_seq != request.sadb_msg_seq);
    if (header.sadb_msg_errno != 0) {
        fprintf(stderr, "pfkey_register: %s\n", strerror(header.sadb_msg_errno));
        return 1;
    }
    close(fd);
    latchkey_host_close(host);
    return print_reply(reply, (size_t)got);
}
