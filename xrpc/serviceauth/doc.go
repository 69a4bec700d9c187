// Package serviceauth signs and verifies the tokens by which services of the
// network vouch for an account to each other: short-lived JWTs that are signed with
// the account's own key and name one audience and one method (XRPC
// specification, Inter-Service Authentication).
//
// A token is bound to its audience, to a method, to a moment, and by its ID to one use.
// Verification is strict in all four, and in the form: two algorithms, exact names of members, no
// header that could point to another key. Clocks may differ by a minute. Both forms of an ECDSA
// signature are accepted, as JSON Web Signatures have it, so a token is told from another by its ID
// or by what is signed, never by its signature.
package serviceauth
