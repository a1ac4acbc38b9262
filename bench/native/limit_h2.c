/* The limit server of HTTP/2: what one core can do when a program walks frames and decodes nothing.
 *
 *   limit_h2 PORT
 *
 * HTTP/2 by prior knowledge on 127.0.0.1. Each request gets the same header block of an ordinary answer, and content goes
 * back in the DATA frames that it came in, as they come. A request without content gets its header block back as it came,
 * where that has SHORTEST bytes or more: so do those of h2mix, and the client knows them again. A shorter one gets the
 * text of bench.loads' GET, for an echo of a block that the client's table makes shorter and shorter would have no size
 * that can be compared.
 *
 * It is no server for use: it believes its client, who has to open its windows wide, to pad nothing, and to send no
 * CONTINUATION. What the kernel does not take is kept until it does, and meanwhile that connection is not read. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER (1 << 18)
#define SHORTEST 80
#define CREDIT (1 << 30) /* bytes of content after which the connection's window is opened again */

enum { DATA, HEADERS, SETTINGS = 4, PING = 6, WINDOW_UPDATE = 8 };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

struct connection {
    int fd, greeted, waits;
    size_t have;         /* bytes in `in` */
    size_t size, sent, room; /* of out */
    uint32_t used;       /* of the connection's window */
    uint8_t *out, in[BUFFER];
};

static const char text[] = "GET /head HTTP/2\r\nhost: localhost\r\nuser-agent: h2load\r\n\r\n";
static uint8_t head[256];
static size_t head_size;
static int ep;

static void put(struct connection *c, const void *data, size_t n) {
    if (c->size + n > c->room) {
        c->room = (c->size + n) * 2;
        if (!(c->out = realloc(c->out, c->room))) perror("limit_h2"), exit(1);
    }
    memcpy(c->out + c->size, data, n);
    c->size += n;
}

static void put_frame(struct connection *c, int type, int flags, uint32_t stream, const void *payload, uint32_t n) {
    uint8_t header[9] = {n >> 16, n >> 8, n, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
    put(c, header, 9);
    put(c, payload, n);
}

static void watch(struct connection *c, int events, int how) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(ep, how, c->fd, &e);
}

/* Returns -1 where the connection has gone. */
static int flush(struct connection *c) {
    while (c->sent < c->size) {
        ssize_t n = write(c->fd, c->out + c->sent, c->size - c->sent);
        if (n < 0 && errno == EAGAIN) {
            if (!c->waits) watch(c, EPOLLOUT, EPOLL_CTL_MOD);
            return c->waits = 1, 0;
        }
        if (n < 0) return -1;
        c->sent += n;
    }
    c->size = c->sent = 0;
    if (c->waits) watch(c, EPOLLIN, EPOLL_CTL_MOD);
    return c->waits = 0;
}

static void answer(struct connection *c, const uint8_t *frame, uint32_t n) {
    uint32_t stream = (uint32_t)frame[5] << 24 | frame[6] << 16 | frame[7] << 8 | frame[8];
    const uint8_t *payload = frame + 9;
    int type = frame[3], flags = frame[4];
    if (type == HEADERS) {
        put_frame(c, HEADERS, END_HEADERS, stream, head, head_size);
        if (!(flags & END_STREAM)) return;
        if (n < SHORTEST) put_frame(c, DATA, END_STREAM, stream, text, sizeof text - 1);
        else put_frame(c, DATA, END_STREAM, stream, payload, n);
    } else if (type == DATA) {
        put(c, frame, 9 + n);
        if ((c->used += n) < CREDIT) return;
        uint8_t credit[4] = {c->used >> 24, c->used >> 16, c->used >> 8, c->used};
        put_frame(c, WINDOW_UPDATE, 0, 0, credit, 4);
        c->used = 0;
    } else if ((type == SETTINGS || type == PING) && !(flags & ACK))
        put_frame(c, type, ACK, 0, payload, type == PING ? n : 0);
}

/* Returns -1 where the connection has gone. */
static int readable(struct connection *c) {
    ssize_t r = read(c->fd, c->in + c->have, BUFFER - c->have);
    if (r < 0 && errno == EAGAIN) return 0;
    if (r <= 0) return -1;
    uint8_t *p = c->in, *end = c->in + (c->have += r);
    if (!c->greeted) {
        if (c->have < 24) return 0;
        p += 24, c->greeted = 1;
    }
    while (end - p >= 9) {
        uint32_t n = p[0] << 16 | p[1] << 8 | p[2];
        if (n > BUFFER - 9) return -1;
        if (end - p < 9 + (long)n) break;
        answer(c, p, n);
        p += 9 + n;
    }
    c->have = end - p;
    memmove(c->in, p, c->have);
    return flush(c);
}

/* A literal field without indexing (RFC 7541, section 6.2.2), its name from the static table. */
static void field(int name, const char *value) {
    if (name < 15) head[head_size++] = name;
    else head[head_size++] = 15, head[head_size++] = name - 15;
    size_t n = head[head_size++] = strlen(value);
    memcpy(head + head_size, value, n), head_size += n;
}

static void named(const char *name, const char *value) {
    head[head_size++] = 0;
    size_t n = head[head_size++] = strlen(name);
    memcpy(head + head_size, name, n), head_size += n;
    n = head[head_size++] = strlen(value);
    memcpy(head + head_size, value, n), head_size += n;
}

static void greet(int fd) {
    static const uint8_t settings[] = {0, 3, 0, 0, 1, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff}; /* 256 streams, windows */
    static const uint8_t credit[] = {0x7f, 0xff, 0, 0};                                 /* 2^31 - 65536 */
    struct connection *c = calloc(1, sizeof *c);
    int one = 1;
    if (!c) perror("limit_h2"), exit(1);
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(c, EPOLLIN, EPOLL_CTL_ADD);
    put_frame(c, SETTINGS, 0, 0, settings, sizeof settings);
    put_frame(c, WINDOW_UPDATE, 0, 0, credit, sizeof credit);
    flush(c);
}

int main(int argc, char **argv) {
    if (argc != 2) return fputs("usage: limit_h2 PORT\n", stderr), 2;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) return perror("limit_h2"), 3;
    signal(SIGPIPE, SIG_IGN);
    head[head_size++] = 0x88; /* :status 200 */
    field(33, "Mon, 01 Jan 2024 00:00:00 GMT"); /* date */
    field(54, "limit-server");                  /* server */
    field(31, "application/octet-stream");      /* content-type */
    named("x-content-type-options", "nosniff");
    ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN}, ready[256];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(ep, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            if (!c) {
                for (int s; (s = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0;) greet(s);
            } else if ((c->waits ? flush(c) : readable(c)) < 0) {
                close(c->fd);
                free(c->out);
                free(c);
            }
        }
    }
}
