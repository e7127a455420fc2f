/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything user space and the datapath share: the key and value of every
 * map. Python's daemon/abi.py is generated from this file's BTF; nothing here
 * is typed twice.
 *
 * Conventions
 *   addr    16 bytes, network order; IPv4 as ::ffff:a.b.c.d, so that one slow
 *           path serves both families
 *   ids     64-bit ids are the first 8 bytes (little endian) of a BLAKE2b hash
 *           of what they name: a rule's path, a policy set's rows. New content is a new
 *           id, so rows are made before they are pointed at, and no id is ever
 *           reused with another meaning. 0 means "none" or "any".
 *   node    index of a node in the zone, 1..PLUM_MAX_NODES-1; 0 is this node
 *   slot    node-local index of an endpoint, for the array maps
 *   vni     the bridge's VXLAN network identifier, unique in the zone
 */
#ifndef PLUM_ABI_H
#define PLUM_ABI_H

#include <linux/types.h>

#define PLUM_MAX_NODES	4096
#define PLUM_MAX_SLOTS	16384
#define PLUM_MAX_FLOOD	4096 /* members of one bridge's replication list */
#define PLUM_PUNT_BYTES 2048
#define PLUM_PROBE_VNI	0xffffff /* no bridge has it: a VTEP asks whether we are there */

#define PLUM_SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type)

/* ---- plum_config: one row, this node ---------------------------------- */

struct config {
	__be32 vtep[4];		 /* own VTEP address */
	__u32 node;		 /* own index in the zone */
	__u32 underlay_ifindex;	 /* device from_underlay is attached to */
	__u32 underlay_mtu;	 /* bytes of outer IP packet */
	__u32 tcp_established_s; /* idle timeouts, seconds */
	__u32 tcp_transient_s;	 /* opening and closing */
	__u32 udp_s;
	__u32 udp_stream_s; /* both directions seen */
	__u32 icmp_s;
	__u32 log_per_s;  /* logged decisions per endpoint and second */
	__u32 punt_per_s; /* punted packets per endpoint and second, but for DNS */
	__u32 dns_per_s;  /* the same of DNS */
	__u32 pad;
};
PLUM_SIZE(config, 64);

/* ---- plum_ep: a local endpoint, by the device its packets come from ---- */

enum ep_flag {
	EP_TAP = 1,	      /* deliver by redirect, not redirect_peer */
	EP_INGRESS_ALLOW = 2, /* verdict where no ingress rule decides */
	EP_EGRESS_ALLOW = 4,  /* verdict where no egress rule decides */
	EP_DHCP4 = 8,	      /* the DHCPv4 responder serves it */
	EP_DHCP6 = 16,	      /* RA and DHCPv6 responders serve it */
	EP_LIMIT = 32,	      /* plum_limit has a row for it */
	EP_DNS = 64,	      /* its gateways answer for names */
};

struct ep_key {
	__u32 ifindex;
};
PLUM_SIZE(ep_key, 4);

struct ep {
	__u64 ingress_set; /* policy set for traffic to it, 0 = default only */
	__u64 egress_set;  /* policy set for traffic from it */
	__u32 id;	   /* zone-wide endpoint id, never reused */
	__u32 slot;
	__u32 domain;
	__u32 vni;
	__u32 mtu;	  /* largest IP packet its link takes */
	__u32 flow_quota; /* connections it may hold at once */
	__u16 flags;	  /* enum ep_flag */
	__u8 mac[6];
};
PLUM_SIZE(ep, 48);

/* ---- plum_epoch: by slot; a flow decided under another value is judged
 * again. The value is a hash of everything that decides the slot's flows. */

struct epoch {
	__u64 value;
};
PLUM_SIZE(epoch, 8);

/* ---- plum_source (LPM): who an endpoint may claim to be ---------------- */

struct source_key {
	__u32 prefixlen; /* 96 bits of slot and mac, then 0..128 of addr */
	__u32 slot;
	__u8 mac[6];
	__u16 pad;
	__be32 addr[4];
};
PLUM_SIZE(source_key, 32);

struct source {
	__u32 reserved;
};
PLUM_SIZE(source, 4);

/* ---- plum_limit: by slot; the rates of an endpoint, and its mark -------- */

struct limit {
	__u64 out_ns_per_mib; /* of what it sends; 0: no limit */
	__u64 out_burst_ns;
	__u64 in_ns_per_mib; /* of what it is sent; 0: no limit */
	__u64 in_burst_ns;
	__u8 mark; /* of what it sends: QOS_MARK and a code point, or 0 */
	__u8 pad[7];
};
PLUM_SIZE(limit, 40);

/* ---- plum_meter: by slot; when what passed would be through at the rate -- */

struct meter {
	__u64 out_until; /* ns of CLOCK_MONOTONIC */
	__u64 in_until;
};
PLUM_SIZE(meter, 16);

/* ---- plum_bridge: by VNI ------------------------------------------------ */

enum bridge_flag {
	BRIDGE_FLOOD = 1, /* replicate broadcast, multicast, unknown unicast */
};

struct bridge_key {
	__u32 vni;
};
PLUM_SIZE(bridge_key, 4);

struct bridge {
	__u32 domain;
	__u32 mtu; /* largest IP packet on the bridge */
	__u32 flags;
	__u32 pad;
};
PLUM_SIZE(bridge, 16);

/* ---- plum_mac: who owns a MAC on a bridge ------------------------------ */

struct mac_key {
	__u32 vni;
	__u8 mac[6];
	__u16 pad;
};
PLUM_SIZE(mac_key, 12);

struct port {
	__u32 node;	/* 0: here */
	__u32 ifindex;	/* of a local endpoint, else 0 */
	__u32 router;	/* the virtual router whose MAC this is, else 0 */
	__u32 balancer; /* the load balancer whose MAC this is, else 0 */
};
PLUM_SIZE(port, 16);

/* ---- plum_host: who owns an address in a domain ------------------------- */

struct host_key {
	__u32 domain;
	__be32 addr[4];
};
PLUM_SIZE(host_key, 20);

struct host {
	__u64 peer_class; /* for policies: its groups and the CIDRs around it */
	__u32 vni;
	__u32 node;    /* 0: here */
	__u32 ifindex; /* of a local endpoint, else 0 */
	__u32 router;  /* set if the address is a virtual router's interface */
	__u8 mac[6];
	__u16 pad;
	__u32 balancer; /* set if the address is a load balancer's */
	__u32 pad2;
};
PLUM_SIZE(host, 40);

/* ---- plum_peer (LPM): policy class of addresses that are no endpoint ----
 * With PEER_OUTSIDE in the domain's id: of addresses outside the zone, which are
 * in no group, whoever may use them inside. */

#define PEER_OUTSIDE 0x80000000u

struct peer_key {
	__u32 prefixlen; /* 32 bits of domain, then 0..128 of addr */
	__u32 domain;
	__be32 addr[4];
};
PLUM_SIZE(peer_key, 24);

struct peer {
	__u64 peer_class;
};
PLUM_SIZE(peer, 8);

/* ---- plum_rif: a router's interface on a bridge ------------------------ */

struct rif_key {
	__u32 router;
	__u32 vni;
};
PLUM_SIZE(rif_key, 8);

struct rif {
	__u64 ingress_set; /* policy set for what it sends to the bridge, 0: none */
	__u64 egress_set;  /* and for what it takes from there */
	__be32 addr4[4];   /* source of its ICMP errors; zero if it has none */
	__be32 addr6[4];
	__u8 mac[6];
	__u16 pad;
};
PLUM_SIZE(rif, 56);

/* ---- plum_route (LPM) and plum_hop ------------------------------------- */

enum route_kind {
	ROUTE_NONE = 0,	     /* as if absent: keeps IPv4 out of ::/0 */
	ROUTE_CONNECTED = 1, /* the destination is a host of bridge vni */
	ROUTE_VIA = 2,	     /* one of `hops` next hops, chosen by flow hash */
	ROUTE_BLACKHOLE = 3,
	ROUTE_UPLINK = 4, /* out of the zone, by the router's plum_uplink */
};

struct route_key {
	__u32 prefixlen; /* 32 bits of router, then 0..128 of addr */
	__u32 router;
	__be32 addr[4];
};
PLUM_SIZE(route_key, 24);

struct route {
	__u64 group; /* next-hop group of ROUTE_VIA */
	__u32 kind;
	__u32 vni;
	__u32 hops;
	__u32 pad;
};
PLUM_SIZE(route, 24);

struct hop_key {
	__u64 group;
	__u32 index;
	__u32 pad;
};
PLUM_SIZE(hop_key, 16);

struct hop {
	__be32 addr[4]; /* of a host or another router in the same domain */
	__u32 vni;	/* the bridge it is reached through */
};
PLUM_SIZE(hop, 20);

/* ---- external networks ---------------------------------------------------
 * An external network has a VNI of its own, under which edges and gateways
 * exchange packets that carry public addresses. Its routes are rows of plum_route
 * and plum_hop under the router number EXTERNAL_ROUTER | vni. */

#define EXTERNAL_ROUTER 0x80000000u

struct external_key {
	__u32 vni;
};
PLUM_SIZE(external_key, 4);

struct external {
	__u32 ifindex;	   /* of the gateway's device; 0: this node is no gateway of it */
	__u32 mtu;	   /* largest IP packet towards an edge */
	__u16 vlan;	   /* 802.1Q tag outside; 0: none */
	__u16 block_ports; /* of each row of kind PUBLIC_BLOCK; a power of two */
	__u8 mac[6];	   /* of the gateway's device */
	__u16 pad;
};
PLUM_SIZE(external, 20);

/* plum_attachment: which external network a gateway's device and tag are of */
struct attachment_key {
	__u32 ifindex;
	__u32 vlan;
};
PLUM_SIZE(attachment_key, 8);

struct attachment {
	__u32 vni;
};
PLUM_SIZE(attachment, 4);

/* plum_gateway: the gateways of an external network that are alive, as a group by
 * content: another gateway is another group, and flows are judged again */
struct gateway_key {
	__u64 group;
	__u32 index;
	__u32 pad;
};
PLUM_SIZE(gateway_key, 16);

struct gateway {
	__u32 node; /* 0: this one */
};
PLUM_SIZE(gateway, 4);

/* plum_public: what stands behind a public address. A gateway needs the node
 * only, and to check who sends as that address; the node itself the rest. */
enum public_kind {
	PUBLIC_PORT = 1,    /* one port of a protocol */
	PUBLIC_ADDRESS = 2, /* all of it; port and proto are 0 */
	PUBLIC_BLOCK = 3,   /* ports leased for source NAT; port is the first, proto 0 */
	PUBLIC_SENDER = 4,  /* a node with backends of it; port is the node, proto 0 */
};

/* Of a PUBLIC_ADDRESS, which every public address has: it is shared out. */
enum public_flag {
	PUBLIC_BY_PORT = 0x100,	 /* rows of PUBLIC_PORT say who has which */
	PUBLIC_BY_BLOCK = 0x200, /* rows of PUBLIC_BLOCK do */
};

struct public_key {
	__u32 vni;
	__be32 addr[4];
	__u16 port; /* host order */
	__u8 proto;
	__u8 kind; /* enum public_kind */
};
PLUM_SIZE(public_key, 24);

struct public_end {
	__u64 backends; /* list, if a load balancer stands there; else 0 */
	__u32 node;	/* 0: here */
	__u32 domain;
	__u32 router;
	__be32 addr[4]; /* of the endpoint; zero: its connections say whose */
	__be16 port;	/* of the endpoint; 0: as it is */
	__u16 flags;	/* enum vip_flag, enum public_flag */
};
PLUM_SIZE(public_end, 40);

/* plum_claim: public addresses this gateway answers ARP and ND for */
struct claim_key {
	__u32 vni;
	__be32 addr[4];
};
PLUM_SIZE(claim_key, 20);

struct claim {
	__u32 reserved;
};
PLUM_SIZE(claim, 4);

/* plum_neigh: MACs outside, by plumd */
struct neigh_key {
	__u32 vni;
	__be32 addr[4];
};
PLUM_SIZE(neigh_key, 20);

struct neigh {
	__u64 seen; /* when it answered, ns of CLOCK_MONOTONIC */
	__u8 mac[6];
	__u16 pad;
};
PLUM_SIZE(neigh, 16);

/* plum_uplink: a router's way to an external network */
struct uplink_key {
	__u32 router;
};
PLUM_SIZE(uplink_key, 4);

struct uplink {
	__u64 group;	/* of plum_gateway */
	__u32 gateways; /* its rows; 0: none is alive */
	__u32 vni;
	__u32 mtu;     /* largest IP packet the way takes */
	__u32 blocks4; /* rows of plum_nat_block of IPv4 addresses */
	__u32 blocks6;
	__u32 pad;
};
PLUM_SIZE(uplink, 32);

/* plum_floating: the public address an endpoint's address becomes */
struct floating_key {
	__u32 router;
	__be32 addr[4];
};
PLUM_SIZE(floating_key, 20);

struct floating {
	__be32 addr[4];
};
PLUM_SIZE(floating, 16);

/* plum_nat_block: ports this node may use for source NAT of a router */
struct nat_block_key {
	__u32 router;
	__u32 family; /* 4 or 6 */
	__u32 index;
};
PLUM_SIZE(nat_block_key, 12);

struct nat_block {
	__be32 addr[4];
	__u16 first; /* port */
	__u16 ports;
};
PLUM_SIZE(nat_block, 20);

/* plum_nat: the public port an endpoint's port has, whoever it talks to (RFC
 * 4787); plum_nat_port: whose a public port is. Made by stage NAT, ended by
 * plum_flow_gc when no connection uses them. */
struct nat_key {
	__u32 router;
	__be32 addr[4];
	__be16 port; /* ICMP echo: its id */
	__u8 proto;
	__u8 pad;
};
PLUM_SIZE(nat_key, 24);

struct nat {
	__u64 seen; /* when leased, ns of CLOCK_MONOTONIC */
	__be32 addr[4];
	__be16 port;
	__u16 pad[3];
};
PLUM_SIZE(nat, 32);

struct nat_port_key {
	__u32 vni;
	__be32 addr[4];
	__be16 port;
	__u8 proto;
	__u8 pad;
};
PLUM_SIZE(nat_port_key, 24);

struct nat_port {
	__u64 seen; /* ns of CLOCK_MONOTONIC: last use known to collection */
	__u32 router;
	__be32 addr[4];
	__be16 port;
	__u16 pad;
};
PLUM_SIZE(nat_port, 32);

/* ---- plum_vip, plum_maglev, plum_backend: load balancers ----------------
 * A listener is a row of plum_vip. Its backends are a list shared by content;
 * the Maglev table of that list says which one a connection's hash falls to. */

#define MAGLEV_SLOTS 16381 /* prime, and many times the number of backends */
#define MAGLEV_CHUNK 1024  /* slots in one row of plum_maglev */

enum vip_flag {
	VIP_SOURCE_AFFINITY = 1, /* the client's address alone chooses */
	VIP_CHECKED = 2, /* row of port and proto 0: plumd checks the backends as this address */
};

struct vip_key {
	__u32 domain;
	__be32 addr[4];
	__be16 port;
	__u8 proto; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};
PLUM_SIZE(vip_key, 24);

struct vip {
	__u64 backends; /* list; 0: none is alive */
	__be16 to_port; /* on the backend */
	__u16 flags;	/* enum vip_flag */
	__u32 pad;
};
PLUM_SIZE(vip, 16);

struct maglev_key {
	__u64 backends;
	__u32 chunk;
	__u32 pad;
};
PLUM_SIZE(maglev_key, 16);

struct maglev {
	__u16 index[MAGLEV_CHUNK]; /* in the list of backends */
};
PLUM_SIZE(maglev, 2 * MAGLEV_CHUNK);

struct backend_key {
	__u64 backends;
	__u32 index;
	__u32 pad;
};
PLUM_SIZE(backend_key, 16);

struct backend {
	__be32 addr[4];
	__u32 node; /* of a list that stands at a public address; 0: here */
};
PLUM_SIZE(backend, 20);

/* ---- plum_verdict and plum_span: compiled policy ------------------------
 * A policy set is the ordered rules that apply to an endpoint in one
 * direction. For each (set, peer class, protocol) the compiler has worked out
 * which rule comes first for every port: a list of spans, sorted by `first`,
 * starting at 0, each reaching to the next. Lists are shared by content.
 * Two rows are consulted, the peer's class and class 0 (rules for any peer);
 * the span with the lower `order` decides. */

enum policy_proto {
	PROTO_TCP = 1,
	PROTO_UDP = 2,
	PROTO_SCTP = 3,
	PROTO_ICMP = 4,	 /* "port" is type << 8 | code */
	PROTO_ICMP6 = 5, /* the same */
	PROTO_OTHER = 6, /* "port" is the IP protocol number */
};

enum policy_action {
	ACTION_NONE = 0, /* no rule of this list matches */
	ACTION_ALLOW = 1,
	ACTION_DENY = 2,
};

struct verdict_key {
	__u64 set;
	__u64 peer_class;
	__u32 proto; /* enum policy_proto */
	__u32 pad;
};
PLUM_SIZE(verdict_key, 24);

struct verdict {
	__u64 list;
	__u32 spans;
	__u32 pad;
};
PLUM_SIZE(verdict, 16);

struct span_key {
	__u64 list;
	__u32 index;
	__u32 pad;
};
PLUM_SIZE(span_key, 16);

struct span {
	__u64 rule;  /* id for counters and traces */
	__u32 order; /* place in the set, lower wins */
	__u16 first; /* first port of the span */
	__u8 action; /* enum policy_action */
	__u8 log;    /* 0: off, else one in 2^(log - 1) new connections is logged */
};
PLUM_SIZE(span, 16);

/* ---- plum_rule_stat: hits of a rule (percpu): connections it decided ---- */

struct rule_key {
	__u64 rule; /* 0: the domain's default verdict, counted per domain */
	__u32 domain;
	__u32 pad;
};
PLUM_SIZE(rule_key, 16);

struct rule_stat {
	__u64 hits;
};
PLUM_SIZE(rule_stat, 8);

/* ---- plum_vtep, plum_node, plum_path: the underlay ---------------------- */

struct vtep_key {
	__be32 addr[4];
};
PLUM_SIZE(vtep_key, 16);

struct vtep {
	__u32 node;
};
PLUM_SIZE(vtep, 4);

/* array, by node; written by user space */
struct node {
	__be32 vtep[4]; /* zero: no such node */
};
PLUM_SIZE(node, 16);

/* array, by node; the datapath's cache of the kernel's route and neighbour */
struct path {
	__u64 refreshed; /* ns of CLOCK_MONOTONIC; 0: never */
	__u32 ifindex;
	__u8 smac[6];
	__u8 dmac[6];
};
PLUM_SIZE(path, 24);

/* ---- plum_flood: a bridge's replication list, locals first --------------- */

struct flood_key {
	__u32 vni;
	__u32 index;
};
PLUM_SIZE(flood_key, 8);

struct flood {
	__u32 node;    /* 0: a local endpoint */
	__u32 ifindex; /* of the local endpoint */
};
PLUM_SIZE(flood, 8);

/* ---- plum_flow4, plum_flow6: one connection's cached decision ----------- */

#define FLOW_CTX_UNDERLAY 0x80000000u /* ctx is this | vni, else an ifindex */

struct flow4_key {
	__u32 ctx;
	__be32 saddr;
	__be32 daddr;
	__be16 sport; /* ICMP echo: see PIPELINE.md, flow lookup */
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};
PLUM_SIZE(flow4_key, 20);

struct flow6_key {
	__u32 ctx;
	__be32 saddr[4];
	__be32 daddr[4];
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};
PLUM_SIZE(flow6_key, 44);

enum flow_state {
	FLOW_NEW = 0,	       /* one direction seen; TCP: SYN sent */
	FLOW_SYN_RECEIVED = 1, /* TCP: SYN-ACK seen */
	FLOW_ESTABLISHED = 2,  /* TCP: handshake done; else both directions seen */
	FLOW_CLOSING = 3,      /* TCP: a FIN seen */
	FLOW_CLOSED = 4,       /* TCP: both FINs or a valid RST */
};

enum flow_flag {
	FLOW_REPLY = 1,	   /* the answering direction */
	FLOW_RESOLVED = 2, /* the forwarding part below is valid */
	FLOW_ROUTED = 4,   /* rewrite MACs and TTL */
	FLOW_TAP = 8,	   /* deliver by redirect, not redirect_peer */
	FLOW_FIN = 16,	   /* TCP: this direction has sent its FIN */
	FLOW_NEW_DST = 32, /* destination address and port are rewritten */
	FLOW_NEW_SRC = 64, /* source address and port are */
	FLOW_UPLINK = 128, /* to or from an external network */
};

enum qos {
	QOS_DSCP = 63,	 /* code point to mark with */
	QOS_MARK = 64,	 /* do so */
	QOS_LIMIT = 128, /* an end that is here has a rate: plum_limit */
};

struct flow {
	__u64 epoch;   /* of slot, when decided */
	__u64 seen;    /* of the last packet, ns of CLOCK_MONOTONIC */
	__u64 created; /* the same clock */
	__u64 packets; /* of this direction */
	__u64 bytes;
	__u64 rule;	   /* that allowed it here, 0: default verdict */
	__u32 slot;	   /* local endpoint whose epoch counts */
	__u32 owner;	   /* slot whose quota it is charged to */
	__u32 out_slot;	   /* local endpoint delivered to */
	__u32 out_ifindex; /* its device; 0: to a node */
	__u32 node;	   /* remote node delivered to */
	__u32 vni;	   /* tunnel VNI towards it */
	__u32 reverse_ctx; /* ctx of the other direction's entry */
	__u32 mtu;	   /* largest IP packet the way takes */
	__u32 tcp_ack;	   /* last acknowledgement this direction sent */
	__u32 tcp_end;	   /* end of the newest data this direction sent */
	__u8 in_dmac[6];   /* what a frame must carry to use this entry */
	__u8 in_smac[6];
	__u8 out_dmac[6]; /* what it carries when it leaves */
	__u8 out_smac[6];
	__u16 entropy;	 /* outer UDP source port, host order */
	__u8 state;	 /* enum flow_state */
	__u8 flags;	 /* enum flow_flag */
	__u8 hops;	 /* TTL to take off */
	__u8 qos;	 /* enum qos */
	__be16 new_port; /* what FLOW_NEW_DST or FLOW_NEW_SRC puts there */
	__be32 new_addr[4];
	__u32 new_sum; /* what it adds to checksums over the address */
	__u32 pad2;
};
PLUM_SIZE(flow, 144);

/* ---- plum_quota: by slot; connections charged to it --------------------- */

struct quota {
	__u64 flows;
	__u64 counted; /* by the collection that is under way */
};
PLUM_SIZE(quota, 16);

/* context of plum_flow_gc */
struct gc_args {
	__u32 purge_slot; /* forget every flow of this slot; DROP_SLOT_NODE: none */
	__u32 pad;
	__u64 kept;	 /* answer: entries that stay */
	__u64 collected; /* answer: entries removed */
};
PLUM_SIZE(gc_args, 24);

/* ---- plum_frag: ports of a fragmented packet, from its first fragment --- */

struct frag_key {
	__u32 ctx;
	__u32 id; /* network order as on the wire; IPv4 in the low half */
	__be32 saddr[4];
	__be32 daddr[4];
	__u32 proto;
};
PLUM_SIZE(frag_key, 44);

struct frag {
	__u64 seen; /* ns of CLOCK_MONOTONIC */
	__be16 sport;
	__be16 dport;
	__u16 l4_header;   /* bytes of the L4 header in the first fragment */
	__u16 policy_port; /* what policies compare: struct pkt */
};
PLUM_SIZE(frag, 16);

/* ---- plum_ep_stat (percpu array, by slot): traffic of an endpoint ------- */

struct ep_stat {
	__u64 rx_packets; /* delivered to it */
	__u64 rx_bytes;
	__u64 tx_packets; /* accepted from it */
	__u64 tx_bytes;
};
PLUM_SIZE(ep_stat, 32);

/* ---- plum_drop (percpu hash): dropped packets --------------------------- */

struct drop_key {
	__u32 slot;   /* local endpoint it concerns; DROP_SLOT_NODE: none known */
	__u32 reason; /* enum plum_drop */
};
PLUM_SIZE(drop_key, 8);

#define DROP_SLOT_NODE 0xffffffffu

struct drop_stat {
	__u64 packets;
	__u64 bytes;
};
PLUM_SIZE(drop_stat, 16);

/* ---- plum_punt (ring buffer): requests for a responder ------------------ */

enum punt_kind {
	PUNT_DHCP4 = 1,
	PUNT_DHCP6 = 2,
	PUNT_RS = 3,	/* router solicitation */
	PUNT_NEIGH = 4, /* to whom outside? slot is the VNI; the frame waits */
	PUNT_DNS = 5,
};

struct punt {
	__u32 kind;
	__u32 ifindex;
	__u32 slot;
	__u32 len;		     /* bytes of frame that follow */
	__u8 frame[PLUM_PUNT_BYTES]; /* from the Ethernet header */
};
PLUM_SIZE(punt, 2064);

/* ---- plum_log (ring buffer): connections that a rule with a log decided --- */

struct rule_log {
	__u64 rule;
	__u32 domain;
	__u32 slot;  /* the endpoint whose rule it is */
	__u32 lost;  /* of this slot, over its limit since the last one */
	__u16 stage; /* that asked the rule: enum plum_stage */
	__u8 allowed;
	__u8 proto;
	__be32 saddr[4]; /* as that endpoint sees the packet */
	__be32 daddr[4];
	__be16 sport;
	__be16 dport;
	__u8 icmp_type;
	__u8 icmp_code;
	__u16 pad;
};
PLUM_SIZE(rule_log, 64);

/* plum_log_rate, by slot */
struct log_rate {
	__u64 window; /* start of the current second, ns of CLOCK_MONOTONIC */
	__u64 count;
	__u64 lost; /* since something was logged */
};
PLUM_SIZE(log_rate, 24);

/* plum_punt_rate, by slot: token bucket of the punt stage */
struct punt_rate {
	__u64 window; /* start of the current second, ns of CLOCK_MONOTONIC */
	__u32 count;
	__u32 dns; /* counted by themselves: names must not keep a lease from being renewed */
};
PLUM_SIZE(punt_rate, 16);

#endif /* PLUM_ABI_H */
