/* SPDX-License-Identifier: Apache-2.0 */
/* Does anything get through, and when did it first? The client tries again and
 * again until the server hears it (udp) or accepts it (tcp), or time is up.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "load.h"

struct probe {
	atomic_bool through;
	uint64_t arrived_ns;
	uint64_t started_ns;
	uint64_t tries;
	bool answered; /* tcp: the client's side of the handshake is complete, too */
};

static void listen_once(struct pair *pair)
{
	struct probe *probe = pair->state;
	bool stream = pair->options->socktype == SOCK_STREAM;
	int fd = open_socket(pair->options, pair->options->socktype, true);
	int peer = -1;
	char byte;

	set_receive_timeout(fd, 20);
	listening(pair);
	while (!atomic_load(&probe->through) && !atomic_load(&pair->stop)) {
		if (stream)
			peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (stream ? peer >= 0 : recv(fd, &byte, 1, 0) == 1) {
			probe->arrived_ns = now_ns();
			atomic_store(&probe->through, true);
		}
	}
	if (peer >= 0)
		close(peer);
	close(fd);
}

/* One connection attempt; it lives to its end or to the end of the measurement,
 * so that the kernel's own second SYN may still succeed.
 */
static void try_tcp(struct pair *pair, struct probe *probe, uint64_t end_ns)
{
	const struct options *options = pair->options;
	int fd = open_socket(options, SOCK_STREAM | SOCK_NONBLOCK, false);
	struct pollfd writable = {.fd = fd, .events = POLLOUT};
	uint64_t now = now_ns();
	int error = 0;
	socklen_t length = sizeof(error);

	probe->tries++;
	if (connect(fd, (const struct sockaddr *)&options->address, options->address_len) == 0)
		probe->answered = true;
	else if (now < end_ns && poll(&writable, 1, (end_ns - now) / MSEC + 1) == 1)
		probe->answered = !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) && !error;
	close(fd);
}

static void try_udp(struct pair *pair, struct probe *probe, int fd)
{
	const struct options *options = pair->options;
	char byte = 0;

	probe->tries++;
	/* Errors (no route yet, an ICMP that refuses) are what is being probed. */
	(void)!sendto(fd, &byte, 1, 0, (const struct sockaddr *)&options->address,
		      options->address_len);
}

static void knock(struct pair *pair)
{
	const struct options *options = pair->options;
	struct probe *probe = pair->state;
	bool stream = options->socktype == SOCK_STREAM;
	int fd = stream ? -1 : open_socket(options, SOCK_DGRAM, false);
	uint64_t next, end;

	puts("{\"event\": \"ready\"}");
	fflush(stdout);
	probe->started_ns = next = now_ns();
	end = next + options->seconds * NSEC;
	while (!atomic_load(&probe->through) && !probe->answered && next < end) {
		if (stream)
			try_tcp(pair, probe, end);
		else
			try_udp(pair, probe, fd);
		next += options->interval_ms * MSEC;
		sleep_until(next);
	}
	if (fd >= 0)
		close(fd);
	/* The server may be a moment behind the last try. */
	sleep_until(now_ns() + 20 * MSEC);
}

int run_probe(const struct options *options)
{
	struct probe probe = {0};
	struct pair pair = {
		.options = options, .serve = listen_once, .load = knock, .state = &probe};
	bool through;

	run_pair(&pair);
	through = atomic_load(&probe.through);
	printf("{\"through\": %s, \"tries\": %lu, \"started_ns\": %lu, \"arrived_ns\": %lu}\n",
	       through ? "true" : "false", probe.tries, probe.started_ns, probe.arrived_ns);
	return 0;
}
