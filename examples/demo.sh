#!/bin/sh
# A tour: three nodes on this machine, two tenants with the same addresses, a
# dual-stack domain, and a way out through two gateways. Every line that starts with $ is a
# command you can repeat. Ends with the zone up; `plumctl sandbox down` removes it.
set -eu
cd "$(dirname "$0")"

show() { # run a command as a person would, and fail if it does
	printf '\n\033[1m$ %s\033[0m\n' "$*"
	"$@"
}

refused() { # run a command that the zone must refuse
	printf '\n\033[1m$ %s\033[0m   (must be refused)\n' "$*"
	if "$@"; then
		echo "this got through, and must not have" >&2
		exit 1
	fi
}

say() {
	printf '\n\033[36m# %s\033[0m\n' "$*"
}

say "A zone of three nodes. Each is a namespace with its own plumd; packets cross a real underlay."
show plumctl sandbox up --nodes 3

say "Two tenants bring the very same shop, with the very same addresses."
show plumctl apply --wait -f shop.yaml -f shop-globex.yaml -f dual-stack.yaml
show plumctl get endpoint

say "Reachable: acme's web-1 on n1 opens app-2 on n3, routed from bridge to bridge."
plumctl sandbox exec acme/shop/app-2 -- timeout 20 sh -c 'echo hello from acme | nc -l -p 8080 -q 1' &
plumctl sandbox exec globex/shop/app-2 -- timeout 20 sh -c 'echo hello from globex | nc -l -p 8080 -q 1' &
sleep 1 # both are listening
show plumctl sandbox exec acme/shop/web-1 -- nc -w 3 10.2.0.12 8080

say "The same address in globex is another machine."
show plumctl sandbox exec globex/shop/web-1 -- nc -w 3 10.2.0.12 8080
wait

say "Refused: web-1 may not talk to the database, and the rule that says so has a name."
refused plumctl sandbox exec acme/shop/web-1 -- nc -z -w 1 10.3.0.11 5432
show plumctl drops --endpoint acme/shop/db-1
show plumctl rules --domain acme/shop

say "The router is on every node: one hop, decided where the packet starts."
show plumctl sandbox exec acme/shop/db-1 -- traceroute -n -q 1 -w 1 -I 10.1.0.11

say "IPv4 and IPv6 alike; these guests were given their addresses by Plum."
show plumctl sandbox exec initech/dual/desk-1 -- ping -c 2 -i 0.2 192.168.20.53
show plumctl sandbox exec initech/dual/desk-1 -- ping -c 2 -i 0.2 fd00:20::53

say "Bulk traffic from n3 to n1, through routing, policy and tunnel."
plumctl sandbox exec acme/shop/web-1 -- timeout 20 iperf3 -s -1 -p 80 >/dev/null &
sleep 1 # it is listening
show plumctl sandbox exec acme/shop/db-1 -- iperf3 -c 10.1.0.11 -p 80 -t 2 -f g
wait

say "A way out of the zone: two gateways, an outside host, and a shop behind a load balancer."
show plumctl apply --wait -f outside.yaml
show plumctl get external
show plumctl sandbox exec umbrella/site/app-1 -- ping -c 2 -i 0.2 198.51.100.254
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
for server in web-1 web-2; do
	mkdir "$pages/$server"
	echo "hello from $server" >"$pages/$server/index.html"
	plumctl sandbox exec "umbrella/site/$server" -- timeout 60 python3 -m http.server 80 -d "$pages/$server" >/dev/null 2>&1 &
	servers="${servers:-} $!"
done
sleep 1 # both are listening
show plumctl sandbox outside -- curl --no-progress-meter --max-time 5 http://198.51.100.132/

say "A gateway loses its device outside while the shop is visited: every visitor is served."
visits='for _ in $(seq 30); do curl -s --max-time 5 http://198.51.100.132/ || echo not served; done'
printf '\n\033[1m$ plumctl sandbox node n2 -- ip link set outside down   (while 30 visitors come)\033[0m\n'
(
	sleep 0.3
	plumctl sandbox node n2 -- ip link set outside down
) &
down=$!
served=$(plumctl sandbox outside -- sh -c "$visits" | sort | uniq -c)
wait "$down"
plumctl sandbox node n2 -- ip link set outside up
echo "$served"
if echo "$served" | grep -q "not served"; then
	echo "a visitor was turned away, and must not have been" >&2
	exit 1
fi
# shellcheck disable=SC2086 # a list
kill $servers
wait || true

say "What each endpoint did."
show plumctl get endpoint --tenant acme -o wide

say "The zone stays up. Try:
#   plumctl sandbox shell acme/shop/web-1
#   plumctl describe domain acme/shop
#   plumctl export -t acme -d shop > mine.yaml; edit it; plumctl diff -f mine.yaml; plumctl apply --wait -f mine.yaml
#   plumctl history; plumctl rollback SEQ
#   plumctl sandbox down"
