/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_LIMIT_H
#define PLUM_LIMIT_H

#include "checksum.h"

#define METER_TRIES 8 /* of CPUs that meter one endpoint at once */

/*
 * The generic cell rate algorithm (ITU-T I.371): `until` is when what has passed
 * so far would be through at the set rate. A packet passes if that is no further
 * ahead than the burst. So a packet larger than the burst passes too, and what
 * follows it waits.
 */
static __always_inline bool meter(__u64 *until, __u64 ns_per_mib, __u64 burst_ns, __u32 bytes)
{
	__u64 now = bpf_ktime_get_ns(); /* the coarse clock would let packets in by bunches */
	__u64 cost = bytes * ns_per_mib >> 20;

	for (int i = 0; i < METER_TRIES; i++) {
		__u64 seen = *(volatile __u64 *)until;
		__u64 from = seen > now ? seen : now;

		if (from > now + burst_ns)
			return false;
		if (__sync_val_compare_and_swap(until, seen, from + cost) == seen)
			return true;
	}
	return true;
}

/* `bytes` of what the endpoint sends, or of what it is sent. */
static __always_inline bool within_limit(__u32 slot, bool sent, __u32 bytes)
{
	const struct limit *limit = bpf_map_lookup_elem(&plum_limit, &slot);
	struct meter *m = bpf_map_lookup_elem(&plum_meter, &slot);
	__u64 ns_per_mib;

	if (!limit || !m)
		return true;
	ns_per_mib = sent ? limit->out_ns_per_mib : limit->in_ns_per_mib;
	if (!ns_per_mib)
		return true;
	return sent ? meter(&m->out_until, ns_per_mib, limit->out_burst_ns, bytes)
		    : meter(&m->in_until, ns_per_mib, limit->in_burst_ns, bytes);
}

/* What its sender's manifest has an endpoint's packets marked with. */
static __always_inline __u8 mark_of(__u32 slot)
{
	const struct limit *limit = bpf_map_lookup_elem(&plum_limit, &slot);

	return limit ? limit->mark : 0;
}

/* stage LIMIT on the slow path: rates of both ends, as far as they are here. */
static __always_inline int stage_limit(struct pkt *p, __u32 bytes)
{
	p->stage = STAGE_LIMIT;
	if (!p->from_underlay && p->in_flags & EP_LIMIT) {
		p->qos = QOS_LIMIT | mark_of(p->in_slot);
		if (!within_limit(p->in_slot, true, bytes))
			return DROP(LIMIT);
	}
	if (p->out_ifindex && p->out_flags & EP_LIMIT) {
		p->qos |= QOS_LIMIT;
		if (!within_limit(p->out_slot, false, bytes))
			return DROP(LIMIT);
	}
	return NEXT;
}

/* RFC 2474: the upper six bits of the field are the code point; the others are
 * ECN's and stay. */
static __always_inline __u8 marked(__u8 field, __u8 qos)
{
	return (__u8)((qos & QOS_DSCP) << 2 | (field & 3));
}

static __always_inline void mark_ip4(struct iphdr *ip, __u8 qos)
{
	__u8 tos = marked(ip->tos, qos);
	/* RFC 1624, eqn. 3: ~(~check + ~old + new) */
	__u32 sum = (__u16)~ip->check + (__u16)~bpf_htons(ip->tos) + bpf_htons(tos);

	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = (__u16) ~(sum + (sum >> 16));
	ip->tos = tos;
}

/* The field lies across the first two bytes. */
static __always_inline void mark_ip6(__u8 *header, __u8 qos)
{
	__u8 field = marked((__u8)(header[0] << 4 | header[1] >> 4), qos);

	header[0] = (__u8)(6 << 4 | field >> 4);
	header[1] = (__u8)(field << 4 | (header[1] & 0xf));
}

/* An endpoint's packet, in place. */
static __always_inline int mark(struct __sk_buff *skb, __u8 family, __u8 qos)
{
	void *l3 = (void *)(long)skb->data + ETH_HLEN;

	if (!(qos & QOS_MARK))
		return NEXT;
	if (l3 + sizeof(struct iphdr) > (void *)(long)skb->data_end)
		return DROP(HELPER);
	if (family == 4)
		mark_ip4(l3, qos);
	else
		mark_ip6(l3, qos);
	return NEXT;
}

/* The tunnel's outer field: the underlay is to treat what we marked alike. What a
 * guest writes there itself is no word of the operator's, and stays inside. */
static __always_inline __u8 outer_tos(__u8 qos)
{
	return qos & QOS_MARK ? (__u8)((qos & QOS_DSCP) << 2) : 0;
}

#endif /* PLUM_LIMIT_H */
