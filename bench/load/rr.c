/* SPDX-License-Identifier: Apache-2.0 */
/* Round trips (one connection, one byte each way) and connection rates
 * (connect, one byte each way, close). Both ends belong on one CPU: on two, the
 * time to wake the other CPU hides what the path costs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#include "load.h"

#define IDLE_MS 200

struct rr {
	bool fresh; /* a new connection for each transaction */
	uint64_t transactions;
	uint64_t failures;
	uint64_t elapsed_ns;
};

/* Answer every byte until the peer closes; one byte only if fresh. Closing
 * first leaves TIME_WAIT here, so the client never runs out of ports.
 */
static void answer(struct pair *pair, int fd, bool fresh)
{
	char byte;

	for (;;) {
		ssize_t n = recv(fd, &byte, 1, 0);

		if (n < 0 && errno == EAGAIN && !atomic_load(&pair->stop))
			continue;
		if (n <= 0 || send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || fresh)
			return;
	}
}

static void serve(struct pair *pair)
{
	struct rr *rr = pair->state;
	int listener = open_socket(pair->options, SOCK_STREAM, true);
	int one = 1;

	/* Accepted sockets inherit both. */
	set_receive_timeout(listener, IDLE_MS);
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	listening(pair);
	while (!atomic_load(&pair->stop)) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		answer(pair, fd, rr->fresh);
		close(fd);
	}
	close(listener);
}

static bool ask(int fd)
{
	char byte = 1;

	return send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1;
}

static void round_trips(struct pair *pair, struct rr *rr)
{
	uint64_t start, now, end;
	int fd = connect_tcp(pair->options);

	if (fd < 0)
		die("connect");
	set_receive_timeout(fd, 5000);
	start = now = now_ns();
	end = start + pair->options->seconds * NSEC;
	while (now < end) {
		if (!ask(fd)) {
			rr->failures++;
			break;
		}
		rr->transactions++;
		now = now_ns();
	}
	rr->elapsed_ns = now - start;
	close(fd);
}

static bool connect_ask_close(const struct options *options)
{
	int fd = connect_tcp(options);
	char byte;
	bool done;

	if (fd < 0)
		return false;
	done = ask(fd) && recv(fd, &byte, 1, 0) == 0;
	close(fd);
	return done;
}

static void connections(struct pair *pair, struct rr *rr)
{
	uint64_t start, now, end;

	start = now = now_ns();
	end = start + pair->options->seconds * NSEC;
	while (now < end) {
		if (connect_ask_close(pair->options))
			rr->transactions++;
		else
			rr->failures++;
		now = now_ns();
	}
	rr->elapsed_ns = now - start;
}

static void load(struct pair *pair)
{
	struct rr *rr = pair->state;

	if (rr->fresh)
		connections(pair, rr);
	else
		round_trips(pair, rr);
}

static int measure(const struct options *options, bool fresh)
{
	struct rr rr = {.fresh = fresh};
	struct pair pair = {.options = options, .serve = serve, .load = load, .state = &rr};
	double seconds;

	run_pair(&pair);
	seconds = rr.elapsed_ns / 1e9;
	printf("{\"transactions\": %lu, \"failures\": %lu, \"seconds\": %.6f, "
	       "\"per_second\": %.1f, \"retransmits\": %lu}\n",
	       rr.transactions, rr.failures, seconds, rr.transactions / seconds,
	       pair.retransmits);
	return 0;
}

int run_rr(const struct options *options)
{
	return measure(options, false);
}

int run_crr(const struct options *options)
{
	return measure(options, true);
}
