/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

static const char usage[] =
	"Usage: plum-load udp|rr|crr|steady|hold|probe --address IP [options]\n"
	"\n"
	"Drives both ends of one measurement and prints one JSON object.\n"
	"  udp     packets per second of one sender        --size --count\n"
	"  rr      TCP round trips on one connection\n"
	"  crr     TCP connect, request, response, close\n"
	"  steady  numbered packets, what was lost         --rate --timeout-ms\n"
	"  hold    open connections, which broke           --connections --interval-ms "
	"--timeout-ms\n"
	"  probe   whether and when anything gets through  --protocol --interval-ms\n"
	"\n"
	"  --address IP          the server's IPv4 or IPv6 address\n"
	"  --port N              the server's port (5201)\n"
	"  --client-netns PATH   network namespace of each end (the caller's)\n"
	"  --server-netns PATH\n"
	"  --client-cpu N        CPU of each end (any)\n"
	"  --server-cpu N\n"
	"  --seconds S           length (1)\n"
	"  --size BYTES          UDP payload (64)\n"
	"  --count N             stop after N packets (by time only)\n"
	"  --rate N              packets per second (1000)\n"
	"  --connections N       (200)\n"
	"  --interval-ms N       between two sends or tries (100)\n"
	"  --timeout-ms N        when an echo or packet counts as lost (5000)\n"
	"  --protocol tcp|udp    (udp)\n"
	"\n"
	"steady, hold and probe print {\"event\": \"ready\"} once they are under way.\n"
	"Exit code: 0 measured, 1 usage, 2 could not measure.\n";

static const struct option flags[] = {
	{"address", required_argument, NULL, 'a'},
	{"port", required_argument, NULL, 'p'},
	{"client-netns", required_argument, NULL, 'n'},
	{"server-netns", required_argument, NULL, 'N'},
	{"client-cpu", required_argument, NULL, 'c'},
	{"server-cpu", required_argument, NULL, 'C'},
	{"seconds", required_argument, NULL, 's'},
	{"size", required_argument, NULL, 'z'},
	{"count", required_argument, NULL, 'k'},
	{"rate", required_argument, NULL, 'r'},
	{"connections", required_argument, NULL, 'm'},
	{"interval-ms", required_argument, NULL, 'i'},
	{"timeout-ms", required_argument, NULL, 't'},
	{"protocol", required_argument, NULL, 'P'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static const struct {
	const char *name;
	int (*run)(const struct options *options);
} measurements[] = {
	{"udp", run_udp},       {"rr", run_rr},     {"crr", run_crr},
	{"steady", run_steady}, {"hold", run_hold}, {"probe", run_probe},
};

__attribute__((noreturn)) static void refuse(const char *what, const char *value)
{
	fprintf(stderr, "plum-load: %s: %s\nTry plum-load --help.\n", what, value);
	exit(1);
}

static double number(const char *text, double least)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= 1e12))
		refuse("not a usable number", text);
	return value;
}

static void resolve(struct options *options, const char *address, const char *port)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found;

	if (!address)
		refuse("missing option", "--address");
	if (getaddrinfo(address, port, &hints, &found))
		refuse("not an address and port", address);
	memcpy(&options->address, found->ai_addr, found->ai_addrlen);
	options->address_len = found->ai_addrlen;
	freeaddrinfo(found);
}

static int protocol(const char *name)
{
	if (!strcmp(name, "tcp"))
		return SOCK_STREAM;
	if (!strcmp(name, "udp"))
		return SOCK_DGRAM;
	refuse("not a protocol", name);
}

static void parse(struct options *options, int argc, char **argv)
{
	const char *address = NULL, *port = "5201";
	int flag;

	while ((flag = getopt_long(argc, argv, "h", flags, NULL)) != -1) {
		switch (flag) {
		case 'a': address = optarg; break;
		case 'p': port = optarg; break;
		case 'n': options->client.netns = optarg; break;
		case 'N': options->server.netns = optarg; break;
		case 'c': options->client.cpu = number(optarg, 0); break;
		case 'C': options->server.cpu = number(optarg, 0); break;
		case 's': options->seconds = number(optarg, 0.01); break;
		case 'z': options->size = number(optarg, 1); break;
		case 'k': options->count = number(optarg, 1); break;
		case 'r': options->rate = number(optarg, 1); break;
		case 'm': options->connections = number(optarg, 1); break;
		case 'i': options->interval_ms = number(optarg, 1); break;
		case 't': options->timeout_ms = number(optarg, 1); break;
		case 'P': options->socktype = protocol(optarg); break;
		case 'h': fputs(usage, stdout); exit(0);
		default: exit(1);
		}
	}
	if (optind < argc)
		refuse("unexpected argument", argv[optind]);
	resolve(options, address, port);
}

int main(int argc, char **argv)
{
	struct options options = {
		.client.cpu = -1,
		.server.cpu = -1,
		.socktype = SOCK_DGRAM,
		.seconds = 1,
		.size = 64,
		.rate = 1000,
		.connections = 200,
		.interval_ms = 100,
		.timeout_ms = 5000,
	};

	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		fputs(usage, argc < 2 ? stderr : stdout);
		return argc < 2;
	}
	for (size_t i = 0; i < sizeof(measurements) / sizeof(*measurements); i++) {
		if (strcmp(argv[1], measurements[i].name))
			continue;
		parse(&options, argc - 1, argv + 1);
		return measurements[i].run(&options);
	}
	refuse("no such measurement", argv[1]);
}
