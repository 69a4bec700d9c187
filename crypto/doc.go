// Package crypto implements the two elliptic curves of the AT Protocol, K-256 (secp256k1, JOSE name
// ES256K) and P-256 (ES256), with the protocol's encodings of keys and signatures.
//
// A signature is 64 bytes: r and s, big-endian, over the SHA-256 hash of the message, with s in the
// lower half of the curve's order. Each signature has a twin with a high s. That one is refused:
// otherwise anybody could make a second valid commit from a first one. Signatures are deterministic
// (RFC 6979).
//
// Code that signs takes a [Signer], not a key, so a key can stay in a key management service.
//
// See the Cryptography specification.
package crypto
