/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_ENCAP_H
#define PLUM_ENCAP_H

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "checksum.h"

#define VXLAN_PORT    4789
#define VXLAN_FLAGS   0x08000000u /* RFC 7348: the I bit, all else zero */
#define OUTER_TTL     64
#define OUTER4	      50 /* bytes we add: IP 20, UDP 8, VXLAN 8, inner Ethernet 14 */
#define OUTER6	      70
#define PATH_FRESH_NS (10ull * 1000 * 1000 * 1000)

struct vxlan {
	__be32 flags;
	__be32 vni; /* in the upper 24 bits */
};

struct outer4 {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
	struct ethhdr inner;
} __attribute__((packed));

struct outer6 {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
	struct ethhdr inner;
} __attribute__((packed));

struct tunnel {
	__u32 node;
	__u32 vni;
	__u16 entropy; /* outer source port, host order */
	__be16 ethertype;
	__u8 tos;   /* of the outer header */
	bool again; /* the frame came out of a tunnel */
	__u8 dmac[6] __attribute__((aligned(2)));
	__u8 smac[6] __attribute__((aligned(2)));
};

static __always_inline bool is_mapped4(const __be32 *addr)
{
	return !addr[0] && !addr[1] && addr[2] == bpf_htonl(0xffff);
}

static __always_inline void fill_inner(struct vxlan *vxlan, struct ethhdr *inner,
				       const struct tunnel *t)
{
	vxlan->flags = bpf_htonl(VXLAN_FLAGS);
	vxlan->vni = bpf_htonl(t->vni << 8);
	mac_copy(inner->h_dest, t->dmac);
	mac_copy(inner->h_source, t->smac);
	inner->h_proto = t->ethertype;
}

static __always_inline void fill_udp(struct udphdr *udp, const struct tunnel *t, __u32 len)
{
	udp->source = bpf_htons(t->entropy);
	udp->dest = bpf_htons(VXLAN_PORT);
	udp->len = bpf_htons((__u16)len);
	udp->check = 0; /* RFC 7348, RFC 6935 */
}

/* Writes the outer headers in front of a frame already grown for them. */
static __always_inline int write_outer4(struct __sk_buff *skb, const struct tunnel *t,
					const __be32 *from, const __be32 *to)
{
	struct outer4 *o = (void *)(long)skb->data;
	struct iphdr *ip;

	if ((void *)(o + 1) > (void *)(long)skb->data_end)
		return DROP(HELPER);
	ip = (void *)&o->ip;
	o->eth.h_proto = bpf_htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = t->tos;
	ip->tot_len = bpf_htons((__u16)(skb->len - ETH_HLEN));
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = OUTER_TTL;
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	ip->saddr = from[3];
	ip->daddr = to[3];
	ip->check = csum_ipv4(ip);
	fill_udp((void *)&o->udp, t, skb->len - ETH_HLEN - sizeof(*ip));
	fill_inner((void *)&o->vxlan, &o->inner, t);
	return NEXT;
}

static __always_inline int write_outer6(struct __sk_buff *skb, const struct tunnel *t,
					const __be32 *from, const __be32 *to)
{
	struct outer6 *o = (void *)(long)skb->data;
	__u32 len = skb->len - ETH_HLEN - sizeof(o->ip);
	struct ipv6hdr *ip;

	if ((void *)(o + 1) > (void *)(long)skb->data_end)
		return DROP(HELPER);
	o->eth.h_proto = bpf_htons(ETH_P_IPV6);
	ip = (void *)&o->ip;
	*(__be32 *)ip = bpf_htonl(6u << 28 | (__u32)t->tos << 20);
	ip->payload_len = bpf_htons((__u16)len);
	ip->nexthdr = IPPROTO_UDP;
	ip->hop_limit = OUTER_TTL;
	addr_copy(ip->saddr.in6_u.u6_addr32, from);
	addr_copy(ip->daddr.in6_u.u6_addr32, to);
	fill_udp((void *)&o->udp, t, len);
	fill_inner((void *)&o->vxlan, &o->inner, t);
	return NEXT;
}

/* Grows the frame after its Ethernet header; the old header is written anew as
 * inner one. FIXED_GSO keeps segment sizes: the endpoint's MTU left room. */
static __always_inline int grow(struct __sk_buff *skb, bool v4, __be16 ethertype, bool again)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
		      BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH |
		      BPF_F_ADJ_ROOM_NO_CSUM_RESET;
	__s32 bytes = v4 ? OUTER4 : OUTER6;

	if (ethertype == bpf_htons(ETH_P_ARP)) {
		/* adjust_room takes IP only; 60 bytes also let the receiver shrink */
		if (skb->len < ETH_ZLEN && bpf_skb_change_tail(skb, ETH_ZLEN, 0) < 0)
			return DROP(HELPER);
		return bpf_skb_change_head(skb, (__u32)bytes, 0) < 0 ? DROP(HELPER) : NEXT;
	}
	flags |= v4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	if (!bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC, flags))
		return NEXT;
	/* The kernel still takes it for encapsulated, and knows the headers' places. */
	if (again && !bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC,
					  BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return NEXT;
	return DROP(HELPER);
}

static __always_inline const struct path *fresh_path(__u32 node, __u64 now)
{
	const struct path *path = bpf_map_lookup_elem(&plum_path, &node);

	if (!path || !path->refreshed)
		return NULL;
	if (now > path->refreshed && now - path->refreshed > PATH_FRESH_NS)
		return NULL; /* our clock is coarse: plumd's may be a little ahead */
	return path;
}

/* The last way known, however old: for what the kernel cannot resolve for us
 * (copies of a flood, ARP), and which must not end because plumd did. */
static __always_inline const struct path *known_path(__u32 node)
{
	const struct path *path = bpf_map_lookup_elem(&plum_path, &node);

	return path && path->refreshed ? path : NULL;
}

static __always_inline int set_path(struct __sk_buff *skb, const struct path *path)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return DROP(HELPER);
	mac_copy(eth->h_dest, path->dmac);
	mac_copy(eth->h_source, path->smac);
	return NEXT;
}

/* stage ENCAPSULATE: wrap and send to a node. plumd keeps the next hop's MAC
 * fresh; when it has not (daemon dead, neighbour moved) the kernel resolves. */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct config *cfg,
				       const struct tunnel *t, __u64 now)
{
	__u32 node = t->node;
	const struct node *to = bpf_map_lookup_elem(&plum_node, &node);
	const struct path *path;
	bool v4;
	int rc;

	if (!to || addr_is_zero(to->vtep))
		return DROP(NO_PATH);
	v4 = is_mapped4(to->vtep);
	rc = grow(skb, v4, t->ethertype, t->again);
	if (rc)
		return rc;
	rc = v4 ? write_outer4(skb, t, cfg->vtep, to->vtep)
		: write_outer6(skb, t, cfg->vtep, to->vtep);
	if (rc)
		return rc;
	path = t->ethertype == bpf_htons(ETH_P_ARP) ? known_path(node) : fresh_path(node, now);
	if (path) {
		rc = set_path(skb, path);
		if (rc)
			return rc;
		return bpf_redirect(path->ifindex, 0) == TC_ACT_REDIRECT ? SENT : DROP(HELPER);
	}
	if (t->ethertype == bpf_htons(ETH_P_ARP))
		return DROP(NO_PATH); /* skb->protocol is ARP: no route lookup */
	return bpf_redirect_neigh(cfg->underlay_ifindex, NULL, 0, 0) == TC_ACT_REDIRECT
		       ? SENT
		       : DROP(NO_PATH);
}

/* What the outer headers of a frame say, before anything is changed. */
struct outer {
	__u32 vni;
	__u32 node; /* that sent it */
	bool v4;
};

/*
 * stage DECAPSULATE, first half: is this a tunnel frame to us, and from a
 * VTEP of the zone? PASS: it is the host's own traffic.
 */
static __always_inline int check_outer(struct __sk_buff *skb, const struct config *cfg,
				       struct outer *out)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct vtep_key from = {};
	const struct vtep *sender;
	const struct vxlan *vxlan;
	struct outer4 *o4 = data;
	struct outer6 *o6 = data;
	__be32 to[4];

	if ((void *)(o4 + 1) > end || skb->vlan_present)
		return PASS; /* what is tagged is for another device of the host */
	if (o4->eth.h_proto == bpf_htons(ETH_P_IP)) {
		if (o4->ip.version != 4 || o4->ip.ihl != 5 || o4->ip.protocol != IPPROTO_UDP ||
		    o4->udp.dest != bpf_htons(VXLAN_PORT) || (o4->ip.frag_off & bpf_htons(0x3fff)))
			return PASS;
		addr_from4(from.addr, o4->ip.saddr);
		addr_from4(to, o4->ip.daddr);
		vxlan = (void *)&o4->vxlan;
		out->v4 = true;
	} else if (o4->eth.h_proto == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(o6 + 1) > end)
			return PASS;
		if (o6->ip.nexthdr != IPPROTO_UDP || o6->udp.dest != bpf_htons(VXLAN_PORT))
			return PASS;
		addr_copy(from.addr, o6->ip.saddr.in6_u.u6_addr32);
		addr_copy(to, o6->ip.daddr.in6_u.u6_addr32);
		vxlan = (void *)&o6->vxlan;
		out->v4 = false;
	} else {
		return PASS;
	}
	if (!addr_equal(to, cfg->vtep))
		return PASS;
	sender = bpf_map_lookup_elem(&plum_vtep, &from);
	if (!sender)
		return DROP(VTEP);
	out->node = sender->node;
	if (vxlan->flags != bpf_htonl(VXLAN_FLAGS) || (vxlan->vni & bpf_htonl(0xff)))
		return DROP(VXLAN);
	out->vni = bpf_ntohl(vxlan->vni) >> 8;
	return NEXT;
}

/* Linux 6.3; older headers do not know them, older kernels refuse them. */
#define ROOM_DECAP_IPV4 (1ull << 7)
#define ROOM_DECAP_IPV6 (1ull << 8)

/* Before Linux 6.3 only a NAT64 helper changes skb->protocol: it trades the
 * outer header for one of the inner family, which is then taken off. */
static __always_inline int shrink_across_families(struct __sk_buff *skb, __be16 inner, __u32 bytes,
						  __u64 flags)
{
	bool to6 = inner == bpf_htons(ETH_P_IPV6);

	if (!bpf_skb_adjust_room(skb, -(__s32)bytes, BPF_ADJ_ROOM_MAC,
				 flags | (to6 ? ROOM_DECAP_IPV6 : ROOM_DECAP_IPV4)))
		return NEXT;
	if (bpf_skb_change_proto(skb, inner, 0) < 0)
		return DROP(HELPER);
	bytes = to6 ? OUTER6 : OUTER4;
	return bpf_skb_adjust_room(skb, -(__s32)bytes, BPF_ADJ_ROOM_MAC, flags) < 0 ? DROP(HELPER)
										    : NEXT;
}

/* stage DECAPSULATE, second half: the inner frame alone remains. */
static __always_inline int decapsulate(struct __sk_buff *skb, bool v4)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
	__u32 bytes = v4 ? OUTER4 : OUTER6;
	const __u16 *from = (void *)(long)skb->data + bytes;
	__u16 inner[7];
	__u16 *to;
	int rc = NEXT;

	if ((void *)(from + 7) > (void *)(long)skb->data_end)
		return DROP(TRUNCATED);
	for (int i = 0; i < 7; i++)
		inner[i] = from[i];
	if (inner[6] == (v4 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP)))
		rc = shrink_across_families(skb, inner[6], bytes, flags);
	else if (bpf_skb_adjust_room(skb, -(__s32)bytes, BPF_ADJ_ROOM_MAC, flags) < 0)
		rc = DROP(HELPER);
	if (rc)
		return rc;
	to = (void *)(long)skb->data;
	if ((void *)(to + 7) > (void *)(long)skb->data_end)
		return DROP(HELPER);
	for (int i = 0; i < 7; i++)
		to[i] = inner[i];
	return NEXT;
}

#endif /* PLUM_ENCAP_H */
