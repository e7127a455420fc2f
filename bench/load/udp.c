/* SPDX-License-Identifier: Apache-2.0 */
/* Packets per second: one sender that never waits, one receiver that counts.
 * On a path of veth devices the kernel carries a packet up to the receiver's
 * queue in the sender's context, so 1e9 / pps is the cost of the whole path.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define BATCH 64
#define MAX_SIZE 1400

#define PRIMER 'p' /* first byte of a packet that asks for an echo */

struct udp {
	atomic_uint_fast64_t received;
	atomic_bool primed;
	uint64_t sent;
	uint64_t failed;
	uint64_t elapsed_ns;
	uint64_t cpu_ns;
};

static void batch_of(struct mmsghdr *batch, struct iovec *vector, char *payload, size_t size)
{
	memset(batch, 0, BATCH * sizeof(*batch));
	for (int i = 0; i < BATCH; i++) {
		vector[i] = (struct iovec){payload, size};
		batch[i].msg_hdr.msg_iov = &vector[i];
		batch[i].msg_hdr.msg_iovlen = 1;
	}
}

/* Echo the sender's primers until it has had one back. */
static void echo_primers(struct pair *pair, int fd)
{
	struct udp *udp = pair->state;
	struct sockaddr_storage peer;
	char packet[MAX_SIZE];

	while (!atomic_load(&udp->primed)) {
		socklen_t length = sizeof(peer);
		ssize_t n = recvfrom(fd, packet, sizeof(packet), 0, (struct sockaddr *)&peer,
				     &length);

		if (n <= 0)
			continue;
		if (packet[0] == PRIMER)
			(void)!sendto(fd, packet, n, 0, (struct sockaddr *)&peer, length);
		else
			atomic_fetch_add(&udp->received, 1);
	}
}

static void receive(struct pair *pair)
{
	struct udp *udp = pair->state;
	int fd = open_socket(pair->options, SOCK_DGRAM, true);
	struct mmsghdr batch[BATCH];
	struct iovec vector[BATCH];
	char scrap[MAX_SIZE];

	deepen_receive_buffer(fd);
	set_receive_timeout(fd, 50);
	batch_of(batch, vector, scrap, sizeof(scrap));
	listening(pair);
	echo_primers(pair, fd);
	for (;;) {
		bool last = atomic_load(&pair->stop);
		int n = recvmmsg(fd, batch, BATCH, MSG_DONTWAIT, NULL);

		if (n > 0)
			atomic_fetch_add_explicit(&udp->received, n, memory_order_relaxed);
		else if (last)
			break;
		/* Napping, not blocked in the call: the sender never pays for waking
		 * the receiver, and seldom shares a cache line or a core with it.
		 */
		if (n < BATCH)
			sleep_until(now_ns() + MSEC);
	}
	close(fd);
}

/* Send single packets until one comes back: neighbours are then resolved, flow
 * entries exist, and connection tracking has seen both directions, without which
 * it calls every packet of a one-way flow new.
 */
static void prime(int fd, struct udp *udp, uint32_t size)
{
	char packet[MAX_SIZE] = {PRIMER};
	bool answered = false;

	set_receive_timeout(fd, 10);
	for (int tries = 0; tries < 300 && !answered; tries++) {
		(void)!send(fd, packet, size, 0);
		answered = recv(fd, packet, sizeof(packet), 0) == (ssize_t)size;
	}
	if (!answered) {
		errno = ETIMEDOUT;
		die("udp: no packet comes back");
	}
	/* Late primers arrive before the first packet that counts. */
	sleep_until(now_ns() + 60 * MSEC);
	atomic_store(&udp->primed, true);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec spent;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
	return spent.tv_sec * NSEC + spent.tv_nsec;
}

static void send_all(struct pair *pair)
{
	const struct options *options = pair->options;
	struct udp *udp = pair->state;
	int fd = open_socket(options, SOCK_DGRAM, false);
	char payload[MAX_SIZE] = {0};
	struct mmsghdr batch[BATCH];
	struct iovec vector[BATCH];
	uint64_t start, end, now, cpu;

	if (connect(fd, (const struct sockaddr *)&options->address, options->address_len))
		die("connect");
	prime(fd, udp, options->size);
	batch_of(batch, vector, payload, options->size);
	cpu = thread_cpu_ns();
	start = now = now_ns();
	end = start + options->seconds * NSEC;
	while (now < end && (!options->count || udp->sent < options->count)) {
		uint64_t left = options->count ? options->count - udp->sent : BATCH;
		int n = sendmmsg(fd, batch, left < BATCH ? left : BATCH, 0);

		if (n > 0)
			udp->sent += n;
		else
			udp->failed++;
		now = now_ns();
	}
	udp->elapsed_ns = now - start;
	udp->cpu_ns = thread_cpu_ns() - cpu;
	/* What still stands in a queue arrives while nobody sends. */
	sleep_until(now + 20 * MSEC);
	close(fd);
}

int run_udp(const struct options *options)
{
	struct udp udp = {0};
	struct pair pair = {
		.options = options, .serve = receive, .load = send_all, .state = &udp};
	double seconds;
	uint64_t received;

	if (options->size > MAX_SIZE) {
		errno = EMSGSIZE;
		die("--size");
	}
	run_pair(&pair);
	seconds = udp.elapsed_ns / 1e9;
	received = atomic_load(&udp.received);
	printf("{\"sent\": %lu, \"received\": %lu, \"failed_calls\": %lu, \"seconds\": %.6f, "
	       "\"sent_pps\": %.1f, \"received_pps\": %.1f, \"cpu_share\": %.4f}\n",
	       udp.sent, received, udp.failed, seconds, udp.sent / seconds, received / seconds,
	       (double)udp.cpu_ns / udp.elapsed_ns);
	return 0;
}
