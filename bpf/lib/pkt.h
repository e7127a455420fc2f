/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_PKT_H
#define PLUM_PKT_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "drops.h"
#include "maps.h"
#include "stages.h"

/*
 * One packet on the slow path: what it says, where it came from, where it
 * goes. It lives in a per-CPU scratch row because tail calls lose the stack;
 * tc ingress is not re-entered on a CPU before it has returned.
 */

#define MAX_ROUTERS 4 /* in a row */
#define MAX_GATES   (2 * MAX_ROUTERS)

enum frag_kind { FRAG_NONE, FRAG_FIRST, FRAG_LATER };

struct pkt {
	/* origin */
	__u32 ctx; /* flow key context */
	__u32 in_ifindex;
	__u32 in_slot;
	__u32 in_vni;
	__u32 domain;
	__u32 in_flags; /* enum ep_flag of the sending endpoint */
	__u64 in_ingress_set;
	__u64 in_egress_set;
	__u32 in_quota;
	__u32 in_node; /* a tunnel frame's sender */
	bool from_underlay;
	bool outer4; /* the tunnel is over IPv4 */
	__u16 vlan;  /* tag the frame had outside */

	/* headers */
	__u8 family; /* 4, 6, or 0 when not IP */
	__u8 proto;
	__u8 ttl;
	__u8 smac[6];
	__u8 dmac[6];
	__be16 ethertype;
	__u16 l4_off;
	__be32 saddr[4]; /* IPv4 as ::ffff:a.b.c.d */
	__be32 daddr[4];
	__be16 sport; /* as in the flow key */
	__be16 dport;
	__u16 policy_port; /* destination port, ICMP type << 8 | code, or protocol */
	__u8 policy_proto; /* enum policy_proto */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tcp_flags;
	__u8 frag; /* enum frag_kind */
	bool dont_fragment;
	bool icmp_error;
	bool nd;       /* neighbour solicitation or advertisement */
	bool listener; /* IGMP or MLD: says who listens to a group */
	__u32 frag_id;
	__u32 frag_off; /* bytes */
	__u32 tcp_seq;
	__u32 tcp_ack;
	__u32 l3_bytes;	 /* length the IP header declares */
	__u32 l4_bytes;	 /* L4 header and payload in this packet */
	__u32 l4_header; /* bytes of the L4 header itself */

	/* flow */
	__u64 now;
	__u64 epoch;
	__u64 rule;
	__u32 hash;
	__u32 quota_slot;
	bool judged; /* flow exists and is current: policies are settled */
	bool known;  /* flow exists */
	bool reply;  /* packet goes against the connection's direction */
	bool exempt; /* no policy, no flow: ICMP error about a known flow, ND */
	bool reopen; /* SYN on a closed connection: decide as if new */
	__u8 state;
	__u8 log; /* of the rule that decided: struct span */
	__u8 qos; /* enum qos */

	/* translation: what goes in the place of one end's address and port */
	__u8 translate; /* 0, FLOW_NEW_DST or FLOW_NEW_SRC */
	bool quoted;	/* in an ICMP error's quote as well */
	__be16 new_port;
	__be32 new_addr[4];

	/* forwarding */
	__u32 out_ifindex; /* local endpoint, or 0 */
	__u32 out_node;
	__u32 out_vni;
	__u32 out_slot;
	__u32 out_flags;
	__u32 out_mtu;
	__u64 out_ingress_set;
	__u64 out_egress_set;
	__u32 out_quota;
	__u64 dst_class;
	bool dst_class_known;
	__u32 balancer;	 /* the packet is for */
	__u32 external;	 /* VNI of the external network it comes from or goes to */
	bool to_outside; /* the destination was looked up, and is no public address of ours */
	__u32 router;	 /* that holds the packet */
	__u32 near_vni;	 /* the bridge it came to that router from */
	__u8 hops;
	bool routed;
	bool gated;		/* one of the gates has rules */
	__u64 gates[MAX_GATES]; /* sets of the interfaces passed: in, out, in, ... */
	__u8 out_dmac[6];
	__u8 out_smac[6];

	/* ICMP error to send back, type 0 and code 0: none */
	__u8 error_type;
	__u8 error_code;
	__u16 error_mtu;

	/* last outcome, for tests and traces */
	__u8 stage;
	__u8 drop;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pkt);
} plum_scratch SEC(".maps");

/* What a stage answers: NEXT, a verdict above it, or a negative drop reason. */
enum verdict_code {
	NEXT = 0,
	SENT = 1,     /* redirect is set up */
	PASS = 2,     /* the host's, not ours */
	CONSUMED = 3, /* answered or replicated; nothing left to send */
	UPLINK = 4,   /* for the gateway on this very node */
};

#define PACKET_HOST 0 /* <linux/if_packet.h> would pull in the C library */

#define DROP(reason) (-(int)(DROP_##reason))

static __always_inline struct pkt *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&plum_scratch, &zero);
}

static __always_inline const struct config *config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&plum_config, &zero);
}

static __always_inline __u64 now_ns(void)
{
	return bpf_ktime_get_coarse_ns();
}

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return *(const __u16 *)a == *(const __u16 *)b &&
	       *(const __u16 *)(a + 2) == *(const __u16 *)(b + 2) &&
	       *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

/* Both even-aligned; left to itself the compiler copies byte by byte. */
static __always_inline void mac_copy(__u8 *to, const __u8 *from)
{
	*(__u16 *)to = *(const __u16 *)from;
	*(__u16 *)(to + 2) = *(const __u16 *)(from + 2);
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

static __always_inline bool mac_is_group(const __u8 *mac)
{
	return mac[0] & 1;
}

static __always_inline void addr_copy(__be32 *to, const __be32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline bool addr_equal(const __be32 *a, const __be32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline void addr_from4(__be32 *to, __be32 addr)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = bpf_htonl(0xffff);
	to[3] = addr;
}

static __always_inline bool addr_is_zero(const __be32 *a)
{
	return !(a[0] | a[1] | a[2] | a[3]);
}

static __always_inline bool addr_is_multicast(__u8 family, const __be32 *a)
{
	if (family == 4)
		return (bpf_ntohl(a[3]) >> 28) == 0xe || a[3] == 0xffffffff;
	return (bpf_ntohl(a[0]) >> 24) == 0xff;
}

/* 169.254/16, 127/8; fe80::/10, ::1 */
static __always_inline bool addr_is_link_local(__u8 family, const __be32 *a)
{
	__u32 top = bpf_ntohl(family == 4 ? a[3] : a[0]);

	if (family == 4)
		return (top >> 16) == 0xa9fe || (top >> 24) == 127;
	return (top >> 22) == 0x3fa || (!a[0] && !a[1] && !a[2]);
}

#endif /* PLUM_PKT_H */
