/* Sends HTTP requests at random moments (Poisson), whatever has been answered: an open loop.
 *
 *   open_loop PORT RATE SECONDS PATIENCE_S REQUESTS SOURCE
 *
 * REQUESTS is a file: of each request its length in ASCII, a newline, and its bytes. They are sent in
 * turn, each over a connection that is free, or over a new one, from the address SOURCE; POOL are open
 * before the first. After
 * PATIENCE_S a caller gives up: the connection is closed. Prints one line of JSON. In C, since it
 * shares its cores with the server that it measures: cpu_s is what it took.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* TARGETS: addresses that are connected to in turn, all of this machine. With one, few ports of the
 * source would be free soon, and the kernel would take a core to find them. */
enum { POOL = 2000, HEAD = 4096, STATUSES = 600, TARGETS = 16 };

typedef struct Connection {
    int fd, number;            /* number: of the request that it carries, -1 for none */
    int status;
    int64_t left;              /* bytes of the answer still to come; -1 while its head comes */
    size_t sent, head_size;
    int closes, watched;       /* watched: 0 not yet, 1 for reading, 2 for writing too */
    char head[HEAD];
    struct Connection *next;   /* of those that are free */
} Connection;

typedef struct { double sent_s; Connection *by; } Request;

static char **bodies;
static size_t *sizes, kinds;
static Request *requests;
static Connection *free_ones;
static int poll_fd, open_count, most_open;
static long lost, late, refused_connections, by_status[STATUSES];
static double *ok_s, *refused_s;
static long oks, refusals;
static struct sockaddr_in server, source;
static unsigned target;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size;
    if (!file) { perror(path); exit(1); }
    while (fscanf(file, "%zu", &size) == 1) {
        if (fgetc(file) != '\n') exit(1);
        bodies = realloc(bodies, (kinds + 1) * sizeof *bodies);
        sizes = realloc(sizes, (kinds + 1) * sizeof *sizes);
        bodies[kinds] = malloc(size);
        if (fread(bodies[kinds], 1, size, file) != size) exit(1);
        sizes[kinds++] = size;
    }
    fclose(file);
}

static void end(Connection *c) {
    close(c->fd);
    open_count--;
    free(c);
}

static void watch(Connection *c, int writes) {
    struct epoll_event event = {.events = EPOLLIN | (writes ? EPOLLOUT : 0), .data.ptr = c};
    if (c->watched == 1 + writes) return;
    epoll_ctl(poll_fd, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event);
    c->watched = 1 + writes;
}

static Connection *connect_one(void) {
    Connection *c = calloc(1, sizeof *c);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) { perror("socket"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&source, sizeof source)) { perror("bind"); exit(1); }
    open_count++;
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK + target++ % TARGETS);
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) {
        refused_connections++;
        end(c);
        return NULL;
    }
    c->number = -1;
    watch(c, 1);
    return c;
}

/* Writes what is left of the request. Returns 0 if the connection is lost. */
static int push(Connection *c) {
    size_t kind = c->number % kinds;
    while (c->sent < sizes[kind]) {
        ssize_t n = send(c->fd, bodies[kind] + c->sent, sizes[kind] - c->sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) { watch(c, 1); return 1; }
        if (n < 0) return 0;
        c->sent += n;
    }
    watch(c, 0);
    return 1;
}

static void give(int number) {
    Connection *c = free_ones;
    requests[number].sent_s = now();
    if (c) free_ones = c->next;
    else if (open_count >= most_open || !(c = connect_one())) { lost++; return; }
    c->number = number;
    c->sent = c->head_size = 0;
    c->left = -1;
    requests[number].by = c;
    if (!push(c)) { requests[number].by = NULL; lost++; end(c); }
}

/* The end of an answer. */
static void answered(Connection *c) {
    double took = now() - requests[c->number].sent_s;
    by_status[c->status]++;
    if (c->status == 200) ok_s[oks++] = took;
    else refused_s[refusals++] = took;
    requests[c->number].by = NULL;
    c->number = -1;
    if (c->closes) { end(c); return; }
    c->next = free_ones;
    free_ones = c;
}

static void unlist(Connection *c) {
    for (Connection **at = &free_ones; *at; at = &(*at)->next)
        if (*at == c) { *at = c->next; return; }
}

static void fail(Connection *c) {
    if (c->number >= 0) { requests[c->number].by = NULL; lost++; }
    else unlist(c);
    end(c);
}

static void read_some(Connection *c) {
    static char buffer[1 << 16];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    char *data = buffer, *blank, *length;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0 || c->number < 0) { fail(c); return; }
    if (c->left < 0) {
        size_t part = (size_t)n < HEAD - 1 - c->head_size ? (size_t)n : HEAD - 1 - c->head_size;
        memcpy(c->head + c->head_size, data, part);
        size_t before = c->head_size;
        c->head[c->head_size += part] = 0;
        if (!(blank = strstr(c->head, "\r\n\r\n"))) { if (c->head_size >= HEAD - 1) fail(c); return; }
        length = strcasestr(c->head, "\r\ncontent-length:");
        c->status = atoi(c->head + 9) % STATUSES;
        *blank = 0;
        c->closes = strcasestr(c->head, "connection: close") != NULL;
        c->left = length ? atoll(length + 17) : 0;
        size_t used = (blank + 4 - c->head) - before;
        data += used;
        n -= used;
    }
    c->left -= n;
    if (c->left <= 0) answered(c);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double part_of(double *values, long count, double part) {
    if (!count) return -1;
    return values[(long)(part * (count - 1))] * 1e3;
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "PORT RATE SECONDS PATIENCE_S REQUESTS SOURCE\n"); return 2; }
    double rate = atof(argv[2]), seconds = atof(argv[3]), patience = atof(argv[4]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    most_open = files.rlim_max - 100;
    load(argv[5]);
    long most = (long)(rate * seconds * 1.2) + 1000;
    requests = calloc(most, sizeof *requests);
    ok_s = malloc(most * sizeof *ok_s);
    refused_s = malloc(most * sizeof *refused_s);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    source = (struct sockaddr_in){.sin_family = AF_INET};
    inet_pton(AF_INET, argv[6], &source.sin_addr);
    poll_fd = epoll_create1(0);
    srand48(1);
    for (int i = 0; i < POOL; i++) {
        Connection *c = connect_one();
        if (c) { c->next = free_ones; free_ones = c; }
        usleep(1000);
    }
    double start = now(), next = start, stop = start + seconds;
    long count = 0, oldest = 0;
    struct epoll_event events[512];
    for (;;) {
        double at = now();
        while (next <= at && next < stop && count < most) {
            give(count++);
            next += -log(1 - drand48()) / rate;
        }
        for (; oldest < count && at - requests[oldest].sent_s >= patience; oldest++) {
            Connection *c = requests[oldest].by;
            if (!c) continue;
            late++;
            end(c);
        }
        if (next >= stop && oldest == count) break;
        double until = next < stop ? next : at + 0.01;
        int wait = (int)((until - at) * 1e3);
        /* Many answers at a time: woken for each, it would take the cores that it shares. */
        usleep(500);
        int n = epoll_wait(poll_fd, events, 512, wait < 0 ? 0 : wait > 10 ? 10 : wait);
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                if (c->number < 0) watch(c, 0);
                else if (!push(c)) { fail(c); continue; }
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_some(c);
        }
        if (next >= stop) {
            /* Nothing more is sent: who is answered need not be waited for. */
            while (oldest < count && !requests[oldest].by) oldest++;
        }
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    qsort(ok_s, oks, sizeof *ok_s, by_size);
    qsort(refused_s, refusals, sizeof *refused_s, by_size);
    printf("{\"sent\": %ld, \"late\": %ld, \"lost\": %ld, \"cpu_s\": %.2f", count, late,
           lost + refused_connections, used.ru_utime.tv_sec + used.ru_utime.tv_usec * 1e-6
           + used.ru_stime.tv_sec + used.ru_stime.tv_usec * 1e-6);
    printf(", \"ok_p50_ms\": %.2f, \"ok_p99_ms\": %.2f", part_of(ok_s, oks, .5), part_of(ok_s, oks, .99));
    printf(", \"refused_p50_ms\": %.2f, \"refused_p99_ms\": %.2f, \"statuses\": {",
           part_of(refused_s, refusals, .5), part_of(refused_s, refusals, .99));
    for (int s = 0, first = 1; s < STATUSES; s++)
        if (by_status[s]) { printf("%s\"%d\": %ld", first ? "" : ", ", s, by_status[s]); first = 0; }
    printf("}}\n");
    return 0;
}
