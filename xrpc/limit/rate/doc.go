// Package rate limits how often clients may call methods. The default table of limits is that of
// the official server.
//
// Calls are counted by network or by account, in windows of fixed length. A refused request takes
// no points. Its response has status 429 and says when to retry (Retry-After). All responses have
// the header fields RateLimit-Limit, -Remaining, -Reset and -Policy. IPv6 addresses are counted by
// their /64 network, since whoever has one address has all of those. Memory is bounded: a limit
// keeps a fixed number of keys as 64-bit hashes, and forgets those with the least use. Counters are
// in memory, so they start at zero with the process, unless they are shared.
//
// # Several nodes
//
// With Shared in [Config], the nodes of a host count together. Limits that allow less than one use
// a second on average are counted in the store, in one transaction for each use: passwords,
// accounts, mail, uploads. While the store fails, all such uses are refused. Clients that have used
// up an allowance are refused from memory.
//
// Other limits of accounts, such as the points for writes, are counted by each node and added up in
// the store. A node does this when it has used 2 % of an allowance, or after a twentieth of the
// window, at the latest after five minutes. One transaction a second covers up to 200 accounts. So
// n nodes together may exceed a limit by n times 2 %, and by what they admit in a second. While the
// store fails, each node uses its own count.
//
// Other limits of networks protect a single node and are not shared: n nodes allow n times as much.
//
// The clocks of nodes may differ by a minute.
//
// Behind a reverse proxy, limit.Proxies finds the client's address. Package limit bounds what
// clients hold at the same time.
//
// # Guessing
//
// Password attempts are counted by account, whatever name and method were used: 30 in five minutes
// and 300 in a day from one network. So a stranger does not lock out the owner, who is in another
// network. From one network, at most 3000 accounts a day can be tried, not counting accounts whose
// password was right there before. Otherwise made-up names would fill the store with counters.
// Wrong passwords are also counted from all networks together, 300 in an hour and 3000 in a day,
// against distributed attacks. Networks from which the account's password was right before are
// exempt from that limit. It applies only to new logins: sessions continue.
package rate
