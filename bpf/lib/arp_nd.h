/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_ARP_ND_H
#define PLUM_ARP_ND_H

#include "checksum.h"
#include "port_security.h"

#define ARPHRD_ETHER  1
#define ARPOP_REQUEST 1
#define ARPOP_REPLY   2

struct arp_frame {
	struct ethhdr eth;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 op;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
} __attribute__((packed));

struct nd_option {
	__u8 type;
	__u8 len; /* in 8 bytes */
	__u8 mac[6];
};

/* Neighbour solicitation or advertisement with one link-layer option. */
struct nd_message {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 flags;
	__be32 target[4];
	struct nd_option option;
};

#define ND_FIXED       24 /* bytes of nd_message without the option */
#define ND_MAX_OPTIONS 4
#define ND_SOURCE_MAC  1
#define ND_TARGET_MAC  2
#define ND_ROUTER      0x80000000u
#define ND_SOLICITED   0x40000000u
#define ND_OVERRIDE    0x20000000u

struct neighbour {
	__u8 mac[6];
	bool router;
	bool self; /* the asker's own address */
};

/* Who on the sender's bridge has the address, as the zone knows it. */
static __always_inline bool find_neighbour(const struct pkt *p, const __be32 *addr,
					   struct neighbour *n)
{
	struct host_key key = { .domain = p->domain };
	const struct host *host;

	addr_copy(key.addr, addr);
	host = bpf_map_lookup_elem(&plum_host, &key);
	if (!host || (host->vni && host->vni != p->in_vni))
		return false;
	if (host->router) {
		struct rif_key rk = { .router = host->router, .vni = p->in_vni };

		if (!bpf_map_lookup_elem(&plum_rif, &rk))
			return false;
	}
	__builtin_memcpy(n->mac, host->mac, 6);
	n->router = host->router;
	n->self = host->ifindex == p->in_ifindex;
	return true;
}

static __always_inline int send_back(struct __sk_buff *skb, const struct pkt *p)
{
	if (p->vlan && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), p->vlan) < 0)
		return DROP(HELPER);
	return bpf_redirect(p->in_ifindex, 0) == TC_ACT_REDIRECT ? SENT : DROP(HELPER);
}

static __always_inline int answer_arp(struct __sk_buff *skb, struct pkt *p, struct arp_frame *a,
				      const struct neighbour *n)
{
	__be32 target = a->target;

	__builtin_memcpy(a->eth.h_dest, p->smac, 6);
	__builtin_memcpy(a->eth.h_source, n->mac, 6);
	a->op = bpf_htons(ARPOP_REPLY);
	__builtin_memcpy(a->target_mac, a->sender_mac, 6);
	a->target = a->sender;
	__builtin_memcpy(a->sender_mac, n->mac, 6);
	a->sender = target;
	if (bpf_skb_store_bytes(skb, 0, a, sizeof(*a), 0) < 0)
		return DROP(HELPER);
	return send_back(skb, p);
}

/* ARP from an endpoint: its claims checked, requests answered from what the
 * zone knows. What nobody is known to own goes on to the bridge. */
static __always_inline int stage_arp(struct __sk_buff *skb, struct pkt *p, const struct ep *ep)
{
	struct neighbour n = {};
	struct arp_frame a;
	__be32 addr[4];

	p->stage = STAGE_ARP_ND;
	if (bpf_skb_load_bytes(skb, 0, &a, sizeof(a)) < 0)
		return DROP(TRUNCATED);
	if (a.hardware != bpf_htons(ARPHRD_ETHER) || a.protocol != bpf_htons(ETH_P_IP) ||
	    a.hardware_len != 6 || a.protocol_len != 4)
		return DROP(MALFORMED);
	if (a.op != bpf_htons(ARPOP_REQUEST) && a.op != bpf_htons(ARPOP_REPLY))
		return DROP(MALFORMED);
	addr_from4(addr, a.sender);
	if (!mac_equal(a.sender_mac, p->smac))
		return DROP(ARP_SPOOF);
	if (!a.sender && !mac_equal(p->smac, ep->mac))
		return DROP(SOURCE_MAC); /* a probe claims no address, but its MAC */
	if (a.sender ? !source_allowed(p->in_slot, p->smac, addr)
		     : a.op != bpf_htons(ARPOP_REQUEST))
		return DROP(ARP_SPOOF);
	if (a.op == bpf_htons(ARPOP_REPLY) || a.target == a.sender)
		return NEXT; /* an announcement or an answer to a flooded request */
	addr_from4(addr, a.target);
	if (!find_neighbour(p, addr, &n))
		return NEXT;
	if (n.self)
		return CONSUMED; /* is my address free? Silence says yes */
	return answer_arp(skb, p, &a, &n);
}

struct nd_packet {
	__be32 version;
	__be16 payload;
	__u8 next;
	__u8 hop_limit;
	__be32 saddr[4];
	__be32 daddr[4];
	struct nd_message nd;
};

/* Neighbour advertisement in the asker's own frame, to the asker; to all nodes
 * if it asked without an address (RFC 4861 7.2.4). */
static __always_inline int answer_nd(struct __sk_buff *skb, struct pkt *p, const __be32 *target,
				     const struct neighbour *n)
{
	struct {
		__be32 saddr[4], daddr[4], len, next;
		struct nd_message nd;
	} sum = {};
	struct nd_packet f = {};
	struct ethhdr eth = {};
	bool unsolicited = addr_is_zero(p->saddr);

	addr_copy(sum.saddr, target);
	if (unsolicited) {
		sum.daddr[0] = bpf_htonl(0xff020000);
		sum.daddr[3] = bpf_htonl(1);
	} else {
		addr_copy(sum.daddr, p->saddr);
	}
	sum.len = bpf_htonl(sizeof(sum.nd));
	sum.next = bpf_htonl(IPPROTO_ICMPV6);
	sum.nd.type = ND_NEIGHBOUR_ADVERT;
	sum.nd.flags = bpf_htonl(ND_OVERRIDE | (unsolicited ? 0 : ND_SOLICITED) |
				 (n->router ? ND_ROUTER : 0));
	addr_copy(sum.nd.target, target);
	sum.nd.option.type = ND_TARGET_MAC;
	sum.nd.option.len = 1;
	__builtin_memcpy(sum.nd.option.mac, n->mac, 6);
	sum.nd.checksum = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&sum, sizeof(sum), 0));

	if (unsolicited) {
		eth.h_dest[0] = 0x33;
		eth.h_dest[1] = 0x33;
		eth.h_dest[5] = 1;
	} else {
		__builtin_memcpy(eth.h_dest, p->smac, 6);
	}
	__builtin_memcpy(eth.h_source, n->mac, 6);
	eth.h_proto = bpf_htons(ETH_P_IPV6);
	f.version = bpf_htonl(6u << 28);
	f.payload = bpf_htons(sizeof(f.nd));
	f.next = IPPROTO_ICMPV6;
	f.hop_limit = 255;
	addr_copy(f.saddr, sum.saddr);
	addr_copy(f.daddr, sum.daddr);
	f.nd = sum.nd;
	if (bpf_skb_change_tail(skb, sizeof(eth) + sizeof(f), 0) < 0 ||
	    bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0) < 0 ||
	    bpf_skb_store_bytes(skb, sizeof(eth), &f, sizeof(f), 0) < 0)
		return DROP(HELPER);
	return send_back(skb, p);
}

/* A link-layer address among the options must be the frame's own. */
static __always_inline int check_nd_options(struct __sk_buff *skb, const struct pkt *p)
{
	__u32 at = ND_FIXED;

	for (int i = 0; i < ND_MAX_OPTIONS; i++) {
		struct nd_option option;

		if (at == p->l4_bytes)
			return NEXT;
		if (at + sizeof(option) > p->l4_bytes ||
		    bpf_skb_load_bytes(skb, p->l4_off + at, &option, sizeof(option)) < 0)
			return DROP(TRUNCATED);
		if (!option.len)
			return DROP(MALFORMED);
		if ((option.type == ND_SOURCE_MAC || option.type == ND_TARGET_MAC) &&
		    (option.len != 1 || !mac_equal(option.mac, p->smac)))
			return DROP(ND_SPOOF);
		at += option.len * 8;
	}
	return DROP(ND_SPOOF); /* more than we look through */
}

/* Neighbour discovery from an endpoint, as stage_arp. */
static __always_inline int stage_nd(struct __sk_buff *skb, struct pkt *p)
{
	struct neighbour n = {};
	struct nd_message nd = {};
	bool advert;
	int rc;

	p->stage = STAGE_ARP_ND;
	if (p->frag == FRAG_FIRST && p->proto == IPPROTO_ICMPV6 &&
	    (p->icmp_type == ND_NEIGHBOUR_SOLICIT || p->icmp_type == ND_NEIGHBOUR_ADVERT))
		return DROP(ND_SPOOF); /* RFC 6980; it would go round the checks */
	if (!p->nd)
		return NEXT;
	if (p->ttl != 255 || p->icmp_code)
		return DROP(MALFORMED);
	if (bpf_skb_load_bytes(skb, p->l4_off, &nd, ND_FIXED) < 0)
		return DROP(TRUNCATED);
	rc = check_nd_options(skb, p);
	if (rc)
		return rc;
	advert = p->icmp_type == ND_NEIGHBOUR_ADVERT;
	if (advert)
		return source_allowed(p->in_slot, p->smac, nd.target) ? NEXT : DROP(ND_SPOOF);
	if (!find_neighbour(p, nd.target, &n))
		return NEXT;
	if (n.self)
		return CONSUMED;
	return answer_nd(skb, p, nd.target, &n);
}

#endif /* PLUM_ARP_ND_H */
