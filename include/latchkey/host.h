/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A Latchkey host as a program sees it: a handle. Link with latchkey_client (or liblatchkey-client.a and the C++ run
 * time). Every function is safe in any thread, in a forked child, and after chroot(2) or setuid(2), given that the
 * handle was opened before; every failure is told in errno, and no function raises SIGPIPE.
 */
#ifndef LATCHKEY_HOST_H
#define LATCHKEY_HOST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct latchkey_host latchkey_host;

/*
 * Opens the host whose control socket is at `path`. NULL names the default: $LATCHKEY, else for root
 * /run/latchkey/latchkey.sock, for a user $XDG_RUNTIME_DIR/latchkey.sock. One program may use several hosts.
 *
 * Returns NULL and sets errno: ENOENT (no such path, or no default is known), ECONNREFUSED (nothing listens there),
 * EACCES, ENAMETOOLONG, EPROTO (the host speaks another version), ENOMEM, EMFILE.
 *
 * The handle keeps one connection to the host, which forked children share, and one more for each thread that makes
 * calls at the same time. These descriptors are close-on-exec and are kept away from low numbers. A program that
 * closes them does no harm: the next call connects anew, by the path.
 */
latchkey_host *latchkey_host_open(const char *path);

/*
 * Gives the handle up. Its sockets stay open: they are descriptors of the process. Not while another thread is using
 * the handle.
 */
void latchkey_host_close(latchkey_host *host);

/* The name that the host gave itself; copied, cut to `room` bytes with its NUL. Returns its length, or -1. */
int latchkey_host_name(latchkey_host *host, char *name, size_t room);

/*
 * Writes the path that latchkey_host_open(path) would connect to, with its NUL. Returns its length, or -1 with errno
 * ENOENT, ENAMETOOLONG (a socket's path has at most 107 bytes), ERANGE (`room` is too small).
 */
int latchkey_host_path(const char *path, char *resolved, size_t room);

/* What latchkey_host_configure() reads or changes. */
enum latchkey_subject {
    LATCHKEY_ADDRESS = 1,   /* "PREFIX [dev IF]" */
    LATCHKEY_ROUTE = 2,     /* "PREFIX|default via ADDR [dev IF]", "PREFIX|default dev IF" */
    LATCHKEY_LINK = 3       /* "IF up", "IF down", "IF mtu N"; LATCHKEY_DELETE does not apply */
};

enum latchkey_verb {
    LATCHKEY_LIST = 0,      /* `text` is ignored */
    LATCHKEY_ADD = 1,       /* of a link: set */
    LATCHKEY_DELETE = 2
};

/*
 * Lists or changes the host's addresses, routes and links. Returns what the host says, one line per item (an empty
 * string after a change), to be freed with free(3); NULL and errno on failure, for example EEXIST, ESRCH, EINVAL,
 * EPERM.
 */
char *latchkey_host_configure(latchkey_host *host, enum latchkey_subject subject, enum latchkey_verb verb,
                              const char *text);

/* The host's counters: text for people, or with `raw` nonzero lines "name value". To be freed with free(3). */
char *latchkey_host_stat(latchkey_host *host, int raw);

#ifdef __cplusplus
}
#endif

#endif
