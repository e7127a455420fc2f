/* SPDX-License-Identifier: Apache-2.0 */
/* Open TCP connections that stay open: each sends now and then and expects its
 * echo. A connection that ends, or whose echo is missing too long, is broken.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "load.h"

#define EVENTS 256

struct connection {
	int fd;
	uint64_t asked_ns; /* 0: no echo outstanding */
	bool broken;
};

struct hold {
	struct connection *all;
	uint32_t opened;
	uint32_t broken;
	uint64_t exchanges;
	uint64_t slowest_ns;
	int epoll;
};

static void watch(int epoll, int fd, uint64_t tag)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		die("epoll_ctl");
}

static void echo(int fd)
{
	char buffer[256];
	ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || send(fd, buffer, n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		close(fd);
}

static void serve(struct pair *pair)
{
	int listener = open_socket(pair->options, SOCK_STREAM | SOCK_NONBLOCK, true);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[EVENTS];

	watch(epoll, listener, listener);
	listening(pair);
	while (!atomic_load(&pair->stop)) {
		int n = epoll_wait(epoll, events, EVENTS, 100);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.u64;

			if (fd != listener) {
				echo(fd);
				continue;
			}
			fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
			if (fd >= 0)
				watch(epoll, fd, fd);
		}
	}
	close(epoll);
	close(listener);
}

static void lose(struct hold *hold, struct connection *connection, const char *why)
{
	fprintf(stderr, "connection %zu broken: %s\n", connection - hold->all, why);
	connection->broken = true;
	hold->broken++;
	close(connection->fd);
}

static void open_all(const struct options *options, struct hold *hold)
{
	for (uint32_t i = 0; i < options->connections; i++) {
		int fd = connect_tcp(options);

		if (fd < 0)
			die("connect");
		hold->all[i] = (struct connection){.fd = fd};
		watch(hold->epoll, fd, i);
		hold->opened++;
	}
}

static void ask_all(const struct options *options, struct hold *hold)
{
	for (uint32_t i = 0; i < hold->opened; i++) {
		struct connection *connection = &hold->all[i];
		uint64_t now = now_ns();
		uint64_t sequence = i;

		if (connection->broken)
			continue;
		if (connection->asked_ns) {
			if (now - connection->asked_ns > options->timeout_ms * MSEC)
				lose(hold, connection, "no echo");
			continue;
		}
		connection->asked_ns = now;
		if (send(connection->fd, &sequence, sizeof(sequence),
			 MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(sequence))
			lose(hold, connection, "cannot send");
	}
}

static void hear(struct hold *hold, struct connection *connection)
{
	uint64_t took_ns = now_ns() - connection->asked_ns;
	char buffer[64];
	ssize_t n = recv(connection->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		lose(hold, connection, n ? "reset" : "closed by the peer");
		return;
	}
	/* Eight bytes written at once are one segment and one echo. */
	if (took_ns > hold->slowest_ns)
		hold->slowest_ns = took_ns;
	connection->asked_ns = 0;
	hold->exchanges++;
}

static void hear_until(struct hold *hold, uint64_t when_ns)
{
	struct epoll_event events[EVENTS];
	uint64_t now;

	while ((now = now_ns()) < when_ns) {
		int n = epoll_wait(hold->epoll, events, EVENTS, (when_ns - now) / MSEC + 1);

		for (int i = 0; i < n; i++) {
			struct connection *connection = &hold->all[events[i].data.u64];

			if (!connection->broken)
				hear(hold, connection);
		}
	}
}

static uint32_t waiting(const struct hold *hold)
{
	uint32_t waiting = 0;

	for (uint32_t i = 0; i < hold->opened; i++)
		waiting += !hold->all[i].broken && hold->all[i].asked_ns;
	return waiting;
}

static void keep_busy(struct pair *pair)
{
	const struct options *options = pair->options;
	struct hold *hold = pair->state;
	uint64_t tick, end;

	hold->epoll = epoll_create1(EPOLL_CLOEXEC);
	open_all(options, hold);
	puts("{\"event\": \"ready\"}");
	fflush(stdout);
	tick = now_ns();
	end = tick + options->seconds * NSEC;
	for (; tick < end && !ended(); tick += options->interval_ms * MSEC) {
		ask_all(options, hold);
		hear_until(hold, tick + options->interval_ms * MSEC);
	}
	end = now_ns() + options->timeout_ms * MSEC;
	while (waiting(hold) && now_ns() < end)
		hear_until(hold, now_ns() + 10 * MSEC);
	for (uint32_t i = 0; i < hold->opened; i++)
		if (!hold->all[i].broken && hold->all[i].asked_ns)
			lose(hold, &hold->all[i], "no echo at the end");
}

int run_hold(const struct options *options)
{
	struct hold hold = {.all = calloc(options->connections + 1, sizeof(struct connection))};
	struct rlimit files = {2 * options->connections + 64, 2 * options->connections + 64};
	struct pair pair = {
		.options = options, .serve = serve, .load = keep_busy, .state = &hold};

	if (!hold.all)
		die("calloc");
	if (setrlimit(RLIMIT_NOFILE, &files))
		die("RLIMIT_NOFILE");
	run_pair(&pair);
	printf("{\"opened\": %u, \"broken\": %u, \"exchanges\": %lu, \"slowest_ms\": %.3f, "
	       "\"retransmits\": %lu}\n",
	       hold.opened, hold.broken, hold.exchanges, hold.slowest_ns / 1e6,
	       pair.retransmits);
	free(hold.all);
	return 0;
}
