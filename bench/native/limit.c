/* The limit server: what one core can do when a program does next to nothing.
 *
 *   limit ADDRESS tcp    send back whatever is read
 *   limit ADDRESS http   answer each request with its content, or with its header section where none is declared
 *   limit ADDRESS ws     WebSocket: send back each frame as it comes, unmasked, after a handshake with the bench's key
 *   limit PORT udp       send back each datagram to whom it came from
 *
 * ADDRESS is a port of 127.0.0.1 or the path of a unix socket. It is no server for use: it believes its client, knows
 * three fields, and spells them as the bench does. One read, one write; content that is not whole is received into one
 * block, which is used again; what the kernel does not take is kept until it does. */
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
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define BUFFER (1 << 18)
#define MOST 32768 /* descriptors */

struct block { struct block *next; long size; char data[]; };

struct connection {
    struct block *in;  /* the beginning of a request that is not whole */
    long have;         /* bytes of it */
    long large;        /* bytes of the last request, where it did not fit into one read: the next one may be the same */
    struct block *out; /* what the kernel has not taken */
    long from, to;
    int closing;
    int blank;         /* WebSocket: bytes of the blank line that ends the handshake */
    int head_size;     /* bytes of a frame's header that is not whole */
    char head[14];
    uint32_t mask;     /* of the frame that is under way, as its next byte needs it */
    unsigned long left; /* bytes of that frame */
};

static char in[BUFFER], out[2 * BUFFER]; /* answers are longer than requests, and a batch of them is joined */
static struct connection *connections;
static struct block *free_blocks;
static int ep, http, websocket;

static struct block *take(long size) {
    for (struct block **p = &free_blocks, *b; (b = *p); p = &b->next)
        if (b->size >= size) return *p = b->next, b;
    struct block *b = malloc(sizeof *b + size);
    if (!b) perror("limit"), exit(1);
    b->size = size;
    return b;
}

static void give(struct block *b) { if (b) b->next = free_blocks, free_blocks = b; }

static void finish(int fd) {
    struct connection *c = &connections[fd];
    give(c->in);
    give(c->out);
    memset(c, 0, sizeof *c);
    close(fd);
}

static void watch(int fd, int events, int how) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    epoll_ctl(ep, how, fd, &e);
}

/* Sends both pieces; what is not taken is kept, and nothing is read until it has gone. owner: the block that the second
 * one lies in, which is ours from now on. */
static void send_both(int fd, const char *a, long a_size, char *b, long b_size, struct block *owner) {
    struct connection *c = &connections[fd];
    if (c->out) { /* behind what is kept already */
        struct block *all = take(c->to - c->from + a_size + b_size);
        char *p = mempcpy(all->data, c->out->data + c->from, c->to - c->from);
        memcpy(mempcpy(p, a, a_size), b, b_size);
        give(c->out), give(owner);
        c->to += a_size + b_size - c->from, c->from = 0, c->out = all;
        return;
    }
    struct iovec v[2] = {{(char *)a, a_size}, {b, b_size}};
    long w = b_size ? writev(fd, v, 2) : write(fd, a, a_size);
    if (w < 0 && errno != EAGAIN) { give(owner); c->closing = 2; return; }
    if (w < 0) w = 0;
    if (w == a_size + b_size) { give(owner); return; }
    if (owner && w >= a_size) {
        c->out = owner, c->from = b - owner->data + w - a_size, c->to = b - owner->data + b_size;
    } else {
        c->out = take(a_size + b_size - w);
        c->from = 0, c->to = a_size + b_size - w;
        char *p = c->out->data;
        if (w < a_size) p = mempcpy(p, a + w, a_size - w), w = a_size;
        memcpy(p, b + w - a_size, b_size - (w - a_size));
        give(owner);
    }
    watch(fd, EPOLLOUT, EPOLL_CTL_MOD);
}

static void writable(int fd) {
    struct connection *c = &connections[fd];
    long w = write(fd, c->out->data + c->from, c->to - c->from);
    if (w < 0 && errno == EAGAIN) return;
    if (w < 0) { finish(fd); return; }
    if ((c->from += w) < c->to) return;
    give(c->out);
    c->out = NULL;
    if (c->closing) finish(fd);
    else watch(fd, EPOLLIN, EPOLL_CTL_MOD);
}

/* Removes the chunked coding in place. Returns the content's length, -1 where it is not whole; *after: what follows. */
static long decode(char *at, char *end, char **after) {
    char *last = end - at >= 5 && !memcmp(at, "0\r\n\r\n", 5) ? at : memmem(at, end - at, "\r\n0\r\n\r\n", 7);
    if (!last) return -1;
    char *to = at, *from = at;
    for (long size; (size = strtol(from, &from, 16)); from += size + 2) {
        from += 2;
        to = (char *)memmove(to, from, size) + size;
    }
    *after = from + 4;
    return to - at;
}

static long head_of(char *to, const char *type, long content, int closing) {
    static char text[512];
    static long size, of = -1;
    static const char *with;
    static int last;
    if (content != of || type != with || closing != last)
        size = sprintf(text, "HTTP/1.1 200 OK\r\nServer: limit-server\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
                             "X-Content-Type-Options: nosniff\r\nContent-Type: %s\r\nContent-Length: %ld\r\n%s\r\n",
                       type, content, closing ? "Connection: close\r\n" : "");
    of = content, with = type, last = closing;
    memcpy(to, text, size);
    return size;
}

static void answer_all(int fd, char *p, char *end, struct block *block) {
    static const char binary[] = "application/octet-stream", plain[] = "text/plain";
    struct connection *c = &connections[fd];
    long size = 0;
    while (p < end) {
        char *blank = memmem(p, end - p, "\r\n\r\n", 4);
        char *content = blank ? blank + 4 : end, *after = content;
        long length = -1, need = end - p + BUFFER;
        char *field = NULL;
        int chunked = 0;
        if (blank) {
            field = memmem(p, content - p, "\r\nContent-Length: ", 18);
            chunked = !field && memmem(p, content - p, "\r\nTransfer-Encoding: chunked", 28);
            if (chunked) length = decode(content, end, &after);
            else {
                length = field ? strtol(field + 18, NULL, 10) : 0;
                after = content + length;
                need = after - p + 1;
                if (after > end) length = -1;
            }
            if (memmem(p, content - p, "\r\nConnection: close\r\n", 21)) c->closing = 1;
        }
        if (length < 0) { /* not whole */
            struct block *larger = block && block->size >= need && p == block->data ? block : take(need);
            c->have = end - p;
            if (larger != block) memcpy(larger->data, p, c->have), give(block);
            c->in = larger;
            c->large = need > BUFFER ? need : 0;
            block = NULL;
            c->closing = 0;
            break;
        }
        int head = !field && !chunked; /* no content is declared: the header section comes back */
        char *echo = head ? p : content;
        long echo_size = head ? content - p : length;
        if (size > BUFFER) send_both(fd, out, size, NULL, 0, NULL), size = 0;
        size += head_of(out + size, head ? plain : binary, echo_size, c->closing);
        if (echo_size > 4096) {
            send_both(fd, out, size, echo, echo_size, after == end ? block : NULL);
            if (after == end) block = NULL;
            size = 0;
        } else {
            memcpy(out + size, echo, echo_size);
            size += echo_size;
        }
        p = after;
    }
    give(block);
    if (size) send_both(fd, out, size, NULL, 0, NULL);
    if (c->closing && !c->out) finish(fd);
}

/* Unmasks so many bytes to where they are or before that; returns the end of them. */
static char *unmask(char *to, const char *from, long n, uint32_t *mask) {
    typedef uint32_t four __attribute__((vector_size(16)));
    four key = {*mask, *mask, *mask, *mask}, x;
    long i = 0;
    for (; i + 16 <= n; i += 16) memcpy(&x, from + i, 16), x ^= key, memcpy(to + i, &x, 16);
    for (; i < n; i++) to[i] = from[i] ^ *mask >> 8 * (i & 3);
    if (n & 3) *mask = *mask >> 8 * (n & 3) | *mask << 8 * (4 - (n & 3));
    return to + n;
}

/* A server's frame lies where the client's did, but for the mask: nothing is copied unless several have come at once. */
static void echo_frames(int fd, char *p, char *end) {
    static const char hello[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"; /* RFC 6455, section 1.3 */
    struct connection *c = &connections[fd];
    if (c->blank < 4) {
        for (; p < end && c->blank < 4; p++) c->blank = *p == "\r\n\r\n"[c->blank] ? c->blank + 1 : *p == '\r';
        if (c->blank == 4) send_both(fd, hello, sizeof hello - 1, NULL, 0, NULL);
    }
    char *start = NULL, *to = NULL;
    while (p < end) {
        if (!c->left) {
            int length = end - p > 1 ? p[1] & 127 : 0, size = 6 + (length == 126 ? 2 : length == 127 ? 8 : 0);
            if (end - p < size) {
                memcpy(c->head, p, c->head_size = end - p);
                break;
            }
            c->left = size == 6 ? length : 0;
            for (int i = 2; i < size - 4; i++) c->left = c->left << 8 | (unsigned char)p[i];
            memcpy(&c->mask, p + size - 4, 4);
            if (!to) start = to = p + 4;
            p[1] &= 127;
            to = (char *)memmove(to, p, size - 4) + size - 4;
            p += size;
        }
        if (!to) start = to = p;
        long n = c->left < (unsigned long)(end - p) ? (long)c->left : end - p;
        to = unmask(to, p, n, &c->mask);
        p += n, c->left -= n;
    }
    if (to) send_both(fd, start, to - start, NULL, 0, NULL);
    if (c->closing) finish(fd);
}

static void readable(int fd) {
    struct connection *c = &connections[fd];
    if (websocket) {
        memcpy(in, c->head, c->head_size);
        long r = read(fd, in + c->head_size, sizeof in - c->head_size);
        if (r < 0 && errno == EAGAIN) return;
        if (r <= 0) { finish(fd); return; }
        r += c->head_size, c->head_size = 0;
        echo_frames(fd, in, in + r);
        return;
    }
    if (c->large && !c->in) c->in = take(c->large), c->have = 0;
    struct block *block = c->in;
    long r = block ? read(fd, block->data + c->have, block->size - c->have) : read(fd, in, sizeof in);
    if (r < 0 && errno == EAGAIN) return;
    if (r <= 0) { finish(fd); return; }
    if (!http) {
        send_both(fd, in, r, NULL, 0, NULL);
        if (c->closing) finish(fd);
    } else if (block) {
        c->in = NULL;
        answer_all(fd, block->data, block->data + c->have + r, block);
    } else answer_all(fd, in, in + r, NULL);
}

static int listen_on(const char *address) {
    int one = 1, unix_socket = strchr(address, '/') != NULL;
    int listener = socket(unix_socket ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(address)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    strncpy(path.sun_path, address, sizeof path.sun_path - 1);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (unix_socket ? bind(listener, (void *)&path, sizeof path) : bind(listener, (void *)&at, sizeof at)) return -1;
    return listen(listener, 4096) ? -1 : listener;
}

/* All come on one socket: it need not be asked whether there is something. */
static int echo_datagrams(const char *port) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(s, (void *)&at, sizeof at)) return perror("limit"), 3;
    for (;;) {
        socklen_t size = sizeof at;
        long r = recvfrom(s, in, sizeof in, 0, (void *)&at, &size);
        if (r >= 0) sendto(s, in, r, 0, (void *)&at, size);
    }
}

int main(int argc, char **argv) {
    int udp = argc == 3 && !strcmp(argv[2], "udp");
    if (argc != 3 || (udp && strchr(argv[1], '/')))
        return fputs("usage: limit PORT|PATH tcp|http|ws, or PORT udp\n", stderr), 2;
    if (udp) return echo_datagrams(argv[1]);
    int one = 1, listener = listen_on(argv[1]);
    if (listener < 0) return perror("limit"), 3;
    http = !strcmp(argv[2], "http"), websocket = !strcmp(argv[2], "ws");
    signal(SIGPIPE, SIG_IGN);
    connections = calloc(MOST, sizeof *connections);
    ep = epoll_create1(0);
    watch(listener, EPOLLIN, EPOLL_CTL_ADD);
    struct epoll_event ready[512];
    for (;;) {
        int n = epoll_wait(ep, ready, 512, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) {
                if (connections[fd].out) writable(fd);
                else readable(fd);
                continue;
            }
            for (int s; (s = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0;) {
                if (s >= MOST) { close(s); continue; }
                setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                watch(s, EPOLLIN, EPOLL_CTL_ADD);
            }
        }
    }
}
