package crypto

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"math/big"
)

// signP256 writes the low-s form of a deterministic signature to sig. The
// standard library signs to ASN.1, with either s.
func signP256(key *ecdsa.PrivateKey, digest, sig []byte) error {
	der, err := key.Sign(nil, digest, crypto.SHA256) // no source of randomness: RFC 6979
	if err != nil {
		return err
	}
	var v struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &v); err != nil {
		return err
	}
	if v.S.Cmp(halfP256) > 0 {
		v.S.Sub(elliptic.P256().Params().N, v.S)
	}
	v.R.FillBytes(sig[:32])
	v.S.FillBytes(sig[32:])
	return nil
}
