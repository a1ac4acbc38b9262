/* The client of the bench where wrk is none: raw echo, UDP, WebSocket, unix sockets, connections that are mostly idle, a
 * fixed rate, or what a polite client sees.
 *
 *   client [-h | -u | -w] [-c CONNECTIONS] [-a ACTIVE] [-r RATE | -i MILLISECONDS] [-p PREAMBLE] ADDRESS FILE
 *
 * Sends FILE's bytes again and again, and checks every byte that comes back: the same (raw); or with -h, FILE being an
 * HTTP request with Content-Length, a 200 whose content is the same (chunked only where it is small); or with -w, FILE
 * being a masked frame (WebSocket, RFC 6455), a message of the same type with the same content, in any number of frames,
 * after a handshake that is no exchange; or with -u, a datagram each way on a connected UDP socket. ADDRESS is a port of
 * 127.0.0.1 or the path of a unix socket. Each connection makes one exchange at first; then "ready" is printed. For each
 * line of standard input, a number of seconds, the ACTIVE first connections (default: all) go on for so long, and one line
 * of JSON says what they did. At the end of standard input all connections are reset, so that none is left in TIME_WAIT.
 *
 * With -h, a FILE named NAME.pool has requests that differ, each after its length (4 bytes, of which the least comes
 * first). Each connection sends them one after the other, and then from the first one on again; where it begins is another
 * place for each. What has to come back is a 200 with the same content, or to a request without content the header
 * section: of that the X-Request-Id, for some servers have it in words of their own, or all where there is none.
 *
 * Without -r each active connection sends its next request as soon as it has its answer (a closed loop). With -r so
 * many requests a second are due at equal distances, whatever the server does (an open loop): each is sent by whichever
 * connection is free, and its latency counts from when it was due, also where it had to wait for a free connection. So
 * a server that stalls is charged for all that would have come meanwhile (no coordinated omission). The client never
 * sleeps then: it wants a core of its own.
 *
 * With -i each active connection sends every so many milliseconds, or as soon as it has its answer where that took
 * longer, and sleeps meanwhile: it may share its core. Each latency is a round trip, from when its request was sent to
 * the end of its answer; what is under way at the end is awaited and counts too, for it may be the longest. -p: bytes
 * that each connection begins with, for servers that want a PROXY preamble.
 *
 * Exits with 1 and a line where an echo is wrong, short or cut off, or does not come: within 10 s, over UDP within 2 s,
 * for what was lost once never comes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define HEAD 1024   /* bytes that a response's head may have, and all of a chunked response */
#define FINE 100000 /* microseconds that are counted one by one; what is longer, by the millisecond */
#define COARSE 60000

struct connection {
    int fd, busy, head_size, more; /* more: frames of the message follow, WebSocket */
    long sent, got, answer; /* bytes of the request, of the answer, and of the whole answer (0: its head is not here);
                               WebSocket: of content, up to the end of the frame */
    long long since;        /* ns: when the request was sent, or was due */
    char head[HEAD];
    struct turn *turn; /* of a pool: the last one that was sent */
    char *gathered;    /* of a pool: the answer, as far as it is here */
};

/* A request of a pool, and what comes back; within: somewhere in the content. */
struct turn {
    char *request, *echo;
    long size, echo_size;
    int within;
};

static char *request, *content, *preamble = "";
static long size, content_size;
static int http, udp, websocket, ep, count = 1;
static long long patience = 10000; /* ms */
static struct connection *all;
static struct turn *pool;     /* NULL: there is one request */
static long pool_size, room;  /* room: bytes that an answer may have */
static char *plain;           /* as many, for what was chunked */
static unsigned long histogram[FINE + COARSE], done;
static long long longest;
static char buffer[1 << 18];

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *why) {
    fprintf(stderr, "client: %s after %lu echoes%s%s\n", why, done, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static void wrong(const char *why) { errno = 0, fail(why); }

static void silent(void) { wrong(udp ? "a datagram was lost (no answer within 2 s)" : "no answer within 10 s"); }

static void record(long long since) {
    long long ns = now() - since, us = ns / 1000;
    if (ns > longest) longest = ns;
    long at = us < FINE ? us : FINE + us / 1000;
    histogram[at < FINE + COARSE ? at : FINE + COARSE - 1]++;
    done++;
}

static double percentile(double percent) {
    unsigned long want = done * percent / 100, seen = 0;
    double most = longest / 1000.0;
    for (long i = 0; i < FINE + COARSE; i++)
        if ((seen += histogram[i]) > want) {
            double middle = i < FINE ? i + 0.5 : (i - FINE) * 1000.0 + 500;
            return middle < most ? middle : most;
        }
    return most;
}

static void send_some(struct connection *c) {
    const char *from = pool ? c->turn->request : request;
    long all_of_it = pool ? c->turn->size : size;
    while (c->sent < all_of_it) {
        long w = write(c->fd, from + c->sent, all_of_it - c->sent);
        if (w < 0 && errno == EAGAIN) return;
        if (w <= 0) fail("a write failed");
        c->sent += w;
    }
}

static void begin(struct connection *c, long long since) {
    c->busy = 1, c->sent = c->got = c->head_size = 0, c->since = since;
    c->answer = http || websocket ? 0 : size, c->more = websocket;
    if (pool && ++c->turn == pool + pool_size) c->turn = pool;
    send_some(c);
}

/* A chunked response is gathered where heads are; it is complete with its last chunk. */
static void read_chunked(struct connection *c, char *at) {
    char *end = c->head + c->head_size, *echo = content;
    if (memcmp(end - 5, "0\r\n\r\n", 5)) {
        if (c->head_size == HEAD - 1) wrong("a chunked response that is too long");
        return;
    }
    if (strncmp(c->head, "HTTP/1.1 200 ", 13)) wrong("a status other than 200");
    for (long n; (n = strtol(at, &at, 16)); at += n + 2, echo += n) {
        at += 2;
        if (n > end - at || n > content + content_size - echo || memcmp(at, echo, n)) wrong("a wrong echo");
    }
    if (echo != content + content_size) wrong("a short echo");
    c->answer = c->head_size;
}

/* The head, or what there is of it, has come: learns from it how long the answer is, and returns bytes that were head. */
static long read_head(struct connection *c, const char *data, long n) {
    long before = c->head_size, more = n < HEAD - 1 - before ? n : HEAD - 1 - before;
    memcpy(c->head + before, data, more);
    c->head_size += more, c->head[c->head_size] = 0;
    char *blank = strstr(c->head, "\r\n\r\n");
    if (blank && memmem(c->head, blank - c->head, "chunked", 7)) return read_chunked(c, blank + 4), more;
    if (!blank) {
        if (c->head_size == HEAD - 1) wrong("a head that is too long");
        return more;
    }
    blank[2] = 0;
    char *field = strcasestr(c->head, "\r\ncontent-length:");
    if (strncmp(c->head, "HTTP/1.1 200 ", 13)) wrong("a status other than 200");
    if (!field) wrong("neither Content-Length nor chunked content");
    if (strtol(field + 17, NULL, 10) != content_size) wrong("an echo of another length");
    c->head_size = blank + 4 - c->head;
    c->answer = c->head_size + content_size;
    return c->head_size - before;
}

/* Bytes that have come; 0: none has. */
static long read_some(int s, char *to, long most) {
    long r = read(s, to, most);
    if (r < 0 && errno == EAGAIN) return 0;
    if (r <= 0) { if (!r) errno = 0; fail("a connection was cut off"); }
    return r;
}

/* One more byte of a frame's header; where it was the last one, the frame is looked at. */
static void read_header(struct connection *c, unsigned char byte) {
    unsigned char *head = (unsigned char *)c->head;
    head[c->head_size++] = byte;
    int length = c->head_size > 1 ? head[1] & 127 : 0, need = 2 + (length == 126 ? 2 : length == 127 ? 8 : 0);
    if (c->head_size < need) return;
    unsigned long n = need == 2 ? length : 0;
    for (int i = 2; i < need; i++) n = n << 8 | head[i];
    if ((head[0] & 127) != (c->more > 1 ? 0 : *request & 127)) wrong("a frame of another type");
    if (head[1] & 128) wrong("a masked frame");
    if (n > (unsigned long)(content_size - c->got)) wrong("a long echo");
    c->answer = c->got + n, c->head_size = 0;
    c->more = head[0] & 128 ? 0 : 2;
}

/* Reads frames that have come, as receive() does. */
static int receive_frames(struct connection *c) {
    for (long r; (r = read_some(c->fd, buffer, sizeof buffer));)
        for (char *p = buffer, *end = buffer + r; p < end;) {
            if (!c->busy) wrong("bytes that nobody asked for");
            if (c->got == c->answer) read_header(c, *p++);
            long n = c->answer - c->got < end - p ? c->answer - c->got : end - p;
            if (memcmp(p, content + c->got, n)) wrong("a wrong echo");
            c->got += n, p += n;
            if (c->more || c->got < c->answer) continue;
            if (c->got < content_size) wrong("a short echo");
            c->busy = 0;
            if (p == end) return 1;
        }
    return 0;
}

/* Reads a datagram, as receive() does. What comes twice is read as the next answer, and is one too many at the end. */
static int receive_datagram(struct connection *c) {
    long r = recv(c->fd, buffer, sizeof buffer, 0);
    if (r < 0 && errno == EAGAIN) return 0;
    if (r < 0) fail("a datagram could not be delivered");
    if (!c->busy) wrong("a datagram that nobody asked for");
    if (r != size) wrong("an echo of another length");
    if (memcmp(buffer, content, size)) wrong("a wrong echo");
    return c->busy = 0, 1;
}

/* Puts a chunked answer's content together in plain. Returns its length; -1: its last chunk is not here. */
static long put_together(char *at, char *end) {
    for (long whole = 0, n;; whole += n) {
        char *line = memmem(at, end - at, "\r\n", 2), *after;
        if (!line) return -1;
        n = strtol(at, &after, 16);
        if (after == at || after != line || n < 0) wrong("a chunk without a length");
        at = line + 2;
        if (n > end - at - 2) return -1;
        if (memcmp(at + n, "\r\n", 2)) wrong("a chunk of another length");
        memcpy(plain + whole, at, n), at += n + 2;
        if (n) continue;
        if (at < end) wrong("a long echo");
        return whole;
    }
}

/* Whether all of an answer to a request of a pool has come: then it is the right one. */
static int is_whole(struct connection *c) {
    struct turn *turn = c->turn;
    if (!c->head_size) {
        char *blank = strstr(c->gathered, "\r\n\r\n"), *field;
        if (!blank) return 0;
        blank[2] = 0;
        if (strncmp(c->gathered, "HTTP/1.1 200 ", 13)) wrong("a status other than 200");
        c->head_size = blank + 4 - c->gathered;
        field = strcasestr(c->gathered, "\r\ncontent-length:");
        if (field) c->answer = c->head_size + strtol(field + 17, NULL, 10);
        else if (!strstr(c->gathered, "chunked")) wrong("neither Content-Length nor chunked content");
        if (field && !turn->within && c->answer != c->head_size + turn->echo_size) wrong("an echo of another length");
    }
    char *came = c->gathered + c->head_size;
    long n = c->answer - c->head_size;
    if (!c->answer) n = put_together(came, c->gathered + c->got), came = plain;
    else if (c->got > c->answer) wrong("a long echo");
    else if (c->got < c->answer) return 0;
    if (n < 0) return 0;
    if (!turn->within && n != turn->echo_size) wrong("an echo of another length");
    if (turn->within ? !memmem(came, n, turn->echo, turn->echo_size) : memcmp(came, turn->echo, n)) wrong("a wrong echo");
    return 1;
}

/* Reads what has come of an answer to a request of a pool, as receive() does. It is gathered, for it may be chunked. */
static int receive_gathered(struct connection *c) {
    for (long r; (r = read_some(c->fd, c->gathered + c->got, room - c->got));) {
        if (!c->busy) wrong("bytes that nobody asked for");
        c->gathered[c->got += r] = 0;
        if (is_whole(c)) return c->busy = c->got = 0, 1;
        if (c->got == room) wrong("an answer that is too long");
    }
    return 0;
}

/* Reads what has come. Returns 1 when the answer is complete. */
static int receive(struct connection *c) {
    if (udp) return receive_datagram(c);
    if (websocket) return receive_frames(c);
    if (pool) return receive_gathered(c);
    for (;;) {
        long most = c->busy && c->answer ? c->answer - c->got : (long)sizeof buffer;
        long r = read_some(c->fd, buffer, most < (long)sizeof buffer ? most : (long)sizeof buffer);
        if (!r) return 0;
        char *data = buffer;
        if (!c->busy) wrong("bytes that nobody asked for");
        if (!c->answer) {
            long head = read_head(c, data, r);
            c->got += head, data += head, r -= head;
        }
        if (c->answer && c->got + r > c->answer) wrong("a long echo");
        if (memcmp(data, content + c->got - c->head_size, r)) wrong("a wrong echo");
        c->got += r;
        if (c->got == c->answer) return c->busy = 0, 1;
    }
}

/* The key and what it is answered with are those of RFC 6455, section 1.3. */
static void shake_hands(int s) {
    static const char hello[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct timeval patience = {.tv_sec = 10};
    char head[HEAD] = "", *accept;
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (write(s, hello, sizeof hello - 1) < 0) fail("a write failed");
    for (int n = 0; n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4); n++) { /* no byte of what may follow */
        if (n == HEAD - 1) wrong("a head that is too long");
        if (!read_some(s, head + n, 1)) wrong("no answer within 10 s");
    }
    if (strncmp(head, "HTTP/1.1 101 ", 13)) wrong("a status other than 101");
    accept = strcasestr(head, "\r\nsec-websocket-accept:");
    if (!accept || strncmp(accept + 23 + strspn(accept + 23, " "), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r", 29))
        wrong("a handshake with another Sec-WebSocket-Accept");
    if (strcasestr(head, "\r\nsec-websocket-extensions:")) wrong("an extension that nobody asked for");
}

static int connect_to(const char *address) {
    int one = 1, unix_socket = strchr(address, '/') != NULL;
    int s = socket(unix_socket ? AF_UNIX : AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(address)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct linger reset = {1, 0};
    strncpy(path.sun_path, address, sizeof path.sun_path - 1);
    if (unix_socket ? connect(s, (void *)&path, sizeof path) : connect(s, (void *)&at, sizeof at)) fail("cannot connect");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (*preamble && write(s, preamble, strlen(preamble)) < 0) fail("a write failed");
    if (websocket) shake_hands(s);
    fcntl(s, F_SETFL, O_NONBLOCK);
    return s;
}

/* What waits on any connection: nothing may come that was not asked for, and none may be cut off. */
static void receive_all(void) {
    for (int i = 0; i < count; i++) receive(&all[i]);
}

static void open_all(const char *address) {
    all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i}, ready[1];
        if (pool) { /* the one before that with which it begins */
            all[i].turn = &pool[(i * pool_size / count + pool_size - 1) % pool_size];
            all[i].gathered = malloc(room + 1);
        }
        all[i].fd = connect_to(address);
        epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &e);
        for (begin(&all[i], now()); !receive(&all[i]); send_some(&all[i])) {
            int n = epoll_wait(ep, ready, 1, patience);
            if (!n) silent();
            if (n > 0 && ready->data.u32 != (unsigned)i) receive(&all[ready->data.u32]); /* its edge comes only once */
        }
    }
    receive_all();
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void report(unsigned long due, double seconds, double spent) {
    printf("{\"requests\": %lu, \"due\": %lu, \"seconds\": %.6f, \"client_cpu\": %.6f, \"latency_us\": {\"50\": %.1f, "
           "\"75\": %.1f, \"90\": %.1f, \"99\": %.1f, \"99.9\": %.1f, \"max\": %.1f}}\n", done, due, seconds, spent,
           percentile(50), percentile(75), percentile(90), percentile(99), percentile(99.9), longest / 1e3);
}

/* Awaits what is under way: the next round begins clean. */
static void finish(int active, int counts) {
    long long since = now();
    for (int busy = 1; busy;) {
        busy = 0;
        for (int i = 0; i < active; i++) {
            if (!all[i].busy) continue;
            if (!receive(&all[i])) send_some(&all[i]), busy = 1;
            else if (counts) record(all[i].since);
        }
        if (busy && now() - since > patience * 1000000) silent();
        if (busy && counts) usleep(50); /* it shares its core */
    }
    receive_all();
}

static void run_paced(double seconds, int active, double milliseconds) {
    struct epoll_event ready[512];
    long long interval = milliseconds * 1e6, *next = malloc(active * sizeof *next);
    memset(histogram, 0, sizeof histogram);
    done = longest = 0;
    double spent = cpu();
    long long start = now(), end = start + seconds * 1e9, last_progress = start;
    for (int i = 0; i < active; i++) next[i] = start + i * interval / active;
    for (long long at = start; at < end; at = now()) {
        long long soonest = end;
        for (int i = 0; i < active; i++) {
            if (all[i].busy) continue;
            if (next[i] <= at) {
                begin(&all[i], now());
                next[i] = next[i] + interval > at ? next[i] + interval : at;
            } else if (next[i] < soonest) soonest = next[i];
        }
        int n = epoll_wait(ep, ready, 512, (soonest - at + 999999) / 1000000);
        if (n) last_progress = now();
        else if (now() - last_progress > patience * 1000000) silent();
        for (int i = 0; i < n; i++) {
            struct connection *c = &all[ready[i].data.u32];
            if (c->busy) send_some(c);
            if (receive(c)) record(c->since);
        }
    }
    finish(active, 1);
    report(seconds * 1000 / milliseconds * active, (now() - start) / 1e9, cpu() - spent);
    free(next);
}

static void run(double seconds, int active, double rate) {
    struct epoll_event ready[512];
    int *idle = malloc(active * sizeof *idle); /* a ring: who has waited longest is the next */
    unsigned long freed = 0, taken = 0;
    unsigned long due = 0, sent = 0, most = rate * seconds;
    if (most < rate * seconds) most++; /* the first one is due at once */
    memset(histogram, 0, sizeof histogram);
    done = longest = 0;
    double spent = cpu();
    long long start = now(), end = start + seconds * 1e9, last_progress = start, at = start;
    for (int i = 0; i < active; i++)
        if (rate) idle[freed++ % active] = i;
        else begin(&all[i], start);
    while (at < end || (rate && done < most)) { /* at a fixed rate, all that was due is waited for */
        if (rate) {
            due = at < end ? (at - start) / 1e9 * rate + 1 : most;
            if (due > most) due = most;
            for (; sent < due && taken < freed; sent++) begin(&all[idle[taken++ % active]], start + sent * (1e9 / rate));
        }
        int n = epoll_wait(ep, ready, 512, rate ? 0 : 100);
        at = now();
        if (n) last_progress = at;
        else if (at - last_progress > patience * 1000000) silent();
        for (int i = 0; i < n; i++) {
            struct connection *c = &all[ready[i].data.u32];
            if (c->busy) send_some(c);
            if (!receive(c)) continue;
            record(c->since);
            if (rate) idle[freed++ % active] = ready[i].data.u32;
            else if (at < end) begin(c, now()); /* its answer is another edge: no need to read in vain */
        }
    }
    spent = cpu() - spent;
    finish(active, 0); /* it is not counted */
    report(due, (at - start) / 1e9, spent);
    free(idle);
}

/* What is in the client's frame: that it is whole, masked and final, who made it knows. */
static void unmask(void) {
    int length = request[1] & 127, at = 2 + (length == 126 ? 2 : length == 127 ? 8 : 0);
    content_size = size - at - 4;
    content = malloc(content_size + 1);
    for (long i = 0; i < content_size; i++) content[i] = request[at + 4 + i] ^ request[at + (i & 3)];
}

/* Finds the requests in the file's bytes. Returns 0 where they are others. */
static int make_pool(void) {
    for (long at = 0, n; at < size; at += 4 + n) {
        unsigned char *length = (unsigned char *)request + at;
        if (size - at < 4) return 0;
        n = length[0] | length[1] << 8 | length[2] << 16 | (long)length[3] << 24;
        if (n > size - at - 4) return 0;
        pool = realloc(pool, (pool_size + 1) * sizeof *pool);
        struct turn *turn = &pool[pool_size++];
        char *blank = memmem(request + at + 4, n, "\r\n\r\n", 4), *name;
        if (!blank) return 0;
        *turn = (struct turn){request + at + 4, blank + 4, n, request + at + 4 + n - (blank + 4), 0};
        if (n > room) room = n;
        if (turn->echo_size) continue;
        turn->echo = turn->request, turn->echo_size = n;
        if (!(name = memmem(turn->request, n, "\r\nX-Request-Id: ", 16)) || name[16] == '\r') continue;
        turn->echo = name + 16, turn->within = 1;
        turn->echo_size = (char *)memmem(turn->echo, blank + 2 - turn->echo, "\r\n", 2) - turn->echo;
    }
    room = 2 * room + 4 * HEAD; /* with a head, chunks, and other words */
    plain = malloc(room);
    return pool_size > 0;
}

int main(int argc, char **argv) {
    int active = 0, option;
    double rate = 0, interval = 0, seconds;
    while ((option = getopt(argc, argv, "huwc:a:r:i:p:")) > 0) {
        if (option == 'h') http = 1;
        else if (option == 'u') udp = 1, patience = 2000;
        else if (option == 'w') websocket = 1;
        else if (option == 'c') count = atoi(optarg);
        else if (option == 'a') active = atoi(optarg);
        else if (option == 'r') rate = atof(optarg);
        else if (option == 'i') interval = atof(optarg);
        else if (option == 'p') preamble = optarg;
        else return 2;
    }
    if (argc - optind != 2 || count < 1 || http + udp + websocket > 1 || (rate && interval) ||
        (udp && (*preamble || strchr(argv[optind], '/'))))
        return fputs("usage: client [-h | -u | -w] [-c N] [-a N] [-r RATE | -i MS] [-p PREAMBLE] ADDRESS FILE\n", stderr), 2;
    if (active < 1 || active > count) active = count;
    FILE *file = fopen(argv[optind + 1], "r");
    if (!file || fseek(file, 0, SEEK_END)) return perror("client"), 1;
    size = ftell(file), rewind(file);
    request = malloc(size + 1);
    if (fread(request, 1, size, file) != (size_t)size) return perror("client"), 1;
    request[size] = 0;
    fclose(file);
    char *blank = http ? memmem(request, size, "\r\n\r\n", 4) : NULL;
    content = blank ? blank + 4 : request;
    content_size = size - (content - request);
    if (websocket) {
        if (size < 6) return fputs("client: no frame of a WebSocket client\n", stderr), 1;
        unmask();
    }
    char *dot = strrchr(argv[optind + 1], '.');
    if (http && dot && !strcmp(dot, ".pool") && !make_pool())
        return fputs("client: no pool of HTTP requests\n", stderr), 1;
    ep = epoll_create1(0);
    signal(SIGPIPE, SIG_IGN); /* a write that fails has something to say */
    open_all(argv[optind]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (scanf("%lf", &seconds) == 1) interval ? run_paced(seconds, active, interval) : run(seconds, active, rate);
    for (int i = 0; i < count; i++) close(all[i].fd);
    return 0;
}
