// Package rate bounds how often clients may call methods. Its table of allowances is that of the
// official server, unless a host has one of its own.
//
// Methods are counted by network or by account, in windows of fixed length. A request that is
// refused takes nothing, and its answer has status 429 and says when to come back (the header
// fields RateLimit-Limit, -Remaining, -Reset and -Policy, which all answers have, and Retry-After).
// Counting an IPv6 address means counting its /64 network, since whoever has one address has all of
// those. Memory is bounded: a limit keeps a fixed number of keys as 64-bit hashes, and forgets
// those that used least. Counters are in memory, so they start anew with the process, unless they
// are shared.
//
// # Several nodes
//
// With [Config.Shared], the nodes of a host count together. A limit that allows less than one use a
// second, on average, is counted in the store, in a transaction for each use: passwords, accounts,
// mail, uploads. While the store fails, nothing of that is allowed. Who has used up an allowance is
// refused from memory.
//
// Other limits of accounts, such as the points for writes, are counted by each node and added up in
// the store: when a node has given away 2 % of an allowance, or after a twentieth of the window,
// but not after more than five minutes. One transaction a second has up to 200 accounts. So n nodes
// together may allow n times 2 %, and what they admit in a second, beyond the limit. While the
// store fails, each goes on by its own count.
//
// Other limits of networks protect a node, and are its own: they allow n times as much.
//
// The clocks of nodes may differ by a minute.
//
// Behind a proxy, limit.Proxies says whose request it is. What clients hold at the same time is
// bounded by package limit.
//
// # Guessing
//
// Passwords are counted by the account that they are tried for, whatever name it was called by and
// whatever method was called: 30 tries in five minutes and 300 in a day from one network. So a
// stranger does not lock out the owner, who is elsewhere. From one network, they are tried for 3000
// accounts a day, those apart whose password was right there before: otherwise whoever makes up
// names would fill the store with counters. Wrong ones are also counted from all networks together,
// 300 in an hour and 3000 in a day, against an attack from many. That limit leaves out networks
// from which the account's password was right before. It concerns new logins only: sessions go on.
package rate
