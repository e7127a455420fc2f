/* SPDX-License-Identifier: Apache-2.0 */
/* Threads in their network namespace and on their CPU, and sockets there. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

void die(const char *what)
{
	fprintf(stderr, "plum-load: %s: %s\n", what, strerror(errno));
	exit(2);
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NSEC + now.tv_nsec;
}

void sleep_until(uint64_t when_ns)
{
	struct timespec when = {when_ns / NSEC, when_ns % NSEC};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
		continue;
}

static void enter(const struct place *place)
{
	if (place->netns) {
		int fd = open(place->netns, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || setns(fd, CLONE_NEWNET))
			die(place->netns);
		close(fd);
	}
	if (place->cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(place->cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			die("sched_setaffinity");
	}
}

/* RetransSegs of the thread's namespace: field 12 of the second "Tcp:" line. */
static uint64_t retransmits_here(void)
{
	FILE *snmp = fopen("/proc/thread-self/net/snmp", "r");
	unsigned long long retransmits = 0;
	char line[1024];
	int seen = 0;

	if (!snmp)
		die("/proc/thread-self/net/snmp");
	while (fgets(line, sizeof(line), snmp))
		if (!strncmp(line, "Tcp:", 4) && ++seen == 2)
			sscanf(line, "Tcp: %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
			       &retransmits);
	fclose(snmp);
	return retransmits;
}

static void *server_thread(void *arg)
{
	struct pair *pair = arg;
	uint64_t before;

	enter(&pair->options->server);
	before = retransmits_here();
	pair->serve(pair);
	__atomic_add_fetch(&pair->retransmits, retransmits_here() - before, __ATOMIC_RELAXED);
	return NULL;
}

static void *client_thread(void *arg)
{
	struct pair *pair = arg;
	uint64_t before;

	enter(&pair->options->client);
	pthread_barrier_wait(&pair->listening);
	before = retransmits_here();
	pair->load(pair);
	__atomic_add_fetch(&pair->retransmits, retransmits_here() - before, __ATOMIC_RELAXED);
	atomic_store(&pair->stop, true);
	return NULL;
}

void listening(struct pair *pair)
{
	pthread_barrier_wait(&pair->listening);
}

static volatile sig_atomic_t end_wanted;

static void note_end(int number)
{
	(void)number;
	end_wanted = 1;
}

bool ended(void)
{
	return end_wanted;
}

void run_pair(struct pair *pair)
{
	struct sigaction on_end = {.sa_handler = note_end, .sa_flags = SA_RESTART};
	pthread_t client, server;

	sigaction(SIGTERM, &on_end, NULL);
	pthread_barrier_init(&pair->listening, NULL, 2);
	if (pthread_create(&server, NULL, server_thread, pair) ||
	    pthread_create(&client, NULL, client_thread, pair))
		die("pthread_create");
	pthread_join(client, NULL);
	pthread_join(server, NULL);
}

void set_receive_timeout(int fd, uint32_t timeout_ms)
{
	struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)))
		die("SO_RCVTIMEO");
}

/* Deep enough that a receiver off its CPU for a while loses nothing: what is lost
 * then was lost on the way. */
void deepen_receive_buffer(int fd)
{
	int bytes = 32 << 20;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		die("SO_RCVBUFFORCE");
}

int open_socket(const struct options *options, int type, bool bind_it)
{
	int fd = socket(options->address.ss_family, type | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0)
		die("socket");
	if (!bind_it)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&options->address, options->address_len))
		die("bind the server's address");
	if ((type & SOCK_STREAM) && !(type & SOCK_DGRAM) && listen(fd, 4096))
		die("listen");
	return fd;
}

/* A connected socket without Nagle's delay, or -1 with errno set. */
int connect_tcp(const struct options *options)
{
	int fd = open_socket(options, SOCK_STREAM, false);
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&options->address, options->address_len)) {
		int why = errno;

		close(fd);
		errno = why;
		return -1;
	}
	return fd;
}
