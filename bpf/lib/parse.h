/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_PARSE_H
#define PLUM_PARSE_H

#include <linux/icmpv6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "pkt.h"

#define IP_OPT_LSRR	 131
#define IP_OPT_SSRR	 137
#define IP_MAX_OPTIONS	 40
#define IPV6_MAX_HEADERS 6
#define NEXTHDR_SCTP	 132

#define ND_ROUTER_SOLICIT    133
#define ND_ROUTER_ADVERT     134
#define ND_NEIGHBOUR_SOLICIT 135
#define ND_NEIGHBOUR_ADVERT  136
#define ND_REDIRECT	     137
#define ICMP_REDIRECT	     5
#define MLD_FIRST	     130
#define MLD_LAST	     132
#define MLD2_REPORT	     143

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define ICMP_ERRORS ((1u << 3) | (1u << 4) | (1u << 5) | (1u << 11) | (1u << 12))

/* RFC 792; <linux/icmp.h> would pull in the C library. */
struct icmphdr {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id; /* of echo; unused in errors */
	__be16 sequence_or_mtu;
};

/* Ports of the flow key for ICMP: a request carries its id as source port, the
 * answer as destination port, so that one is the other's reverse. */
static __always_inline void icmp_ports(__u8 family, __u8 type, __u8 code, __be16 id, __be16 *sport,
				       __be16 *dport)
{
	__u8 request = family == 4 ? 8 : 128;
	__u8 reply = family == 4 ? 0 : 129;

	if (type == request) {
		*sport = id;
		*dport = 0;
	} else if (type == reply) {
		*sport = 0;
		*dport = id;
	} else {
		*sport = bpf_htons((__u16)(type << 8 | code));
		*dport = 0xffff;
	}
}

static __always_inline bool icmp_is_error(__u8 family, __u8 type)
{
	if (family == 4)
		return type < 32 && ((ICMP_ERRORS >> type) & 1);
	return type < 128;
}

/* Answers that make no sense without their request. */
static __always_inline bool icmp_is_reply(__u8 family, __u8 type)
{
	if (family == 4)
		return type == 0 || type == 14 || type == 16 || type == 18;
	return type == 129;
}

/* Source routes are refused (RFC 7126); other options pass. */
static __always_inline int parse_options4(struct __sk_buff *skb, __u32 off, __u32 bytes)
{
	__u32 at = 0;

	for (int i = 0; i <= IP_MAX_OPTIONS; i++) {
		__u8 option[2] = {};

		if (at >= bytes)
			return NEXT;
		if (bpf_skb_load_bytes(skb, off + at, option, 1) < 0)
			return DROP(TRUNCATED);
		if (option[0] == 0)
			return NEXT;
		if (option[0] == 1) {
			at++;
			continue;
		}
		if (option[0] == IP_OPT_LSRR || option[0] == IP_OPT_SSRR)
			return DROP(IP_OPTIONS);
		if (at + 1 >= bytes || bpf_skb_load_bytes(skb, off + at + 1, option + 1, 1) < 0 ||
		    option[1] < 2 || option[1] > bytes - at)
			return DROP(MALFORMED);
		at += option[1];
	}
	return DROP(MALFORMED);
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct pkt *p)
{
	struct iphdr ip;
	__u32 header;
	__u16 frag;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0)
		return DROP(TRUNCATED);
	header = ip.ihl * 4;
	p->l3_bytes = bpf_ntohs(ip.tot_len);
	if (ip.version != 4 || header < sizeof(ip) || p->l3_bytes < header)
		return DROP(MALFORMED);
	if (p->l3_bytes > skb->len - ETH_HLEN)
		return DROP(TRUNCATED);
	if ((bpf_ntohl(ip.saddr) >> 28) >= 0xe)
		return DROP(MALFORMED);
	if (header > sizeof(ip)) {
		int rc = parse_options4(skb, ETH_HLEN + sizeof(ip), header - sizeof(ip));

		if (rc)
			return rc;
	}
	addr_from4(p->saddr, ip.saddr);
	addr_from4(p->daddr, ip.daddr);
	p->family = 4;
	p->proto = ip.protocol;
	p->ttl = ip.ttl;
	p->l4_off = ETH_HLEN + header;
	p->l4_bytes = p->l3_bytes - header;
	frag = bpf_ntohs(ip.frag_off);
	p->dont_fragment = frag & 0x4000;
	p->frag_off = (frag & 0x1fff) * 8;
	p->frag_id = ip.id;
	if (p->frag_off)
		p->frag = FRAG_LATER;
	else if (frag & 0x2000)
		p->frag = FRAG_FIRST;
	return NEXT;
}

struct ext_header {
	__u8 next;
	__u8 len;
	__be16 frag_off;
	__be32 frag_id;
};

/* Walks the chain to the L4 header (RFC 8200). Routing headers are refused:
 * type 0 is deprecated (RFC 5095) and segment routing is no tenant's right. */
static __always_inline int parse_ext_headers(struct __sk_buff *skb, struct pkt *p, __u8 next)
{
	__u32 off = ETH_HLEN + sizeof(struct ipv6hdr);
	__u32 end = ETH_HLEN + p->l3_bytes;

	for (int i = 0; i <= IPV6_MAX_HEADERS; i++) {
		struct ext_header h;
		__u32 bytes;

		if (next == IPPROTO_ROUTING)
			return DROP(EXTENSION_HEADER);
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_AH) {
			p->proto = next;
			p->l4_off = off;
			p->l4_bytes = end - off;
			return NEXT;
		}
		if (p->frag == FRAG_LATER)
			break; /* what follows a later fragment header is payload */
		if (off + sizeof(h) > end || bpf_skb_load_bytes(skb, off, &h, sizeof(h)) < 0)
			return DROP(TRUNCATED);
		if (next == IPPROTO_FRAGMENT) {
			__u16 frag = bpf_ntohs(h.frag_off);

			if (p->frag)
				return DROP(EXTENSION_HEADER);
			p->frag_off = frag & 0xfff8;
			p->frag_id = h.frag_id;
			if (p->frag_off)
				p->frag = FRAG_LATER;
			else if (frag & 1)
				p->frag = FRAG_FIRST;
			bytes = 8;
		} else if (next == IPPROTO_AH) {
			bytes = (h.len + 2) * 4;
		} else {
			bytes = (h.len + 1) * 8;
		}
		if (off + bytes > end)
			return DROP(TRUNCATED);
		next = h.next;
		off += bytes;
		if (p->frag == FRAG_LATER) {
			p->proto = next;
			p->l4_off = off;
			p->l4_bytes = end - off;
			return NEXT;
		}
	}
	return DROP(EXTENSION_HEADER);
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct pkt *p)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0)
		return DROP(TRUNCATED);
	if (ip.version != 6)
		return DROP(MALFORMED);
	p->l3_bytes = sizeof(ip) + bpf_ntohs(ip.payload_len);
	if (p->l3_bytes > skb->len - ETH_HLEN)
		return DROP(TRUNCATED);
	if (ip.saddr.in6_u.u6_addr8[0] == 0xff)
		return DROP(MALFORMED);
	addr_copy(p->saddr, ip.saddr.in6_u.u6_addr32);
	addr_copy(p->daddr, ip.daddr.in6_u.u6_addr32);
	/* A mapped address on the wire would stand for an IPv4 host in our maps. */
	if (!p->saddr[0] && !p->saddr[1] && p->saddr[2] == bpf_htonl(0xffff))
		return DROP(MALFORMED);
	if (!p->daddr[0] && !p->daddr[1] && p->daddr[2] == bpf_htonl(0xffff))
		return DROP(MALFORMED);
	p->family = 6;
	p->ttl = ip.hop_limit;
	p->dont_fragment = true;
	return parse_ext_headers(skb, p, ip.nexthdr);
}

static __always_inline int parse_tcp(struct __sk_buff *skb, struct pkt *p)
{
	struct tcphdr tcp;

	if (p->l4_bytes < sizeof(tcp) || bpf_skb_load_bytes(skb, p->l4_off, &tcp, sizeof(tcp)) < 0)
		return DROP(TRUNCATED);
	p->l4_header = tcp.doff * 4;
	if (p->l4_header < sizeof(tcp))
		return DROP(MALFORMED);
	if (p->l4_header > p->l4_bytes)
		return DROP(TRUNCATED);
	p->sport = tcp.source;
	p->dport = tcp.dest;
	p->tcp_seq = bpf_ntohl(tcp.seq);
	p->tcp_ack = bpf_ntohl(tcp.ack_seq);
	p->tcp_flags = (tcp.fin ? TCP_FIN : 0) | (tcp.syn ? TCP_SYN : 0) | (tcp.rst ? TCP_RST : 0) |
		       (tcp.ack ? TCP_ACK : 0);
	if (!p->tcp_flags || ((p->tcp_flags & TCP_SYN) && (p->tcp_flags & (TCP_FIN | TCP_RST))) ||
	    p->tcp_flags == TCP_FIN)
		return DROP(TCP_FLAGS);
	return NEXT;
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct pkt *p)
{
	struct icmphdr icmp;

	if (p->l4_bytes < sizeof(icmp) ||
	    bpf_skb_load_bytes(skb, p->l4_off, &icmp, sizeof(icmp)) < 0)
		return DROP(TRUNCATED);
	p->l4_header = sizeof(icmp);
	p->icmp_type = icmp.type;
	p->icmp_code = icmp.code;
	p->icmp_error = icmp_is_error(p->family, icmp.type);
	p->policy_port = (__u16)(icmp.type << 8 | icmp.code);
	if (p->family == 6 && !p->frag) {
		p->nd = icmp.type == ND_NEIGHBOUR_SOLICIT || icmp.type == ND_NEIGHBOUR_ADVERT;
		p->listener = (icmp.type >= MLD_FIRST && icmp.type <= MLD_LAST) ||
			      icmp.type == MLD2_REPORT;
	}
	icmp_ports(p->family, icmp.type, icmp.code, icmp.id, &p->sport, &p->dport);
	return NEXT;
}

/* Ports, flags and lengths of a packet or first fragment. A first fragment
 * that does not hold its whole L4 header cannot be judged (RFC 1858). */
static __always_inline int parse_l4(struct __sk_buff *skb, struct pkt *p)
{
	struct udphdr udp;
	int rc = NEXT;

	switch (p->proto) {
	case IPPROTO_TCP:
		p->policy_proto = PROTO_TCP;
		rc = parse_tcp(skb, p);
		break;
	case IPPROTO_UDP:
	case NEXTHDR_SCTP: /* ports lie where UDP's do */
		p->policy_proto = p->proto == IPPROTO_UDP ? PROTO_UDP : PROTO_SCTP;
		p->l4_header = sizeof(udp);
		if (p->l4_bytes < sizeof(udp) ||
		    bpf_skb_load_bytes(skb, p->l4_off, &udp, sizeof(udp)) < 0)
			rc = DROP(TRUNCATED);
		else if (p->proto == IPPROTO_UDP && bpf_ntohs(udp.len) < sizeof(udp))
			rc = DROP(MALFORMED);
		else if (p->proto == IPPROTO_UDP && !p->frag && bpf_ntohs(udp.len) > p->l4_bytes)
			rc = DROP(TRUNCATED);
		p->sport = udp.source;
		p->dport = udp.dest;
		break;
	case IPPROTO_ICMP:
		p->policy_proto = PROTO_ICMP;
		if (p->family != 4)
			return DROP(MALFORMED);
		rc = parse_icmp(skb, p);
		break;
	case IPPROTO_ICMPV6:
		p->policy_proto = PROTO_ICMP6;
		if (p->family != 6)
			return DROP(MALFORMED);
		rc = parse_icmp(skb, p);
		break;
	default:
		p->policy_proto = PROTO_OTHER;
		p->policy_port = p->proto;
		p->listener = p->family == 4 && p->proto == IPPROTO_IGMP;
		return NEXT;
	}
	if (rc == DROP(TRUNCATED) && p->frag == FRAG_FIRST)
		return DROP(FRAGMENT_TINY);
	if (p->policy_proto != PROTO_ICMP && p->policy_proto != PROTO_ICMP6)
		p->policy_port = bpf_ntohs(p->dport);
	return rc;
}

/* stage PARSE: everything the slow path wants to know of the frame. */
static __always_inline int stage_parse(struct __sk_buff *skb, struct pkt *p)
{
	struct ethhdr eth;
	int rc;

	p->stage = STAGE_PARSE;
	/* The kernel has taken the tag out of the frame (__netif_receive_skb_core)
	 * and would put it back on the way out, on the outer frame too. */
	if (skb->vlan_present)
		return DROP(ETHERTYPE);
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)) < 0)
		return DROP(TRUNCATED);
	__builtin_memcpy(p->smac, eth.h_source, 6);
	__builtin_memcpy(p->dmac, eth.h_dest, 6);
	p->ethertype = eth.h_proto;
	if (eth.h_proto == bpf_htons(ETH_P_IP))
		rc = parse_ipv4(skb, p);
	else if (eth.h_proto == bpf_htons(ETH_P_IPV6))
		rc = parse_ipv6(skb, p);
	else if (eth.h_proto == bpf_htons(ETH_P_ARP))
		return NEXT;
	else
		return DROP(ETHERTYPE);
	if (rc)
		return rc;
	if (p->frag == FRAG_LATER)
		return NEXT; /* stage FRAGMENT finds its ports */
	return parse_l4(skb, p);
}

#endif /* PLUM_PARSE_H */
