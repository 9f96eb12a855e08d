/* The limit: the same work in C on the same libca. cc -I<include> c_client.c <libca.so>
 *
 * Run as: c_client WORK COUNT REPEAT SECONDS; prints one line of JSON. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "cadef.h"

static volatile long arrived, connected;
static sem_t one_arrived;
static double *landed; /* where an array is copied to: "C plus one memory copy" is the aim */

static double wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}
static double cpu(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}
static void on_connection(struct connection_handler_args a) {
    if (a.op == CA_OP_CONN_UP) __sync_fetch_and_add(&connected, 1);
}
static void on_event(struct event_handler_args a) {
    if (a.dbr && a.count > 1000) memcpy(landed, a.dbr, a.count * sizeof(double));
    __sync_fetch_and_add(&arrived, 1);
    sem_post(&one_arrived);
}
static int ascending(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return d < 0 ? -1 : d > 0;
}
static double median(double *v, int n) {
    qsort(v, n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}
static void until(volatile long *what, long n) {
    double end = wall() + 30;
    while (*what < n) {
        usleep(50);
        if (wall() > end) {
            fprintf(stderr, "%ld of %ld have come\n", *what, n);
            exit(3);
        }
    }
}
static double rss(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1) exit(3);
    fclose(f);
    return (double)pages * sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv) {
    const char *work = argv[1];
    int count = atoi(argv[2]), repeat = atoi(argv[3]), i, k;
    double start, seconds = atof(argv[4]), walls[100], cpus[100], value = 1.5, t, c;
    int one = !strcmp(work, "get_one") || !strcmp(work, "put_one");
    int array = !strcmp(work, "array"), monitor = !strcmp(work, "monitor");
    int channels = one || array ? 1 : count;
    chid *chids = malloc(channels * sizeof *chids);
    char name[64];

    if (argc != 5) return 2;
    landed = malloc(8000000);
    sem_init(&one_arrived, 0, 0);
    ca_context_create(ca_enable_preemptive_callback);
    t = wall();
    c = cpu();
    start = rss();
    for (i = 0; i < channels; i++) {
        snprintf(name, sizeof name, "%s%d", monitor ? "M" : "P", i);
        ca_create_channel(array ? "BIG" : name, on_connection, 0, 0, &chids[i]);
    }
    ca_flush_io();
    until(&connected, channels);
    if (!strcmp(work, "connect")) {
        printf("{\"s\": %g, \"cpu_us\": %g}\n", wall() - t, (cpu() - c) / count * 1e6);
        fflush(stdout);
        _exit(0);
    }
    if (!strcmp(work, "memory")) {
        double up = rss();
        for (i = 0; i < channels; i++)
            ca_create_subscription(DBR_TIME_DOUBLE, 0, chids[i], DBE_VALUE | DBE_ALARM, on_event, 0, 0);
        ca_flush_io();
        sleep(3);
        printf("{\"channel_bytes\": %g, \"subscription_bytes\": %g, \"both_bytes\": %g}\n",
               (up - start) / count, (rss() - up) / count, (rss() - start) / count);
        fflush(stdout);
        _exit(0);
    }
    if (monitor) {
        for (i = 0; i < channels; i++)
            ca_create_subscription(DBR_TIME_DOUBLE, 0, chids[i], DBE_VALUE | DBE_ALARM, on_event, 0, 0);
        ca_flush_io();
        sleep(2);
        arrived = 0;
        t = wall();
        c = cpu();
        usleep(seconds * 1e6);
        printf("{\"per_second\": %g, \"cpu_us\": %g}\n", arrived / (wall() - t), (cpu() - c) / arrived * 1e6);
        fflush(stdout);
        _exit(0);
    }
    if (array) {
        double *data = calloc(1000000, sizeof *data), gets[100];
        for (k = 0; k <= repeat; k++) {
            arrived = 0;
            t = wall();
            ca_array_put_callback(DBR_DOUBLE, 1000000, chids[0], data, on_event, 0);
            ca_flush_io();
            until(&arrived, 1);
            walls[k] = wall() - t;
        }
        for (k = 0; k <= repeat; k++) {
            arrived = 0;
            t = wall();
            ca_array_get_callback(DBR_DOUBLE, 0, chids[0], on_event, 0);
            ca_flush_io();
            until(&arrived, 1);
            gets[k] = wall() - t;
        }
        printf("{\"get_ms\": %g, \"put_ms\": %g}\n", median(gets + 1, repeat) * 1e3, median(walls + 1, repeat) * 1e3);
        fflush(stdout);
        _exit(0);
    }
    for (k = 0; k <= repeat; k++) {
        t = wall();
        c = cpu();
        arrived = 0;
        for (i = 0; i < count; i++) {
            chid id = chids[one ? 0 : i];
            if (!strncmp(work, "get", 3))
                ca_array_get_callback(DBR_TIME_DOUBLE, 1, id, on_event, 0);
            else
                ca_array_put_callback(DBR_DOUBLE, 1, id, &value, on_event, 0);
            if (one) {
                ca_flush_io();
                sem_wait(&one_arrived);
            }
        }
        ca_flush_io();
        until(&arrived, count);
        walls[k] = wall() - t;
        cpus[k] = cpu() - c;
    }
    if (one)
        printf("{\"us\": %g}\n", median(walls + 1, repeat) / count * 1e6);
    else
        printf("{\"per_second\": %g, \"cpu_us\": %g}\n", count / median(walls + 1, repeat), median(cpus + 1, repeat) / count * 1e6);
    fflush(stdout);
    _exit(0);
}
