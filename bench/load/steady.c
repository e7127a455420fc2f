/* SPDX-License-Identifier: Apache-2.0 */
/* A steady flow of numbered UDP packets: which were lost, and how long the
 * receiver once had to wait for the next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "load.h"

struct packet {
	uint64_t sequence;
	uint64_t sent_ns;
};

struct steady {
	uint64_t planned;
	uint64_t sent;
	uint64_t received;
	uint64_t duplicated;
	uint64_t reordered;
	uint64_t longest_gap_ns;
	uint64_t slowest_ns;
	uint8_t *seen; /* one byte per planned packet */
};

static void account(struct steady *steady, const struct packet *packet, uint64_t *highest)
{
	uint64_t transit_ns = now_ns() - packet->sent_ns;

	if (packet->sequence >= steady->planned)
		return;
	if (steady->seen[packet->sequence]++) {
		steady->duplicated++;
		return;
	}
	if (packet->sequence < *highest)
		steady->reordered++;
	else
		*highest = packet->sequence;
	if (transit_ns > steady->slowest_ns)
		steady->slowest_ns = transit_ns;
	steady->received++;
}

static void receive(struct pair *pair)
{
	struct steady *steady = pair->state;
	int fd = open_socket(pair->options, SOCK_DGRAM, true);
	uint64_t last_ns = 0, highest = 0;
	struct packet packet;

	deepen_receive_buffer(fd);
	set_receive_timeout(fd, 20);
	listening(pair);
	for (;;) {
		bool last = atomic_load(&pair->stop);
		ssize_t n = recv(fd, &packet, sizeof(packet), 0);
		uint64_t arrived_ns = now_ns();

		if (n != sizeof(packet)) {
			if (last)
				break;
			continue;
		}
		if (last_ns && arrived_ns - last_ns > steady->longest_gap_ns)
			steady->longest_gap_ns = arrived_ns - last_ns;
		last_ns = arrived_ns;
		account(steady, &packet, &highest);
	}
	close(fd);
}

static void send_steadily(struct pair *pair)
{
	const struct options *options = pair->options;
	struct steady *steady = pair->state;
	int fd = open_socket(options, SOCK_DGRAM, false);
	uint64_t start = now_ns();

	if (connect(fd, (const struct sockaddr *)&options->address, options->address_len))
		die("connect");
	puts("{\"event\": \"ready\"}");
	fflush(stdout);
	for (uint64_t i = 0; i < steady->planned && !ended(); i++) {
		struct packet packet = {.sequence = i};

		sleep_until(start + i * NSEC / options->rate);
		packet.sent_ns = now_ns();
		/* A refused send is a lost packet: the receiver misses its number. */
		(void)!send(fd, &packet, sizeof(packet), 0);
		steady->sent++;
	}
	sleep_until(now_ns() + options->timeout_ms * MSEC);
	close(fd);
}

static uint64_t longest_run_lost(const struct steady *steady)
{
	uint64_t longest = 0, run = 0;

	for (uint64_t i = 0; i < steady->sent; i++) {
		run = steady->seen[i] ? 0 : run + 1;
		if (run > longest)
			longest = run;
	}
	return longest;
}

int run_steady(const struct options *options)
{
	struct steady steady = {.planned = options->rate * options->seconds};
	struct pair pair = {
		.options = options, .serve = receive, .load = send_steadily, .state = &steady};

	steady.seen = calloc(steady.planned + 1, 1);
	if (!steady.seen)
		die("calloc");
	run_pair(&pair);
	printf("{\"sent\": %lu, \"received\": %lu, \"lost\": %lu, \"longest_run_lost\": %lu, "
	       "\"duplicated\": %lu, \"reordered\": %lu, \"longest_gap_ms\": %.3f, "
	       "\"slowest_ms\": %.3f}\n",
	       steady.sent, steady.received, steady.sent - steady.received,
	       longest_run_lost(&steady), steady.duplicated, steady.reordered,
	       steady.longest_gap_ns / 1e6, steady.slowest_ns / 1e6);
	free(steady.seen);
	return 0;
}
