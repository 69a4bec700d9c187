// Package serviceauth signs and verifies the tokens by which services of the
// network vouch for an account to each other: short-lived JWTs that are signed with
// the account's own key and name one audience and one method (XRPC
// specification, Inter-Service Authentication).
//
// A token is bound to its audience, to a method, to a moment, and by its ID to one use.
// Verification is strict in all four, and in the form: two algorithms, one
// encoding of the signature, no header that could point to another key.
package serviceauth
