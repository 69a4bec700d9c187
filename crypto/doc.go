// Package crypto has the two elliptic curves of the AT Protocol, K-256
// (secp256k1, JOSE name ES256K) and P-256 (ES256), with the protocol's
// encodings of keys and signatures.
//
// A signature is 64 bytes: r and s, big-endian, over the SHA-256 hash of the
// message, with s in the lower half of the curve's order. Of the two signatures
// that mathematics allows, only the one with the low s is accepted: otherwise
// anyone could make a second valid commit out of a first. Signatures are
// deterministic (RFC 6979).
//
// Writers take a Signer, not a key, so that a key can stay in a key management
// service.
//
// See the Cryptography specification.
package crypto
