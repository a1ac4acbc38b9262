/* The client of the bench for requests that differ over HTTP/2: what h2load can't send.
 *
 *   h2client [-c CONNECTIONS] [-m STREAMS] PORT FILE
 *
 * FILE is what bench/http2.py makes of a pool: requests, each of three lengths (4 bytes, of which the least comes first)
 * and as many bytes: its header block, its content, and what the answer to one without content must have in it. Blocks
 * may refer to those before them on their connection, so each connection has a part of the file of its own: of N requests
 * the connection with number i of C those from i * N / C on, which it sends in order, and then from the first one on again.
 *
 * HTTP/2 by prior knowledge to a port of 127.0.0.1. Every answer has to be a 200, with the same content; or to a request
 * without content with the header section as a text, in which what FILE says is somewhere, or with the header block as it
 * was sent. Each connection makes one exchange at first; then "ready" is printed. For each line of standard input, a
 * number of seconds, each connection keeps so many STREAMS busy for so long; what is under way then is awaited and
 * counts too; and one line of JSON says what was done. At the end of standard input all connections are reset.
 *
 * Its own windows are as wide as they can be; the server's are kept. Exits with 1 and a line where an echo is wrong, a
 * stream or connection is cut off, or no answer comes within 10 s. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN (1 << 18)
#define FINE 100000 /* microseconds that are counted one by one; what is longer, by the millisecond */
#define COARSE 60000
#define FRAME 16384 /* bytes that a frame may have (SETTINGS_MAX_FRAME_SIZE, as it is at first) */
#define TABLE 4096  /* SETTINGS_HEADER_TABLE_SIZE, as it is at first */
#define CREDIT (1 << 29)
#define PATIENCE 10000 /* ms */

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4, PADDED = 8, PRIORITISED = 32 };

struct turn { char *block, *content, *within; uint32_t block_size, content_size, within_size; };

struct stream {
    uint32_t id; /* 0: it is free */
    int answered; /* its status is here */
    struct turn *turn;
    long long since;
    long got;
    char *gathered;
};

struct connection {
    int fd, settled; /* settled: the server's settings are here */
    struct turn *first, *next, *end;
    uint32_t id, busy, used;
    long window, initial; /* bytes that the server takes, on the connection and on a new stream */
    long have, size, sent, room;
    char *in, *out;
    struct stream *streams;
};

static int ep, count = 1, many = 1;
static struct connection *all;
static struct turn *pool;
static long pool_size, longest_answer;
static unsigned long histogram[FINE + COARSE], done;
static long long longest;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *why) {
    fprintf(stderr, "h2client: %s after %lu echoes%s%s\n", why, done, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static void wrong(const char *why) { errno = 0, fail(why); }

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

/* --- what is sent ------------------------------------------------------------------------------------------------ */

static void put(struct connection *c, const void *data, long n) {
    if (c->size + n > c->room) c->out = realloc(c->out, c->room = (c->size + n) * 2);
    memcpy(c->out + c->size, data, n);
    c->size += n;
}

static void put_frame(struct connection *c, int type, int flags, uint32_t stream, const void *payload, uint32_t n) {
    uint8_t header[9] = {n >> 16, n >> 8, n, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
    put(c, header, 9);
    put(c, payload, n);
}

static void put_credit(struct connection *c, uint32_t n) {
    uint8_t credit[4] = {n >> 24, n >> 16, n >> 8, n};
    put_frame(c, WINDOW_UPDATE, 0, 0, credit, 4);
}

static void flush(struct connection *c) {
    while (c->sent < c->size) {
        ssize_t n = write(c->fd, c->out + c->sent, c->size - c->sent);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) fail("a write failed");
        c->sent += n;
    }
    c->sent = c->size = 0;
}

/* Begins the next requests on streams that are free, up to so many, as far as the server's windows let it. */
static void begin(struct connection *c, int most) {
    for (struct stream *s = c->streams; s < c->streams + many && c->busy < (uint32_t)most; s++) {
        if (s->id) continue;
        struct turn *turn = c->next;
        if (turn->content_size > c->initial) wrong("a stream's window that is too small");
        if (turn->content_size > c->window) return;
        s->turn = turn, s->id = c->id, s->answered = 0, s->got = 0, s->since = now();
        put_frame(c, HEADERS, END_HEADERS | (turn->content_size ? 0 : END_STREAM), c->id, turn->block, turn->block_size);
        if (turn->content_size) put_frame(c, DATA, END_STREAM, c->id, turn->content, turn->content_size);
        c->window -= turn->content_size;
        c->id += 2, c->busy++;
        if (++c->next == c->end) c->next = c->first;
    }
}

/* --- what comes -------------------------------------------------------------------------------------------------- */

static uint32_t number(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

static void settle(struct connection *c, const uint8_t *p, uint32_t n) {
    for (; n >= 6; p += 6, n -= 6) {
        uint32_t value = number(p + 2);
        int name = p[0] << 8 | p[1];
        if (name == 1 && value < TABLE) wrong("a table for header fields that is too small");
        if (name == 3 && value < (uint32_t)many) wrong("fewer streams at a time than were asked for");
        if (name == 4) c->initial = value;
    }
    c->settled = 1;
    put_frame(c, SETTINGS, ACK, 0, NULL, 0);
}

static struct stream *stream_of(struct connection *c, uint32_t id) {
    for (struct stream *s = c->streams; s < c->streams + many; s++)
        if (s->id == id) return s;
    wrong("an answer that nobody asked for");
    return NULL;
}

/* :status is the first field, and 200 is one byte of the static table; before it the table's size may change. */
static void read_status(struct stream *s, const uint8_t *p, uint32_t n) {
    for (; n && *p >> 5 == 1; p++, n--)
        if ((*p & 31) == 31)
            do p++, n--;
            while (n && *p & 128);
    if (!n || *p != 0x88) wrong("a status other than 200");
    s->answered = 1;
}

static void end(struct connection *c, struct stream *s) {
    struct turn *turn = s->turn;
    if (!s->answered) wrong("an answer without a status");
    if (turn->content_size) {
        if (s->got != turn->content_size) wrong("an echo of another length");
        if (memcmp(s->gathered, turn->content, s->got)) wrong("a wrong echo");
    } else if (!memmem(s->gathered, s->got, turn->within, turn->within_size) &&
               (s->got != turn->block_size || memcmp(s->gathered, turn->block, s->got)))
        wrong("a wrong echo");
    s->id = 0, c->busy--;
    record(s->since);
}

static void read_frame(struct connection *c, const uint8_t *frame, uint32_t n) {
    int type = frame[3], flags = frame[4];
    uint32_t id = number(frame + 5);
    const uint8_t *p = frame + 9;
    if (!c->settled && (type != SETTINGS || flags & ACK)) wrong("something else than HTTP/2");
    if (type == DATA || type == HEADERS) {
        struct stream *s = stream_of(c, id);
        long whole = n, around = 0;
        if (flags & PADDED) n -= 1 + *p, around = 1;
        if (type == HEADERS && flags & PRIORITISED) n -= 5, around += 5;
        if (n > whole) wrong("a frame that is not whole");
        if (type == HEADERS && !s->answered) read_status(s, p + around, n);
        if (type == DATA) {
            if (s->got + n > longest_answer) wrong("an answer that is too long");
            memcpy(s->gathered + s->got, p + around, n);
            s->got += n;
            if ((c->used += whole) > CREDIT) put_credit(c, c->used), c->used = 0;
        }
        if (flags & END_STREAM) end(c, s);
    } else if (type == SETTINGS && !(flags & ACK)) settle(c, p, n);
    else if (type == PING && !(flags & ACK)) put_frame(c, PING, ACK, 0, p, n);
    else if (type == WINDOW_UPDATE && !id && n == 4) c->window += number(p);
    else if (type == RST_STREAM) wrong("a stream was reset");
    else if (type == GOAWAY) wrong("the server said GOAWAY");
}

static void receive(struct connection *c) {
    for (;;) {
        ssize_t r = read(c->fd, c->in + c->have, IN - c->have);
        if (r < 0 && errno == EAGAIN) return;
        if (r <= 0) { if (!r) errno = 0; fail("a connection was cut off"); }
        uint8_t *p = (uint8_t *)c->in, *stop = p + (c->have += r);
        while (stop - p >= 9) {
            uint32_t n = p[0] << 16 | p[1] << 8 | p[2];
            if (n > FRAME) wrong("something else than HTTP/2");
            if (stop - p < 9 + (long)n) break;
            read_frame(c, p, n);
            p += 9 + n;
        }
        c->have = stop - p;
        memmove(c->in, p, c->have);
    }
}

/* Lets connections do what they can, with so many streams on each; returns how many connections had something. */
static int step(int streams, int milliseconds) {
    struct epoll_event ready[512];
    int n = epoll_wait(ep, ready, 512, milliseconds);
    for (int i = 0; i < n; i++) {
        struct connection *c = &all[ready[i].data.u32];
        receive(c);
        begin(c, streams);
        flush(c);
    }
    return n;
}

static int under_way(void) {
    for (int i = 0; i < count; i++)
        if (all[i].busy) return 1;
    return 0;
}

/* Awaits all that is under way. */
static void finish(void) {
    while (under_way())
        if (!step(0, PATIENCE)) wrong("no answer within 10 s");
}

static void open_one(struct connection *c, int i, int port) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t settings[] = {0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff}; /* no push; windows */
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct linger reset = {1, 0};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&at, sizeof at)) fail("cannot connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->first = c->next = pool + i * pool_size / count, c->end = pool + (i + 1) * pool_size / count;
    c->id = 1, c->window = c->initial = 65535;
    c->in = malloc(IN);
    c->streams = calloc(many, sizeof *c->streams);
    for (int each = 0; each < many; each++) c->streams[each].gathered = malloc(longest_answer);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    put(c, preface, sizeof preface - 1);
    put_frame(c, SETTINGS, 0, 0, settings, sizeof settings);
    put_credit(c, 0x7fff0000);
    begin(c, 1);
    flush(c);
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void run(double seconds) {
    memset(histogram, 0, sizeof histogram);
    done = longest = 0;
    double spent = cpu();
    long long start = now(), stop = start + seconds * 1e9;
    for (int i = 0; i < count; i++) begin(&all[i], many), flush(&all[i]);
    while (now() < stop)
        if (!step(many, PATIENCE)) wrong("no answer within 10 s");
    finish();
    printf("{\"requests\": %lu, \"due\": 0, \"seconds\": %.6f, \"client_cpu\": %.6f, \"latency_us\": {\"50\": %.1f, \"75\": %.1f, "
           "\"90\": %.1f, \"99\": %.1f, \"99.9\": %.1f, \"max\": %.1f}}\n", done, (now() - start) / 1e9, cpu() - spent,
           percentile(50), percentile(75), percentile(90), percentile(99), percentile(99.9), longest / 1e3);
}

static uint32_t little(const char *p) {
    const uint8_t *b = (const uint8_t *)p;
    return b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Finds the requests in the file's bytes. Returns 0 where they are others. */
static int make_pool(char *data, long size) {
    for (long at = 0, n; at < size; at += n) {
        if (size - at < 12) return 0;
        struct turn turn = {.block_size = little(data + at), .content_size = little(data + at + 4),
                            .within_size = little(data + at + 8)};
        n = 12L + turn.block_size + turn.content_size + turn.within_size;
        if (n > size - at || turn.block_size > FRAME || turn.content_size > FRAME) return 0;
        turn.block = data + at + 12, turn.content = turn.block + turn.block_size;
        turn.within = turn.content + turn.content_size;
        pool = realloc(pool, (pool_size + 1) * sizeof *pool);
        pool[pool_size++] = turn;
    }
    longest_answer = 2 * FRAME;
    return pool_size >= count;
}

int main(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "c:m:")) > 0) {
        if (option == 'c') count = atoi(optarg);
        else if (option == 'm') many = atoi(optarg);
        else return 2;
    }
    if (argc - optind != 2 || count < 1 || many < 1)
        return fputs("usage: h2client [-c N] [-m N] PORT FILE\n", stderr), 2;
    FILE *file = fopen(argv[optind + 1], "r");
    if (!file || fseek(file, 0, SEEK_END)) return perror("h2client"), 1;
    long size = ftell(file);
    char *data = malloc(size + 1);
    rewind(file);
    if (fread(data, 1, size, file) != (size_t)size) return perror("h2client"), 1;
    fclose(file);
    if (!make_pool(data, size)) return fputs("h2client: no pool of requests, or one for each connection\n", stderr), 1;
    ep = epoll_create1(0);
    signal(SIGPIPE, SIG_IGN); /* a write that fails has something to say */
    all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) {
        open_one(&all[i], i, atoi(argv[optind]));
        finish();
    }
    done = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    for (double seconds; scanf("%lf", &seconds) == 1;) run(seconds);
    for (int i = 0; i < count; i++) close(all[i].fd);
    return 0;
}
