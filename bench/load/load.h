/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* A measurement is one process with two threads, the client and the server.
 * Each enters its own network namespace and is pinned to its own CPU, so one
 * clock sees both ends. Every run ends by itself.
 */

#define NSEC 1000000000ULL
#define MSEC 1000000ULL

struct place {
	const char *netns; /* path to enter, NULL: stay */
	int cpu;           /* CPU to pin to, -1: any */
};

struct options {
	struct place client;
	struct place server;
	struct sockaddr_storage address; /* the server's, with port */
	socklen_t address_len;
	int socktype;         /* probe only */
	double seconds;       /* length of the measurement */
	uint64_t count;       /* udp: stop after so many packets, 0: by time only */
	uint32_t size;        /* udp: payload bytes */
	uint32_t rate;        /* steady: packets per second */
	uint32_t connections; /* hold */
	uint32_t interval_ms; /* hold: between two sends; probe: between two tries */
	uint32_t timeout_ms;  /* hold: broken without an echo; steady: wait for stragglers */
};

/* One measurement prints one JSON object on stdout and returns the exit code. */
int run_udp(const struct options *options);
int run_rr(const struct options *options);
int run_crr(const struct options *options);
int run_steady(const struct options *options);
int run_hold(const struct options *options);
int run_probe(const struct options *options);

/* role.c */
struct pair {
	const struct options *options;
	void (*serve)(struct pair *pair);
	void (*load)(struct pair *pair);
	void *state;
	pthread_barrier_t listening;
	atomic_bool stop;     /* the client is done, the server must end */
	uint64_t retransmits; /* TCP segments sent again, both ends */
};

/* Run serve() and load() each in its place; load() starts once serve() has
 * called listening(). Returns when both are done.
 */
void run_pair(struct pair *pair);
/* SIGTERM came: steady and hold end early, with their result. */
bool ended(void);
void listening(struct pair *pair);

uint64_t now_ns(void);
void sleep_until(uint64_t when_ns);
int open_socket(const struct options *options, int type, bool bind_it);
int connect_tcp(const struct options *options);
void deepen_receive_buffer(int fd);

void set_receive_timeout(int fd, uint32_t timeout_ms);
/* Print what and errno, exit 2: the tool could not measure. */
__attribute__((noreturn)) void die(const char *what);

#endif
