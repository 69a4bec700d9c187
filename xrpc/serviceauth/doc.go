// Package serviceauth signs and verifies the tokens with which services of the network act for an
// account: short-lived JWTs that are signed with the account's own key, and name one audience and
// one method (XRPC specification, Inter-Service Authentication).
//
// A token is bound to an audience, a method and a time, and its ID makes it valid for one use.
// Verification is strict in all four, and in the format: only two algorithms, exact member names,
// and no header that could refer to another key. Clocks may differ by a minute. As in JSON Web
// Signatures, both forms of an ECDSA signature are accepted. So the same token can have two
// signatures: identify it by its ID or its signed content, never by its signature.
package serviceauth
